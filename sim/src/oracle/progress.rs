//! Progress: when a worker is about to move it past a record, a quorum of replicas has the record's row and its counts, and
//! the alerts of its windows count every event that progress has passed, in whichever partition. That stays so.
//!
//! Of the workers that counted in a window, the one whose count was acknowledged last read the counts of all the others
//! after that, and its alert was acknowledged before its progress moved. So the alert counts at least what progress has
//! passed in all partitions together.

use std::collections::BTreeMap;

use exactlyonce::event::Row;
use exactlyonce::store::WindowKey;

use crate::oracle::cell::{Cell, Replicas, Seen, Value, has_quorum, is_durable};
use crate::oracle::truth::Truth;
use crate::oracle::{Position, Violation};

/// How many windows of an event are judged.
const WINDOWS_OF_AN_EVENT: usize = 8;

/// How many records of a partition are judged again at each tick.
const RECORDS_OF_A_TICK: usize = 16;

/// The progress that was judged, by partition, and where judging it again continues.
#[derive(Default)]
pub(crate) struct Checked {
    next_offsets: BTreeMap<i32, i64>,
    cursors: BTreeMap<i32, i64>,
}

impl Checked {
    /// Judges the progress that is about to be written.
    pub fn before(
        &mut self,
        truth: &Truth,
        replicas: &dyn Replicas,
        partition: i32,
        next_offset: i64,
        acknowledged: &BTreeMap<i32, i64>,
    ) -> Vec<Violation> {
        let origin = truth.binding().origin(partition);
        let checked = self.next_offsets.entry(partition).or_insert(origin);
        let from = *checked;
        *checked = next_offset.max(from);
        let mut violations = Vec::new();
        let mut windows: Vec<WindowKey> = Vec::new();
        for (offset, row) in truth.rows(partition, from, next_offset) {
            let position = Position { partition, offset };
            let its_windows = truth.windows(row, WINDOWS_OF_AN_EVENT);
            if !has_row(replicas, position, row) || !has_counts(replicas, position, &its_windows) {
                violations.push(Violation::ProgressAheadOfData { position, next_offset });
            }
            windows.extend(its_windows);
        }
        windows.sort_unstable();
        windows.dedup();
        let passed_by = |of: i32| match of == partition {
            true => next_offset,
            false => acknowledged.get(&of).copied().unwrap_or(0),
        };
        violations.extend(windows.iter().filter_map(|window| behind(truth, replicas, window, passed_by)));
        violations
    }

    /// Judges some of the records below progress again.
    pub fn tick(&mut self, truth: &Truth, replicas: &dyn Replicas) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (partition, next_offset) in &self.next_offsets {
            let (partition, next_offset) = (*partition, *next_offset);
            let cursor = self.cursors.entry(partition).or_insert(i64::MIN);
            let rows: Vec<_> = truth.rows(partition, *cursor, next_offset).take(RECORDS_OF_A_TICK).collect();
            *cursor = rows.last().map_or(i64::MIN, |(offset, _)| offset + 1);
            for (offset, row) in rows {
                let position = Position { partition, offset };
                if !has_row(replicas, position, row) {
                    violations.push(Violation::ProgressAheadOfData { position, next_offset });
                }
            }
            let newest = replicas.see(&Cell::Progress(partition)).into_iter().filter_map(|seen| match seen {
                Seen::Value(Value::Progress(next_offset)) => Some(next_offset),
                _ => None,
            });
            if let Some(newest) = newest.max().filter(|newest| *newest > next_offset) {
                let position = Position { partition, offset: next_offset };
                violations.push(Violation::ProgressAheadOfData { position, next_offset: newest });
            }
        }
        violations
    }
}

fn has_row(replicas: &dyn Replicas, position: Position, row: &Row) -> bool {
    let Position { partition, offset } = position;
    let cell = Cell::Row { partition, offset, is_dead_letter: matches!(row, Row::DeadLetter(_)) };
    is_durable(&replicas.see(&cell), Value::Row)
}

fn has_counts(replicas: &dyn Replicas, position: Position, windows: &[WindowKey]) -> bool {
    windows.iter().all(|window| {
        let seen = replicas.see(&Cell::Count(position.partition, window.clone()));
        has_quorum(
            &seen,
            |found| matches!(found, Value::Count(count) if count.through_offset >= position.offset),
        )
    })
}

/// The violation if the alert of a window does not count what progress has passed.
fn behind(
    truth: &Truth,
    replicas: &dyn Replicas,
    window: &WindowKey,
    passed_by: impl Fn(i32) -> i64,
) -> Option<Violation> {
    let counts =
        truth.partitions().filter_map(|partition| truth.count_below(partition, window, passed_by(partition)));
    let passed = counts.map(|count| count.count).sum::<i64>();
    if passed < i64::from(truth.binding().window.threshold) {
        return None;
    }
    let seen = replicas.see(&Cell::Alert(window.clone()));
    let is_behind = !is_durable(&seen, Value::Alert(passed));
    is_behind.then(|| Violation::AlertBehindProgress { window: window.into(), seen, passed })
}

#[cfg(test)]
mod tests {
    use exactlyonce::store::Count;

    use super::*;
    use crate::oracle::FakeReplicas;
    use crate::oracle::truth::tests::{binding, event, window};

    const HELD: [Seen; 3] = [Seen::Nothing, Seen::Down, Seen::Value(Value::Row)];

    fn row(offset: i64) -> Cell {
        Cell::Row { partition: 0, offset, is_dead_letter: false }
    }

    fn count(end: i64, count: i64, through_offset: i64) -> (Cell, Vec<Seen>) {
        let value = Seen::Value(Value::Count(Count { count, through_offset }));
        (Cell::Count(0, window(end)), vec![value, value, Seen::Nothing])
    }

    /// Three events of one window, and one before the origin.
    fn truth() -> Truth {
        let mut truth = Truth::new(binding());
        [1, 3, 4, 6].into_iter().for_each(|offset| truth.add(event(0, offset, 1)));
        truth
    }

    fn alert(count: i64) -> (Cell, Vec<Seen>) {
        let value = Seen::Value(Value::Alert(count));
        (Cell::Alert(window(5)), vec![value, Seen::Nothing, value])
    }

    fn held() -> Vec<(Cell, Vec<Seen>)> {
        let rows = [3, 4, 6].map(|offset| (row(offset), HELD.to_vec()));
        let counts = [count(5, 3, 6), count(10, 3, 6)];
        let mut alert_of_10 = alert(3);
        alert_of_10.0 = Cell::Alert(window(10));
        rows.into_iter().chain(counts).chain([alert(3), alert_of_10]).collect()
    }

    fn names(held: Vec<(Cell, Vec<Seen>)>, next_offset: i64) -> Vec<&'static str> {
        let found =
            Checked::default().before(&truth(), &FakeReplicas(held), 0, next_offset, &BTreeMap::new());
        found.iter().map(Violation::name).collect()
    }

    #[test]
    fn progress_past_what_a_quorum_has_is_no_violation() {
        assert!(names(held(), 7).is_empty());
    }

    #[test]
    fn progress_past_a_row_or_a_count_or_an_alert_that_a_quorum_lacks_is_a_violation() {
        let without = |cell: Cell| held().into_iter().filter(|(held, _)| *held != cell).collect::<Vec<_>>();
        assert_eq!(names(without(row(4)), 7), ["progress_ahead_of_data"]);
        assert_eq!(names(without(row(6)), 6), [""; 0]);
        // The count through offset 4 lacks the last event.
        let mut old = without(Cell::Count(0, window(5)));
        old.push(count(5, 2, 4));
        assert_eq!(names(old.clone(), 7), ["progress_ahead_of_data"]);
        assert!(names(old, 5).is_empty());
        assert_eq!(names(without(Cell::Alert(window(5))), 7), ["alert_behind_progress"]);
        // Below the threshold no alert is due.
        assert!(names(without(Cell::Alert(window(5))), 5).is_empty());
    }

    #[test]
    fn rows_that_are_gone_later_and_progress_that_nobody_wrote_are_found_by_ticks() {
        let (truth, mut checked) = (truth(), Checked::default());
        checked.before(&truth, &FakeReplicas(held()), 0, 7, &BTreeMap::new());
        assert!(checked.tick(&truth, &FakeReplicas(held())).is_empty());
        let later: Vec<_> = held().into_iter().filter(|(held, _)| *held != row(3)).collect();
        let found: Vec<_> = (0..2).flat_map(|_| checked.tick(&truth, &FakeReplicas(later.clone()))).collect();
        assert_eq!(found.first().map(Violation::name), Some("progress_ahead_of_data"));
        let mut ahead = held();
        ahead.push((Cell::Progress(0), vec![Seen::Nothing, Seen::Value(Value::Progress(8)), Seen::Down]));
        let found = checked.tick(&truth, &FakeReplicas(ahead));
        assert!(matches!(found[..], [Violation::ProgressAheadOfData { next_offset: 8, .. }]), "{found:?}");
    }
}
