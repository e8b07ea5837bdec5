//! Deliveries: the broker delivers each record as it was appended, and passes over none; and a worker writes rows only of records
//! that were delivered to its current assignment of the partition, not of what an older one fetched.

use std::collections::{BTreeMap, BTreeSet};

use exactlyonce::broker::Assignment;
use exactlyonce::event::Record;

use crate::oracle::memory::Limit;
use crate::oracle::truth::Truth;
use crate::oracle::{Position, Violation};

/// The records that differ from what was appended.
pub(crate) fn changed(truth: &Truth, records: &[Record]) -> Vec<Violation> {
    let is_changed = |record: &&Record| {
        let appended = truth.record(record.partition, record.offset);
        appended.is_none_or(|(appended, _)| appended != *record)
    };
    let position = |record: &Record| Position { partition: record.partition, offset: record.offset };
    let records = records.iter().filter(|record| record.offset >= truth.binding().origin(record.partition));
    records.filter(is_changed).map(|record| Violation::LogChanged(position(record))).collect()
}

/// What was delivered to a process of a worker.
#[derive(Default)]
pub(crate) struct Delivered {
    current: BTreeMap<i32, ToAssignment>,
}

/// What was delivered to an assignment.
struct ToAssignment {
    assignment: Assignment,
    /// What was delivered goes up to this offset.
    next: i64,
    offsets: BTreeSet<i64>,
    /// The bytes of those whose rows are not acknowledged.
    unacknowledged: BTreeMap<i64, usize>,
    /// When these were more than the limit for the first time: the newest record, and the bytes that waited.
    exceeded: Option<(i64, usize)>,
}

impl Delivered {
    /// A new assignment begins, at an offset.
    pub fn start(&mut self, assignment: Assignment, next: i64) {
        let (offsets, unacknowledged) = Default::default();
        let to = ToAssignment { assignment, next, offsets, unacknowledged, exceeded: None };
        self.current.insert(assignment.partition, to);
    }

    /// These records are delivered to an assignment, and everything goes up to `next`. The first record of the log that is
    /// passed over.
    pub fn passes_over(
        &mut self,
        truth: &Truth,
        to: Assignment,
        records: &[Record],
        next: i64,
    ) -> Option<Position> {
        let current = self.current.get_mut(&to.partition).filter(|current| current.assignment == to)?;
        let from = current.next;
        current.next = next.max(from);
        let delivered: BTreeSet<i64> = records.iter().map(|record| record.offset).collect();
        let mut log = truth.rows(to.partition, from, next).map(|(offset, _)| offset);
        let offset = log.find(|offset| !delivered.contains(offset))?;
        Some(Position { partition: to.partition, offset })
    }

    /// The current assignment of a partition.
    pub fn current(&self, partition: i32) -> Option<Assignment> {
        self.current.get(&partition).map(|current| current.assignment)
    }

    /// Records are delivered to an assignment, current or not. It should hold no more of them than `limit`.
    pub fn records(&mut self, to: Assignment, records: &[Record], limit: &Limit) {
        if let Some(current) = self.current.get_mut(&to.partition)
            && current.assignment == to
        {
            current.offsets.extend(records.iter().map(|record| record.offset));
            current.unacknowledged.extend(records.iter().map(|record| (record.offset, record.len())));
            let bytes = limit.exceeded(current.unacknowledged.values().copied());
            if let (Some(newest), Some(bytes)) = (records.last(), bytes) {
                current.exceeded.get_or_insert((newest.offset, bytes));
            }
        }
    }

    /// The rows at these offsets are acknowledged.
    pub fn written(&mut self, partition: i32, offsets: impl IntoIterator<Item = i64>) {
        if let Some(current) = self.current.get_mut(&partition) {
            for offset in offsets {
                current.unacknowledged.remove(&offset);
            }
        }
    }

    /// The first of these offsets that was not delivered to the current assignment.
    pub fn stale(&self, partition: i32, offsets: impl IntoIterator<Item = i64>) -> Option<i64> {
        let current = self.current.get(&partition)?;
        offsets.into_iter().find(|offset| !current.offsets.contains(offset))
    }

    /// How many bytes of records waited in the inbox, once, if that was more than the limit. A worker that is about to end
    /// drops what is still delivered to it; so it held them only if it writes the rows of the newest of them.
    pub fn held(&mut self, partition: i32, writes: impl IntoIterator<Item = i64>) -> Option<usize> {
        let exceeded = &mut self.current.get_mut(&partition)?.exceeded;
        let (newest, _) = (*exceeded)?;
        writes.into_iter().any(|offset| offset >= newest).then(|| exceeded.take())?.map(|(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::memory::tests::limit;
    use crate::oracle::truth::tests::{binding, event};

    #[test]
    fn a_record_that_is_not_what_was_appended_is_a_violation() {
        let mut truth = Truth::new(binding());
        [3, 4].into_iter().for_each(|offset| truth.add(event(0, offset, 1)));
        assert!(changed(&truth, &[event(0, 3, 1), event(0, 4, 1), event(0, 1, 1)]).is_empty());
        let found = changed(&truth, &[event(0, 3, 2), event(0, 5, 1)]);
        let position = |offset| Position { partition: 0, offset };
        assert_eq!(found, [Violation::LogChanged(position(3)), Violation::LogChanged(position(5))]);
    }

    #[test]
    fn a_record_between_what_was_delivered_and_what_is_delivered_next_is_passed_over() {
        let mut truth = Truth::new(binding());
        [3, 4, 7, 8, 9].into_iter().for_each(|offset| truth.add(event(0, offset, 1)));
        let of = |incarnation| Assignment { partition: 0, incarnation };
        let passed = |delivered: &mut Delivered, to, offsets: &[i64], next| {
            let records: Vec<Record> = offsets.iter().map(|offset| event(0, *offset, 1)).collect();
            delivered.passes_over(&truth, to, &records, next).map(|position| position.offset)
        };
        let mut delivered = Delivered::default();
        assert_eq!(passed(&mut delivered, of(1), &[4], 5), None, "nothing has begun");
        delivered.start(of(1), 3);
        assert_eq!(passed(&mut delivered, of(1), &[3, 4], 5), None);
        assert_eq!(passed(&mut delivered, of(1), &[], 7), None, "these offsets have no records");
        assert_eq!(passed(&mut delivered, of(2), &[9], 10), None, "of another assignment");
        assert_eq!(passed(&mut delivered, of(1), &[8], 9), Some(7));
        assert_eq!(passed(&mut delivered, of(1), &[], 10), Some(9), "an end beyond a record");
        assert_eq!(passed(&mut delivered, of(1), &[8], 9), None, "it was delivered before");
    }

    #[test]
    fn records_of_an_older_assignment_are_not_delivered_to_the_current_one() {
        let of = |incarnation| Assignment { partition: 0, incarnation };
        let unlimited = limit(usize::MAX, 0);
        let mut delivered = Delivered::default();
        delivered.start(of(1), 3);
        delivered.records(of(1), &[event(0, 3, 1)], &unlimited);
        assert_eq!(delivered.stale(0, [3]), None);
        assert_eq!(delivered.stale(0, [3, 4]), Some(4));
        delivered.start(of(2), 3);
        delivered.records(of(1), &[event(0, 4, 1)], &unlimited);
        assert_eq!(delivered.stale(0, [4]), Some(4));
        delivered.records(of(2), &[event(0, 4, 1)], &unlimited);
        assert_eq!(delivered.stale(0, [4]), None);
    }

    #[test]
    fn records_beyond_the_limit_are_held_if_their_rows_are_written_later() {
        let of = |incarnation| Assignment { partition: 0, incarnation };
        let limit = limit(1, 0);
        let mut delivered = Delivered::default();
        delivered.start(of(1), 3);
        delivered.records(of(1), &[event(0, 3, 1)], &limit);
        delivered.written(0, [3]);
        delivered.records(of(1), &[event(0, 4, 1)], &limit);
        assert_eq!(delivered.held(0, [4]), None, "one is allowed");
        delivered.records(of(1), &[event(0, 5, 1)], &limit);
        delivered.records(of(1), &[event(0, 6, 1)], &limit);
        assert_eq!(delivered.held(0, [4]), None, "the worker may have dropped the next one");
        assert_eq!(delivered.held(0, [4, 5]), Some(event(0, 5, 1).len() + 96));
        assert_eq!(delivered.held(0, [6]), None, "that was reported");
        delivered.records(of(1), &[event(0, 7, 1)], &limit);
        delivered.start(of(2), 3);
        assert_eq!(delivered.held(0, [7]), None, "what an older assignment held is gone");
    }
}
