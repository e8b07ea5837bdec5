//! ConsumerGroupHeartbeat.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::Rng;

use super::member::{LEAVE, LEAVE_STATIC};
use super::reconcile::{is_subset, reconcile};
use super::upgrade::names;
use super::{ConsumerGroup, ConsumerMember, Partitions, records};
use crate::coordinator::{Context, Record, Token};
use crate::error::ErrorCode;
use crate::group::classic::{State, random_uuid};
use crate::group::env::{Env, text};
use crate::group::observe::{see_assignment, see_ownership};
use crate::group::{Assignor, Group, GroupShard};
use crate::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

/// The first version in which members choose their ids.
const OWN_MEMBER_ID: i16 = 1;

/// An error, with what a client's log says of it.
pub(super) type Refused = (ErrorCode, String);

pub(super) fn refused<T>(error: ErrorCode, why: impl Into<String>) -> Result<T, Refused> {
    Err((error, why.into()))
}

/// Adds a reason to an error that has none.
pub(super) fn plain(error: ErrorCode) -> Refused {
    (error, error.to_string())
}

impl GroupShard {
    pub(crate) fn consumer_group_heartbeat(
        &mut self,
        now: i64,
        rng: &mut dyn Rng,
        token: Token,
        context: &Context,
        request: &ConsumerGroupHeartbeatRequest,
    ) {
        let result = validate(request, context.api_version).and_then(|()| match request.member_epoch {
            LEAVE | LEAVE_STATIC => self.consumer_leave(now, request),
            _ => self.consumer_heartbeat(now, rng, context, request),
        });
        let response = result.unwrap_or_else(|(error, why)| {
            ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&why)))
        });
        self.out.reply(token, response.into());
    }

    fn consumer_heartbeat(
        &mut self,
        now: i64,
        rng: &mut dyn Rng,
        context: &Context,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
        let id = request.group_id.as_str();
        let member =
            if request.member_id.is_empty() { new_member_id(rng) } else { request.member_id.to_string() };
        let mut records = Vec::new();
        let joins = request.member_epoch == 0;
        let (groups, mut env) = self.split(now);
        // The group as it is before this heartbeat; a classic one is replaced only if all goes well.
        let (mut group, before) = match groups.remove(id) {
            Some(Group::Consumer(group)) => (group, None),
            None if joins => (ConsumerGroup::new(id), None),
            None => {
                return refused(ErrorCode::GroupIdNotFound, format!("Consumer group {id} not found."));
            }
            Some(Group::Classic(mut classic)) => {
                let found = if joins && classic.state == State::Empty {
                    records.extend(Group::classic_tombstone(id));
                    Ok(ConsumerGroup::new(id))
                } else if joins {
                    ConsumerGroup::upgrade(&mut env, &mut classic, &mut records)
                } else {
                    refused(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
                };
                match found {
                    Ok(group) => (group, Some(classic)),
                    Err(error) => {
                        groups.insert(id.to_owned(), Group::Classic(classic));
                        return Err(error);
                    }
                }
            }
        };
        let is_new = before.is_none() && group.epoch == 0 && group.members.is_empty();
        let result = group.heartbeat(&env, context, request, &member, &mut records);
        match (&result, before) {
            (Err(_), Some(classic)) => {
                groups.insert(id.to_owned(), Group::Classic(classic));
            }
            (Err(_), None) if is_new => {}
            _ => {
                groups.insert(id.to_owned(), Group::Consumer(group));
            }
        }
        let response = result?;
        self.write(now, records, None);
        self.after_heartbeat(now, id, &member);
        Ok(response)
    }

    /// Topics of regular expressions are found after the heartbeat that names them; Kafka does it in another thread.
    fn after_heartbeat(&mut self, now: i64, id: &str, member: &str) {
        let (groups, env) = self.split(now);
        let Some(Group::Consumer(group)) = groups.get_mut(id) else { return };
        group.heard_of(&env, member, None);
        let records = group.resolve_regexes(&env);
        self.write(now, records, None);
    }
}

impl ConsumerGroup {
    /// Begins or prolongs a session; of this many milliseconds, or as the broker is configured.
    pub(super) fn heard_of(&mut self, env: &Env<'_>, member: &str, timeout: Option<i32>) {
        let timeout = timeout.unwrap_or(env.config.consumer_session_timeout);
        if self.members.contains_key(member) {
            self.timers.sessions.insert(member.to_owned(), env.after_ms(timeout));
        }
    }

    fn heartbeat(
        &mut self,
        env: &Env<'_>,
        context: &Context,
        request: &ConsumerGroupHeartbeatRequest,
        id: &str,
        records: &mut Vec<Record>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
        let owned: Option<Partitions> = request.topic_partitions.as_ref().map(|topics| {
            let topics = topics.iter().filter(|topic| !topic.partitions.is_empty());
            topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect()
        });
        self.refuse_if_full(env, id)?;
        let joins = request.member_epoch == 0;
        let member = match request.instance_id.as_deref() {
            None => self.dynamic_member(id, request.member_epoch, owned.as_ref())?,
            Some(instance) if joins => self.joining_static_member(id, instance, false, records)?,
            Some(instance) => {
                let member = self.static_member(instance).ok_or_else(|| {
                    (ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
                })?;
                if member.id != id {
                    let why = format!(
                        "Static member {id} with instance id {instance} was fenced by member {}.",
                        member.id
                    );
                    return refused(ErrorCode::FencedInstanceId, why);
                }
                validate_epoch(member, request.member_epoch, owned.as_ref())?;
                member.clone()
            }
        };
        let updated = updated(&member, context, request);
        let mut bump = self.epoch == 0;
        if updated.value != member.value || !self.is_recorded(&member) {
            records.push(records::member(&self.id, &updated));
        }
        bump |= updated.value.topics != member.value.topics;
        bump |= self.update_regex(&member, &updated, records)?;
        let mut epoch = self.epoch;
        if bump || self.has_stale_metadata(env.now) {
            epoch = self.update_epoch(env, bump, &updated, records);
        }
        let (target_epoch, target) = if epoch > self.assignment_epoch {
            (epoch, self.update_target(env, epoch, &updated, records))
        } else {
            (self.assignment_epoch, self.target_of(&updated))
        };
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        if let Some(owned) = owned.as_ref().filter(|_| env.observed.is_on()) {
            see_ownership(env.observed, &self.id, id, &names(env.topics, owned), is_full);
        }
        let next = self.step(env, &updated, target_epoch, &target, owned.as_ref(), records)?;
        let mut response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&next.id)))
            .with_member_epoch(next.epoch)
            .with_heartbeat_interval_ms(env.config.consumer_heartbeat_interval);
        // A full request is a first one, or repeats one that got no answer.
        if joins || is_full || next.assigned != member.assigned {
            if env.observed.is_on() {
                let assigned = names(env.topics, &next.assigned);
                see_assignment(env.observed, &self.id, &next.id, next.epoch, &assigned);
            }
            let topics = next.assigned.iter().map(|(topic, partitions)| {
                TopicPartitions::default()
                    .with_topic_id(*topic)
                    .with_partitions(partitions.iter().copied().collect())
            });
            response.assignment = Some(Assignment::default().with_topic_partitions(topics.collect()));
        }
        Ok(response)
    }

    /// Whether a member is in the group under its id, so that its record is written.
    fn is_recorded(&self, member: &ConsumerMember) -> bool {
        self.members.contains_key(&member.id)
    }

    pub(super) fn refuse_if_full(&self, env: &Env<'_>, id: &str) -> Result<(), Refused> {
        let max = env.config.consumer_max_size;
        if self.members.len() >= max && !self.members.contains_key(id) {
            let why = format!("The consumer group has reached its maximum capacity of {max} members.");
            return refused(ErrorCode::GroupMaxSizeReached, why);
        }
        Ok(())
    }

    fn dynamic_member(
        &self,
        id: &str,
        epoch: i32,
        owned: Option<&Partitions>,
    ) -> Result<ConsumerMember, Refused> {
        match self.members.get(id) {
            Some(member) => {
                validate_epoch(member, epoch, owned)?;
                Ok(member.clone())
            }
            None if epoch == 0 => Ok(ConsumerMember::new(id)),
            None => {
                let why = format!("Member {id} is not a member of group {}.", self.id);
                refused(ErrorCode::UnknownMemberId, why)
            }
        }
    }

    /// A static member that joins takes the place of the one that left for now under its instance id, with its target.
    pub(super) fn joining_static_member(
        &self,
        id: &str,
        instance: &str,
        is_classic: bool,
        records: &mut Vec<Record>,
    ) -> Result<ConsumerMember, Refused> {
        let Some(existing) = self.static_member(instance) else {
            return Ok(self.members.get(id).cloned().unwrap_or_else(|| ConsumerMember::new(id)));
        };
        if !is_classic && !existing.is_classic() && existing.epoch != LEAVE_STATIC {
            let why = format!(
                "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {} member.",
                existing.id
            );
            return refused(ErrorCode::UnreleasedInstanceId, why);
        }
        let replacement =
            ConsumerMember { id: id.to_owned(), epoch: 0, previous_epoch: 0, ..existing.clone() };
        records.extend(self.removal(&existing.id));
        records.push(records::member(&self.id, &replacement));
        let target = self.target.get(&existing.id).cloned().unwrap_or_default();
        records.push(records::target(&self.id, id, &target));
        records.push(records::current(&self.id, &replacement));
        Ok(replacement)
    }

    /// The tombstones of a member.
    pub(super) fn removal(&self, id: &str) -> [Record; 3] {
        [
            records::current_tombstone(&self.id, id),
            records::target_tombstone(&self.id, id),
            records::member_tombstone(&self.id, id),
        ]
    }

    /// The target of a member, or that of the static member whose place it takes.
    pub(super) fn target_of(&self, member: &ConsumerMember) -> Partitions {
        let previous = member.instance().and_then(|instance| self.static_members.get(instance));
        self.target.get(previous.unwrap_or(&member.id)).cloned().unwrap_or_default()
    }

    /// Lets a member take its next step towards its target.
    pub(super) fn step(
        &mut self,
        env: &Env<'_>,
        member: &ConsumerMember,
        epoch: i32,
        target: &Partitions,
        owned: Option<&Partitions>,
        records: &mut Vec<Record>,
    ) -> Result<ConsumerMember, Refused> {
        let next = reconcile(member, epoch, target, owned, |topic, partition| self.is_owned(topic, partition))
            .map_err(|error| {
                let why = "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
                (error, why.to_owned())
            })?;
        if next != *member {
            records.push(records::current(&self.id, &next));
            if !next.is_classic() {
                if next.state == super::MemberState::UnrevokedPartitions {
                    let at = env.after_ms(next.value.rebalance_timeout);
                    self.timers.rebalances.insert(next.id.clone(), (at, next.epoch));
                } else {
                    self.timers.rebalances.remove(&next.id);
                }
            }
        }
        Ok(next)
    }
}

/// What a member says of itself now; what it leaves out is as before.
fn updated(
    member: &ConsumerMember,
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerMember {
    let mut updated = member.clone();
    let value = &mut updated.value;
    let or = |new: Option<&str>, old: Option<String>| new.map(str::to_owned).or(old);
    value.instance_id = or(request.instance_id.as_deref(), value.instance_id.take());
    value.rack_id = or(request.rack_id.as_deref(), value.rack_id.take());
    value.assignor = or(request.server_assignor.as_deref(), value.assignor.take());
    value.regex = or(request.subscribed_topic_regex.as_deref(), value.regex.take());
    if request.rebalance_timeout_ms != -1 {
        value.rebalance_timeout = request.rebalance_timeout_ms;
    }
    if let Some(topics) = &request.subscribed_topic_names {
        value.topics = topics.iter().map(|topic| topic.to_string()).collect();
    }
    value.client_id.clone_from(&context.client_id);
    value.client_host.clone_from(&context.client_host);
    value.classic = None;
    updated
}

/// A member may be one epoch behind, if the response with the new one was lost, and it has nothing that it should not.
fn validate_epoch(member: &ConsumerMember, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refused> {
    let is_retry =
        epoch == member.previous_epoch && owned.is_some_and(|owned| is_subset(owned, &member.assigned));
    if epoch == member.epoch || (epoch < member.epoch && is_retry) {
        return Ok(());
    }
    let kind = if epoch > member.epoch { "greater" } else { "smaller" };
    let why = format!(
        "The consumer group member has a {kind} member epoch ({epoch}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    refused(ErrorCode::FencedMemberEpoch, why)
}

/// `GroupCoordinatorService.throwIfConsumerGroupHeartbeatRequestIsInvalid`.
fn validate(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refused> {
    let invalid = |why: &str| refused(ErrorCode::InvalidRequest, why);
    let epoch = request.member_epoch;
    if (version >= OWN_MEMBER_ID || epoch > 0 || epoch == LEAVE) && request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_deref() == Some("") {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref() == Some("") {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    } else if epoch == LEAVE_STATIC && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEAVE_STATIC {
        return invalid("MemberEpoch is invalid.");
    }
    if let Some(name) = request.server_assignor.as_deref().filter(|name| Assignor::of(name).is_none()) {
        let why = format!("ServerAssignor {name} is not supported. Supported assignors: uniform, range.");
        return refused(ErrorCode::UnsupportedAssignor, why);
    }
    Ok(())
}

/// An id for a member that has none: a UUID as Kafka prints its own (`Uuid.toString`).
pub(super) fn new_member_id(rng: &mut dyn Rng) -> String {
    URL_SAFE_NO_PAD.encode(random_uuid(rng).as_bytes())
}
