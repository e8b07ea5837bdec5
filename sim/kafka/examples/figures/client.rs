//! A client of the bare protocol, on any stream.

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use proto_kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    CreateTopicsRequest, FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use simulated_kafka::protocol::builder::BatchBuilder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Result;

/// How many records a batch has, and how many bytes a record's value has.
pub const RECORDS: usize = 100;
pub const BYTES: usize = 100;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A request as a frame.
pub fn frame<R: Request>(request: &R, version: i16) -> Result<Bytes> {
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("figures")));
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, version)?;
    let mut frame = BytesMut::from(&u32::try_from(body.len())?.to_be_bytes()[..]);
    frame.extend_from_slice(&body);
    Ok(frame.freeze())
}

pub struct Client<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends a frame and reads the one of the response.
    pub async fn exchange(&mut self, frame: &[u8]) -> Result<Bytes> {
        self.0.write_all(frame).await?;
        let length = self.0.read_u32().await?;
        let mut response = vec![0; usize::try_from(length)?];
        self.0.read_exact(&mut response).await?;
        Ok(response.into())
    }

    /// Sends a request and reads the response.
    pub async fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response>
    where
        R::Response: HeaderVersion,
    {
        let mut response = self.exchange(&frame(request, version)?).await?;
        ResponseHeader::decode(&mut response, R::Response::header_version(version))?;
        Ok(R::Response::decode(&mut response, version)?)
    }

    /// Creates a topic with one partition.
    pub async fn create(&mut self, name: &str, configs: &[(&str, &str)]) -> Result<()> {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        match self.ask(&request, 7).await?.topics.first().map(|topic| topic.error_code) {
            Some(0) => Ok(()),
            other => Err(format!("the topic was not created: {other:?}").into()),
        }
    }
}

/// A request to produce a batch to partition 0 of a topic.
pub fn produce(topic: &str, acks: i16, timestamp: i64) -> Result<Bytes> {
    let value = [b'x'; BYTES];
    let mut batch = BatchBuilder::new(timestamp);
    for _ in 0..RECORDS {
        batch = batch.record(timestamp, None, Some(&value));
    }
    let data = PartitionProduceData::default().with_records(Some(batch.build().bytes().clone()));
    let topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
    frame(&ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]), 9)
}

/// A request to fetch one batch.
pub fn fetch(topic: &str, offset: i64, batch_bytes: usize) -> Result<Bytes> {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(i32::try_from(batch_bytes)?);
    let topic = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_min_bytes(1)
        .with_max_wait_ms(100)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    frame(&request, 12)
}
