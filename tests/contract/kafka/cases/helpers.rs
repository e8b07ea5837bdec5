//! Helpers of the cases.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use exactlyonce::broker::{Broker, BrokerError, Fetched, LogOffsets};
use exactlyonce::event::Record;

use crate::kafka::backend::{Backend, Client, NewRecord, ProducerOptions, TestProducer, value};

/// Maximum time of a wait for a condition.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Creates a topic with one partition and three replicas.
pub async fn topic<W: Backend>(backend: &W, configs: &[(&str, &str)]) -> String {
    topic_of(backend, 1, configs).await
}

/// Creates a topic with this many partitions.
pub async fn topic_of<W: Backend>(backend: &W, partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = backend.unique("contract");
    backend.create_topic(&name, partitions, 3, configs).await.expect("the topic is created");
    name
}

/// A client of the project's driver with default options.
pub fn driver<W: Backend>(backend: &W) -> W::Broker {
    backend.broker(Client::default(), None)
}

/// Records of a partition whose values are these numbers.
pub fn numbered(partition: i32, numbers: impl IntoIterator<Item = i64>) -> Vec<NewRecord> {
    let record = |n: i64| NewRecord { partition: Some(partition), ..value(n.to_string()) };
    numbers.into_iter().map(record).collect()
}

/// Appends numbered records, each acknowledged by all in-sync replicas.
pub async fn append<W: Backend>(
    backend: &W,
    topic: &str,
    partition: i32,
    numbers: impl IntoIterator<Item = i64>,
) -> Vec<i64> {
    let producer = backend.producer(&ProducerOptions::default(), None);
    let sent =
        producer.send_all(topic, numbered(partition, numbers)).await.expect("the records are appended");
    sent.into_iter().map(|(_, offset)| offset).collect()
}

/// Retries while the error is retriable.
pub async fn retry<T, F: Future<Output = Result<T, BrokerError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, BrokerError> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        match attempt().await {
            Err(error) if error.is_retriable() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            response => return response,
        }
    }
}

/// The log's start and end.
pub async fn offsets<B: Broker>(broker: &B, topic: &str) -> LogOffsets {
    retry(|| broker.offsets(topic, 0)).await.expect("the offsets of partition 0")
}

/// A fetch with large limits.
pub async fn fetch<B: Broker>(broker: &B, topic: &str, offset: i64) -> Result<Fetched, BrokerError> {
    retry(|| broker.fetch(topic, 0, offset, 10_000, 16 << 20)).await
}

/// Reads all records from an offset to the end, in chunks.
pub async fn read_all<B: Broker>(broker: &B, topic: &str, partition: i32, from: i64) -> Vec<Record> {
    let end = retry(|| broker.offsets(topic, partition)).await.expect("offsets").end;
    let (mut next, mut all) = (from, Vec::new());
    while next < end {
        let attempt = || broker.fetch(topic, partition, next, 1000, 1 << 20);
        let fetched = retry(attempt).await.expect("a chunk of the log");
        assert!(fetched.next_offset > next, "no progress at {next} of {end}");
        next = fetched.next_offset;
        all.extend(fetched.records);
    }
    all
}

/// The offsets of records.
pub fn offsets_of(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// The values of records as text.
pub fn values_of(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"")).into_owned();
    records.iter().map(text).collect()
}

/// The kind of an error, without details that differ between runs.
pub fn kind(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Retriable { .. } => "retriable",
        BrokerError::OutOfRange { .. } => "out of range",
        BrokerError::UnknownTopic(_) => "unknown topic",
        BrokerError::TopicExists(_) => "topic exists",
        BrokerError::Unsupported { .. } => "unsupported",
        BrokerError::Refused { .. } => "refused",
        BrokerError::Fatal { .. } => "fatal",
        other => panic!("an unexpected kind of error: {other:?}"),
    }
}

/// The result of a fetch, as text.
pub fn describe(fetched: &Result<Fetched, BrokerError>) -> String {
    match fetched {
        Ok(fetched) if fetched.records.is_empty() => format!("nothing, next {}", fetched.next_offset),
        Ok(fetched) => format!("{}, next {}", ranges(&offsets_of(&fetched.records)), fetched.next_offset),
        Err(error) => kind(error).to_owned(),
    }
}

/// Offsets as ranges: `0-4, 7`.
pub fn ranges(offsets: &[i64]) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &offset in offsets {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => runs.push((offset, offset)),
        }
    }
    let run = |&(first, last): &(i64, i64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    if runs.is_empty() { "nothing".to_owned() } else { runs.iter().map(run).collect::<Vec<_>>().join(", ") }
}

/// Waits until a response satisfies a condition.
pub async fn eventually<T: Debug, F: Future<Output = T>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
    right: impl Fn(&T) -> bool,
) -> T {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let response = attempt().await;
        if right(&response) {
            return response;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not reached; the last response: {response:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
