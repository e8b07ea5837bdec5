//! The classic group protocol: members join, the leader among them assigns, all receive their assignment.
//!
//! As in Kafka's `ClassicGroup` and the `classicGroup…` methods of `GroupMetadataManager`: a *generation* begins when
//! all known members have joined or the rebalance timeout is over, is stored with the leader's assignment, and ends
//! when a member joins, leaves, expires or changes what it supports.

mod join;
mod leave;
mod member;
mod rebalance;
mod static_member;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use super::consumer::Timers;
use super::env::{Env, optional, text};
use super::records::{self, GroupMemberValue, GroupValue};
use super::{GroupResponse, refusal, subscription};
use crate::coordinator::{Record, Token};
use crate::error::ErrorCode;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::messages::{JoinGroupResponse, SyncGroupResponse};

pub(crate) use join::{Join, random_uuid};
pub(crate) use member::{Member, Waiting};

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

/// The state of a classic group. (Kafka's `Dead` is a group that is not there.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Without members.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// The generation has begun, and its leader has not yet assigned.
    CompletingRebalance,
    /// The members have their assignment.
    Stable,
}

impl State {
    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The timer of the join phase.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JoinTimer {
    /// The phase ends, and members that have not joined are removed.
    End { at: i64 },
    /// The first phase of an empty group ends, unless members were added since the last look.
    Initial { at: i64, delay: i32, remaining: i32 },
}

impl JoinTimer {
    fn at(self) -> i64 {
        match self {
            Self::End { at } | Self::Initial { at, .. } => at,
        }
    }
}

/// A group of the classic protocol.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(crate) id: String,
    pub(crate) state: State,
    /// Whether the rebalance that is being prepared is the first of an empty group.
    from_empty: bool,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Instance ids and member ids of static members.
    static_members: BTreeMap<String, String>,
    /// Member ids that were given out and have not joined yet, and when they are dropped.
    pending_join: BTreeMap<String, i64>,
    /// Members that have not yet asked for their assignment.
    pending_sync: BTreeSet<String>,
    /// Whether a member was added in the first rebalance of an empty group since the last look.
    new_member_added: bool,
    /// What the members of a group of consumers are subscribed to, if it is known.
    pub(crate) subscribed: Option<BTreeSet<String>>,
    /// When the state changed, if it is known.
    pub(crate) since: Option<i64>,
    join_timer: Option<JoinTimer>,
    /// When members that have not asked for their assignment are removed.
    sync_timer: Option<i64>,
    /// What was due for its members when it was a group of the `consumer` protocol, and is due again if it becomes one.
    pub(crate) consumer_timers: Timers,
}

impl ClassicGroup {
    /// An empty group.
    pub(crate) fn new(id: &str, now: Option<i64>) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            from_empty: false,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            new_member_added: false,
            subscribed: None,
            since: now,
            join_timer: None,
            sync_timer: None,
            consumer_timers: Timers::default(),
        }
    }

    /// The group of a record.
    pub(crate) fn load(id: &str, value: GroupValue) -> Self {
        let mut group = Self::new(id, value.state_timestamp);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        group.protocol.clone_from(&value.protocol);
        for member in value.members {
            group.add(Member::load(member, &value.protocol_type, value.protocol.as_deref()));
        }
        group.leader = value.leader;
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group.subscribed = group.subscribed_topics();
        group
    }

    /// The record of the group, with these assignments.
    pub(crate) fn record(&self, assignments: impl Fn(&Member) -> bytes::Bytes) -> Record {
        let protocol = self.protocol.as_deref();
        let members = self.members.values().map(|member| GroupMemberValue {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            subscription: protocol.and_then(|name| member.metadata(name)).unwrap_or_default(),
            assignment: assignments(member),
        });
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.since,
            members: members.collect(),
        };
        records::group(&self.id, Some(&value))
    }

    pub(crate) fn enter(&mut self, env: &Env<'_>, state: State) {
        self.from_empty = state == State::PreparingRebalance && self.state == State::Empty;
        self.state = state;
        self.since = Some(env.now);
        self.see_state(env);
    }

    /// Whether it is a group of consumers.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Adds a member; the first becomes the leader.
    pub(crate) fn add(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(member.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member or an id that has not joined. Another becomes the leader if it was.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let removed = self.members.remove(id);
        if let Some(instance) = removed.as_ref().and_then(|member| member.instance_id.as_ref()) {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        removed
    }

    pub(crate) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    fn has_all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// The longest of its members' rebalance timeouts.
    fn rebalance_timeout(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or(0)
    }

    /// Checks that a member is one of the group, under its instance id if it has one.
    pub(crate) fn validate(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let existing = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if existing != member {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Checks a commit of offsets (`ClassicGroup.validateOffsetCommit`).
    pub(crate) fn validate_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        // A negative generation is that of a client that only stores offsets here, or of an old transactional one.
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.validate(member, instance)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !transactional && self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether a member with these protocols can join.
    fn supports(&self, protocol_type: &str, protocols: &[(String, bytes::Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let all = |name: &str| self.members.values().all(|member| member.metadata(name).is_some());
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|(name, _)| all(name))
    }

    /// The protocol that most members prefer, of those that all support. Of two with as many votes it is the first in Kafka's
    /// hash table of them.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let all = |name: &str| self.members.values().all(|member| member.metadata(name).is_some());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| all(name));
            *votes.entry(vote?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let first = votes.into_iter().filter(|(_, count)| *count == most).map(|(name, _)| name);
        first.min_by_key(|name| place_in_hash_map(name)).map(str::to_owned)
    }

    /// What the members are subscribed to; `None` if it is not a group of consumers or they cannot be read.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(protocol)?)?);
        }
        Some(topics)
    }

    /// Whether offsets of this topic are in use.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// The members as their leader learns them.
    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &Member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(optional(member.instance_id.as_deref()))
                .with_metadata(member.metadata(protocol).unwrap_or_default())
        };
        self.members.values().map(member).collect()
    }

    /// A successful response to a member that joined.
    fn joined(&self, member: &str, version: i16, with_members: bool) -> JoinGroupResponse {
        let protocol = self.protocol.as_deref();
        let protocol = if version < 7 { Some(protocol.unwrap_or_default()) } else { protocol };
        JoinGroupResponse::default()
            .with_members(if with_members { self.members_for_leader() } else { Vec::new() })
            .with_member_id(text(member))
            .with_generation_id(self.generation)
            .with_protocol_name(optional(protocol))
            .with_protocol_type(optional(self.protocol_type.as_deref()).filter(|_| version >= 7))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
    }

    /// The group has become one of the `consumer` protocol: those who wait are asked to come again.
    pub(crate) fn upgraded(&mut self, env: &mut Env<'_>) {
        let error = ErrorCode::RebalanceInProgress;
        for member in self.members.values_mut() {
            if let Some(waiting) = member.awaiting_join.take() {
                env.reply_now(waiting.token, refusal::join_group(waiting.version, text(&member.id), error));
            }
            if let Some(token) = member.awaiting_sync.take() {
                env.reply_now(token, SyncGroupResponse::default().with_error_code(error.code()));
            }
        }
    }

    /// Begins sessions, after the group was loaded.
    pub(crate) fn loaded(&mut self, env: &mut Env<'_>) {
        for member in self.members.values_mut() {
            member.expires = Some(env.after_ms(member.session_timeout));
        }
        if self.members.len() > env.config.max_size {
            self.prepare_rebalance(env);
        }
    }

    /// The requests that wait, with the responses that refuse them.
    pub(crate) fn unload(&mut self) -> Vec<(Token, GroupResponse)> {
        let error = ErrorCode::NotCoordinator;
        let mut refused = Vec::new();
        for member in self.members.values_mut() {
            if let Some(waiting) = member.awaiting_join.take() {
                let response = refusal::join_group(waiting.version, text(&member.id), error);
                refused.push((waiting.token, response.into()));
            }
            if let Some(token) = member.awaiting_sync.take() {
                refused.push((token, SyncGroupResponse::default().with_error_code(error.code()).into()));
            }
        }
        refused
    }

    /// When something is due.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(|member| member.expires);
        let pending = self.pending_join.values().copied();
        let timers = self.join_timer.map(JoinTimer::at).into_iter().chain(self.sync_timer);
        sessions.chain(pending).chain(timers).min()
    }
}

/// Where Java's `HashMap` has a text among a few others: in which of its first 16 buckets.
fn place_in_hash_map(text: &str) -> u32 {
    let hash = text.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    (hash ^ (hash >> 16)) & 15
}

#[cfg(test)]
mod tests {
    use super::place_in_hash_map;

    #[test]
    fn protocols_have_the_places_that_java_gives_them() {
        let places = ["sticky", "range", "roundrobin", "cooperative-sticky"].map(place_in_hash_map);
        assert_eq!(places, [8, 9, 10, 15]);
    }
}
