//! Ids of idempotent producers, and what a broker knows of producers.

use std::sync::Arc;
use std::time::Duration;

use super::partition_by_name;
use crate::cluster::Broker;
use crate::controller::{ControlRequest, ControlResponse, PRODUCER_IDS};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, InitProducerIdResponse, ProducerId,
};
use crate::protocol::text;

/// InitProducerId without a transactional id: any broker assigns an id.
pub(super) async fn init(broker: &Arc<Broker>) -> InitProducerIdResponse {
    let result = broker.new_producer_id().await;
    let response = InitProducerIdResponse::default();
    match result {
        Ok(id) => response.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            response.with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
        }
    }
}

impl Broker {
    /// Asks for more ids if there are none.
    pub(crate) async fn refill_producer_ids(self: &Arc<Self>) {
        if self.lock().producer_ids.is_empty() {
            self.ask_for_producer_ids().await;
        }
    }

    /// Whether there are more ids than before.
    async fn ask_for_producer_ids(self: &Arc<Self>) -> bool {
        let epoch = self.lock().epoch;
        let request = ControlRequest::ProducerIds { epoch };
        let response = self.ask_controller(request, Duration::from_secs(5)).await;
        if let Ok(ControlResponse::ProducerIds(first)) = response {
            self.lock().producer_ids = first..first + PRODUCER_IDS;
            return true;
        }
        false
    }

    /// An id that no other producer has; a broker gets a thousand at a time (`RPCProducerIdManager`).
    ///
    /// # Errors
    /// If the controller does not answer.
    pub(crate) async fn new_producer_id(self: &Arc<Self>) -> Result<i64> {
        loop {
            if let Some(id) = self.lock().producer_ids.next() {
                return Ok(id);
            }
            if !self.ask_for_producer_ids().await {
                // The client asks again.
                return Err(ErrorCode::CoordinatorLoadInProgress);
            }
        }
    }
}

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
