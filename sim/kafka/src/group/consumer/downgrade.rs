//! From `consumer` back to the classic protocol: the last member with the new protocol leaves.

use super::upgrade::names;
use super::{ConsumerGroup, ConsumerMember};
use crate::cluster::observe::Removal;
use crate::coordinator::Record;
use crate::group::classic::{CONSUMER, ClassicGroup, Member, State};
use crate::group::env::Env;
use crate::group::{Group, GroupShard, subscription};

impl ConsumerGroup {
    /// Whether only members of the classic protocol are left without these, and the group may become a classic one.
    pub(super) fn may_downgrade(&self, env: &Env<'_>, without: &[&str]) -> bool {
        let left = || self.members.values().filter(|member| !without.contains(&member.id.as_str()));
        left().all(ConsumerMember::is_classic)
            && self.members.values().any(|member| !member.is_classic())
            && self.may_become_classic(env, left().count())
    }

    /// Whether a static member that joins with the classic protocol takes the place of the last one with the new one.
    pub(super) fn may_downgrade_for(&self, env: &Env<'_>, instance: Option<&str>) -> bool {
        let Some(replaced) = instance.and_then(|instance| self.static_member(instance)) else { return false };
        let others = || self.members.values().filter(|member| member.id != replaced.id);
        !replaced.is_classic()
            && others().all(ConsumerMember::is_classic)
            && self.may_become_classic(env, self.members.len())
    }

    fn may_become_classic(&self, env: &Env<'_>, members: usize) -> bool {
        env.config.consumer_migration_policy.downgrades() && members > 0 && members <= env.config.max_size
    }

    /// The same group in the classic protocol: stable, with the target as assignment.
    fn to_classic(&self, env: &Env<'_>, without: &[&str], joining: Option<&ConsumerMember>) -> ClassicGroup {
        let mut group = ClassicGroup::new(&self.id, Some(env.now));
        group.generation = self.epoch;
        group.consumer_timers = self.timers.left();
        let replaced = joining.and_then(|member| member.instance());
        let stays = |member: &&ConsumerMember| {
            !without.contains(&member.id.as_str()) && (replaced.is_none() || member.instance() != replaced)
        };
        for member in self.members.values().filter(stays).chain(joining) {
            let Some(classic) = &member.value.classic else { continue };
            let target = names(env.topics, &self.target_of(member));
            let version =
                classic.protocols.first().and_then(|(_, metadata)| subscription::read(metadata).ok());
            group.add(Member {
                id: member.id.clone(),
                instance_id: member.value.instance_id.clone(),
                client_id: member.value.client_id.clone(),
                client_host: member.value.client_host.clone(),
                rebalance_timeout: member.value.rebalance_timeout,
                session_timeout: classic.session_timeout,
                protocol_type: CONSUMER.to_owned(),
                protocols: classic.protocols.clone(),
                assignment: subscription::assignment(version.map_or(0, |read| read.version), &target),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                expires: Some(env.after_ms(classic.session_timeout)),
            });
        }
        group.state = State::Stable;
        group.protocol = group.select_protocol();
        group.subscribed = group.subscribed_topics();
        group
    }
}

impl GroupShard {
    /// Makes a group a classic one, without these members, or with a static member that takes the place of another
    /// (whose subscription has changed or not). Members that are not in it any more are removed for this reason.
    pub(super) fn downgrade(
        &mut self,
        now: i64,
        id: &str,
        without: &[&str],
        joining: Option<(&ConsumerMember, bool)>,
        why: Removal,
    ) {
        let (groups, mut env) = self.split(now);
        let Some(Group::Consumer(group)) = groups.get(id) else { return };
        let mut records: Vec<Record> = group.tombstones();
        let mut classic = group.to_classic(&env, without, joining.map(|(member, _)| member));
        records.push(classic.record(|member| member.assignment.clone()));
        env.write(records);
        for gone in group.members.keys().filter(|id| !classic.members.contains_key(*id)) {
            classic.see_removed(&env, gone, why);
        }
        for new in classic.members.values().filter(|member| !group.members.contains_key(&member.id)) {
            classic.see_joined(&env, new);
        }
        classic.see_state(&env);
        if joining.is_none_or(|(_, changed)| changed) {
            classic.prepare_rebalance(&mut env);
        }
        groups.insert(id.to_owned(), Group::Classic(classic));
    }
}
