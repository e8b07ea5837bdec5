//! ListOffsets and OffsetForLeaderEpoch.

use std::sync::Arc;

use super::partition_by_name;
use crate::cluster::Broker;
use crate::cluster::observe::Event;
use crate::error::{ErrorCode, Result, code};
use crate::log::Found;
use crate::protocol::messages::list_offsets_request::ListOffsetsPartition;
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use crate::types::{Isolation, Offset};

/// What stands for a timestamp in a request (`ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const GREATEST_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) async fn list(
    broker: &Arc<Broker>,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let isolation = Isolation::of(request.isolation_level);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            let mut result = if is_supported(partition.timestamp, version) {
                find(broker, &topic.name, partition, isolation)
            } else {
                Err(ErrorCode::UnsupportedVersion)
            };
            // Older clients do not know the error, and ask again after this one.
            if result == Err(ErrorCode::OffsetNotAvailable) && version < 5 {
                result = Err(ErrorCode::LeaderNotAvailable);
            }
            broker.cluster.witness.see(|| Event::ListOffsetsAnswered {
                broker: broker.id,
                topic: &topic.name,
                partition: partition.partition_index,
                timestamp: partition.timestamp,
                offset: result.unwrap_or(None).map_or(-1, |found| found.offset),
                error: result.err(),
            });
            match result {
                // An older version has no field for the epoch.
                Ok(Some(found)) => response
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    .with_leader_epoch(if version >= 4 { found.epoch } else { -1 }),
                Ok(None) => response.with_offset(-1).with_timestamp(-1),
                Err(error) => response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
            }
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Whether a version may ask for this (`ReplicaManager.isListOffsetsTimestampUnsupported`).
fn is_supported(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        GREATEST_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

fn find(
    broker: &Broker,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<Found>> {
    let state = broker.lock();
    let id = partition_by_name(&state.image, topic, wanted.partition_index);
    let id = id.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replica = state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let known = Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0);
    replica.check_epoch(known, true)?;
    match wanted.timestamp {
        LATEST => replica.latest(isolation).map(Some),
        EARLIEST | EARLIEST_LOCAL => Ok(Some(replica.earliest())),
        GREATEST_TIMESTAMP => replica.by_time(replica.log.greatest_timestamp(), isolation),
        // Nothing is tiered.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(None),
        time => replica.by_time(replica.log.first_since(time), isolation),
    }
}

pub(super) async fn for_leader_epoch(
    broker: &Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
    _version: i16,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let known = Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0);
            let result = end_of_epoch(broker, &topic.topic, wanted.partition, known, wanted.leader_epoch);
            let (epoch, end) = result.unwrap_or(None).unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_error_code(code(&result))
                .with_partition(wanted.partition)
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of_epoch(
    broker: &Broker,
    topic: &str,
    partition: i32,
    known: Option<i32>,
    epoch: i32,
) -> Result<Option<(i32, Offset)>> {
    let state = broker.lock();
    let id = partition_by_name(&state.image, topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replica = state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
    replica.check_epoch(known, true)?;
    Ok(replica.log.epochs().end_offset_for(epoch, replica.log.end()))
}
