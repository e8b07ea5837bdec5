//! Members that speak the classic protocol in a group of the `consumer` protocol, while it is upgraded or downgraded.
//!
//! For them a member epoch is a generation; each is its own leader's follower: JoinGroup takes the next step towards
//! the target, and SyncGroup returns what they have.

use rand_core::Rng;

use super::heartbeat::new_member_id;
use super::heartbeat::{Refused, plain};
use super::member::ClassicMetadata;
use super::upgrade::{ids, names};
use super::{ConsumerGroup, ConsumerMember, MemberState, records};
use crate::cluster::observe::Removal;
use crate::error::ErrorCode;
use crate::group::classic::{CONSUMER, Join};
use crate::group::env::{Env, text};
use crate::group::observe::see_assignment;
use crate::group::subscription::{self, Subscription};
use crate::group::{Group, GroupShard};
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::{HeartbeatRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};

/// The first version in which a new member is given an id, and has to join with it.
const MEMBER_ID_REQUIRED: i16 = 4;

impl GroupShard {
    /// JoinGroup to a group of the `consumer` protocol with members.
    pub(crate) fn join_consumer_group(&mut self, now: i64, rng: &mut dyn Rng, join: &Join<'_>) {
        let id = join.request.group_id.as_str();
        let unknown = join.request.member_id.is_empty();
        let member = if unknown { new_member_id(rng) } else { join.request.member_id.to_string() };
        if let Err((error, _)) = self.try_join_consumer_group(now, id, &member, join) {
            let (_, mut env) = self.split(now);
            let named = if error == ErrorCode::MemberIdRequired { &member } else { "" };
            join.refuse(&mut env, named, error);
        }
    }

    fn try_join_consumer_group(
        &mut self,
        now: i64,
        id: &str,
        member: &str,
        join: &Join<'_>,
    ) -> Result<(), Refused> {
        let request = join.request;
        let (groups, env) = self.split(now);
        let Some(Group::Consumer(group)) = groups.get_mut(id) else {
            return Err(plain(ErrorCode::UnknownMemberId));
        };
        group.refuse_if_full(&env, member)?;
        if !group.supports(&request.protocol_type, join) {
            return Err(plain(ErrorCode::InconsistentGroupProtocol));
        }
        let instance = request.group_instance_id.as_deref();
        let unknown = request.member_id.is_empty();
        if unknown && instance.is_none() && join.context.api_version >= MEMBER_ID_REQUIRED {
            return Err(plain(ErrorCode::MemberIdRequired));
        }
        let subscription = join.protocols.first().and_then(|(_, metadata)| subscription::read(metadata).ok());
        let subscription = subscription.ok_or_else(|| plain(ErrorCode::UnknownServerError))?;
        let mut records = Vec::new();
        let before = match instance {
            None => group.members.get(member).cloned().unwrap_or_else(|| ConsumerMember::new(member)),
            Some(instance) if unknown => group.joining_static_member(member, instance, true, &mut records)?,
            Some(_) => group.find(member, instance).map_err(plain)?.clone(),
        };
        let downgrade = group.may_downgrade_for(&env, instance);
        let updated = updated(&before, join, &subscription);
        if updated.value != before.value || !group.members.contains_key(&before.id) {
            records.push(records::member(id, &updated));
        }
        let bump = updated.value.topics != before.value.topics;
        let mut epoch = group.epoch;
        if bump || group.has_stale_metadata(now) {
            epoch = group.update_epoch(&env, bump, &updated, &mut records);
        }
        let owned = ids(env.topics, &subscription.owned);
        let next = if downgrade {
            let (target_epoch, target) = (group.assignment_epoch, group.target_of(&updated));
            if bump {
                updated
            } else {
                group.step(&env, &updated, target_epoch, &target, Some(&owned), &mut records)?
            }
        } else {
            let (target_epoch, target) = if epoch > group.assignment_epoch {
                (epoch, group.update_target(&env, epoch, &updated, &mut records))
            } else {
                (group.assignment_epoch, group.target_of(&updated))
            };
            group.step(&env, &updated, target_epoch, &target, Some(&owned), &mut records)?
        };
        if downgrade {
            self.downgrade(now, id, &[], Some((&next, bump)), Removal::Replaced);
        } else {
            self.write(now, records, None);
            let (groups, env) = self.split(now);
            if let Some(Group::Consumer(group)) = groups.get_mut(id) {
                group.timers.joins.remove(&next.id);
                group.heard_of(&env, &next.id, Some(request.session_timeout_ms));
                group.timers.syncs.insert(next.id.clone(), env.after_ms(join.rebalance_timeout()));
            }
        }
        let name = join.protocols.first().map(|(name, _)| text(name));
        let response = JoinGroupResponse::default()
            .with_member_id(text(&next.id))
            .with_generation_id(next.epoch)
            .with_protocol_type((join.context.api_version >= 7).then(|| text(CONSUMER)))
            .with_protocol_name(name);
        self.out.reply(join.token, response.into());
        Ok(())
    }

    /// LeaveGroup of members of the classic protocol, or by an administrator. One result for each.
    pub(crate) fn leave_consumer_group(
        &mut self,
        now: i64,
        id: &str,
        members: &[MemberIdentity],
    ) -> Vec<Result<(), ErrorCode>> {
        let Some(Group::Consumer(group)) = self.groups.get(id) else { return Vec::new() };
        let mut leaving = Vec::new();
        let mut results = Vec::new();
        for member in members {
            let (name, instance) = (member.member_id.as_str(), member.group_instance_id.as_deref());
            let found = match instance {
                Some(instance) if name.is_empty() => {
                    group.static_member(instance).ok_or(ErrorCode::UnknownMemberId)
                }
                instance => group.find(name, instance),
            };
            results.push(found.map(|found| leaving.push(found.id.clone())));
        }
        leaving.sort_unstable();
        leaving.dedup();
        let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
        self.fence_members(now, id, &leaving, Removal::Left);
        results
    }
}

impl ConsumerGroup {
    /// Whether all members of the classic protocol support one of the member's protocols.
    fn supports(&self, protocol_type: &str, join: &Join<'_>) -> bool {
        let classic = || self.members.values().filter_map(|member| member.value.classic.as_ref());
        protocol_type == CONSUMER
            && join.protocols.iter().any(|(name, _)| {
                classic().all(|member| member.protocols.iter().any(|(supported, _)| supported == name))
            })
    }

    /// SyncGroup: what the member has.
    pub(crate) fn sync(
        &mut self,
        env: &Env<'_>,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let member = self.find(&request.member_id, request.group_instance_id.as_deref())?.clone();
        let classic = member.value.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let (name, metadata) = classic.protocols.first().ok_or(ErrorCode::UnknownServerError)?;
        if request.protocol_type.as_deref().is_some_and(|asked| asked != CONSUMER)
            || request.protocol_name.as_deref().is_some_and(|asked| asked != name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            self.expect_join(env, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.timers.syncs.remove(&member.id);
        self.heard_of(env, &member.id, Some(classic.session_timeout));
        let version = subscription::read(metadata).map_or(0, |read| read.version);
        let assigned = names(env.topics, &member.assigned);
        see_assignment(env.observed, &self.id, &member.id, member.epoch, &assigned);
        Ok(SyncGroupResponse::default()
            .with_protocol_type(request.protocol_type.clone())
            .with_protocol_name(request.protocol_name.clone())
            .with_assignment(subscription::assignment(version, &assigned)))
    }

    /// Heartbeat: the member is asked to join again when there is a next step for it.
    pub(crate) fn classic_heartbeat(
        &mut self,
        env: &Env<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        let member = self.find(&request.member_id, request.group_instance_id.as_deref())?.clone();
        let classic = member.value.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.heard_of(env, &member.id, Some(classic.session_timeout));
        let waits = || {
            let missing =
                self.target.get(&member.id).into_iter().flatten().flat_map(|(topic, partitions)| {
                    partitions.iter().map(move |partition| (*topic, *partition))
                });
            missing
                .filter(|(topic, partition)| {
                    !super::reconcile::contains(&member.assigned, *topic, *partition)
                })
                .any(|(topic, partition)| self.is_owned(topic, partition))
        };
        if member.epoch < self.epoch
            || member.state == MemberState::UnrevokedPartitions
            || (member.state == MemberState::UnreleasedPartitions && !waits())
        {
            self.expect_join(env, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The member has to join again within its rebalance timeout.
    fn expect_join(&mut self, env: &Env<'_>, member: &ConsumerMember) {
        let at = env.after_ms(member.value.rebalance_timeout);
        self.timers.joins.entry(member.id.clone()).or_insert(at);
    }
}

fn updated(before: &ConsumerMember, join: &Join<'_>, subscription: &Subscription) -> ConsumerMember {
    let mut updated = before.clone();
    let value = &mut updated.value;
    if let Some(instance) = join.request.group_instance_id.as_deref() {
        value.instance_id = Some(instance.to_owned());
    }
    if let Some(rack) = &subscription.rack {
        value.rack_id = Some(rack.clone());
    }
    if join.rebalance_timeout() != -1 {
        value.rebalance_timeout = join.rebalance_timeout();
    }
    value.topics.clone_from(&subscription.topics);
    value.client_id.clone_from(&join.context.client_id);
    value.client_host.clone_from(&join.context.client_host);
    value.classic = Some(ClassicMetadata {
        session_timeout: join.request.session_timeout_ms,
        protocols: join.protocols.clone(),
    });
    updated
}
