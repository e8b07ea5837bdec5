//! Requests of the protocol as a client's library sends them, one by one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proto_kafka::error::ParseResponseErrorCode;
use proto_kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use proto_kafka::messages::metadata_request::MetadataRequestTopic;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    BrokerId, FetchRequest, FetchResponse, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
    ProduceRequest, TopicName, TransactionalId,
};
use proto_kafka::protocol::StrBytes;
use simulated_kafka::protocol::builder::BatchBuilder;

use super::helpers::eventually;
use crate::kafka::backend::Backend;

/// The version of Produce of the first protocol of transactions.
const PRODUCE: i16 = 9;

/// Versions of Fetch: with a rack, and with ids of topics in place of their names.
pub const FETCH_BY_NAME: i16 = 12;
pub const FETCH_BY_ID: i16 = 13;

/// What a coordinator is for.
#[derive(Clone, Copy)]
pub enum Coordinates {
    Group = 0,
    Transaction = 1,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The name of an error; `none` without one.
pub fn error_name(code: i16) -> String {
    code.err().map_or_else(|| "none".to_owned(), |error| format!("{error:?}"))
}

/// Now, in milliseconds since 1970.
pub fn now() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(now.as_millis()).expect("a time")
}

/// The node that leads the only partition of a topic.
pub async fn leader<W: Backend>(backend: &W, topic: &str) -> i32 {
    let state = backend.partition(topic, 0).await.expect("the topic");
    state.leader.expect("a leader")
}

/// The node that coordinates a group or a transactional id.
pub async fn coordinator<W: Backend>(backend: &W, key: &str, what: Coordinates) -> i32 {
    let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(what as i8);
    let attempt = || backend.request(1, &request, 3);
    let found = eventually("the coordinator", attempt, |found| found.error_code == 0).await;
    found.node_id.0
}

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// A new producer, with a transactional id or without.
pub async fn init<W: Backend>(backend: &W, id: Option<&str>, timeout: Duration) -> Identity {
    let node = match id {
        Some(id) => coordinator(backend, id, Coordinates::Transaction).await,
        None => 1,
    };
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(text(id))))
        .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).expect("a short time"));
    let attempt = || backend.request(node, &request, 4);
    let found = eventually("a producer id", attempt, |found| found.error_code == 0).await;
    Identity { id: found.producer_id.0, epoch: found.producer_epoch }
}

/// Sends a batch of one record, with all acknowledgements: the offset, or the error.
pub async fn produce<W: Backend>(
    backend: &W,
    topic: &str,
    producer: Identity,
    sequence: i32,
    transaction: Option<&str>,
) -> Result<i64, String> {
    let now = now();
    let mut batch = BatchBuilder::new(now).producer(producer.id, producer.epoch, sequence);
    if transaction.is_some() {
        batch = batch.transactional();
    }
    let batch: Bytes = batch.record(now, None, Some(b"raw")).build().bytes().clone();
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(transaction.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let response = backend.request(leader(backend, topic).await, &request, PRODUCE).await;
    let result = &response.responses[0].partition_responses[0];
    if result.error_code == 0 { Ok(result.base_offset) } else { Err(error_name(result.error_code)) }
}

/// What became of a write, as text.
pub fn outcome(written: &Result<i64, String>) -> String {
    match written {
        Ok(offset) => format!("appended at {offset}"),
        Err(error) => format!("refused, {error}"),
    }
}

/// A fetch of the only partition of a topic from an offset on, as a new client without a session sends it.
pub fn fetch_of(topic: &str, offset: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![wanted])
}

/// The first partition of a response: its error, the replica that the client should read from, and whether there are
/// records.
pub fn first(response: &FetchResponse) -> (String, i32, bool) {
    let data = &response.responses[0].partitions[0];
    let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
    (error_name(data.error_code), data.preferred_read_replica.0, has_records)
}

/// The same for the id that the topic has now.
pub async fn fetch_by_id<W: Backend>(backend: &W, topic: &str, offset: i64) -> FetchRequest {
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    let described = backend.request(1, &request, 12).await;
    let mut fetch = fetch_of("", offset);
    fetch.topics[0].topic_id = described.topics[0].topic_id;
    fetch
}
