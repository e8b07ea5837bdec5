//! Requests to broker and store with retries: a verification reads for long, and one request that got no answer
//! is no reason to start over.

use std::future::Future;
use std::time::Duration;

use crate::broker::{Broker, BrokerError, Fetched, LogOffsets, Topic};
use crate::store::Outcome;

use super::error::VerifyError;

/// Most records of one request.
const FETCH_RECORDS: usize = 1_000;
/// About the most bytes of records of one request.
const FETCH_BYTES: usize = 1 << 20;

/// How long to wait before each repetition of a request: about 20 s in all.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..9).map(|i| Duration::from_millis(100 << i).min(Duration::from_secs(5)))
}

/// How long a broker may need to say again where a log ends: its high watermark may lag behind what it
/// delivered before a leader changed. About 3 s in all.
fn lag_pauses() -> impl Iterator<Item = Duration> {
    pauses().take(5)
}

/// Asks the store until it answers, refuses, or was asked often enough.
pub(super) async fn store<T, F: Future<Output = Outcome<T>>>(
    request: impl FnOnce() -> String,
    mut ask: impl FnMut() -> F,
) -> Result<T, VerifyError> {
    let mut pauses = pauses();
    loop {
        let source = match ask().await {
            Outcome::Acknowledged(answer) => return Ok(answer),
            Outcome::Refused(source) => return Err(VerifyError::Store { request: request(), source }),
            Outcome::Unknown(source) => source,
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(VerifyError::Store { request: request(), source }),
        }
    }
}

/// Asks the broker while it says that asking again may help.
async fn broker<T, F: Future<Output = Result<T, BrokerError>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, BrokerError> {
    let mut pauses = pauses();
    loop {
        let error = match ask().await {
            Err(error) if error.is_retriable() => error,
            answer => return answer,
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}

pub(super) async fn topic<B: Broker>(from: &B, name: &str) -> Result<Topic, VerifyError> {
    let answer = broker(|| from.topic(name)).await;
    answer.map_err(|source| VerifyError::Broker { request: format!("describe topic {name}"), source })
}

/// Where a log begins and ends. If it ends below `wanted`, asks again for a while.
pub(super) async fn offsets<B: Broker>(
    from: &B,
    topic: &str,
    partition: i32,
    wanted: i64,
) -> Result<LogOffsets, VerifyError> {
    let mut pauses = lag_pauses();
    loop {
        let answer = broker(|| from.offsets(topic, partition)).await;
        let log = answer.map_err(|source| VerifyError::Broker {
            request: format!("give the offsets of topic {topic} partition {partition}"),
            source,
        })?;
        match pauses.next() {
            Some(pause) if log.end < wanted => tokio::time::sleep(pause).await,
            _ => return Ok(log),
        }
    }
}

/// What the log has from an offset on.
pub(super) enum Piece {
    /// All of its records (perhaps none) from there up to `fetched.next_offset`, which lies further on.
    Here(Fetched),
    /// Retention deleted what was there: the log begins at this offset now.
    Gone(i64),
    /// The log ends there or before.
    Ended,
}

/// Reads from an offset on.
pub(super) async fn piece<B: Broker>(
    from: &B,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Piece, VerifyError> {
    let mut pauses = lag_pauses();
    loop {
        match broker(|| from.fetch(topic, partition, offset, FETCH_RECORDS, FETCH_BYTES)).await {
            Ok(fetched) if fetched.next_offset > offset => return Ok(Piece::Here(fetched)),
            Ok(_) | Err(BrokerError::OutOfRange { .. }) => {}
            Err(source) => {
                let request = format!("deliver topic {topic} partition {partition} from offset {offset}");
                return Err(VerifyError::Broker { request, source });
            }
        }
        let log = offsets(from, topic, partition, offset.saturating_add(1)).await?;
        if log.start > offset {
            return Ok(Piece::Gone(log.start));
        }
        if log.end <= offset {
            return Ok(Piece::Ended);
        }
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
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
    async fn a_store_that_does_not_answer_is_asked_again_and_not_for_ever() {
        for (silent, answers) in [(0, true), (1, true), (9, true), (10, false), (1_000, false)] {
            let mut asked = 0;
            let answer = store(
                || "answer".to_owned(),
                || {
                    asked += 1;
                    let unknown = asked <= silent;
                    async move {
                        if unknown {
                            Outcome::Unknown(StoreError::of("timeout"))
                        } else {
                            Outcome::Acknowledged(7)
                        }
                    }
                },
            );
            assert_eq!(answer.await.ok(), answers.then_some(7), "silent {silent} times");
            assert_eq!(asked, 10.min(silent + 1));
        }
    }

    #[tokio::test]
    async fn a_store_that_refuses_is_asked_once() {
        let mut asked = 0;
        let refuse = || {
            asked += 1;
            async { Outcome::<()>::Refused(StoreError::of("not allowed")) }
        };
        let error = store(|| "answer".to_owned(), refuse).await.expect_err("refused");
        assert_eq!((error.to_string().as_str(), asked), ("the store did not answer", 1));
    }
}
