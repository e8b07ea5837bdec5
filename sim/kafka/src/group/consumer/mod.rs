//! The `consumer` group protocol (KIP-848): the coordinator assigns, and members reconcile one by one.
//!
//! As in Kafka's `ConsumerGroup` and the `consumerGroup…` methods of `GroupMetadataManager`. The *group epoch* grows
//! with each change of members, subscriptions or topics. For each there is one *target assignment*. With its
//! heartbeats a member first gives up what is not in its target, then takes the target's epoch as its *member
//! epoch*, and receives the partitions that no other member has any more.

mod assignors;
mod classic_member;
mod downgrade;
mod heartbeat;
mod leave;
mod member;
mod reconcile;
pub(crate) mod records;
mod regex;
mod target;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use member::LEAVE;
use records::{ConsumerRecord, RegexValue};

use crate::coordinator::{Record, Topics};
use crate::error::ErrorCode;

pub(crate) use member::{ConsumerMember, MemberState};

/// Partitions by topic id; no topic is without partitions.
pub(crate) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// A group of the `consumer` protocol.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: String,
    pub(crate) epoch: i32,
    metadata_hash: i64,
    pub(crate) assignment_epoch: i32,
    pub(crate) members: BTreeMap<String, ConsumerMember>,
    /// Instance ids and member ids.
    static_members: BTreeMap<String, String>,
    target: BTreeMap<String, Partitions>,
    regexes: BTreeMap<String, RegexValue>,
    /// The epoch of the member that has a partition.
    owners: BTreeMap<(Uuid, i32), i32>,
    /// When the topics are looked at again, and the group epoch as of the last look. Not recorded.
    refresh: (i64, i32),
    timers: Timers,
}

/// What is due, by member id. Not recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    sessions: BTreeMap<String, i64>,
    /// When a member has to have left this epoch.
    rebalances: BTreeMap<String, (i64, i32)>,
    /// When a member of the classic protocol has to have joined again.
    joins: BTreeMap<String, i64>,
    /// When a member of the classic protocol has to have asked for its assignment.
    syncs: BTreeMap<String, i64>,
}

impl Timers {
    /// What remains due for members of the classic protocol while their group is a classic one: Kafka does not cancel it in
    /// `GroupMetadataManager.convertToClassicGroup`, and fences them if the group has changed back by then.
    fn left(&self) -> Self {
        Self { joins: self.joins.clone(), syncs: self.syncs.clone(), ..Self::default() }
    }

    /// What of it is still to come.
    fn after(mut self, now: i64) -> Self {
        self.joins.retain(|_, at| *at > now);
        self.syncs.retain(|_, at| *at > now);
        self
    }

    fn cancel(&mut self, member: &str) {
        self.sessions.remove(member);
        self.rebalances.remove(member);
        self.joins.remove(member);
        self.syncs.remove(member);
    }
}

/// The state of a group, as it is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerState {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl ConsumerState {
    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

impl ConsumerGroup {
    /// A group without members.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            epoch: 0,
            metadata_hash: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: BTreeMap::new(),
            regexes: BTreeMap::new(),
            owners: BTreeMap::new(),
            refresh: (0, 0),
            timers: Timers::default(),
        }
    }

    pub(crate) fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch > self.assignment_epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled(self.assignment_epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// Takes a record, other than the tombstone of the group.
    pub(crate) fn replay(&mut self, record: ConsumerRecord) {
        match record {
            ConsumerRecord::Metadata(value) => {
                (self.epoch, self.metadata_hash) = value.unwrap_or((0, 0));
            }
            ConsumerRecord::Member(id, Some(value)) => {
                let mut member = self.members.get(&id).cloned().unwrap_or_else(|| ConsumerMember::new(&id));
                member.value = value;
                self.put(member);
            }
            ConsumerRecord::Member(id, None) => self.drop_member(&id),
            ConsumerRecord::TargetMetadata(epoch) => self.assignment_epoch = epoch.unwrap_or(-1),
            ConsumerRecord::TargetMember(id, Some(partitions)) => {
                self.target.insert(id, partitions);
            }
            ConsumerRecord::TargetMember(id, None) => {
                self.target.remove(&id);
            }
            ConsumerRecord::Current(id, Some(value)) => {
                let mut member = self.members.get(&id).cloned().unwrap_or_else(|| ConsumerMember::new(&id));
                member.take(value);
                self.put(member);
            }
            ConsumerRecord::Current(id, None) => {
                if let Some(mut member) = self.members.get(&id).cloned() {
                    (member.epoch, member.previous_epoch) = (LEAVE, LEAVE);
                    member.assigned.clear();
                    member.pending_revocation.clear();
                    self.put(member);
                }
            }
            ConsumerRecord::Regex(regex, Some(value)) => {
                self.regexes.insert(regex, value);
            }
            ConsumerRecord::Regex(regex, None) => {
                self.regexes.remove(&regex);
            }
        }
    }

    fn put(&mut self, member: ConsumerMember) {
        self.disown(&member.id);
        for (topic, partitions) in member.assigned.iter().chain(&member.pending_revocation) {
            for partition in partitions {
                self.owners.insert((*topic, *partition), member.epoch);
            }
        }
        if let Some(instance) = member.instance() {
            self.static_members.insert(instance.to_owned(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    fn disown(&mut self, member: &str) {
        if let Some(member) = self.members.get(member) {
            for (topic, partitions) in member.assigned.iter().chain(&member.pending_revocation) {
                for partition in partitions {
                    self.owners.remove(&(*topic, *partition));
                }
            }
        }
    }

    fn drop_member(&mut self, id: &str) {
        self.disown(id);
        if let Some(instance) = self.members.remove(id).and_then(|member| member.value.instance_id)
            && self.static_members.get(&instance).is_some_and(|current| current == id)
        {
            self.static_members.remove(&instance);
        }
        self.timers.cancel(id);
    }

    /// The tombstones of all its records.
    pub(crate) fn tombstones(&self) -> Vec<Record> {
        let group = self.id.as_str();
        let mut tombstones = Vec::new();
        tombstones.extend(self.members.keys().map(|member| records::current_tombstone(group, member)));
        tombstones.extend(self.target.keys().map(|member| records::target_tombstone(group, member)));
        tombstones.push(records::target_metadata_tombstone(group));
        tombstones.extend(self.members.keys().map(|member| records::member_tombstone(group, member)));
        tombstones.extend(self.regexes.keys().map(|regex| records::regex_tombstone(group, regex)));
        tombstones.push(records::metadata_tombstone(group));
        tombstones
    }

    /// Whether a member has a partition.
    fn is_owned(&self, topic: Uuid, partition: i32) -> bool {
        self.owners.contains_key(&(topic, partition))
    }

    fn member(&self, id: &str) -> Result<&ConsumerMember, ErrorCode> {
        self.members.get(id).ok_or(ErrorCode::UnknownMemberId)
    }

    fn static_member(&self, instance: &str) -> Option<&ConsumerMember> {
        self.static_members.get(instance).and_then(|id| self.members.get(id))
    }

    /// The member of a request of the classic protocol.
    fn find(&self, id: &str, instance: Option<&str>) -> Result<&ConsumerMember, ErrorCode> {
        let Some(instance) = instance else { return self.member(id) };
        let member = self.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
        if member.id == id { Ok(member) } else { Err(ErrorCode::FencedInstanceId) }
    }

    /// Checks a commit of offsets (`ConsumerGroup.validateOffsetCommit`).
    pub(crate) fn validate_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        epoch: i32,
        transactional: bool,
        version: i16,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        if transactional && epoch == -1 && member.is_empty() && instance.is_none() {
            return Ok(());
        }
        let member = self.member(member)?;
        if !transactional && !member.is_classic() && version < 9 {
            return Err(ErrorCode::UnsupportedVersion);
        }
        validate_epoch(epoch, member)
    }

    /// Checks a fetch of offsets (`ConsumerGroup.validateOffsetFetch`).
    pub(crate) fn validate_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match member {
            None if epoch < 0 => Ok(()),
            member => validate_epoch(epoch, self.member(member.unwrap_or_default())?),
        }
    }

    /// Whether members use a topic.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.value.topics.contains(topic))
            || self.regexes.values().any(|regex| regex.topics.contains(topic))
    }

    /// The names of the topics that a member is subscribed to.
    fn subscription(&self, member: &ConsumerMember) -> BTreeSet<String> {
        let matched = member.regex().and_then(|regex| self.regexes.get(regex));
        let matched = matched.into_iter().flat_map(|regex| &regex.topics);
        member.value.topics.iter().chain(matched).cloned().collect()
    }

    /// The target of a member.
    pub(crate) fn target(&self, member: &str) -> &Partitions {
        static NONE: Partitions = Partitions::new();
        self.target.get(member).unwrap_or(&NONE)
    }

    /// Has the topics looked at with the next heartbeat.
    pub(crate) fn request_refresh(&mut self) {
        self.refresh = (0, 0);
    }

    /// When something is due.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let timers = &self.timers;
        let sessions = timers.sessions.values().chain(timers.joins.values()).chain(timers.syncs.values());
        sessions.copied().chain(timers.rebalances.values().map(|(at, _)| *at)).min()
    }
}

/// A hash of topics, ids and numbers of partitions, by which a change is noticed. 0 without topics, as in Kafka, whose
/// hash is another one.
fn hash_of(topics: &Topics, names: impl IntoIterator<Item = String>) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut any = false;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    let names: BTreeSet<String> = names.into_iter().collect();
    for name in names {
        if let (Some(id), Some(partitions)) = (topics.id(&name), topics.partitions(&name)) {
            any = true;
            add(name.as_bytes());
            add(id.as_bytes());
            add(&partitions.to_be_bytes());
        }
    }
    if any { hash.cast_signed() } else { 0 }
}

fn validate_epoch(epoch: i32, member: &ConsumerMember) -> Result<(), ErrorCode> {
    if epoch == member.epoch {
        return Ok(());
    }
    Err(if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch })
}
