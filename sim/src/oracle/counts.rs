//! Counts: every count that a worker writes, and every count that a replica has, is that of the partition's log up to its
//! `through_offset`.

use exactlyonce::store::{Count, WindowKey};

use crate::oracle::cell::{Cell, Seen, Value};
use crate::oracle::truth::Truth;
use crate::oracle::{Difference, Violation};

fn violation(truth: &Truth, partition: i32, window: &WindowKey, found: Count) -> Option<Violation> {
    let expected = truth.count_below(partition, window, found.through_offset.saturating_add(1));
    let is_right = expected == Some(found);
    (!is_right).then(|| Violation::WrongCount(partition, window.into(), Difference::of(&found, &expected)))
}

/// The counts that a worker is about to write.
pub(crate) fn before(truth: &Truth, partition: i32, counts: &[(WindowKey, Count)]) -> Vec<Violation> {
    counts.iter().filter_map(|(window, count)| violation(truth, partition, window, *count)).collect()
}

/// What replicas have of a cell, if it is a count.
pub(crate) fn seen(truth: &Truth, cell: &Cell, seen: &[Seen]) -> Vec<Violation> {
    let Cell::Count(partition, window) = cell else { return Vec::new() };
    let wrong = |seen: &Seen| match seen {
        Seen::Value(Value::Count(count)) => violation(truth, *partition, window, *count),
        _ => None,
    };
    seen.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::truth::tests::{binding, event, window};

    #[test]
    fn a_count_that_is_not_that_of_the_log_up_to_its_offset_is_a_violation() {
        let mut truth = Truth::new(binding());
        [(3, 1), (5, 2), (6, 100)].into_iter().for_each(|(offset, ts)| truth.add(event(0, offset, ts)));
        let is_wrong = |count, through_offset| {
            let counts = [(window(10), Count { count, through_offset })];
            let cell = Cell::Count(0, window(10));
            let written = before(&truth, 0, &counts);
            assert_eq!(seen(&truth, &cell, &[Seen::Down, Seen::Value(Value::Count(counts[0].1))]), written);
            !written.is_empty()
        };
        assert!(!is_wrong(1, 3) && !is_wrong(2, 5));
        // One of two writes' columns each, too many, of another event, of a later offset.
        assert!(is_wrong(2, 3) && is_wrong(1, 5) && is_wrong(3, 5) && is_wrong(2, 4) && is_wrong(2, 6));
    }
}
