//! Transaction markers: the coordinator has the leaders of the partitions write them, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lock;
use crate::cluster::Broker;
use crate::cluster::message::{Request, Response};
use crate::coordinator::{MarkerOutcome, Markers, Producer};
use crate::error::{ErrorCode, Result};
use crate::log::{Origin, Proof};
use crate::metadata::CONSUMER_OFFSETS;
use crate::protocol::builder::end_of_transaction;
use crate::protocol::records::{EndMarker, Marker};
use crate::transaction::TransactionShard;
use crate::types::{NodeId, PartitionId};

/// The end of a transaction, as a leader is to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkerToWrite {
    pub(crate) producer: Producer,
    pub(crate) coordinator_epoch: i32,
    pub(crate) commit: bool,
}

/// How long a coordinator waits for another broker (`request.timeout.ms` of brokers).
const WAIT: Duration = Duration::from_secs(30);

/// A partition by the name of its topic, and by its id.
type Place = ((String, i32), PartitionId);

impl Broker {
    /// Has markers written, and reports each outcome to the shard that asked for it.
    pub(super) async fn send_markers(self: Arc<Self>, shard: PartitionId, markers: Markers) {
        let image = self.image();
        let marker = MarkerToWrite {
            producer: markers.producer,
            coordinator_epoch: markers.coordinator_epoch,
            commit: markers.commit,
        };
        let mut by_leader: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
        for (name, index) in markers.partitions {
            let topic = image.topic(&name);
            let partition = topic.and_then(|topic| Some((topic.id, topic.partition(index)?.leader)));
            let outcome = match partition {
                None => MarkerOutcome::Gone,
                Some((_, None)) => MarkerOutcome::Refused(ErrorCode::LeaderNotAvailable),
                Some((topic, Some(leader))) => {
                    let id = PartitionId { topic, index };
                    by_leader.entry(leader).or_default().push(((name, index), id));
                    continue;
                }
            };
            let (transactional_id, producer) = (&markers.transactional_id, markers.producer);
            self.marker_outcome(shard, transactional_id, producer, &name, index, outcome);
        }
        for (leader, partitions) in by_leader {
            let transactional_id = markers.transactional_id.clone();
            self.begin(move |broker| async move {
                let ids: Vec<PartitionId> = partitions.iter().map(|(_, id)| *id).collect();
                let results = if leader == broker.id {
                    Some(broker.write_markers(marker, &ids).await)
                } else {
                    match broker.ask(leader, Request::WriteMarkers { marker, partitions: ids }, WAIT).await {
                        Some(Response::WriteMarkers(results)) => Some(results),
                        _ => None,
                    }
                };
                for (place, ((name, index), _)) in partitions.into_iter().enumerate() {
                    let result = results.as_ref().and_then(|results| results.get(place).copied());
                    let outcome = match result {
                        Some(Ok(())) => MarkerOutcome::Written,
                        Some(Err(error)) => MarkerOutcome::Refused(error),
                        None => MarkerOutcome::Refused(ErrorCode::NetworkException),
                    };
                    broker.marker_outcome(shard, &transactional_id, marker.producer, &name, index, outcome);
                }
                broker.notify();
            });
        }
    }

    fn marker_outcome(
        self: &Arc<Self>,
        shard: PartitionId,
        transactional_id: &str,
        producer: Producer,
        topic: &str,
        index: i32,
        outcome: MarkerOutcome,
    ) {
        let now = self.coordinator_now();
        let mut hosts = lock::<TransactionShard>(self);
        let Some(host) = hosts.hosts.get_mut(&shard) else { return };
        if let Some(machine) = &mut host.shard {
            let effects = machine.marker_written(now, transactional_id, producer, (topic, index), outcome);
            self.perform(shard, host, effects);
        }
    }

    /// Writes a marker to partitions that this broker leads, and waits until it is replicated.
    pub(crate) async fn write_markers(
        self: &Arc<Self>,
        marker: MarkerToWrite,
        partitions: &[PartitionId],
    ) -> Vec<Result<()>> {
        let kind = if marker.commit { Marker::Commit } else { Marker::Abort };
        let end = EndMarker { marker: kind, coordinator_epoch: marker.coordinator_epoch };
        let mut results = Vec::with_capacity(partitions.len());
        for id in partitions {
            let batch = end_of_transaction(self.now(), marker.producer.id, marker.producer.epoch, end);
            results.push(self.append(*id, &batch, Origin::Coordinator, Proof::NotRequired, true));
        }
        let deadline = Instant::now() + WAIT;
        let mut progress = self.progress.watch();
        loop {
            progress.mark_unchanged();
            let mut is_waiting = false;
            for (id, result) in partitions.iter().zip(&mut results) {
                if let Ok(appended) = result {
                    match self.is_replicated(*id, appended.last_offset) {
                        Ok(replicated) => is_waiting |= !replicated,
                        Err(error) => *result = Err(error),
                    }
                }
            }
            if !is_waiting {
                break;
            }
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = tokio::time::sleep_until(deadline) => {
                    // Written, and perhaps lost again: the coordinator sends it once more.
                    for (id, result) in partitions.iter().zip(&mut results) {
                        let is_replicated = |offset| self.is_replicated(*id, offset).unwrap_or(false);
                        if result.as_ref().is_ok_and(|appended| !is_replicated(appended.last_offset)) {
                            *result = Err(ErrorCode::RequestTimedOut);
                        }
                    }
                    break;
                }
            }
        }
        let image = self.image();
        let offsets = image.topic(CONSUMER_OFFSETS).map(|topic| topic.id);
        for (id, result) in partitions.iter().zip(&results) {
            if result.is_ok() && Some(id.topic) == offsets {
                self.group_marker(*id, marker.producer, marker.commit);
            }
        }
        results.into_iter().map(|result| result.map(|_| ())).collect()
    }
}
