//! Administration of topics, most of which the controller does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::partition_by_name;
use crate::cluster::Broker;
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::{ErrorCode, Result, code};
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::create_topics_response::CreatableTopicResult;
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    ElectLeadersRequest, ElectLeadersResponse,
};
use crate::quota::tokens::Requester;
use crate::types::{Offset, PartitionId};

/// How long a broker waits for the controller, whatever the client says.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

fn wait(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(LONGEST_WAIT)
}

/// What a client gets if the controller did not answer.
fn refusal<T>(response: Result<T>) -> i16 {
    response.err().unwrap_or(ErrorCode::UnknownServerError).code()
}

pub(super) async fn create(
    broker: &Arc<Broker>,
    request: CreateTopicsRequest,
    by: Requester,
) -> CreateTopicsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let timeout = wait(request.timeout_ms);
    match broker.ask_controller(ControlRequest::CreateTopics(request, by), timeout).await {
        Ok(ControlResponse::CreateTopics(response)) => response,
        other => {
            let error = refusal(other);
            let results = names.into_iter().map(|name| {
                CreatableTopicResult::default()
                    .with_name(name)
                    .with_error_code(error)
                    .with_configs(Some(Vec::new()))
            });
            CreateTopicsResponse::default().with_topics(results.collect())
        }
    }
}

pub(super) async fn delete(
    broker: &Arc<Broker>,
    request: DeleteTopicsRequest,
    by: Requester,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), uuid::Uuid::nil()));
    let by_either = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    let topics: Vec<_> = by_name.chain(by_either).collect();
    let timeout = wait(request.timeout_ms);
    match broker.ask_controller(ControlRequest::DeleteTopics(request, by), timeout).await {
        Ok(ControlResponse::DeleteTopics(response)) => response,
        other => {
            let error = refusal(other);
            let results = topics.into_iter().map(|(name, id)| {
                DeletableTopicResult::default().with_name(name).with_topic_id(id).with_error_code(error)
            });
            DeleteTopicsResponse::default().with_responses(results.collect())
        }
    }
}

pub(super) async fn add_partitions(
    broker: &Arc<Broker>,
    request: CreatePartitionsRequest,
    by: Requester,
) -> CreatePartitionsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let timeout = wait(request.timeout_ms);
    match broker.ask_controller(ControlRequest::CreatePartitions(request, by), timeout).await {
        Ok(ControlResponse::CreatePartitions(response)) => response,
        other => {
            let error = refusal(other);
            let results = names
                .into_iter()
                .map(|name| CreatePartitionsTopicResult::default().with_name(name).with_error_code(error));
            CreatePartitionsResponse::default().with_results(results.collect())
        }
    }
}

pub(super) async fn elect_leaders(
    broker: &Arc<Broker>,
    request: ElectLeadersRequest,
    version: i16,
) -> ElectLeadersResponse {
    let timeout = wait(request.timeout_ms);
    match broker.ask_controller(ControlRequest::ElectLeaders(request), timeout).await {
        Ok(ControlResponse::ElectLeaders(response)) => response,
        // Version 0 has no field for it.
        other if version >= 1 => ElectLeadersResponse::default().with_error_code(refusal(other)),
        _ => ElectLeadersResponse::default(),
    }
}

/// One partition of a DeleteRecords request.
struct Deletion {
    topic: usize,
    index: i32,
    id: Option<PartitionId>,
    result: Result<Offset>,
}

/// Deletes records, and waits until the followers have (`DelayedDeleteRecords`).
pub(super) async fn delete_records(
    broker: &Arc<Broker>,
    request: DeleteRecordsRequest,
    _version: i16,
) -> DeleteRecordsResponse {
    let mut deletions = Vec::new();
    for (topic, wanted) in request.topics.iter().enumerate() {
        for partition in &wanted.partitions {
            let id = partition_by_name(&broker.image(), &wanted.name, partition.partition_index);
            let result = match id {
                Some(id) => broker.delete_before(id, partition.offset),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            deletions.push(Deletion { topic, index: partition.partition_index, id, result });
        }
    }
    broker.notify();
    let deadline = Instant::now() + wait(request.timeout_ms);
    let mut progress = broker.progress.watch();
    let mut reached: Vec<Result<Offset>> = Vec::new();
    loop {
        progress.mark_unchanged();
        reached.clear();
        let mut is_done = true;
        for deletion in &deletions {
            let low = match (deletion.id, deletion.result) {
                (Some(id), Ok(to)) => broker.low_watermark(id).map(|low| (low, to)),
                (_, result) => result.map(|to| (to, to)),
            };
            is_done &= low.is_err() || low.is_ok_and(|(low, to)| low >= to);
            reached.push(low.and_then(
                |(low, to)| {
                    if low >= to { Ok(low) } else { Err(ErrorCode::RequestTimedOut) }
                },
            ));
        }
        if is_done || Instant::now() >= deadline {
            break;
        }
        tokio::select! {
            biased;
            _ = progress.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
    let topics = request.topics.iter().enumerate().map(|(topic, wanted)| {
        let of_topic = deletions.iter().zip(&reached).filter(|(deletion, _)| deletion.topic == topic);
        let partitions = of_topic.map(|(deletion, reached)| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(deletion.index)
                .with_low_watermark(*reached.as_ref().unwrap_or(&-1))
                .with_error_code(code(reached))
        });
        DeleteRecordsTopicResult::default()
            .with_name(wanted.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

impl Broker {
    /// Moves the start of a log that this broker leads; -1 stands for the high watermark. Returns the new start.
    pub(crate) fn delete_before(&self, id: PartitionId, offset: Offset) -> Result<Offset> {
        let mut state = self.lock();
        let replica = state.replicas.get_mut(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
        replica.leader()?;
        if !replica.settings.log.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let offset = if offset == -1 { replica.log.high_watermark() } else { offset };
        if offset < 0 || offset > replica.log.high_watermark() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        replica.raise_start(offset);
        Ok(offset)
    }

    /// The lowest start of a partition's logs on the brokers that are alive.
    fn low_watermark(&self, id: PartitionId) -> Result<Offset> {
        let state = self.lock();
        let replica = state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let image = &state.image;
        Ok(replica.leader()?.lowest_start(replica.log.start(), |node| image.alive(node).is_some()))
    }
}
