//! The group of the workers: what each process of a worker holds, as its consumer has said it, and what the coordinator does with
//! the same partitions and members meanwhile.
//!
//! A partition that a worker must release is given to no other before it has. The coordinator may give it on earlier only if
//! it has removed the member. A consumer that finds out by itself that it has lost its partitions says `Lost`, never `Revoked`.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::Violation;
use crate::parties::Caller;

/// The processes of workers as members of their group.
#[derive(Default)]
pub(crate) struct Members {
    /// The processes whose consumer exists.
    joined: BTreeSet<Caller>,
    /// What the consumer of each process has said to be assigned, and not to be lost.
    assigned: BTreeSet<(i32, Caller)>,
    /// What each process holds. Nothing of a member that the coordinator has removed since.
    holds: BTreeMap<(i32, Caller), Hold>,
    /// What a process has said that it has, when it said so together with everything else the last time, and what it was given
    /// since.
    owned: BTreeMap<Caller, BTreeSet<i32>>,
    /// The processes that were paused or held since they joined: they may not have polled in time.
    stood_still: BTreeSet<Caller>,
    /// By partition, the last position that the coordinator has accepted.
    committed: BTreeMap<i32, i64>,
}

/// A partition of a process, from its assignment until it is released or lost.
#[derive(Default)]
struct Hold {
    is_revoked: bool,
    /// The worker that the coordinator has given it to.
    given_to: Option<u8>,
}

impl Members {
    /// A process has a consumer.
    pub fn joins(&mut self, caller: Caller) {
        self.joined.insert(caller);
        self.stood_still.remove(&caller);
    }

    /// A worker is paused or held.
    pub fn stands_still(&mut self, worker: u8) {
        let of_worker = self.joined.iter().filter(|caller| caller.worker == Some(worker));
        self.stood_still.extend(of_worker);
    }

    /// Its consumer leaves, or is no more.
    pub fn ends(&mut self, caller: Caller) {
        self.joined.remove(&caller);
        self.owned.remove(&caller);
        self.assigned.retain(|(_, process)| *process != caller);
        self.removed(caller);
    }

    /// A worker whose consumer exists, but is none of these members of the group.
    pub fn outside(&self, members: &BTreeSet<Caller>) -> Option<u8> {
        self.joined.difference(members).find_map(|caller| caller.worker)
    }

    /// Its consumer has said that these partitions are assigned.
    pub fn assigned(&mut self, caller: Caller, partitions: &[i32]) {
        self.assigned.extend(partitions.iter().map(|partition| (*partition, caller)));
        let holds = partitions.iter().map(|partition| ((*partition, caller), Hold::default()));
        self.holds.extend(holds);
    }

    /// Its consumer asks it to release these partitions.
    pub fn revoked(&mut self, caller: Caller, partitions: &[i32]) {
        for partition in partitions {
            if let Some(hold) = self.holds.get_mut(&(*partition, caller)) {
                hold.is_revoked = true;
            }
        }
    }

    /// Its consumer has said that these partitions are lost.
    pub fn lost(&mut self, caller: Caller, partitions: &[i32]) {
        for partition in partitions {
            self.assigned.remove(&(*partition, caller));
            self.holds.remove(&(*partition, caller));
        }
    }

    /// It releases a partition. The violation if that was revoked, and another worker has got it already. A process that was paused
    /// or held may have been about to learn that it has lost the partition.
    pub fn released(&mut self, caller: Caller, partition: i32) -> Option<Violation> {
        self.assigned.remove(&(partition, caller));
        let Hold { is_revoked, given_to } = self.holds.remove(&(partition, caller))?;
        let is_early = is_revoked && !self.stood_still.contains(&caller);
        let (worker, to) = (caller.worker?, given_to.filter(|_| is_early)?);
        Some(Violation::GivenBeforeRelease { worker, partition, to })
    }

    /// A process says all that it has. After a request that failed, librdkafka 2.12 repeats everything, with what it
    /// had before the assignment that it is taking: the coordinator understands that it has given back the others
    /// (`rd_kafka_cgrp_consumer_group_heartbeat`). That is no doing of the worker.
    pub fn owns(&mut self, caller: Caller, partitions: BTreeSet<i32>) {
        self.owned.insert(caller, partitions);
    }

    /// The coordinator gives a process these partitions.
    pub fn given(&mut self, caller: Caller, partitions: &BTreeSet<i32>) {
        for ((partition, holder), hold) in &mut self.holds {
            let is_denied = self.owned.get(holder).is_some_and(|owned| !owned.contains(partition));
            if *holder != caller && partitions.contains(partition) && !is_denied {
                hold.given_to = caller.worker;
            }
        }
        if let Some(owned) = self.owned.get_mut(&caller) {
            owned.extend(partitions);
        }
    }

    /// The coordinator has removed a process from the group: it may give on all that it held.
    pub fn removed(&mut self, caller: Caller) {
        self.holds.retain(|(_, holder), _| *holder != caller);
    }

    /// A process has left the group. The violation if its consumer still exists, and has always run: it has not polled in time.
    /// A consumer may leave that has reported all partitions as lost, because it is about to begin another membership.
    pub fn left(&mut self, caller: Caller) -> Option<Violation> {
        self.removed(caller);
        let worker = caller.worker?;
        let has_run = self.joined.contains(&caller) && !self.stood_still.contains(&caller);
        let has_any = self.assigned.iter().any(|(_, process)| *process == caller);
        (has_run && has_any).then_some(Violation::LeftUnasked { worker })
    }

    /// A coordinator begins, and may know less than the one before.
    pub fn reloaded(&mut self) {
        self.holds.clear();
    }

    /// The coordinator has accepted a position. It may be less than the one before: a commit that librdkafka repeats may arrive
    /// after a later one.
    pub fn committed(&mut self, partition: i32, offset: i64) {
        self.committed.insert(partition, offset);
    }

    /// The first of these positions that the coordinator does not have.
    pub fn behind<'a>(&self, durable: impl IntoIterator<Item = (&'a i32, &'a i64)>) -> Option<Violation> {
        durable.into_iter().find_map(|(partition, durable)| {
            let committed = self.committed.get(partition).copied();
            let is_behind = committed.is_none_or(|committed| committed < *durable);
            is_behind.then_some(Violation::CommittedBehind {
                partition: *partition,
                committed,
                durable: *durable,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Caller = Caller { worker: Some(0), life: 3 };
    const B: Caller = Caller { worker: Some(1), life: 0 };

    fn holding() -> Members {
        let mut members = Members::default();
        members.joins(A);
        members.joins(B);
        members.assigned(A, &[4, 5]);
        members.assigned(B, &[6]);
        members
    }

    #[test]
    fn a_partition_that_another_worker_gets_before_its_release_is_a_violation() {
        let mut members = holding();
        members.revoked(A, &[4, 5]);
        members.given(B, &BTreeSet::from([5, 6]));
        assert_eq!(members.released(A, 4), None, "nobody else has it");
        let expected = Violation::GivenBeforeRelease { worker: 0, partition: 5, to: 1 };
        assert_eq!(members.released(A, 5), Some(expected));
        assert_eq!(members.released(B, 6), None, "it is given to its holder");
    }

    #[test]
    fn a_process_that_was_paused_may_release_a_partition_that_it_has_lost() {
        let mut members = holding();
        members.revoked(A, &[4]);
        members.stands_still(0);
        members.given(B, &BTreeSet::from([4]));
        assert_eq!(members.released(A, 4), None);
    }

    #[test]
    fn a_worker_with_a_consumer_is_outside_its_group_while_it_is_no_member() {
        let mut members = Members::default();
        assert_eq!(members.outside(&BTreeSet::new()), None);
        members.joins(A);
        members.joins(B);
        assert_eq!(members.outside(&[A].into()), B.worker);
        assert_eq!(members.outside(&[A, B].into()), None);
        members.ends(B);
        assert_eq!(members.outside(&[A].into()), None);
    }

    #[test]
    fn the_order_of_revocation_and_gift_does_not_matter() {
        let mut members = holding();
        members.given(B, &BTreeSet::from([4]));
        members.revoked(A, &[4]);
        assert!(members.released(A, 4).is_some());
    }

    #[test]
    fn what_is_lost_or_of_a_removed_member_may_be_given_on() {
        let mut members = holding();
        members.revoked(A, &[4, 5]);
        members.given(B, &BTreeSet::from([4]));
        members.lost(A, &[4]);
        assert_eq!(members.released(A, 4), None);
        members.removed(A);
        members.given(B, &BTreeSet::from([5]));
        assert_eq!(members.released(A, 5), None);
    }

    #[test]
    fn what_a_client_denies_to_have_when_it_repeats_everything_may_be_given_on() {
        let mut members = holding();
        members.revoked(A, &[4, 5]);
        members.owns(A, BTreeSet::from([4]));
        members.given(B, &BTreeSet::from([4, 5]));
        assert_eq!(members.released(A, 5), None);
        assert!(members.released(A, 4).is_some());
        // An older message may arrive later.
        members.assigned(A, &[5]);
        members.revoked(A, &[5]);
        members.given(B, &BTreeSet::from([5]));
        assert_eq!(members.released(A, 5), None);
        members.given(A, &BTreeSet::from([5]));
        members.assigned(A, &[5]);
        members.revoked(A, &[5]);
        members.given(B, &BTreeSet::from([5]));
        assert!(members.released(A, 5).is_some(), "it was given it after that");
    }

    #[test]
    fn a_member_that_leaves_although_its_consumer_exists_is_a_violation() {
        let mut members = holding();
        assert_eq!(members.left(A), Some(Violation::LeftUnasked { worker: 0 }));
        members.ends(B);
        assert_eq!(members.left(B), None);
    }

    #[test]
    fn a_member_that_has_reported_all_partitions_as_lost_may_leave() {
        let mut members = holding();
        members.lost(A, &[4]);
        assert!(members.left(A).is_some());
        members.lost(A, &[5]);
        assert_eq!(members.left(A), None);
        members.assigned(A, &[4]);
        assert!(members.left(A).is_some(), "it has a partition again");
    }

    #[test]
    fn a_member_that_was_paused_since_it_joined_may_leave() {
        let mut members = holding();
        members.stands_still(0);
        assert_eq!(members.left(A), None);
        assert!(members.left(B).is_some());
        members.joins(A);
        assert!(members.left(A).is_some());
    }

    #[test]
    fn a_committed_position_reaches_progress() {
        let mut members = Members::default();
        members.committed(0, 7);
        members.committed(1, 3);
        assert_eq!(members.behind(&BTreeMap::from([(0, 7), (1, 2)])), None);
        let behind =
            |partition, committed, durable| Violation::CommittedBehind { partition, committed, durable };
        let found = members.behind(&BTreeMap::from([(0, 7), (1, 4)]));
        assert_eq!(found, Some(behind(1, Some(3), 4)));
        assert_eq!(members.behind(&BTreeMap::from([(2, 1)])), Some(behind(2, None, 1)));
    }
}
