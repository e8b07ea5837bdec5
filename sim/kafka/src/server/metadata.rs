//! Metadata for clients (`MetadataCache`).

use std::sync::Arc;

use super::{broker_id, controller, optional};
use crate::cluster::Broker;
use crate::error::ErrorCode;
use crate::metadata::{Image, PartitionImage, TopicImage, check_topic_name, is_internal};
use crate::protocol::messages::create_topics_request::CreatableTopic;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::metadata_request::MetadataRequestTopic;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{
    BrokerId, CreateTopicsRequest, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use crate::protocol::text;
use crate::quota::tokens::Requester;
use crate::types::{NodeId, TopicId};

/// Whether a field is null that may not be in this version: Kafka takes such a request for malformed.
pub(super) fn has_wrong_null(request: &MetadataRequest, version: i16) -> bool {
    let unnamed = |topics: &Vec<_>| topics.iter().any(|topic: &MetadataRequestTopic| topic.name.is_none());
    match &request.topics {
        None => version < 1,
        Some(topics) => version < NULL_NAMES_FROM && unnamed(topics),
    }
}

/// The version from which topics may have an id and no name (KIP-516).
const NULL_NAMES_FROM: i16 = 10;

pub(super) async fn serve(
    broker: &Arc<Broker>,
    requester: Requester,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let image = broker.image();
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => image.topics.values().map(|topic| described(&image, topic)).collect(),
        Some(wanted) => {
            let create = request.allow_auto_topic_creation;
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                let name = topic.name.as_ref().map(|name| name.to_string());
                topics.push(match name {
                    Some(name) => by_name(broker, &image, &name, create.then(|| requester.clone())).await,
                    None => by_id(&image, TopicId(topic.topic_id)),
                });
            }
            topics
        }
    };
    let alive = image.brokers.values().filter(|known| !known.fenced);
    let brokers = alive.map(|known| {
        MetadataResponseBroker::default()
            .with_node_id(broker_id(Some(known.id)))
            .with_host(text(&known.host))
            .with_port(i32::from(known.port))
            .with_rack(optional(&known.rack))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&broker.options().cluster_id)))
        .with_controller_id(broker_id(controller(broker, &image)))
        .with_topics(topics)
}

fn by_id(image: &Image, id: TopicId) -> MetadataResponseTopic {
    match image.topics.get(&id) {
        Some(topic) => described(image, topic),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UnknownTopicId.code())
            .with_topic_id(id.0)
            .with_name(None),
    }
}

/// With `creator`, a topic that does not exist may be created for it.
async fn by_name(
    broker: &Arc<Broker>,
    image: &Image,
    name: &str,
    creator: Option<Requester>,
) -> MetadataResponseTopic {
    if let Some(topic) = image.topic(name) {
        return described(image, topic);
    }
    let mut error = ErrorCode::UnknownTopicOrPartition;
    if check_topic_name(name).is_err() {
        error = ErrorCode::InvalidTopicException;
    } else if let Some(creator) = creator
        && (broker.options().auto_create_topics || is_internal(name))
    {
        // The client asks again, until the broker knows the topic.
        create_topic(broker, name, creator);
    }
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(text(name))))
        .with_is_internal(is_internal(name))
}

/// Begins the creation of a topic with the defaults (`AutoTopicCreationManager`).
pub(crate) fn create_topic(broker: &Arc<Broker>, name: &str, creator: Requester) {
    let options = broker.options();
    let config = |name: &str, value: String| {
        crate::protocol::messages::create_topics_request::CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(&value)))
    };
    let (partitions, replication, configs) = match name {
        crate::metadata::CONSUMER_OFFSETS => (
            options.offsets_partitions,
            options.offsets_replication,
            vec![
                config("cleanup.policy", "compact".to_owned()),
                config("segment.bytes", (100 << 20).to_string()),
                config("compression.type", "producer".to_owned()),
            ],
        ),
        crate::metadata::TRANSACTION_STATE => (
            options.transaction_partitions,
            options.transaction_replication,
            vec![
                config("cleanup.policy", "compact".to_owned()),
                config("segment.bytes", (100 << 20).to_string()),
                config("compression.type", "uncompressed".to_owned()),
                config("unclean.leader.election.enable", "false".to_owned()),
                config("min.insync.replicas", options.transaction_min_in_sync.to_string()),
            ],
        ),
        _ => (-1, -1, Vec::new()),
    };
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
        .with_configs(configs);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    broker.begin(|broker| async move {
        let request = crate::controller::ControlRequest::CreateTopics(request, creator);
        let _ = broker.ask_controller(request, std::time::Duration::from_secs(5)).await;
    });
}

fn nodes(ids: &[NodeId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

/// The leader for clients, and the error if there is none that they can reach.
fn leader(image: &Image, partition: &PartitionImage) -> (Option<NodeId>, i16) {
    match partition.leader.filter(|leader| image.alive(*leader).is_some()) {
        Some(leader) => (Some(leader), 0),
        None => (None, ErrorCode::LeaderNotAvailable.code()),
    }
}

fn offline(image: &Image, partition: &PartitionImage) -> Vec<BrokerId> {
    let offline = partition.replicas.iter().filter(|replica| image.alive(**replica).is_none());
    offline.map(|replica| BrokerId(replica.0)).collect()
}

fn described(image: &Image, topic: &TopicImage) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let (leader, error) = leader(image, partition);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index)
            .with_leader_id(broker_id(leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(nodes(&partition.replicas))
            .with_isr_nodes(nodes(&partition.in_sync))
            .with_offline_replicas(offline(image, partition))
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id.0)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
}

/// How many partitions a response describes at most (`max.request.partition.size.limit`).
const MOST_DESCRIBED: usize = 2000;

pub(super) async fn describe_partitions(
    broker: &Arc<Broker>,
    request: DescribeTopicPartitionsRequest,
    _version: i16,
) -> DescribeTopicPartitionsResponse {
    let image = broker.image();
    let all = request.topics.is_empty();
    let mut names: Vec<String> = if all {
        image.names.keys().cloned().collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    names.sort();
    names.dedup();
    let (first, mut start) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (String::new(), 0),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MOST_DESCRIBED);
    let (mut left, mut topics, mut next) = (limit, Vec::new(), None);
    for name in names.into_iter().filter(|name| *name >= first) {
        if left == 0 {
            next = Some((name, 0));
            break;
        }
        let from = if name == first { std::mem::take(&mut start) } else { 0 };
        let Some(topic) = image.topic(&name) else {
            let error = match check_topic_name(&name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            topics.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_error_code(error.code())
                    .with_name(Some(TopicName(text(&name))))
                    .with_is_internal(is_internal(&name)),
            );
            continue;
        };
        let partitions = (0..).zip(&topic.partitions).skip(from).take(left).map(|(index, partition)| {
            let (leader, error) = leader(&image, partition);
            let last_known: Vec<NodeId> = partition.last_known_leader.into_iter().collect();
            DescribeTopicPartitionsResponsePartition::default()
                .with_error_code(error)
                .with_partition_index(index)
                .with_leader_id(broker_id(leader))
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(nodes(&partition.replicas))
                .with_isr_nodes(nodes(&partition.in_sync))
                // Java's tools fail on lists that are null.
                .with_eligible_leader_replicas(Some(nodes(&partition.eligible)))
                .with_last_known_elr(Some(nodes(&last_known)))
                .with_offline_replicas(offline(&image, partition))
        });
        let partitions: Vec<_> = partitions.collect();
        left -= partitions.len();
        let described = from + partitions.len();
        topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(text(&topic.name))))
                .with_topic_id(topic.id.0)
                .with_is_internal(is_internal(&topic.name))
                .with_partitions(partitions),
        );
        if described < topic.partitions.len() {
            next = Some((name, described));
            break;
        }
    }
    let cursor = next.map(|(name, index)| {
        Cursor::default().with_topic_name(TopicName(text(&name))).with_partition_index(index as i32)
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
}
