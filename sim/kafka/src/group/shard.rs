//! The state machine of one partition of `__consumer_offsets`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand_core::Rng;

use super::classic::{ClassicGroup, State};
use super::consumer::records::ConsumerRecord;
use super::consumer::{ConsumerGroup, ConsumerState};
use super::env::{After, Env};
use super::offsets::{Change, Offsets};
use super::records::{self, Entry};
use super::{GroupConfig, GroupRequest, GroupResponse, refusal};
use crate::cluster::observe::{Observed, Observer, Removal, Witness};
use crate::coordinator::{
    BatchId, Context, Effects, Outbox, Producer, Record, RecordError, Token, Topics, append_error,
};
use crate::error::ErrorCode;
use crate::types::NodeId;

/// A group of either protocol.
#[derive(Debug)]
pub(crate) enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Group {
    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.state == State::Empty,
            Self::Consumer(group) => group.state() == ConsumerState::Empty,
        }
    }

    /// Whether its members use a topic.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed(topic),
            Self::Consumer(group) => group.is_subscribed(topic),
        }
    }

    /// The client ids of its members.
    pub(crate) fn client_ids(&self) -> Vec<String> {
        match self {
            Self::Classic(group) => group.members.values().map(|member| member.client_id.clone()).collect(),
            Self::Consumer(group) => {
                group.members.values().map(|member| member.value.client_id.clone()).collect()
            }
        }
    }

    /// The tombstones that delete it.
    pub(crate) fn tombstones(&self) -> Vec<Record> {
        match self {
            Self::Classic(group) => Self::classic_tombstone(&group.id).to_vec(),
            Self::Consumer(group) => group.tombstones(),
        }
    }

    /// The tombstone of a classic group.
    pub(crate) fn classic_tombstone(id: &str) -> [Record; 1] {
        [records::group(id, None)]
    }
}

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupShard {
    pub(super) config: GroupConfig,
    pub(super) topics: Arc<Topics>,
    pub(super) out: Outbox<GroupResponse>,
    after: BTreeMap<BatchId, After>,
    pub(super) groups: BTreeMap<String, Group>,
    /// As they are at the end of the log.
    pub(super) offsets: Offsets,
    /// As they are at the high watermark.
    pub(super) settled: Offsets,
    /// The changes between both, by their batches.
    unsettled: VecDeque<(BatchId, Change)>,
    /// The batch that is replayed, if it is not below the high watermark.
    replayed: Option<BatchId>,
    next_expiry: i64,
    pub(super) observed: Observed,
}

impl GroupShard {
    /// An empty shard, to be loaded with [`Self::replay`].
    pub fn new(config: GroupConfig, topics: Arc<Topics>) -> Self {
        Self {
            config,
            topics,
            out: Outbox::default(),
            after: BTreeMap::new(),
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            settled: Offsets::default(),
            unsettled: VecDeque::new(),
            replayed: None,
            next_expiry: i64::MAX,
            observed: Observed::default(),
        }
    }

    /// Reports what happens to groups from now on, as of this broker.
    #[must_use]
    pub fn observed(mut self, broker: NodeId, observer: Option<Arc<dyn Observer>>) -> Self {
        self.observed = Observed::new(broker, Witness::new(observer));
        self
    }

    /// A group.
    pub(crate) fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// The groups, and what they need to act.
    pub(super) fn split(&mut self, now: i64) -> (&mut BTreeMap<String, Group>, Env<'_>) {
        let env = Env::new(now, &self.config, &self.topics, &self.observed, &mut self.out, &mut self.after);
        (&mut self.groups, env)
    }

    /// Makes a change of state by its records, and has them appended.
    pub(super) fn write(&mut self, now: i64, records: Vec<Record>, producer: Option<Producer>) {
        // Only a static member that joins removes another by its own record.
        self.write_without(now, records, producer, Removal::Replaced);
    }

    /// In the same way; members that are removed by that are removed for this reason.
    pub(super) fn write_without(
        &mut self,
        now: i64,
        records: Vec<Record>,
        producer: Option<Producer>,
        why: Removal,
    ) {
        if records.is_empty() {
            return;
        }
        let before = self.summaries(&records);
        self.replayed = Some(self.out.next_batch());
        for record in &records {
            // What this coordinator wrote it can read.
            let replayed = self.replay(record, producer);
            debug_assert!(replayed.is_ok(), "{replayed:?}");
        }
        self.replayed = None;
        self.see_changes(&before, why);
        self.out.write(now, records, producer);
    }

    fn change_offsets(&mut self, change: Change) {
        match self.replayed {
            Some(batch) => self.unsettled.push_back((batch, change.clone())),
            None => self.settled.apply(change.clone()),
        }
        self.offsets.apply(change);
    }

    /// Takes a record of the log. `producer` is set if its batch is transactional. Records of kinds that this
    /// coordinator does not need (share and streams groups) are skipped.
    ///
    /// # Errors
    /// If the record cannot be read; the shard is unchanged then.
    pub fn replay(&mut self, record: &Record, producer: Option<Producer>) -> Result<(), RecordError> {
        match records::read(record)? {
            None => {}
            Some(Entry::Offset { group, topic, partition, value }) => {
                if value.is_some() && !self.groups.contains_key(&group) {
                    let classic = ClassicGroup::new(&group, None);
                    self.groups.insert(group.clone(), Group::Classic(classic));
                }
                let (at, producer) = ((topic, partition), producer.map(|producer| producer.id));
                self.change_offsets(Change::Record { group, at, value, producer });
            }
            Some(Entry::Group { group, value: Some(value) }) => {
                let classic = ClassicGroup::load(&group, value);
                self.groups.insert(group, Group::Classic(classic));
            }
            Some(Entry::Group { group, value: None }) => {
                if matches!(self.groups.get(&group), Some(Group::Classic(_))) {
                    self.groups.remove(&group);
                }
            }
            Some(Entry::Consumer { group, record }) => self.replay_consumer(group, record),
        }
        Ok(())
    }

    fn replay_consumer(&mut self, id: String, record: ConsumerRecord) {
        if let ConsumerRecord::Metadata(None) = record {
            if matches!(self.groups.get(&id), Some(Group::Consumer(_))) {
                self.groups.remove(&id);
            }
            return;
        }
        let is_tombstone = matches!(
            record,
            ConsumerRecord::Member(_, None)
                | ConsumerRecord::TargetMetadata(None)
                | ConsumerRecord::TargetMember(_, None)
                | ConsumerRecord::Current(_, None)
                | ConsumerRecord::Regex(_, None)
        );
        match self.groups.get_mut(&id) {
            Some(Group::Consumer(group)) => group.replay(record),
            // Tombstones of a group that compaction has partly removed.
            _ if is_tombstone => {}
            Some(Group::Classic(_)) | None => {
                let mut group = ConsumerGroup::new(&id);
                group.replay(record);
                self.groups.insert(id, Group::Consumer(group));
            }
        }
    }

    /// Takes a marker of the log: the end of a transaction.
    pub fn replay_marker(&mut self, producer: Producer, commit: bool) {
        self.change_offsets(Change::End { producer: producer.id, commit });
    }

    /// Begins to load what is not below the high watermark, to be reported with [`Self::committed`] when all of it is.
    /// Responses wait for that, but for those that only need what was below (`CoordinatorLoader`, `CoordinatorRuntime`).
    pub fn high_watermark_reached(&mut self) -> BatchId {
        let batch = self.out.wait_for_loaded();
        self.replayed = Some(batch);
        batch
    }

    /// Begins to serve, after the last record of the log: sessions begin now.
    pub fn loaded(&mut self, now: i64) -> Effects<GroupResponse> {
        self.replayed = None;
        self.next_expiry = now.saturating_add(self.config.offsets_retention_check_interval);
        let (groups, mut env) = self.split(now);
        for group in groups.values_mut() {
            match group {
                Group::Classic(group) => group.loaded(&mut env),
                Group::Consumer(group) => group.loaded(&env),
            }
        }
        self.out.take()
    }

    /// Handles a request. The response is part of these effects or of those of a later call.
    ///
    /// Transactional offset commits arrive here after the runtime has verified that the group's partition of
    /// `__consumer_offsets` is part of the transaction (as for a produce request).
    pub fn handle(
        &mut self,
        now: i64,
        rng: &mut dyn Rng,
        token: Token,
        context: &Context,
        request: GroupRequest,
    ) -> Effects<GroupResponse> {
        self.out.begin(now.saturating_add(self.config.commit_timeout));
        self.dispatch(now, rng, token, context, &request);
        self.out.take()
    }

    /// Does what is due: sessions and rebalances that time out, offsets that expire.
    pub fn tick(&mut self, now: i64, rng: &mut dyn Rng) -> Effects<GroupResponse> {
        let error = append_error(ErrorCode::RequestTimedOut);
        self.out.expire(now, error, refusal::retract);
        let late: Vec<BatchId> =
            self.after.iter().filter(|(_, after)| after.deadline <= now).map(|(id, _)| *id).collect();
        for batch in late {
            self.stored(now, batch, Err(error));
        }
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            self.tick_consumer(now, &id);
            let (groups, mut env) = self.split(now);
            if let Some(Group::Classic(group)) = groups.get_mut(&id) {
                group.tick(&mut env, rng);
            }
        }
        if self.next_expiry <= now {
            self.next_expiry = now.saturating_add(self.config.offsets_retention_check_interval);
            self.expire_offsets(now);
        }
        self.out.take()
    }

    /// When [`Self::tick`] is to be called, in milliseconds since the epoch. To be asked after each call.
    pub fn next_deadline(&self) -> Option<i64> {
        let groups = self.groups.values().filter_map(|group| match group {
            Group::Classic(group) => group.next_deadline(),
            Group::Consumer(group) => group.next_deadline(),
        });
        let after = self.after.values().map(|after| after.deadline);
        groups.chain(after).chain(self.out.next_deadline()).chain([self.next_expiry]).min()
    }

    /// Reports that a batch is below the high watermark.
    pub fn committed(&mut self, now: i64, batch: BatchId) -> Effects<GroupResponse> {
        let settled = self.unsettled.partition_point(|(of, _)| *of <= batch);
        for (_, change) in self.unsettled.drain(..settled) {
            self.settled.apply(change);
        }
        self.out.committed(batch);
        self.stored(now, batch, Ok(()));
        self.out.take()
    }

    fn stored(&mut self, now: i64, batch: BatchId, result: Result<(), ErrorCode>) {
        let Some(after) = self.after.remove(&batch) else { return };
        let (groups, mut env) = self.split(now);
        if let Some(Group::Classic(group)) = groups.get_mut(&after.group) {
            group.stored(&mut env, after.action, result);
        }
    }

    /// Reports that a batch could not be appended, and why. Asks for a reload.
    pub fn failed(&mut self, _now: i64, batch: BatchId, error: ErrorCode) -> Effects<GroupResponse> {
        self.out.failed(batch, append_error(error), refusal::retract);
        self.out.take()
    }

    /// Reports that a marker is below the high watermark, after all batches before it: offsets of the transaction become
    /// committed, or are dropped.
    pub fn marker_written(&mut self, _now: i64, producer: Producer, commit: bool) -> Effects<GroupResponse> {
        self.change_offsets(Change::End { producer: producer.id, commit });
        self.out.take()
    }

    /// Reports new metadata: offsets of deleted topics are deleted, and groups assign new partitions with the next
    /// heartbeat of a member.
    pub fn topics_changed(&mut self, now: i64, topics: Arc<Topics>) -> Effects<GroupResponse> {
        let before = std::mem::replace(&mut self.topics, topics);
        let records = self.delete_offsets_of_deleted(&before, &self.topics);
        self.write(now, records, None);
        for group in self.groups.values_mut() {
            if let Group::Consumer(group) = group {
                group.request_refresh();
            }
        }
        self.out.take()
    }

    /// Ends the shard, as the broker is no longer the coordinator. Returns the responses of all open requests:
    /// NOT_COORDINATOR.
    pub fn unload(mut self) -> Vec<(Token, GroupResponse)> {
        let refuse = |(token, response)| (token, refusal::retract(response, ErrorCode::NotCoordinator));
        let mut refused: Vec<_> = self.out.drain().into_iter().map(refuse).collect();
        for group in self.groups.values_mut() {
            if let Group::Classic(group) = group {
                refused.extend(group.unload());
            }
        }
        refused
    }

    /// Deletes groups that have no members, with their offsets.
    pub(super) fn delete_groups(&mut self, now: i64, groups: &[&str]) -> Vec<Result<(), ErrorCode>> {
        let mut tombstones = Vec::new();
        let results = groups.iter().map(|id| match self.groups.get(*id) {
            None => Err(ErrorCode::GroupIdNotFound),
            Some(group) if !group.is_empty() => Err(ErrorCode::NonEmptyGroup),
            Some(group) => {
                tombstones.extend(self.delete_all_offsets(id));
                tombstones.extend(group.tombstones());
                Ok(())
            }
        });
        let results = results.collect();
        self.write(now, tombstones, None);
        results
    }
}
