//! A broker that retries requests after transient errors, for commands without retries of their own.
//!
//! A cluster that responds may still be starting: leaders are being elected, or a new topic is not known to every
//! broker yet. Each request is retried for at most [`start_deadline_ms`], the deadline of the first connection, too.
//! A worker has its own retries and uses the broker underneath ([`ForWorker`]).
//!
//! Appending is not retried: after an unknown outcome the records could be appended twice.
//!
//! [`start_deadline_ms`]: crate::config::services::ServicesSettings::start_deadline_ms

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{Broker, BrokerError, Fetched, LogOffsets, NewRecord, Producer, Topic};
use crate::error::chain;
use crate::guarantee::Finding;

/// The first wait between two attempts, which doubles, and the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Failures are logged if they last longer than this, and then at this interval.
const LOG_AFTER: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Retries the requests to a broker. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Retrying<B> {
    inner: B,
    deadline: Duration,
}

impl<B: Broker> Retrying<B> {
    /// Retries each request until `deadline` after its first failure; never if `deadline` is zero.
    pub(super) fn new(inner: B, deadline: Duration) -> Self {
        Self { inner, deadline }
    }

    /// Repeats a request while `is_transient` is true for its error.
    async fn retry<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        is_transient: impl Fn(&BrokerError) -> bool,
        request: impl Fn() -> F,
    ) -> Result<T, BrokerError> {
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        let mut since = None;
        let mut log_at = None;
        let mut logged = false;
        loop {
            let result = request().await;
            let now = Instant::now();
            let error = match result {
                Err(error) if is_transient(&error) && now - *since.get_or_insert(now) < self.deadline => {
                    error
                }
                result => {
                    if let (true, true, Some(since)) = (logged, result.is_ok(), since) {
                        info!(seconds = (now - since).as_secs(), "recovered");
                    }
                    return result;
                }
            };
            if now >= *log_at.get_or_insert(now + LOG_AFTER) {
                (log_at, logged) = (Some(now + LOG_INTERVAL), true);
                let (last_error, deadline_s) = (chain(&error), self.deadline.as_secs());
                warn!(last_error, deadline_s, "request failed; retrying");
            }
            sleep(backoff.wait()).await;
        }
    }
}

impl<B: Broker> Broker for Retrying<B> {
    type Consumer = B::Consumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.retry(BrokerError::is_retriable, || self.inner.topic(topic)).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.retry(BrokerError::is_retriable, || self.inner.offsets(topic, partition)).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let fetch = || self.inner.fetch(topic, partition, offset, max_records, max_bytes);
        self.retry(BrokerError::is_retriable, fetch).await
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        self.retry(BrokerError::is_retriable, || self.inner.guarantees(topic)).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Self::Consumer, BrokerError> {
        self.retry(BrokerError::is_retriable, || self.inner.subscribe(group, topic)).await
    }
}

impl<B: Broker + Producer> Producer for Retrying<B> {
    /// Creates a topic, and waits until it can be described. The creation itself is not retried: a second attempt would
    /// find the topic that the first one created.
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> Result<Topic, BrokerError> {
        match self.inner.create_topic(topic, partitions, replication).await {
            // The topic was created, but the broker that should describe it does not know it yet.
            Err(BrokerError::UnknownTopic(_)) => {
                let again = |error: &BrokerError| {
                    error.is_retriable() || matches!(error, BrokerError::UnknownTopic(_))
                };
                self.retry(again, || self.inner.topic(topic)).await
            }
            created => created,
        }
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        self.inner.append(topic, records).await
    }
}

/// The broker that a worker uses.
pub(super) trait ForWorker {
    /// The type of that broker.
    type Broker: Broker;

    /// That broker.
    fn for_worker(&self) -> &Self::Broker;
}

impl<B: Broker> ForWorker for Retrying<B> {
    type Broker = B;

    fn for_worker(&self) -> &B {
        &self.inner
    }
}

impl ForWorker for EmbeddedBroker {
    type Broker = Self;

    fn for_worker(&self) -> &Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::broker::memory::MemoryBroker;

    /// Sends a request that fails with `error` this many times. Returns whether it succeeded, how often it was sent,
    /// and how long that took.
    async fn retried(failures: u32, error: fn() -> BrokerError, deadline_s: u64) -> (bool, u32, Duration) {
        let broker = Retrying::new(MemoryBroker::new(1), Duration::from_secs(deadline_s));
        let (sent, began) = (Cell::new(0), Instant::now());
        let request = || async {
            sent.set(sent.get() + 1);
            if sent.get() <= failures { Err(error()) } else { Ok(()) }
        };
        let ok = broker.retry(BrokerError::is_retriable, request).await.is_ok();
        (ok, sent.get(), began.elapsed())
    }

    fn no_leader() -> BrokerError {
        BrokerError::Retriable { what: "list offsets: no leader".to_owned(), cause: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_retried_until_the_deadline_after_transient_errors() {
        assert_eq!(retried(0, no_leader, 60).await, (true, 1, Duration::ZERO));
        let (ok, sent, took) = retried(5, no_leader, 60).await;
        assert!(ok && sent == 6 && took < Duration::from_secs(2), "{sent} {took:?}");
        let (ok, _, took) = retried(u32::MAX, no_leader, 60).await;
        assert!(!ok && (60..63).contains(&took.as_secs()), "{took:?}");
        assert_eq!(retried(1, no_leader, 0).await, (false, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_a_retry_cannot_fix_is_sent_once() {
        let unknown = || BrokerError::UnknownTopic("t".to_owned());
        assert_eq!(retried(1, unknown, 60).await, (false, 1, Duration::ZERO));
    }
}
