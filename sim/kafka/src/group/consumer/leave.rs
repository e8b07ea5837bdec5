//! Members that leave, and members that are fenced.

use super::heartbeat::{Refused, refused};
use super::member::LEAVE_STATIC;
use super::{ConsumerGroup, ConsumerMember, Partitions, records};
use crate::cluster::observe::Removal;
use crate::coordinator::Record;
use crate::error::ErrorCode;
use crate::group::env::{Env, text};
use crate::group::{Group, GroupShard};
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

impl GroupShard {
    /// A member says that it leaves, or that it leaves for now.
    pub(super) fn consumer_leave(
        &mut self,
        now: i64,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
        let (id, member) = (request.group_id.as_str(), request.member_id.as_str());
        let Some(Group::Consumer(group)) = self.groups.get(id) else {
            return refused(ErrorCode::GroupIdNotFound, format!("Group {id} not found."));
        };
        let found = match request.instance_id.as_deref() {
            None => group.members.get(member).map(|found| found.id.clone()),
            Some(instance) => {
                let found = group.static_member(instance);
                if found.is_some_and(|found| found.id != member) {
                    let why = format!("Static member {member} with instance id {instance} was fenced.");
                    return refused(ErrorCode::FencedInstanceId, why);
                }
                found.map(|found| found.id.clone())
            }
        };
        let Some(found) = found else {
            let why = format!("Member {member} is not a member of group {id}.");
            return refused(ErrorCode::UnknownMemberId, why);
        };
        if request.instance_id.is_some() && request.member_epoch == LEAVE_STATIC {
            let records = group.members.get(&found).map(|member| group.left_for_now(member));
            self.write(now, records.into_iter().collect(), None);
        } else {
            self.fence_members(now, id, &[&found], Removal::Left);
        }
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(member)))
            .with_member_epoch(request.member_epoch))
    }

    /// Removes members, and begins a new epoch. If only members of the classic protocol are left, the group becomes
    /// a classic one.
    pub(super) fn fence_members(&mut self, now: i64, id: &str, members: &[&str], why: Removal) {
        if members.is_empty() {
            return;
        }
        let (groups, env) = self.split(now);
        let Some(Group::Consumer(group)) = groups.get_mut(id) else { return };
        if group.may_downgrade(&env, members) {
            self.downgrade(now, id, members, None, why);
            return;
        }
        let mut records: Vec<Record> = members.iter().flat_map(|member| group.removal(member)).collect();
        records.extend(group.unused_regexes(members));
        let hash = group.hash_without(&env, members);
        records.push(records::metadata(id, group.epoch.wrapping_add(1), hash));
        members.iter().for_each(|member| group.timers.cancel(member));
        self.write_without(now, records, None, why);
    }

    /// Fences members whose time is over.
    pub(crate) fn tick_consumer(&mut self, now: i64, id: &str) {
        while let Some(Group::Consumer(group)) = self.groups.get_mut(id) {
            let Some((member, why)) = group.overdue(now) else { return };
            group.timers.cancel(&member);
            if group.members.contains_key(&member) {
                self.fence_members(now, id, &[&member], why);
            }
        }
    }
}

impl ConsumerGroup {
    /// The record of a static member that left for now: it keeps what it has, but for what it had to give up.
    fn left_for_now(&self, member: &ConsumerMember) -> Record {
        let left =
            ConsumerMember { epoch: LEAVE_STATIC, pending_revocation: Partitions::new(), ..member.clone() };
        records::current(&self.id, &left)
    }

    /// A member whose session, or time to join, to ask for its assignment or to give up partitions is over, and which.
    fn overdue(&mut self, now: i64) -> Option<(String, Removal)> {
        let timers = &mut self.timers;
        let due = |timers: &std::collections::BTreeMap<String, i64>| {
            timers.iter().find(|(_, at)| **at <= now).map(|(id, _)| id.clone())
        };
        if let Some(id) = due(&timers.sessions) {
            return Some((id, Removal::SessionExpired));
        }
        if let Some(id) = due(&timers.joins).or_else(|| due(&timers.syncs)) {
            return Some((id, Removal::RebalanceTimeout));
        }
        // One that has left the epoch in time is not fenced.
        let members = &self.members;
        let is_late = |id: &String, epoch: i32| members.get(id).is_some_and(|member| member.epoch == epoch);
        timers.rebalances.retain(|id, (at, epoch)| *at > now || is_late(id, *epoch));
        let late = timers.rebalances.iter().find(|(_, (at, _))| *at <= now);
        late.map(|(id, _)| (id.clone(), Removal::RebalanceTimeout))
    }

    /// Begins sessions, after the group was loaded.
    pub(crate) fn loaded(&mut self, env: &Env<'_>) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.heard_of(env, &id, None);
            if let Some(member) =
                self.members.get(&id).filter(|member| member.state == super::MemberState::UnrevokedPartitions)
            {
                let at = env.after_ms(member.value.rebalance_timeout);
                self.timers.rebalances.insert(id, (at, member.epoch));
            }
        }
    }
}
