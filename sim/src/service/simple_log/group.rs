//! The group: its members, and who owns which partition. Plain data; time is passed in.
//!
//! Each ownership has its own epoch, so that a message about an older one is recognised. Every response to a heartbeat
//! lists everything that the member owns; the member computes what changed.

use std::collections::BTreeMap;

use crate::parties::Caller;
use crate::scenario::options::RunOptions;

/// The group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    session_timeout_ms: u64,
    rebalance_timeout_ms: u64,
    partitions: i32,
    members: BTreeMap<u64, Member>,
    owners: BTreeMap<i32, Owner>,
    next_member: u64,
    next_epoch: u64,
    /// Offset of the round-robin assignment.
    rotation: usize,
}

#[derive(Clone, Debug)]
struct Member {
    caller: Caller,
    last_heartbeat_ms: u64,
}

#[derive(Clone, Debug)]
struct Owner {
    member: u64,
    epoch: u64,
    /// Since when the partition is being revoked.
    revoked_ms: Option<u64>,
}

/// A partition of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnedPartition {
    pub partition: i32,
    pub epoch: u64,
    /// The member must release it.
    pub revoked: bool,
}

/// What a timeout changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A member was silent for too long.
    Expired(Caller),
    /// A partition was not released in time.
    TakenAway(i32),
}

impl Group {
    pub fn new(config: &RunOptions) -> Self {
        Self {
            session_timeout_ms: config.session_timeout_ms,
            rebalance_timeout_ms: config.rebalance_timeout_ms,
            partitions: config.partitions.into(),
            members: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_member: 1,
            next_epoch: 1,
            rotation: 0,
        }
    }

    /// The current owner of a partition.
    pub fn owner(&self, partition: i32) -> Option<Caller> {
        Some(self.members.get(&self.owners.get(&partition)?.member)?.caller)
    }

    /// The owners of all partitions, and how many partitions there are.
    pub fn owners(&self) -> (BTreeMap<i32, Caller>, i32) {
        let partitions = 0..self.partitions;
        let owners = partitions.filter_map(|partition| Some((partition, self.owner(partition)?)));
        (owners.collect(), self.partitions)
    }

    pub fn join(&mut self, now_ms: u64, caller: Caller) -> u64 {
        let member = self.next_member;
        self.next_member += 1;
        self.members.insert(member, Member { caller, last_heartbeat_ms: now_ms });
        self.assign(now_ms);
        member
    }

    /// Records a heartbeat and what was released; `None` for an unknown member.
    pub fn heartbeat(
        &mut self,
        now_ms: u64,
        member: u64,
        released: &[(i32, u64)],
    ) -> Option<Vec<OwnedPartition>> {
        self.members.get_mut(&member)?.last_heartbeat_ms = now_ms;
        self.owners.retain(|partition, owner| {
            owner.member != member
                || owner.revoked_ms.is_none()
                || !released.contains(&(*partition, owner.epoch))
        });
        self.assign(now_ms);
        Some(self.owned(member))
    }

    pub fn leave(&mut self, now_ms: u64, member: u64) {
        self.members.remove(&member);
        self.owners.retain(|_, owner| owner.member != member);
        self.assign(now_ms);
    }

    pub fn tick(&mut self, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let timeout = self.session_timeout_ms;
        self.members.retain(|_, member| {
            let alive = now_ms < member.last_heartbeat_ms + timeout;
            if !alive {
                changes.push(Change::Expired(member.caller));
            }
            alive
        });
        let (members, timeout) = (&self.members, self.rebalance_timeout_ms);
        self.owners.retain(|partition, owner| {
            let slow = owner.revoked_ms.is_some_and(|since| now_ms >= since + timeout);
            if slow {
                changes.push(Change::TakenAway(*partition));
            }
            !slow && members.contains_key(&owner.member)
        });
        self.assign(now_ms);
        changes
    }

    /// When a session or a revocation expires, if nothing else happens.
    pub fn next_due_ms(&self) -> Option<u64> {
        let sessions = self.members.values().map(|member| member.last_heartbeat_ms + self.session_timeout_ms);
        let revocations = self.owners.values().filter_map(|owner| owner.revoked_ms);
        sessions.chain(revocations.map(|since| since + self.rebalance_timeout_ms)).min()
    }

    pub fn grow(&mut self, now_ms: u64, partitions: i32) {
        self.partitions = self.partitions.max(partitions);
        self.assign(now_ms);
    }

    /// Assigns the partitions to other members.
    pub fn shuffle(&mut self, now_ms: u64) {
        self.rotation += 1;
        self.assign(now_ms);
    }

    /// Number of partitions being revoked.
    pub fn revoked(&self) -> usize {
        self.owners.values().filter(|owner| owner.revoked_ms.is_some()).count()
    }

    fn owned(&self, member: u64) -> Vec<OwnedPartition> {
        let own = self.owners.iter().filter(|(_, owner)| owner.member == member);
        let share = |(partition, owner): (&i32, &Owner)| OwnedPartition {
            partition: *partition,
            epoch: owner.epoch,
            revoked: owner.revoked_ms.is_some(),
        };
        own.map(share).collect()
    }

    /// Assigns partitions without an owner, and revokes those that another member should own.
    fn assign(&mut self, now_ms: u64) {
        let members: Vec<u64> = self.members.keys().copied().collect();
        if members.is_empty() {
            return;
        }
        for partition in 0..self.partitions {
            let member = members[(partition as usize + self.rotation) % members.len()];
            match self.owners.get_mut(&partition) {
                None => {
                    let epoch = self.next_epoch;
                    self.next_epoch += 1;
                    self.owners.insert(partition, Owner { member, epoch, revoked_ms: None });
                }
                Some(owner) if owner.member != member && owner.revoked_ms.is_none() => {
                    owner.revoked_ms = Some(now_ms);
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    const SESSION_MS: u64 = 100;
    const REBALANCE_MS: u64 = 50;

    fn group(partitions: u8) -> Group {
        let options = RunOptions {
            partitions,
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            ..Draft::new(0, World::Simple, Profile::Standard).options
        };
        Group::new(&options)
    }

    fn caller(worker: u8) -> Caller {
        Caller { worker: Some(worker), life: 0 }
    }

    fn partitions(owned: Option<Vec<OwnedPartition>>) -> Vec<(i32, bool)> {
        owned.unwrap().iter().map(|share| (share.partition, share.revoked)).collect()
    }

    #[test]
    fn a_partition_moves_only_when_its_owner_released_it() {
        let mut group = group(2);
        let first = group.join(0, caller(0));
        assert_eq!(partitions(group.heartbeat(0, first, &[])), [(0, false), (1, false)]);
        let second = group.join(1, caller(1));
        assert_eq!(partitions(group.heartbeat(1, second, &[])), []);
        let owned = group.heartbeat(2, first, &[]).unwrap();
        assert_eq!(partitions(Some(owned.clone())), [(0, false), (1, true)]);
        // Neither a partition that is not revoked nor one of another epoch can be released.
        group.heartbeat(3, first, &[(0, owned[0].epoch), (1, owned[1].epoch + 7)]);
        assert_eq!(partitions(group.heartbeat(3, second, &[])), []);
        assert_eq!(partitions(group.heartbeat(4, first, &[(1, owned[1].epoch)])), [(0, false)]);
        assert_eq!(partitions(group.heartbeat(4, second, &[])), [(1, false)]);
    }

    #[test]
    fn a_member_that_does_not_release_in_time_loses_the_partition() {
        let mut group = group(1);
        let first = group.join(0, caller(0));
        let second = group.join(1, caller(1));
        group.shuffle(10);
        assert_eq!(group.next_due_ms(), Some(10 + REBALANCE_MS));
        assert_eq!(group.tick(10 + REBALANCE_MS - 1), []);
        assert_eq!(group.tick(10 + REBALANCE_MS), [Change::TakenAway(0)]);
        assert_eq!(partitions(group.heartbeat(60, first, &[])), []);
        assert_eq!(partitions(group.heartbeat(60, second, &[])), [(0, false)]);
    }

    #[test]
    fn a_member_that_is_silent_for_too_long_is_removed() {
        let mut group = group(1);
        let first = group.join(0, caller(0));
        let second = group.join(50, caller(1));
        assert_eq!(group.next_due_ms(), Some(SESSION_MS));
        assert_eq!(group.tick(SESSION_MS), [Change::Expired(caller(0))]);
        assert_eq!(group.heartbeat(101, first, &[]), None);
        assert_eq!(partitions(group.heartbeat(101, second, &[])), [(0, false)]);
        assert_eq!(group.owner(0), Some(caller(1)));
    }
}
