//! The registry of partitions: a quorum of replicas has a partition's registration before a worker writes its first count,
//! and after counts are acknowledged, the worker begins to read the registry before its progress passes them.
//!
//! Together they make sums complete: of two workers that count a window, the one whose count is acknowledged later sees the
//! partition of the other one. A run in which one of them does not hold rarely ends with a wrong alert, because that needs
//! two partitions that count the same window at the same moment, and one of them for the first time.

use std::collections::BTreeSet;

use crate::oracle::Violation;
use crate::oracle::cell::{Seen, Value, is_durable};

/// The violation if a worker is about to write counts of a partition that fewer replicas than a quorum have registered.
pub(crate) fn before_counts(partition: i32, seen: Vec<Seen>) -> Option<Violation> {
    let registration = Value::Registry(partition.saturating_add(1));
    (!is_durable(&seen, registration)).then_some(Violation::Unregistered { partition, seen })
}

/// Counts of a partition that a worker has written, and after which it has not begun to read the registry yet: the offsets
/// that they go through.
#[derive(Debug, Default)]
pub(crate) struct Unread(BTreeSet<i64>);

impl Unread {
    /// Counts are acknowledged.
    pub fn written(&mut self, through_offsets: impl Iterator<Item = i64>) {
        self.0.extend(through_offsets);
    }

    /// The worker begins to read the registry.
    pub fn read(&mut self) {
        self.0.clear();
    }

    /// The violation if progress is about to pass such counts.
    pub fn before_progress(&self, partition: i32, next_offset: i64) -> Option<Violation> {
        let through_offset = self.0.first().copied().filter(|offset| *offset < next_offset)?;
        Some(Violation::RegistryNotRead { partition, through_offset, next_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_partition_that_one_of_three_replicas_has_registered_are_a_violation() {
        let seen = |one, other| vec![Seen::Value(Value::Registry(one)), Seen::Nothing, other];
        let registered = seen(3, Seen::Value(Value::Registry(4)));
        assert_eq!(before_counts(2, registered), None);
        assert_eq!(before_counts(2, seen(3, Seen::Down)), None);
        let torn = seen(3, Seen::Value(Value::Registry(2)));
        let expected = Violation::Unregistered { partition: 2, seen: torn.clone() };
        assert_eq!(before_counts(2, torn), Some(expected));
    }

    #[test]
    fn progress_that_passes_counts_after_which_the_registry_was_not_read_is_a_violation() {
        let mut unread = Unread::default();
        unread.written([4, 7].into_iter());
        assert_eq!(unread.before_progress(0, 4), None);
        let expected = Violation::RegistryNotRead { partition: 0, through_offset: 4, next_offset: 5 };
        assert_eq!(unread.before_progress(0, 5), Some(expected));
        unread.read();
        unread.written([9].into_iter());
        assert_eq!(unread.before_progress(0, 9), None);
    }
}
