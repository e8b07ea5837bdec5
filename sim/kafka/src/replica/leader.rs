//! What a leader knows of its followers: the in-sync set and the high watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Replica, Role};
use crate::cluster::observe::Event;
use crate::error::{ErrorCode, Result};
use crate::log::{Appended, Origin, Proof, ReadBatches, end_marker};
use crate::protocol::batch::Batch;
use crate::protocol::records::Marker;
use crate::types::{NodeId, Offset, Timestamp};

/// How far a follower is (`ReplicaState`).
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The end of its log; none until it has fetched in this epoch.
    end: Option<Offset>,
    /// The start of its log.
    start: Offset,
    /// When it last had everything that the leader had when it fetched.
    caught_up: Instant,
    /// When it last fetched, and where the leader's log ended then.
    fetched: Option<(Instant, Offset)>,
    /// The epoch of its broker, as it says itself.
    broker_epoch: i64,
    /// Whether it has fetched since the in-sync set was last looked at or changed: only a fetch lets it join.
    may_join: bool,
}

/// A leader's own state.
#[derive(Debug)]
pub(crate) struct Leader {
    /// Where its epoch begins.
    pub(crate) start: Offset,
    followers: BTreeMap<NodeId, Progress>,
    in_sync: BTreeSet<NodeId>,
    /// A change of the in-sync set that the controller has not answered. Until then the greater set counts.
    proposed: Option<BTreeSet<NodeId>>,
}

/// A change of an in-sync set to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InSyncChange {
    pub(crate) in_sync: BTreeSet<NodeId>,
    /// The epochs of the brokers that the leader knows.
    pub(crate) broker_epochs: BTreeMap<NodeId, i64>,
}

/// What a follower gets.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) batches: Vec<Batch>,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    /// Where the follower's log diverges: the leader's epoch there and its end.
    pub(crate) diverging: Option<(i32, Offset)>,
}

impl Leader {
    pub(super) fn new(start: Offset, in_sync: BTreeSet<NodeId>, replicas: &[NodeId], node: NodeId) -> Self {
        let mut leader = Self { start, followers: BTreeMap::new(), in_sync: BTreeSet::new(), proposed: None };
        leader.confirm(in_sync, replicas, node);
        leader
    }

    /// The controller's in-sync set.
    pub(super) fn confirm(&mut self, in_sync: BTreeSet<NodeId>, replicas: &[NodeId], node: NodeId) {
        self.in_sync = in_sync;
        self.proposed = None;
        let now = Instant::now();
        self.followers.retain(|follower, _| replicas.contains(follower));
        self.followers.values_mut().for_each(|progress| progress.may_join = false);
        for replica in replicas.iter().filter(|replica| **replica != node) {
            // A new leader gives followers the time to catch up.
            self.followers.entry(*replica).or_insert(Progress {
                end: None,
                start: -1,
                caught_up: now,
                fetched: None,
                broker_epoch: -1,
                may_join: false,
            });
        }
    }

    /// The proposal was refused: what the controller knows still holds.
    pub(crate) fn withdraw(&mut self) {
        self.proposed = None;
    }

    pub(crate) fn in_sync(&self) -> &BTreeSet<NodeId> {
        &self.in_sync
    }

    /// The in-sync follower whose log is the longest, of those that are wanted and have an offset
    /// (`ReplicaManager.findPreferredReadReplica`, `ReplicaView.comparator`).
    pub(crate) fn most_caught_up(
        &self,
        offset: Offset,
        is_wanted: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let able = self.followers.iter().filter(|(node, progress)| {
            self.in_sync.contains(node)
                && is_wanted(**node)
                && progress.end.is_some_and(|end| end >= offset)
                && progress.start <= offset
        });
        able.max_by_key(|(node, progress)| (progress.end, progress.caught_up, **node)).map(|(node, _)| *node)
    }

    /// The set that counts for the high watermark: the committed one, or with who may join it.
    fn maximal(&self) -> BTreeSet<NodeId> {
        match &self.proposed {
            Some(proposed) => self.in_sync.union(proposed).copied().collect(),
            None => self.in_sync.clone(),
        }
    }

    /// The lowest start of the logs of the followers that are alive, for DeleteRecords.
    pub(crate) fn lowest_start(&self, own: Offset, is_alive: impl Fn(NodeId) -> bool) -> Offset {
        let others = self.followers.iter().filter(|(node, _)| is_alive(**node));
        others.map(|(_, progress)| progress.start).chain([own]).min().unwrap_or(own)
    }
}

/// What the leader's broker believes of the others.
pub(crate) struct Peers<'a> {
    /// Whether a broker may be in sync, given the epoch that it says it has.
    pub(crate) is_eligible: &'a dyn Fn(NodeId, i64) -> bool,
    /// `replica.lag.time.max.ms`
    pub(crate) lag: Duration,
}

impl Replica {
    /// Appends a batch as the leader.
    ///
    /// # Errors
    /// If this replica does not lead, too few replicas are in sync for `acks=all`, or the batch is refused.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        origin: Origin,
        proof: Proof,
        all: bool,
        now: Timestamp,
        peers: &Peers<'_>,
    ) -> Result<Appended> {
        let leader = self.leader()?;
        if all && leader.in_sync.len() < self.min_in_sync() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        let appended = self.log.append_with(batch, self.leader_epoch, origin, proof, now)?;
        if !appended.duplicate {
            self.see_appended(batch, appended);
        }
        // Alone in the in-sync set, the leader's own append is enough.
        self.advance(peers);
        Ok(appended)
    }

    fn see_appended(&self, batch: &Batch, appended: Appended) {
        let (first_offset, next_offset) = (appended.base_offset, appended.last_offset.saturating_add(1));
        let leader_epoch = self.leader_epoch;
        self.see(|broker, topic, partition| Event::Appended {
            broker,
            topic,
            partition,
            first_offset,
            next_offset,
            leader_epoch,
        });
        if batch.is_control()
            && self.witness.is_on()
            && let Some(end) = end_marker(batch)
        {
            let (producer_id, commits) = (batch.producer_id(), end.marker == Marker::Commit);
            self.see(|broker, topic, partition| Event::MarkerWritten {
                broker,
                topic,
                partition,
                producer_id,
                commits,
            });
        }
    }

    /// Whether a record with `acks=all` is replicated; an error if it is, and too few replicas have it
    /// (`Partition.checkEnoughReplicasReachOffset`).
    pub(crate) fn is_replicated(&self, last_offset: Offset) -> Result<bool> {
        let leader = self.leader()?;
        if self.log.high_watermark() <= last_offset {
            return Ok(false);
        }
        let enough = leader.maximal().len() >= self.min_in_sync();
        if enough { Ok(true) } else { Err(ErrorCode::NotEnoughReplicasAfterAppend) }
    }

    /// Advances the high watermark to what all have that count; whether it advanced
    /// (`Partition.maybeIncrementLeaderHW`).
    pub(crate) fn advance(&mut self, peers: &Peers<'_>) -> bool {
        let min_in_sync = self.min_in_sync();
        let Role::Leader(leader) = &self.role else { return false };
        if leader.in_sync.len() < min_in_sync {
            return false;
        }
        let maximal = leader.maximal();
        let end = self.log.end();
        let waits_for = |node: &NodeId, progress: &Progress| {
            // A follower that is about to join is waited for, or its join would be followed by a leave.
            let caught_up = progress.end == Some(end) || progress.caught_up.elapsed() <= peers.lag;
            maximal.contains(node) || (caught_up && (peers.is_eligible)(*node, progress.broker_epoch))
        };
        let mut to = end;
        for (node, progress) in &leader.followers {
            let theirs = progress.end.unwrap_or(-1);
            if theirs < to && waits_for(node, progress) {
                to = theirs;
            }
        }
        let has_advanced = self.log.advance_high_watermark(to);
        if has_advanced {
            let offset = self.log.high_watermark();
            self.see(|broker, topic, partition| Event::HighWatermarkAdvanced {
                broker,
                topic,
                partition,
                offset,
            });
        }
        has_advanced
    }

    /// What others may wait for: the high watermark, and the lowest start of the followers' logs.
    pub(crate) fn published(&self) -> (Offset, Offset) {
        let lowest = self.leader().map_or(-1, |leader| leader.lowest_start(Offset::MAX, |_| true));
        (self.log.high_watermark(), lowest)
    }

    /// A follower fetches: notes how far it is, and reads for it. When the same fetch reads again, after it has waited,
    /// nothing is noted (`updateFetchState` of `Partition.fetchRecords`).
    ///
    /// # Errors
    /// If this replica does not lead in that epoch, the broker is no replica, or the offset is out of range.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of a fetch")]
    pub(crate) fn follower_fetches(
        &mut self,
        from: NodeId,
        broker_epoch: i64,
        epoch: i32,
        offset: Offset,
        last_epoch: Option<i32>,
        log_start: Offset,
        max_bytes: usize,
        is_first: bool,
        peers: &Peers<'_>,
    ) -> Result<Fetched> {
        self.check_epoch(Some(epoch), true)?;
        let (high_watermark, start, end) = (self.log.high_watermark(), self.log.start(), self.log.end());
        if let Role::Leader(leader) = &self.role
            && !leader.followers.contains_key(&from)
        {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        let nothing =
            |diverging| Fetched { batches: Vec::new(), high_watermark, log_start: start, diverging };
        if let Some(last_epoch) = last_epoch {
            let Some((known, ends)) = self.log.epochs().end_offset_for(last_epoch, end) else {
                return Err(ErrorCode::OffsetOutOfRange);
            };
            if offset < start {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            if known < last_epoch || ends < offset {
                return Ok(nothing(Some((known, ends))));
            }
        }
        let read: ReadBatches = self.log.read(offset, Offset::MAX, max_bytes, true)?;
        if is_first {
            self.note(from, broker_epoch, offset, log_start, end);
            self.advance(peers);
        }
        // The high watermark from before: a follower learns of this advance with its next fetch.
        Ok(Fetched { batches: read.batches, high_watermark, log_start: start, diverging: None })
    }

    /// `Replica.updateFetchStateOrThrow`
    fn note(&mut self, from: NodeId, broker_epoch: i64, offset: Offset, log_start: Offset, end: Offset) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.followers.get_mut(&from) else { return };
        let now = Instant::now();
        if offset >= end {
            progress.caught_up = now;
        } else if let Some((fetched, end_then)) = progress.fetched
            && offset >= end_then
        {
            // It has by now what there was when it fetched before.
            progress.caught_up = progress.caught_up.max(fetched);
        }
        progress.fetched = Some((now, end));
        progress.end = Some(offset);
        progress.start = log_start;
        progress.broker_epoch = broker_epoch;
        progress.may_join = true;
    }

    /// The in-sync set that the leader needs, if it is another one and none is proposed
    /// (`Partition.maybeExpandIsr`, `maybeShrinkIsr`). Whether followers lag is only looked at from time to time, so that who
    /// has just joined has some.
    pub(crate) fn propose(
        &mut self,
        node: NodeId,
        may_shrink: bool,
        peers: &Peers<'_>,
    ) -> Option<InSyncChange> {
        let (high_watermark, end) = (self.log.high_watermark(), self.log.end());
        let Role::Leader(leader) = &mut self.role else { return None };
        if leader.proposed.is_some() {
            return None;
        }
        let mut wanted = leader.in_sync.clone();
        for (follower, progress) in &mut leader.followers {
            let may_join = std::mem::take(&mut progress.may_join);
            if wanted.contains(follower) {
                let caught_up = progress.end == Some(end) || progress.caught_up.elapsed() <= peers.lag;
                if may_shrink && !caught_up {
                    wanted.remove(follower);
                }
                continue;
            }
            let has_all = progress.end.is_some_and(|end| end >= high_watermark && end >= leader.start);
            if may_join && has_all && (peers.is_eligible)(*follower, progress.broker_epoch) {
                wanted.insert(*follower);
            }
        }
        if wanted == leader.in_sync {
            return None;
        }
        wanted.insert(node);
        leader.proposed = Some(wanted.clone());
        let epoch_of =
            |node: &NodeId| leader.followers.get(node).map_or(-1, |progress| progress.broker_epoch);
        let broker_epochs = wanted.iter().map(|node| (*node, epoch_of(node))).collect();
        Some(InSyncChange { in_sync: wanted, broker_epochs })
    }
}
