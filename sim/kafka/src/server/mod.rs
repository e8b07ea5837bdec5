//! What a broker answers to its clients (`KafkaApis`).
//!
//! Requests of one connection are served one after another, as Kafka does, which does not read from a connection while
//! it works on its last request.

mod alter;
mod cluster;
mod configs;
mod connection;
mod coordinators;
mod credentials;
mod fetch;
mod metadata;
mod offsets;
mod produce;
mod producers;
mod quotas;
mod sasl;
mod session;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use connection::ServerOptions;
pub(crate) use connection::serve;
pub(crate) use session::Sessions;

use crate::cluster::Broker;
use crate::metadata::{Image, TopicImage};
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::{ApiKey, BrokerId};
use crate::protocol::text;
use crate::quota::tokens::Requester;
use crate::types::{NodeId, PartitionId, TopicId};

/// After how long a connection is closed on which nothing happens (`connections.max.idle.ms`).
const LONGEST_IDLE: Duration = Duration::from_secs(600);

/// A client, as its connection shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// Its address, as text without the port.
    pub(crate) address: String,
    /// The user that it has authenticated as, if the listener requires that.
    pub(crate) user: Option<String>,
}

impl Client {
    /// Who asks for a change.
    fn requester(&self, raw: &RawRequest, is_strict: bool) -> Requester {
        let client_id = raw.client_id.as_deref().unwrap_or_default().to_owned();
        Requester { user: self.user.clone(), client_id, is_strict }
    }
}

/// What follows from a request.
#[derive(Debug)]
pub(crate) struct Reply {
    /// None if the client does not want one.
    pub(crate) response: Option<Bytes>,
    /// How long the connection is not read after that.
    pub(crate) muted: Duration,
}

impl From<Option<Bytes>> for Reply {
    fn from(response: Option<Bytes>) -> Self {
        Self { response, muted: Duration::ZERO }
    }
}

/// Serves a request.
pub(crate) async fn dispatch(
    broker: &Arc<Broker>,
    client: &Client,
    raw: &RawRequest,
) -> Result<Reply, FrameError> {
    macro_rules! answer {
        ($serve:expr) => {{
            let request = raw.decode()?;
            let response = $serve(broker, request, raw.version).await;
            raw.respond(&response).map(Some)
        }};
    }
    // The first version is the one that knows THROTTLING_QUOTA_EXCEEDED.
    macro_rules! change_partitions {
        ($serve:expr, $strict_from:expr) => {{
            let request = raw.decode()?;
            let requester = client.requester(raw, raw.version >= $strict_from);
            let response = $serve(broker, request, requester).await;
            let muted = quotas::muted(response.throttle_time_ms);
            return Ok(Reply { response: Some(raw.respond(&response)?), muted });
        }};
    }
    let response = match raw.key {
        ApiKey::ApiVersions => cluster::api_versions(broker, raw).map(|(response, _)| Some(response)),
        ApiKey::SaslHandshake => sasl::handshake_again(raw).map(Some),
        ApiKey::SaslAuthenticate => sasl::authenticate_again(raw).map(Some),
        ApiKey::Produce => return produce::serve(broker, client, raw).await,
        ApiKey::Fetch => return fetch::serve(broker, client, raw).await,
        ApiKey::ListOffsets => answer!(offsets::list),
        ApiKey::OffsetForLeaderEpoch => answer!(offsets::for_leader_epoch),
        ApiKey::Metadata => {
            let request = raw.decode()?;
            if metadata::has_wrong_null(&request, raw.version) {
                let reason = "a field is null that may not be".to_owned();
                return Err(FrameError::Malformed { key: raw.key as i16, version: raw.version, reason });
            }
            let requester = client.requester(raw, true);
            let response = metadata::serve(broker, requester, request, raw.version).await;
            raw.respond(&response).map(Some)
        }
        ApiKey::DescribeTopicPartitions => answer!(metadata::describe_partitions),
        ApiKey::DescribeCluster => answer!(cluster::describe),
        ApiKey::CreateTopics => change_partitions!(topics::create, 6),
        ApiKey::DeleteTopics => change_partitions!(topics::delete, 5),
        ApiKey::CreatePartitions => change_partitions!(topics::add_partitions, 3),
        ApiKey::DeleteRecords => answer!(topics::delete_records),
        ApiKey::ElectLeaders => answer!(topics::elect_leaders),
        ApiKey::DescribeConfigs => answer!(configs::describe),
        ApiKey::AlterConfigs => {
            let request = raw.decode()?;
            let names_twice = alter::names_twice(&request);
            let response = alter::replace(broker, request, raw.version).await;
            if names_twice {
                // Kafka fails when it counts the errors of its response, and sends none (`AlterConfigsResponse.errorCounts`).
                tokio::time::sleep(LONGEST_IDLE).await;
                return Err(FrameError::NeverAnswered(raw.key as i16));
            }
            raw.respond(&response).map(Some)
        }
        ApiKey::IncrementalAlterConfigs => answer!(alter::alter),
        ApiKey::DescribeClientQuotas => answer!(quotas::describe),
        ApiKey::AlterClientQuotas => answer!(quotas::alter),
        ApiKey::DescribeUserScramCredentials => answer!(credentials::describe),
        ApiKey::AlterUserScramCredentials => answer!(credentials::alter),
        ApiKey::FindCoordinator => answer!(coordinators::find),
        ApiKey::AddPartitionsToTxn if coordinators::is_never_answered(raw)? => {
            tokio::time::sleep(LONGEST_IDLE).await;
            Err(FrameError::NeverAnswered(raw.key as i16))
        }
        ApiKey::InitProducerId => coordinators::init_producer_id(broker, client, raw).await.map(Some),
        ApiKey::WriteTxnMarkers => answer!(coordinators::write_markers),
        ApiKey::DescribeProducers => answer!(producers::describe),
        _ => coordinators::serve(broker, client, raw).await.map(Some),
    };
    response.map(Reply::from)
}

/// A partition of a topic by name, as the broker's metadata have it.
fn partition_by_name(image: &Image, name: &str, index: i32) -> Option<PartitionId> {
    let topic = image.topic(name)?;
    topic.partition(index)?;
    Some(PartitionId { topic: topic.id, index })
}

/// A topic that a request names by id, or by name if it has no id.
fn topic_of<'a>(image: &'a Image, name: &str, id: TopicId) -> Option<&'a Arc<TopicImage>> {
    if id.is_none() { image.topic(name) } else { image.topics.get(&id) }
}

/// The broker that clients take for the controller: a random one that is alive, which forwards what is for the controller
/// (`KRaftMetadataCache.getRandomAliveBrokerId`).
fn controller(broker: &Broker, image: &Image) -> Option<NodeId> {
    let alive: Vec<NodeId> =
        image.brokers.values().filter(|known| !known.fenced).map(|known| known.id).collect();
    let chosen = (broker.cluster.random() >> 33) as usize % alive.len().max(1);
    alive.get(chosen).copied()
}

fn broker_id(node: Option<NodeId>) -> BrokerId {
    BrokerId(node.map_or(-1, |node| node.0))
}

/// Defines how the leader of a partition is returned to a client that asked another broker (KIP-951), for the types of one
/// response.
macro_rules! current_leader {
    ($leader:ty, $endpoint:ty) => {
        /// The leader of a partition, as the broker knows it.
        fn current_leader(image: &crate::metadata::Image, id: crate::types::PartitionId) -> $leader {
            let partition = image.partition(id);
            <$leader>::default()
                .with_leader_id(super::broker_id(partition.and_then(|partition| partition.leader)))
                .with_leader_epoch(partition.map_or(-1, |partition| partition.leader_epoch))
        }

        /// Where a client finds these leaders.
        fn endpoints(image: &crate::metadata::Image, leaders: &[$leader]) -> Vec<$endpoint> {
            let mut ids: Vec<_> =
                leaders.iter().map(|leader| crate::types::NodeId(leader.leader_id.0)).collect();
            ids.sort();
            ids.dedup();
            let alive = ids.into_iter().filter_map(|id| image.alive(id));
            let endpoint = |broker: &crate::metadata::BrokerImage| {
                <$endpoint>::default()
                    .with_node_id(super::broker_id(Some(broker.id)))
                    .with_host(crate::protocol::text(&broker.host))
                    .with_port(i32::from(broker.port))
                    .with_rack(broker.rack.as_deref().map(crate::protocol::text))
            };
            alive.map(endpoint).collect()
        }
    };
}
use current_leader;

fn optional(value: &Option<String>) -> Option<crate::protocol::StrBytes> {
    value.as_deref().map(text)
}
