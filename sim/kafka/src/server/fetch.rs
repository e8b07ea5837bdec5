//! Fetch: reads for consumers, and waits for records.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::session::{Asker, FetchKey, Known, Opened, Said, Use, Wanted};
use super::{Client, Reply, current_leader, quotas, topic_of};
use crate::cluster::observe::Event;
use crate::cluster::{Broker, State};
use crate::error::{ErrorCode, Result};
use crate::log::{Aborted, ReadBatches};
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use crate::protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use crate::protocol::{Encodable, text};
use crate::quota::Kind;
use crate::types::{Isolation, NodeId, PartitionId};

current_leader!(LeaderIdAndEpoch, NodeEndpoint);

/// The most that a response has (`fetch.max.bytes` of the broker).
const MOST_BYTES: i32 = 55 << 20;

/// The version from which a request has the replica's id with its epoch (KIP-903).
const STATE_FROM: i16 = 15;

/// What was read of a partition.
struct Part {
    id: Option<PartitionId>,
    result: Result<Found>,
}

struct Found {
    read: ReadBatches,
    aborted: Option<Vec<Aborted>>,
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    diverging: Option<(i32, i64)>,
    preferred: Option<NodeId>,
}

pub(super) async fn serve(
    broker: &Arc<Broker>,
    client: &Client,
    raw: &RawRequest,
) -> std::result::Result<Reply, FrameError> {
    let mut request: FetchRequest = raw.decode()?;
    let most = quotas::most_at_once(broker, Kind::Fetch, client, raw);
    request.max_bytes = request.max_bytes.min(MOST_BYTES).min(i32::try_from(most).unwrap_or(i32::MAX));
    request.min_bytes = request.min_bytes.min(request.max_bytes);
    let fresh = (broker.cluster.random() >> 33) as i32;
    let asker = Asker { version: raw.version, privileged: is_from_follower(&request, raw.version) };
    let opened = broker.lock().sessions.open(&request, raw.version, broker.now());
    let (session, wanted, answer) = match opened {
        Ok(Opened { session, wanted }) => {
            let parts = wait(broker, &request, &wanted, raw.version).await;
            let answer = Answer::of(broker, &broker.lock(), session, &wanted, parts, raw.version);
            (session, wanted, answer)
        }
        Err(error) => (Use::None, Vec::new(), Answer::error(0, error)),
    };
    // What `FetchContext.getResponseSize` returns.
    let size = answer.response.compute_size(raw.version).map_or(0, |size| 4 + size);
    let throttle_ms = quotas::record(broker, Kind::Fetch, client, raw, size);
    let mut state = broker.lock();
    let id = match session {
        Use::Begin if throttle_ms == 0 => {
            let slots = broker.options().fetch_sessions;
            state.sessions.create(&wanted, asker, slots, fresh, broker.now())
        }
        Use::None | Use::Begin => 0,
        Use::Continue { id, .. } => id,
    };
    let is_last = match session {
        Use::Continue { id, epoch } => state.sessions.is_last(id, epoch),
        Use::None | Use::Begin => true,
    };
    let response = if !is_last {
        Answer::error(id, ErrorCode::InvalidFetchSessionEpoch).response
    } else if throttle_ms > 0 {
        // Nothing that the client does not know already, and the session does not change.
        let endpoints = answer.response.node_endpoints;
        FetchResponse::default().with_session_id(id).with_node_endpoints(endpoints)
    } else {
        for (key, said) in &answer.said {
            state.sessions.note(id, key, *said);
        }
        answer.response.with_session_id(id)
    };
    drop(state);
    if throttle_ms > 0 {
        quotas::take_back(broker, Kind::Fetch, client, raw, size);
    }
    let response = raw.respond(&response.with_throttle_time_ms(throttle_ms))?;
    Ok(Reply { response: Some(response), muted: quotas::muted(throttle_ms) })
}

/// Whether a request says that it comes from another broker (`FetchRequest.isFromFollower`).
fn is_from_follower(request: &FetchRequest, version: i16) -> bool {
    let replica = if version < STATE_FROM { request.replica_id } else { request.replica_state.replica_id };
    replica.0 >= 0
}

/// Reads until there are as many bytes as the client asks for, or the time is over.
async fn wait(broker: &Broker, request: &FetchRequest, wanted: &[Wanted], version: i16) -> Vec<Part> {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    let mut progress = broker.progress.watch();
    loop {
        progress.mark_unchanged();
        let parts = read_all(broker, request, wanted, version);
        let mut bytes = 0;
        let mut is_urgent = wanted.is_empty();
        for part in &parts {
            match &part.result {
                Ok(found) => {
                    bytes += found.read.size();
                    is_urgent |= found.diverging.is_some() || found.preferred.is_some();
                }
                Err(_) => is_urgent = true,
            }
        }
        if is_urgent || bytes >= least || Instant::now() >= deadline {
            return parts;
        }
        tokio::select! {
            biased;
            _ = progress.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

/// A response, and what its session gets to know if it is sent.
struct Answer {
    response: FetchResponse,
    said: Vec<(FetchKey, Said)>,
}

impl Answer {
    fn error(session: i32, error: ErrorCode) -> Self {
        let response = FetchResponse::default().with_session_id(session).with_error_code(error.code());
        Self { response, said: Vec::new() }
    }

    fn of(
        broker: &Broker,
        state: &State,
        session: Use,
        wanted: &[Wanted],
        parts: Vec<Part>,
        version: i16,
    ) -> Self {
        let image = state.image.as_ref();
        let (mut topics, mut leaders): (Vec<FetchableTopicResponse>, Vec<LeaderIdAndEpoch>) =
            Default::default();
        let mut all = Vec::with_capacity(parts.len());
        for (wanted, part) in wanted.iter().zip(parts) {
            let mut data = respond(part.result).with_partition_index(wanted.key.partition);
            let moved = [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::FencedLeaderEpoch.code()];
            if let Some(id) = part.id.filter(|_| version >= 16 && moved.contains(&data.error_code)) {
                data = data.with_current_leader(current_leader(image, id));
                leaders.push(data.current_leader.clone());
            }
            let said = said(&data);
            all.push((wanted.key.clone(), said));
            if let Use::Continue { id, .. } = session
                && !state.sessions.has_news(id, &wanted.key, said)
            {
                continue;
            }
            see(broker, state, wanted, part.id, &data);
            let name = TopicName(text(&wanted.key.name));
            match topics.last_mut().filter(|last| last.topic == name && last.topic_id == wanted.key.id.0) {
                Some(last) => last.partitions.push(data),
                None => topics.push(
                    FetchableTopicResponse::default()
                        .with_topic(name)
                        .with_topic_id(wanted.key.id.0)
                        .with_partitions(vec![data]),
                ),
            }
        }
        let leaders: Vec<_> = leaders.into_iter().filter(|leader| leader.leader_id.0 >= 0).collect();
        let response =
            FetchResponse::default().with_responses(topics).with_node_endpoints(endpoints(image, &leaders));
        Self { response, said: all }
    }
}

/// Reports the response for a partition.
fn see(broker: &Broker, state: &State, wanted: &Wanted, id: Option<PartitionId>, data: &PartitionData) {
    broker.cluster.witness.see(|| {
        let topic = id.and_then(|id| state.image.topics.get(&id.topic));
        let replica = id.and_then(|id| state.replicas.get(&id));
        let preferred = NodeId(data.preferred_read_replica.0);
        Event::FetchAnswered {
            broker: broker.id,
            topic: topic.map_or("", |topic| topic.name.as_str()),
            partition: data.partition_index,
            fetch_offset: wanted.fetch.fetch_offset,
            bytes: data.records.as_ref().map_or(0, Bytes::len),
            error: ErrorCode::try_from_code(data.error_code),
            high_watermark: data.high_watermark,
            last_stable: data.last_stable_offset,
            preferred: Some(preferred).filter(|preferred| preferred.0 >= 0),
            aborted: data.aborted_transactions.as_ref().map_or(0, Vec::len),
            is_follower: replica.is_some_and(|replica| replica.leader().is_err()),
        }
    });
}

fn said(data: &PartitionData) -> Said {
    Said {
        known: Known { high_watermark: data.high_watermark, log_start: data.log_start_offset },
        has_records: data.records.as_ref().is_some_and(|records| !records.is_empty()),
        is_urgent: data.error_code != 0
            || data.preferred_read_replica.0 >= 0
            || data.diverging_epoch.epoch >= 0,
    }
}

fn respond(result: Result<Found>) -> PartitionData {
    let found = match result {
        Ok(found) => found,
        Err(error) => {
            return PartitionData::default()
                .with_error_code(error.code())
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(Bytes::new()));
        }
    };
    let mut records = BytesMut::with_capacity(found.read.size());
    for batch in &found.read.batches {
        records.extend_from_slice(batch.bytes());
    }
    records.extend_from_slice(&found.read.partial);
    let aborted = found.aborted.map(|aborted| {
        let aborted = aborted.iter().map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first)
        });
        aborted.collect()
    });
    let data = PartitionData::default()
        .with_high_watermark(found.high_watermark)
        .with_last_stable_offset(found.last_stable)
        .with_log_start_offset(found.log_start)
        .with_aborted_transactions(aborted)
        .with_preferred_read_replica(BrokerId(found.preferred.map_or(-1, |node| node.0)))
        .with_records(Some(records.freeze()));
    match found.diverging {
        Some((epoch, end)) => {
            data.with_diverging_epoch(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end))
        }
        None => data,
    }
}

fn read_all(broker: &Broker, request: &FetchRequest, wanted: &[Wanted], version: i16) -> Vec<Part> {
    let state = broker.lock();
    let fails = broker.cluster.reads_fail(broker.id) && !is_from_follower(request, version);
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut is_empty = true;
    let parts = wanted.iter().map(|wanted| {
        let topic = topic_of(&state.image, &wanted.key.name, wanted.key.id);
        let id = topic.map(|topic| PartitionId { topic: topic.id, index: wanted.key.partition });
        let result = match id {
            None if version >= 13 => Err(ErrorCode::UnknownTopicId),
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(_) if fails => Err(ErrorCode::UnknownServerError),
            Some(id) => read(broker, &state, request, wanted, id, version, left, is_empty),
        };
        if let Ok(found) = &result {
            let size = found.read.size();
            left = left.saturating_sub(size);
            is_empty &= size == 0;
        }
        Part { id, result }
    });
    parts.collect()
}

#[expect(clippy::too_many_arguments, reason = "they are what one read depends on")]
fn read(
    broker: &Broker,
    state: &State,
    request: &FetchRequest,
    wanted: &Wanted,
    id: PartitionId,
    version: i16,
    left: usize,
    is_empty: bool,
) -> Result<Found> {
    if state.image.partition(id).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let fetch = &wanted.fetch;
    let replica = state.replicas.get(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let known = Some(fetch.current_leader_epoch).filter(|epoch| *epoch >= 0);
    // Clients that may fetch from followers say so by their version (KIP-392).
    replica.check_epoch(known, version < 11)?;
    let isolation = Isolation::of(request.isolation_level);
    let log = &replica.log;
    let mut found = Found {
        read: ReadBatches::default(),
        aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
        high_watermark: log.high_watermark(),
        last_stable: log.last_stable(),
        log_start: log.start(),
        diverging: None,
        preferred: None,
    };
    if let Some(preferred) = preferred(broker, state, id, &request.rack_id, fetch.fetch_offset) {
        found.preferred = Some(preferred);
        return Ok(found);
    }
    if fetch.last_fetched_epoch >= 0 {
        let known = log.epochs().end_offset_for(fetch.last_fetched_epoch, log.end());
        let (epoch, end) = known.ok_or(ErrorCode::OffsetOutOfRange)?;
        if fetch.fetch_offset < log.start() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if epoch < fetch.last_fetched_epoch || end < fetch.fetch_offset {
            found.diverging = Some((epoch, end));
            return Ok(found);
        }
    }
    let most = usize::try_from(fetch.partition_max_bytes).unwrap_or(0).min(left);
    let upper = replica.readable(isolation);
    found.read = log.read(fetch.fetch_offset, upper, most, is_empty)?;
    if isolation == Isolation::ReadCommitted {
        found.aborted = Some(log.aborted_in(fetch.fetch_offset, &found.read));
    }
    Ok(found)
}

/// The in-sync follower in the client's rack that has the offset and the most records, if there is one, this broker leads
/// and is in another rack (`RackAwareReplicaSelector`).
fn preferred(broker: &Broker, state: &State, id: PartitionId, rack: &str, offset: i64) -> Option<NodeId> {
    if !broker.options().rack_aware || rack.is_empty() || broker.member().rack.as_deref() == Some(rack) {
        return None;
    }
    let leader = state.replicas.get(&id)?.leader().ok()?;
    leader.most_caught_up(offset, |node| {
        state.image.active(node).is_some_and(|known| known.rack.as_deref() == Some(rack))
    })
}
