//! Reattempts: the one place that handles unknown outcomes.
//!
//! A request whose outcome is unknown is repeated, unchanged, until it is acknowledged. The wait between two attempts
//! is an exponential backoff with full jitter. However many requests fail at the same time, they are one [`Episode`] in
//! the log: a line when it begins, one each minute while it lasts, and one when it is over.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::error::chain;
use crate::pipeline::{Options, PipelineError};
use crate::store::Outcome;

/// Time between two log lines of an episode that lasts.
const REMINDER: Duration = Duration::from_secs(60);

/// Failures that follow each other, for the log.
#[derive(Debug, Default)]
pub(super) struct Episode {
    since: Option<Instant>,
    last_logged_at: Option<Instant>,
}

impl Episode {
    /// Something failed. For how long it has been failing, if that is to be logged now.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if self.last_logged_at.is_some_and(|logged| now - logged < REMINDER) {
            return None;
        }
        self.last_logged_at = Some(now);
        Some(now - since)
    }

    /// It went well. For how long it had been failing before, if it had.
    pub(super) fn recovered(&mut self, now: Instant) -> Option<Duration> {
        std::mem::take(self).since.map(|since| now - since)
    }
}

/// Repeats requests for one worker. Clones share the randomness and the episode.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    topic: Arc<str>,
    min: Duration,
    max: Duration,
    deadline: Option<Duration>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rng: ChaCha8Rng,
    /// Requests that are being repeated at the moment.
    failing: usize,
    /// Lasts while there are any.
    episode: Episode,
}

/// Counts one failing request, also if its future is dropped.
struct Failing<'a>(&'a Retry);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.failing -= 1;
        if shared.failing == 0 {
            shared.episode = Episode::default();
        }
    }
}

impl Retry {
    pub(super) fn new(options: &Options, rng: ChaCha8Rng) -> Self {
        Self {
            topic: options.binding_spec.topic.as_str().into(),
            min: options.backoff_min.max(Duration::from_millis(1)),
            max: options.backoff_max.max(options.backoff_min),
            deadline: options.retry_deadline,
            shared: Arc::new(Mutex::new(Shared { rng, failing: 0, episode: Episode::default() })),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats `attempt` until it is acknowledged. `request` completes "the store did not ..." and names
    /// table, partition and offsets.
    ///
    /// # Errors
    /// If it is refused, or unknown past the deadline.
    pub(super) async fn until_acknowledged<T, F: Future<Output = Outcome<T>>>(
        &self,
        request: impl Fn() -> String,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, PipelineError> {
        let mut attempts = Attempts::new(self);
        loop {
            match attempt().await {
                Outcome::Acknowledged(answer) => return Ok(attempts.over(answer)),
                Outcome::Refused(source) => {
                    return Err(PipelineError::StoreRefused { request: request(), source });
                }
                Outcome::Unknown(source) => {
                    if let Some(seconds) = attempts.exhausted() {
                        return Err(PipelineError::StoreUnavailable { request: request(), seconds, source });
                    }
                    attempts.again(|| format!("store: {}: {}", request(), chain(&source))).await;
                }
            }
        }
    }

    /// Repeats a request to the broker until the result is anything but a retriable error.
    pub(super) async fn until_answered<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, BrokerError> {
        let mut attempts = Attempts::new(self);
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && attempts.exhausted().is_none() => {
                    attempts.again(|| format!("broker: {}", chain(&error))).await;
                }
                answer => return attempts.over(answer),
            }
        }
    }

    /// The error of a broker that cannot go on.
    pub(super) fn broker_error(&self, source: BrokerError) -> PipelineError {
        PipelineError::Broker { topic: self.topic.to_string(), source }
    }
}

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    backoff: Backoff,
    /// When the first attempt ended, and the count of it among the failing ones.
    failing: Option<(Instant, Failing<'a>)>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(retry: &'a Retry) -> Self {
        Self { retry, backoff: Backoff::new(retry.min, retry.max), failing: None }
    }

    /// For how many seconds it was tried, if that is past the deadline.
    pub(super) fn exhausted(&self) -> Option<u64> {
        let (since, _) = self.failing.as_ref()?;
        let tried = since.elapsed();
        (tried >= self.retry.deadline?).then_some(tried.as_secs())
    }

    /// Waits before the next attempt.
    pub(super) async fn again(&mut self, last_error: impl FnOnce() -> String) {
        sleep(self.next_wait(last_error)).await;
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_wait(&mut self, last_error: impl FnOnce() -> String) -> Duration {
        let mut shared = self.retry.lock();
        if self.failing.is_none() {
            shared.failing += 1;
            self.failing = Some((Instant::now(), Failing(self.retry)));
        }
        if let Some(failing_for) = shared.episode.failed(Instant::now()) {
            let (topic, last_error, seconds) = (&*self.retry.topic, last_error(), failing_for.as_secs());
            match seconds {
                0 => warn!(topic, last_error, "request failed; retrying"),
                _ => warn!(topic, last_error, seconds, "requests still fail; retrying"),
            }
        }
        let jitter = shared.rng.next_u64() % (self.backoff.wait().as_micros() as u64 + 1);
        Duration::from_micros(jitter).max(Duration::from_millis(1))
    }

    /// Ends the attempts with their result, and the episode if no other request is failing.
    pub(super) fn over<T>(self, result: T) -> T {
        if self.failing.is_some() {
            let mut shared = self.retry.lock();
            if shared.failing == 1
                && let Some(failed_for) = shared.episode.recovered(Instant::now())
            {
                let (topic, seconds) = (&*self.retry.topic, failed_for.as_secs_f64());
                info!(topic, seconds, "recovered");
            }
        }
        result
    }
}
