//! Requests of the protocol, for what librdkafka's safe API does not offer, or not for a chosen broker.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::elect_leaders_request::TopicPartitions;
use proto_kafka::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use proto_kafka::messages::metadata_request::MetadataRequestTopic;
use proto_kafka::messages::metadata_response::MetadataResponsePartition;
use proto_kafka::messages::{
    ElectLeadersRequest, IncrementalAlterConfigsRequest, MetadataRequest, RequestHeader, ResponseHeader,
    TopicName,
};
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kafka::backend::PartitionState;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The type of a broker among the resources of configurations.
const BROKER: i8 = 4;

/// A topic according to one broker: the state of each partition, by number; `None` if it does not know the topic.
pub struct TopicState {
    pub name: String,
    pub partitions: Option<Vec<PartitionState>>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// One topic, or all topics, according to one broker.
pub async fn metadata(address: &str, topic: Option<&str>) -> io::Result<Vec<TopicState>> {
    let wanted =
        topic.map(|topic| vec![MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))))]);
    let request = MetadataRequest::default().with_topics(wanted).with_allow_auto_topic_creation(false);
    let response = exchange(address, &request, 12).await?;
    let topics = response.topics.into_iter().map(|topic| {
        let mut partitions = topic.partitions;
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        TopicState {
            name: topic.name.map_or_else(String::new, |name| name.to_string()),
            partitions: (topic.error_code == 0).then(|| partitions.iter().map(state).collect()),
        }
    });
    Ok(topics.collect())
}

fn state(partition: &MetadataResponsePartition) -> PartitionState {
    let mut in_sync: Vec<i32> = partition.isr_nodes.iter().map(|node| node.0).collect();
    in_sync.sort_unstable();
    PartitionState {
        leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
        replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
        in_sync,
    }
}

/// Requests the preferred leader election of a partition; the broker forwards the request to the controller.
pub async fn elect_preferred(address: &str, topic: &str, partition: i32) -> io::Result<()> {
    let wanted =
        TopicPartitions::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    let request =
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![wanted])).with_timeout_ms(10_000);
    exchange(address, &request, 1).await.map(|_| ())
}

/// Sets a configuration of all brokers while they run; without a value, they have their own again.
pub async fn configure_brokers(address: &str, name: &str, value: Option<&str>) -> io::Result<()> {
    let change = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default().with_resource_type(BROKER).with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = exchange(address, &request, 1).await?;
    match response.responses.iter().find(|response| response.error_code != 0) {
        Some(error) => Err(io::Error::other(format!("{name}: {:?}", error.error_message))),
        None => Ok(()),
    }
}

/// Sends a request over a connection of its own, and returns the response.
pub async fn exchange<R: Request>(address: &str, request: &R, version: i16) -> io::Result<R::Response> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("contract")));
    let mut frame = BytesMut::new();
    header.encode(&mut frame, R::header_version(version)).map_err(io::Error::other)?;
    request.encode(&mut frame, version).map_err(io::Error::other)?;
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_i32(i32::try_from(frame.len()).map_err(io::Error::other)?).await?;
        connection.write_all(&frame).await?;
        let length = connection.read_i32().await?;
        let mut response = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        connection.read_exact(&mut response).await?;
        Ok::<_, io::Error>(Bytes::from(response))
    };
    let mut response = tokio::time::timeout(TIMEOUT, exchange).await??;
    ResponseHeader::decode(&mut response, R::Response::header_version(version)).map_err(io::Error::other)?;
    R::Response::decode(&mut response, version).map_err(io::Error::other)
}
