//! Produce: appends what clients send, and waits until it is replicated if they want that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Client, Reply, current_leader, quotas, topic_of};
use crate::cluster::observe::Event;
use crate::cluster::{Broker, ToVerify, Verification, Verified};
use crate::error::{ErrorCode, Result};
use crate::log::{Appended, Claim, Origin, Proof};
use crate::metadata::{Image, is_internal};
use crate::protocol::batch::Batch;
use crate::protocol::compression::ZSTD;
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::protocol::text;
use crate::quota::Kind;
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
    client: &Client,
    raw: &RawRequest,
) -> std::result::Result<Reply, FrameError> {
    let request: ProduceRequest = raw.decode()?;
    let wanted = wanted(&broker.image(), &request, raw.version);
    if let Err((error, message)) = check_transaction(&request, &wanted) {
        return refuse(&request, raw, error, message);
    }
    let mut outcomes = append_all(broker, &request, wanted, raw.version).await;
    if request.acks == 0 {
        if broker.cluster.witness.is_on() {
            let image = broker.image();
            outcomes.iter().for_each(|outcome| see(broker, &image, outcome));
        }
        // The client expects no response, so that a closed connection is how it learns of an error.
        return match outcomes.iter().find_map(|outcome| outcome.result.as_ref().err()) {
            Some(error) => Err(unacknowledged(raw, *error)),
            None => {
                let throttle_ms = quotas::record(broker, Kind::Produce, client, raw, raw.size);
                Ok(Reply { response: None, muted: quotas::muted(throttle_ms) })
            }
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
            see(broker, &image, outcome);
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
    let throttle_ms = quotas::record(broker, Kind::Produce, client, raw, raw.size);
    let response = ProduceResponse::default()
        .with_responses(responses)
        .with_throttle_time_ms(throttle_ms)
        .with_node_endpoints(endpoints(&image, &leaders));
    Ok(Reply { response: Some(raw.respond(&response)?), muted: quotas::muted(throttle_ms) })
}

/// Whether what is transactional is so with one id and of one producer (`KafkaApis.handleProduceRequest`,
/// `ReplicaManager.handleProduceAppend`); the error, with Kafka's message if it has one.
fn check_transaction(
    request: &ProduceRequest,
    wanted: &[Wanted],
) -> std::result::Result<(), (ErrorCode, Option<&'static str>)> {
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    if request.transactional_id.is_none()
        && partitions.any(|data| Batch::begins_transactional(data.records.as_deref().unwrap_or_default()))
    {
        return Err((ErrorCode::TransactionalIdAuthorizationFailed, None));
    }
    let batches = wanted.iter().filter_map(|wanted| wanted.batch.as_ref().ok());
    let transactional = batches.map(|(_, _, batch)| batch).filter(|batch| batch.is_transactional());
    let transactional = transactional.filter(|batch| batch.producer_id() >= 0);
    let mut producers = transactional.map(|batch| (batch.producer_id(), batch.producer_epoch()));
    match producers.next() {
        Some(one) if producers.any(|other| other != one) => Err((
            ErrorCode::InvalidProducerIdMapping,
            Some("Transactional records contained more than one producer ID"),
        )),
        _ => Ok(()),
    }
}

/// The same error for all partitions (`ProduceRequest.getErrorResponse`).
fn refuse(
    request: &ProduceRequest,
    raw: &RawRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> std::result::Result<Reply, FrameError> {
    if request.acks == 0 {
        return Err(unacknowledged(raw, error));
    }
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|data| {
            PartitionProduceResponse::default()
                .with_index(data.index)
                .with_error_code(error.code())
                .with_error_message(message.map(text))
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
        });
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    let response = ProduceResponse::default().with_responses(topics.collect());
    raw.respond(&response).map(|response| Some(response).into())
}

/// Why the connection is closed of a client that expects no response: so it learns of an error.
fn unacknowledged(raw: &RawRequest, error: ErrorCode) -> FrameError {
    FrameError::Malformed {
        key: raw.key as i16,
        version: raw.version,
        reason: format!("a produce request without acknowledgement failed: {error}"),
    }
}

/// Reports what becomes of the records for a partition.
fn see(broker: &Broker, image: &Image, outcome: &Outcome) {
    broker.cluster.witness.see(|| {
        let topic = outcome.id.and_then(|id| image.topics.get(&id.topic));
        Event::ProduceAnswered {
            broker: broker.id,
            topic: topic.map_or("", |topic| topic.name.as_str()),
            partition: outcome.index,
            first_offset: outcome.appended.map(|appended| appended.base_offset),
            duplicate: outcome.appended.is_some_and(|appended| appended.duplicate),
            error: outcome.result.err(),
        }
    });
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

/// A batch for a partition, before it is appended.
struct Wanted {
    topic: usize,
    index: i32,
    id: Option<PartitionId>,
    batch: Result<(String, PartitionId, Batch)>,
}

async fn append_all(
    broker: &Arc<Broker>,
    request: &ProduceRequest,
    wanted: Vec<Wanted>,
    version: i16,
) -> Vec<Outcome> {
    let batches = wanted.iter().filter_map(|wanted| wanted.batch.as_ref().ok());
    // `ProduceRequest.isTransactionV2Requested` and the version before it.
    let verification = Verification::of(version, 11, 12);
    let verified = verify(broker, request, batches, verification).await;
    let all = request.acks == -1;
    let outcomes = wanted.into_iter().map(|Wanted { topic, index, id, batch }| {
        let mut is_from_log = false;
        let result = batch.and_then(|(name, id, batch)| {
            if let Some(error) = verified.refused.get(&id) {
                return Err(known_to_producers(*error, verification));
            }
            // Looked at only now, so that the partition is part of the transaction (`ReplicaManager.appendRecords`).
            if !matches!(request.acks, -1..=1) {
                return Err(ErrorCode::InvalidRequiredAcks);
            }
            if is_internal(&name) {
                return Err(ErrorCode::InvalidTopicException);
            }
            is_from_log = true;
            broker.append(id, &batch, Origin::Client, verified.proof(broker, id), all)
        });
        let knows_start =
            result.as_ref().map_or_else(|error| is_from_log && knows_log_start(*error), |_| true);
        let log_start = id.and_then(|id| broker.lock().replicas.get(&id).map(|replica| replica.log.start()));
        let log_start = log_start.filter(|_| knows_start).unwrap_or(-1);
        let appended = result.ok();
        Outcome { topic, index, id, result, appended, log_start }
    });
    outcomes.collect()
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

/// What a request has to append.
fn wanted(image: &Image, request: &ProduceRequest, version: i16) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (place, topic) in request.topic_data.iter().enumerate() {
        let topic_id = TopicId(topic.topic_id);
        let known = topic_of(image, &topic.name, topic_id);
        for data in &topic.partition_data {
            let id = known.map(|known| PartitionId { topic: known.id, index: data.index });
            let id = id.filter(|id| image.partition(*id).is_some());
            let batch = match (known, id) {
                (None, _) if !topic_id.is_none() => Err(ErrorCode::UnknownTopicId),
                (None, _) | (_, None) => Err(ErrorCode::UnknownTopicOrPartition),
                (Some(known), Some(id)) => {
                    only_batch(data.records.clone(), version).map(|batch| (known.name.clone(), id, batch))
                }
            };
            all.push(Wanted { topic: place, index: data.index, id, batch });
        }
    }
    all
}

/// Verifies the transactional batches of a request, all with one request to their coordinator
/// (`ReplicaManager.handleProduceAppend`).
async fn verify(
    broker: &Arc<Broker>,
    request: &ProduceRequest,
    batches: impl Iterator<Item = &(String, PartitionId, Batch)>,
    verification: Verification,
) -> Verified {
    let transactional = batches.filter(|(_, _, batch)| batch.is_transactional() && batch.producer_id() >= 0);
    let to_verify: Vec<_> = transactional
        .map(|(topic, id, batch)| ToVerify { topic: topic.clone(), id: *id, claim: Claim::of(batch) })
        .collect();
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
    broker.verify(&transactional_id, &to_verify, verification).await
}

/// Why a partition is refused before anything is appended (`ReplicaManager.handleProduceAppend`).
fn known_to_producers(error: ErrorCode, verification: Verification) -> ErrorCode {
    match error {
        // Older clients would not retry these.
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if verification != Verification::Add => {
            ErrorCode::NotEnoughReplicas
        }
        other => other,
    }
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
    let mut progress = broker.progress.watch();
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
        proof: Proof,
        all: bool,
    ) -> Result<Appended> {
        let now = self.now();
        let appended = {
            let mut state = self.lock();
            let image = state.image.clone();
            let replica = state.replicas.get_mut(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
            self.with_peers(&image, |peers| replica.append(batch, origin, proof, all, now, peers))?
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
