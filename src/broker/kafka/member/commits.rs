//! The durable positions of a member's partitions, and which of them its group has.
//!
//! Positions are committed for lag dashboards only. The group has each of them some time after the last record: what it does
//! not accept is committed again, and so is what it has accepted in another order than it was sent. (librdkafka repeats a
//! commit after `NOT_COORDINATOR`, and the final positions of a partition do not wait for a commit in flight.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two commits.
pub(super) const COMMIT_INTERVAL: Duration = Duration::from_secs(2);

/// The positions of partitions that this member owns.
#[derive(Debug)]
pub(super) struct Commits {
    /// Durable positions that the group does not have yet.
    uncommitted: BTreeMap<i32, i64>,
    /// The greatest position of each partition that the group has accepted.
    accepted: BTreeMap<i32, i64>,
    in_flight: usize,
    due_at: Instant,
}

impl Commits {
    /// No position, and a commit may be sent from now on.
    pub(super) fn new(now: Instant) -> Self {
        Self { uncommitted: BTreeMap::new(), accepted: BTreeMap::new(), in_flight: 0, due_at: now }
    }

    /// The position of a partition is durable.
    pub(super) fn report(&mut self, partition: i32, next_offset: i64) {
        self.uncommitted.insert(partition, next_offset);
    }

    /// A partition is no longer owned.
    pub(super) fn forget(&mut self, partition: i32) {
        self.uncommitted.remove(&partition);
        self.accepted.remove(&partition);
    }

    /// The membership has ended: nothing is owned, and no result of a commit follows.
    pub(super) fn clear(&mut self) {
        self.uncommitted.clear();
        self.accepted.clear();
        self.in_flight = 0;
    }

    /// Returns true if the next commit is due, and schedules the one after it. One commit is in flight at a time.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.due_at && self.in_flight == 0;
        if due {
            self.due_at = now + COMMIT_INTERVAL;
        }
        due
    }

    /// What the group does not have yet, of the owned partitions.
    pub(super) fn positions(&mut self, is_owned: impl Fn(i32) -> bool) -> Vec<(i32, i64)> {
        // A worker may report a position after it has lost the partition.
        self.uncommitted.retain(|partition, _| is_owned(*partition));
        self.uncommitted.iter().map(|(partition, offset)| (*partition, *offset)).collect()
    }

    /// A commit is in flight.
    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// A commit has ended. The group has accepted these positions.
    pub(super) fn ended(&mut self, accepted: &[(i32, i64)]) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for (partition, offset) in accepted {
            let greatest = self.accepted.entry(*partition).or_insert(*offset);
            if *offset < *greatest {
                // An older commit was accepted last.
                self.uncommitted.entry(*partition).or_insert(*greatest);
            } else {
                *greatest = *offset;
                if self.uncommitted.get(partition).is_some_and(|durable| durable <= offset) {
                    self.uncommitted.remove(partition);
                }
            }
        }
    }

    /// The commits in flight.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(durable: &[(i32, i64)]) -> Commits {
        let mut commits = Commits::new(Instant::now());
        durable.iter().for_each(|(partition, offset)| commits.report(*partition, *offset));
        commits
    }

    #[test]
    fn what_the_group_has_not_accepted_is_committed_again() {
        let mut commits = commits(&[(0, 7), (1, 3)]);
        commits.sent();
        commits.report(1, 4);
        commits.ended(&[(0, 7), (1, 3)]);
        assert_eq!(commits.positions(|_| true), [(1, 4)]);
        commits.sent();
        commits.ended(&[]);
        assert_eq!(commits.positions(|_| true), [(1, 4)]);
    }

    #[test]
    fn a_position_is_committed_again_if_an_older_one_was_accepted_last() {
        let mut commits = commits(&[(0, 5), (1, 2)]);
        commits.sent();
        commits.report(0, 7);
        commits.sent();
        commits.ended(&[(0, 7), (1, 2)]);
        assert_eq!(commits.positions(|_| true), []);
        commits.ended(&[(0, 5), (1, 2)]);
        assert_eq!(commits.positions(|_| true), [(0, 7)]);
        // What became durable since then is newer.
        commits.report(0, 9);
        commits.ended(&[(0, 5)]);
        assert_eq!(commits.positions(|_| true), [(0, 9)]);
    }

    #[test]
    fn positions_of_a_partition_that_is_no_longer_owned_are_not_committed() {
        let mut commits = commits(&[(0, 7), (1, 3)]);
        assert_eq!(commits.positions(|partition| partition == 1), [(1, 3)]);
        commits.ended(&[(1, 3)]);
        commits.forget(1);
        // Another worker may have committed more or less meanwhile.
        commits.report(1, 2);
        commits.ended(&[(1, 2)]);
        assert_eq!(commits.positions(|_| true), []);
    }

    #[test]
    fn one_commit_is_in_flight_at_a_time() {
        let mut commits = commits(&[(0, 7)]);
        let now = Instant::now();
        assert!(commits.due(now));
        commits.sent();
        assert!(!commits.due(now + COMMIT_INTERVAL));
        commits.ended(&[]);
        assert!(commits.due(now + COMMIT_INTERVAL) && !commits.due(now + COMMIT_INTERVAL));
        commits.sent();
        commits.clear();
        assert!(commits.due(now + 2 * COMMIT_INTERVAL), "no result follows");
    }
}
