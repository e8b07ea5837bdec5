//! Requests to broker and store, with retries: a verification takes long, and one failed request must not end it.

use std::future::Future;
use std::time::Duration;

use crate::broker::{Broker, BrokerError, Fetched, LogOffsets, Topic};
use crate::store::Outcome;

use super::error::VerifyError;

/// Maximum records of one request.
const FETCH_RECORDS: usize = 1_000;
/// Approximate maximum bytes of records of one request.
const FETCH_BYTES: usize = 1 << 20;

/// The waits between the attempts of a request: about 20 s in total.
fn backoffs() -> impl Iterator<Item = Duration> {
    (0..9).map(|i| Duration::from_millis(100 << i).min(Duration::from_secs(5)))
}

/// The waits for the end of a log: after a leader election, the high watermark may lag behind what the broker delivered
/// before. About 3 s in total.
fn lag_backoffs() -> impl Iterator<Item = Duration> {
    backoffs().take(5)
}

/// Repeats a request to the store until it is acknowledged or refused, or the attempts are exhausted. `request`
/// completes "could not ...".
pub(super) async fn store<T, F: Future<Output = Outcome<T>>>(
    request: impl FnOnce() -> String,
    mut attempt: impl FnMut() -> F,
) -> Result<T, VerifyError> {
    let mut backoffs = backoffs();
    loop {
        let source = match attempt().await {
            Outcome::Acknowledged(value) => return Ok(value),
            Outcome::Refused(source) => return Err(VerifyError::Store { request: request(), source }),
            Outcome::Unknown(source) => source,
        };
        match backoffs.next() {
            Some(backoff) => tokio::time::sleep(backoff).await,
            None => return Err(VerifyError::Store { request: request(), source }),
        }
    }
}

/// Repeats a request to the broker while its error is retriable and the attempts are not exhausted.
async fn broker<T, F: Future<Output = Result<T, BrokerError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, BrokerError> {
    let mut backoffs = backoffs();
    loop {
        let error = match attempt().await {
            Err(error) if error.is_retriable() => error,
            result => return result,
        };
        match backoffs.next() {
            Some(backoff) => tokio::time::sleep(backoff).await,
            None => return Err(error),
        }
    }
}

pub(super) async fn topic<B: Broker>(from: &B, name: &str) -> Result<Topic, VerifyError> {
    let topic = broker(|| from.topic(name)).await;
    topic.map_err(|source| VerifyError::Broker { request: format!("describe topic {name}"), source })
}

/// Start and end of a log. If the end is below `expected_end`, retries for a while.
pub(super) async fn offsets<B: Broker>(
    from: &B,
    topic: &str,
    partition: i32,
    expected_end: i64,
) -> Result<LogOffsets, VerifyError> {
    let mut backoffs = lag_backoffs();
    loop {
        let log = broker(|| from.offsets(topic, partition)).await;
        let log = log.map_err(|source| VerifyError::Broker {
            request: format!("read the offsets of topic {topic} partition {partition}"),
            source,
        })?;
        match backoffs.next() {
            Some(backoff) if log.end < expected_end => tokio::time::sleep(backoff).await,
            _ => return Ok(log),
        }
    }
}

/// A part of the log from an offset on.
pub(super) enum Chunk {
    /// All records (possibly none) from there up to `fetched.next_offset`, which is greater.
    Records(Fetched),
    /// Retention deleted the records there: the log now starts at this offset.
    Deleted(i64),
    /// The log ends there or before.
    End,
}

/// Reads the log from an offset on.
pub(super) async fn chunk<B: Broker>(
    from: &B,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Chunk, VerifyError> {
    let mut backoffs = lag_backoffs();
    loop {
        match broker(|| from.fetch(topic, partition, offset, FETCH_RECORDS, FETCH_BYTES)).await {
            Ok(fetched) if fetched.next_offset > offset => return Ok(Chunk::Records(fetched)),
            Ok(_) | Err(BrokerError::OutOfRange { .. }) => {}
            Err(source) => {
                let request = format!("read topic {topic} partition {partition} from offset {offset}");
                return Err(VerifyError::Broker { request, source });
            }
        }
        let log = offsets(from, topic, partition, offset.saturating_add(1)).await?;
        if log.start > offset {
            return Ok(Chunk::Deleted(log.start));
        }
        if log.end <= offset {
            return Ok(Chunk::End);
        }
        match backoffs.next() {
            Some(backoff) => tokio::time::sleep(backoff).await,
            None => {
                let (topic, log_end) = (topic.to_owned(), log.end);
                return Err(VerifyError::NothingDelivered { topic, partition, offset, log_end });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[tokio::test(start_paused = true)]
    async fn a_request_to_a_store_that_does_not_respond_is_retried_a_limited_number_of_times() {
        for (failures, succeeds) in [(0, true), (1, true), (9, true), (10, false), (1_000, false)] {
            let mut sent = 0;
            let result = store(
                || "read the binding".to_owned(),
                || {
                    sent += 1;
                    let unknown = sent <= failures;
                    async move {
                        if unknown {
                            Outcome::Unknown(StoreError::of("timeout"))
                        } else {
                            Outcome::Acknowledged(7)
                        }
                    }
                },
            );
            assert_eq!(result.await.ok(), succeeds.then_some(7), "{failures} failures");
            assert_eq!(sent, 10.min(failures + 1));
        }
    }

    #[tokio::test]
    async fn a_request_that_the_store_refuses_is_not_retried() {
        let mut sent = 0;
        let refuse = || {
            sent += 1;
            async { Outcome::<()>::Refused(StoreError::of("not allowed")) }
        };
        let error = store(|| "read the binding".to_owned(), refuse).await.expect_err("refused");
        assert_eq!((error.to_string().as_str(), sent), ("could not read the binding", 1));
    }
}
