//! What a broker knows of producers.

use std::sync::Arc;

use super::partition_by_name;
use crate::cluster::Broker;
use crate::error::ErrorCode;
use crate::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use crate::protocol::text;

pub(super) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeProducersRequest,
    _version: i16,
) -> DescribeProducersResponse {
    let state = broker.lock();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let replica = partition_by_name(&state.image, &topic.name, *index)
                .ok_or(ErrorCode::UnknownTopicOrPartition)
                .and_then(|id| state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower))
                .and_then(|replica| replica.leader().map(|_| replica));
            match replica {
                Ok(replica) => {
                    let producers = replica.log.producers().iter().map(|(id, producer)| {
                        ProducerState::default()
                            .with_producer_id(ProducerId(id))
                            .with_producer_epoch(i32::from(producer.epoch))
                            .with_last_sequence(producer.last_sequence())
                            .with_last_timestamp(producer.last_timestamp)
                            .with_coordinator_epoch(producer.coordinator_epoch)
                            .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
                    });
                    response.with_active_producers(producers.collect())
                }
                Err(error) => {
                    response.with_error_code(error.code()).with_error_message(Some(text(&error.to_string())))
                }
            }
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}
