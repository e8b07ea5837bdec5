//! Produce: appends what clients send, and waits until it is replicated if they want that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{current_leader, topic_of};
use crate::cluster::Broker;
use crate::coordinator::Producer;
use crate::error::{ErrorCode, Result};
use crate::log::{Appended, Origin};
use crate::metadata::{Image, is_internal};
use crate::protocol::batch::Batch;
use crate::protocol::compression::ZSTD;
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::protocol::text;
use crate::types::{PartitionId, TopicId};

current_leader!(LeaderIdAndEpoch, NodeEndpoint);

/// What became of the records for one partition.
struct Outcome {
    topic: usize,
    index: i32,
    id: Option<PartitionId>,
    result: Result<Appended>,
    /// What was appended, even if the result is an error because it was not replicated.
    appended: Option<Appended>,
    log_start: i64,
}

pub(super) async fn serve(
    broker: &Arc<Broker>,
    raw: &RawRequest,
) -> std::result::Result<Option<Bytes>, FrameError> {
    let request: ProduceRequest = raw.decode()?;
    let mut outcomes = append_all(broker, &request, raw.version).await;
    if request.acks == 0 {
        // The client expects no response, so that a closed connection is how it learns of an error.
        return match outcomes.iter().find_map(|outcome| outcome.result.as_ref().err()) {
            Some(error) => Err(FrameError::Malformed {
                key: raw.key as i16,
                version: raw.version,
                reason: format!("a produce request without acknowledgement failed: {error}"),
            }),
            None => Ok(None),
        };
    }
    if request.acks == -1 {
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        wait(broker, &mut outcomes, timeout).await;
    }
    let image = broker.image();
    let (mut responses, mut leaders) = (Vec::new(), Vec::new());
    for (place, topic) in request.topic_data.iter().enumerate() {
        let of_topic = outcomes.iter().filter(|outcome| outcome.topic == place);
        let partitions = of_topic.map(|outcome| {
            let response = respond(&image, outcome, raw.version);
            if response.current_leader.leader_id.0 >= 0 {
                leaders.push(response.current_leader.clone());
            }
            response
        });
        let partitions = partitions.collect();
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partition_responses(partitions),
        );
    }
    let response =
        ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints(&image, &leaders));
    raw.respond(&response).map(Some)
}

fn respond(image: &Image, outcome: &Outcome, version: i16) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(outcome.index);
    match &outcome.result {
        Ok(appended) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time)
            .with_log_start_offset(outcome.log_start),
        Err(error) => {
            let appended = outcome.appended;
            let response = response
                .with_error_code(error.code())
                .with_base_offset(appended.map_or(-1, |appended| appended.base_offset))
                .with_log_append_time_ms(appended.map_or(-1, |appended| appended.append_time))
                .with_log_start_offset(outcome.log_start);
            let response = match error {
                ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp => {
                    response.with_error_message(Some(text(&error.to_string())))
                }
                _ => response,
            };
            match (error, outcome.id) {
                (ErrorCode::NotLeaderOrFollower, Some(id)) if version >= 10 => {
                    response.with_current_leader(current_leader(image, id))
                }
                _ => response,
            }
        }
    }
}

async fn append_all(broker: &Arc<Broker>, request: &ProduceRequest, version: i16) -> Vec<Outcome> {
    let image = broker.image();
    let mut outcomes = Vec::new();
    for (place, topic) in request.topic_data.iter().enumerate() {
        let topic_id = TopicId(topic.topic_id);
        let known = topic_of(&image, &topic.name, topic_id);
        for data in &topic.partition_data {
            let id = known.map(|known| PartitionId { topic: known.id, index: data.index });
            let id = id.filter(|id| image.partition(*id).is_some());
            let mut is_from_log = false;
            let result = match (known, id) {
                (None, _) if !topic_id.is_none() => Err(ErrorCode::UnknownTopicId),
                (None, _) | (_, None) => Err(ErrorCode::UnknownTopicOrPartition),
                (Some(known), Some(id)) => match only_batch(data.records.clone(), version) {
                    Ok(batch) => {
                        let verified =
                            verify(broker, request, version, (known.name.clone(), id), &batch).await;
                        let allowed = verified.and_then(|()| allowed(&known.name, request.acks));
                        is_from_log = allowed.is_ok();
                        allowed.and_then(|()| broker.append(id, &batch, Origin::Client, request.acks == -1))
                    }
                    Err(error) => Err(error),
                },
            };
            let knows_start = match &result {
                Ok(_) => true,
                Err(error) => is_from_log && knows_log_start(*error),
            };
            let log_start =
                id.and_then(|id| broker.lock().replicas.get(&id).map(|replica| replica.log.start()));
            let log_start = log_start.filter(|_| knows_start).unwrap_or(-1);
            let appended = result.ok();
            outcomes.push(Outcome { topic: place, index: data.index, id, result, appended, log_start });
        }
    }
    outcomes
}

/// Whether a client may append to a topic at all, with these acknowledgements (`ReplicaManager.appendRecords`).
fn allowed(topic: &str, acks: i16) -> Result<()> {
    if !matches!(acks, -1..=1) {
        Err(ErrorCode::InvalidRequiredAcks)
    } else if is_internal(topic) {
        Err(ErrorCode::InvalidTopicException)
    } else {
        Ok(())
    }
}

/// Whether the response to an error of the log has the log's start (`ReplicaManager.appendToLocalLog`).
fn knows_log_start(error: ErrorCode) -> bool {
    !matches!(
        error,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError
    )
}

/// Verifies a batch with the coordinator if it belongs to a transaction.
async fn verify(
    broker: &Arc<Broker>,
    request: &ProduceRequest,
    version: i16,
    partition: (String, PartitionId),
    batch: &Batch,
) -> Result<()> {
    let id = partition.1;
    let guard = |broker: &Broker| {
        let state = broker.lock();
        let producer =
            state.replicas.get(&id).and_then(|replica| replica.log.producers().get(batch.producer_id()));
        let is_open = producer.is_some_and(|producer| {
            producer.transaction_start.is_some() && producer.epoch == batch.producer_epoch()
        });
        (is_open, producer.map_or(0, |producer| producer.ended))
    };
    let (is_open, ended) = guard(broker);
    let leads = broker.lock().replicas.get(&id).is_some_and(|replica| replica.leader().is_ok());
    if !batch.is_transactional() || is_open || !leads {
        return Ok(());
    }
    let adds = version >= 12;
    if let Some(replica) = broker.lock().replicas.get_mut(&id) {
        replica.log.producers_mut().begin_verification(batch, adds);
    }
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
    let producer = Producer { id: batch.producer_id(), epoch: batch.producer_epoch() };
    // From version 12 on the request itself adds the partition (`ProduceRequest.isTransactionV2Requested`).
    let verified = broker.verify(&transactional_id, producer, partition, adds).await;
    verified.map_err(|error| match error {
        // Older clients would not retry these (`ReplicaManager.handleProduceAppend`).
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        // Clients before version 11 do not know it (`AddPartitionsToTxnManager`).
        ErrorCode::TransactionAbortable if version < 11 => ErrorCode::InvalidTxnState,
        other => other,
    })?;
    // A marker that came in between ended the transaction that was verified.
    if broker.options().verify_transactions && guard(broker).1 != ended {
        return Err(ErrorCode::InvalidTxnState);
    }
    Ok(())
}

/// The one batch that a client may send to a partition (`ProduceRequest.validateRecords`).
fn only_batch(records: Option<Bytes>, version: i16) -> Result<Batch> {
    let mut records = records.unwrap_or_default();
    let batch = Batch::split_from(&mut records).map_err(|error| match error {
        // A batch that is not whole is none.
        crate::protocol::batch::BatchError::Short(_) | crate::protocol::batch::BatchError::Magic(0 | 1) => {
            ErrorCode::InvalidRecord
        }
        _ => ErrorCode::CorruptMessage,
    })?;
    if version < 7 && batch.compression() == ZSTD {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if !records.is_empty() {
        return Err(ErrorCode::InvalidRecord);
    }
    Ok(batch)
}

async fn wait(broker: &Arc<Broker>, outcomes: &mut [Outcome], timeout: Duration) {
    let deadline = Instant::now() + timeout;
    let mut waiting: Vec<&mut Outcome> =
        outcomes.iter_mut().filter(|outcome| outcome.result.is_ok()).collect();
    let mut progress = broker.progress.subscribe();
    loop {
        progress.mark_unchanged();
        waiting.retain_mut(|outcome| {
            let (Some(id), Ok(appended)) = (outcome.id, outcome.result) else { return false };
            match broker.is_replicated(id, appended.last_offset) {
                Ok(true) => false,
                Ok(false) => true,
                Err(error) => {
                    outcome.result = Err(error);
                    false
                }
            }
        });
        if waiting.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            _ = progress.changed() => {}
            () = tokio::time::sleep_until(deadline) => {
                for outcome in waiting {
                    outcome.result = Err(ErrorCode::RequestTimedOut);
                }
                return;
            }
        }
    }
}

impl Broker {
    /// Appends a batch to a partition that this broker leads.
    ///
    /// # Errors
    /// If it does not lead it, too few replicas are in sync, or the batch is refused.
    pub(crate) fn append(
        &self,
        id: PartitionId,
        batch: &Batch,
        origin: Origin,
        all: bool,
    ) -> Result<Appended> {
        let now = self.now();
        let appended = {
            let mut state = self.lock();
            let image = state.image.clone();
            let replica = state.replicas.get_mut(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
            self.with_peers(&image, |peers| replica.append(batch, origin, all, now, peers))?
        };
        self.notify();
        Ok(appended)
    }

    /// Whether what was appended is replicated.
    ///
    /// # Errors
    /// If this broker does not lead the partition any more, or too few replicas have the record.
    pub(crate) fn is_replicated(&self, id: PartitionId, last_offset: i64) -> Result<bool> {
        let state = self.lock();
        let replica = state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
        replica.is_replicated(last_offset)
    }
}
