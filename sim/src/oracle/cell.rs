//! The cells of the tables, and what the replicas have of them: how oracles look at the tables while a run goes on.
//!
//! A look has no effect on the run: it is no read, so nothing is repaired, and no time passes. Each cell is a maximum over
//! the log (see [`exactlyonce::pipeline`]), so a replica that has a greater one has this one, too.

use std::fmt;

use exactlyonce::event::Row;
use exactlyonce::store::{Alert, Count, Progress, WindowKey};
use serde::{Deserialize, Serialize};

use crate::timeline::CellKey;

/// A cell, or the columns of a row that are written together.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CellKey", into = "CellKey")]
pub enum Cell {
    /// `progress` of a partition: its `next_offset`.
    Progress(i32),
    /// The registry of partitions.
    Registry,
    /// A partition's count of a window.
    Count(i32, WindowKey),
    /// The alert of a window.
    Alert(WindowKey),
    /// The row of a record.
    Row {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// In `dead_letters`, otherwise in `events`.
        is_dead_letter: bool,
    },
}

/// Characters of a source that are shown.
const SOURCE_CHARS: usize = 40;

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = |window: &WindowKey| window.source.chars().take(SOURCE_CHARS).collect::<String>();
        match self {
            Cell::Progress(partition) => write!(f, "progress of {partition}"),
            Cell::Registry => f.write_str("registry"),
            Cell::Count(partition, window) => {
                write!(f, "count of partition {partition}, {:?} at {}", source(window), window.end)
            }
            Cell::Alert(window) => write!(f, "alert of {:?} at {}", source(window), window.end),
            Cell::Row { partition, offset, is_dead_letter } => {
                let table = if *is_dead_letter { "dead_letters" } else { "events" };
                write!(f, "row of {table} at partition {partition}, offset {offset}")
            }
        }
    }
}

/// The value of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// `next_offset`.
    Progress(i64),
    /// The number of partitions.
    Registry(i32),
    /// Count and `through_offset`.
    Count(#[serde(with = "CountFields")] Count),
    /// `event_count`.
    Alert(i64),
    /// The row exists.
    Row,
}

/// The fields of [`Count`], to serialize it.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Count")]
struct CountFields {
    count: i64,
    through_offset: i64,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Progress(next_offset) => write!(f, "{next_offset}"),
            Value::Registry(partitions) => write!(f, "{partitions}"),
            Value::Count(Count { count, through_offset }) => {
                write!(f, "{count} through offset {through_offset}")
            }
            Value::Alert(count) => write!(f, "{count}"),
            Value::Row => f.write_str("the row"),
        }
    }
}

impl Value {
    /// True if this is the other value, or one that replaces it.
    pub fn includes(self, other: Value) -> bool {
        match (self, other) {
            (Value::Progress(one), Value::Progress(other)) | (Value::Alert(one), Value::Alert(other)) => {
                one >= other
            }
            (Value::Registry(one), Value::Registry(other)) => one >= other,
            (Value::Count(one), Value::Count(other)) => {
                one.through_offset > other.through_offset
                    || (one.through_offset == other.through_offset && one.count == other.count)
            }
            (one, other) => one == other,
        }
    }
}

/// What a replica has of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The replica is down, and its disk cannot be seen.
    Down,
    /// Nothing.
    Nothing,
    /// A value.
    Value(Value),
}

/// The replicas of the tables.
pub(crate) trait Replicas: Send + Sync {
    /// What each replica of the cell has whose quorum workers wait for; nothing at all if the service cannot be looked at
    /// now.
    fn see(&self, cell: &Cell) -> Vec<Seen>;

    /// What the replicas of another data center have.
    fn see_elsewhere(&self, _: &Cell) -> Vec<Seen> {
        Vec::new()
    }
}

/// True if a quorum of replicas has at least this value.
pub(crate) fn is_durable(seen: &[Seen], value: Value) -> bool {
    has_quorum(seen, |found| found.includes(value))
}

/// True if a quorum of replicas has such a value. A replica that is down counts as having it.
pub(crate) fn has_quorum(seen: &[Seen], is_such: impl Fn(Value) -> bool) -> bool {
    let has_it = |seen: &&Seen| match seen {
        Seen::Down => true,
        Seen::Nothing => false,
        Seen::Value(found) => is_such(*found),
    };
    seen.is_empty() || seen.iter().filter(has_it).count() > seen.len() / 2
}

/// The cells of a call that writes progress, with their values; likewise below.
pub(crate) fn of_progress(partition: i32, progress: Progress) -> Vec<(Cell, Value)> {
    vec![(Cell::Progress(partition), Value::Progress(progress.next_offset))]
}

pub(crate) fn of_registration(partition: i32) -> Vec<(Cell, Value)> {
    vec![(Cell::Registry, Value::Registry(exactlyonce::store::registration(partition)))]
}

pub(crate) fn of_counts(partition: i32, counts: &[(WindowKey, Count)]) -> Vec<(Cell, Value)> {
    let cell =
        |(window, count): &(WindowKey, Count)| (Cell::Count(partition, window.clone()), Value::Count(*count));
    counts.iter().map(cell).collect()
}

pub(crate) fn of_alerts(alerts: &[Alert]) -> Vec<(Cell, Value)> {
    let cell = |alert: &Alert| {
        let window = WindowKey { source: alert.source.clone(), end: alert.ts };
        (Cell::Alert(window), Value::Alert(alert.event_count.into()))
    };
    alerts.iter().map(cell).collect()
}

pub(crate) fn of_rows(partition: i32, rows: &[(i64, Row)]) -> Vec<(Cell, Value)> {
    let cell = |(offset, row): &(i64, Row)| {
        let is_dead_letter = matches!(row, Row::DeadLetter(_));
        (Cell::Row { partition, offset: *offset, is_dead_letter }, Value::Row)
    };
    rows.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_of_replicas_must_have_the_value_or_a_newer_one() {
        let value = Value::Progress(7);
        let (has, newer, older) =
            (Seen::Value(value), Seen::Value(Value::Progress(9)), Seen::Value(Value::Progress(6)));
        for (seen, durable) in [
            (vec![has, has, has], true),
            (vec![has, newer, Seen::Nothing], true),
            (vec![has, Seen::Down, older], true),
            (vec![has, older, Seen::Nothing], false),
            (vec![Seen::Down, older, older], false),
            (vec![has], true),
            (vec![Seen::Nothing], false),
        ] {
            assert_eq!(is_durable(&seen, value), durable, "{seen:?}");
        }
    }

    #[test]
    fn a_count_with_the_same_offset_and_another_number_is_not_the_same() {
        let count = |count, through_offset| Value::Count(Count { count, through_offset });
        assert!(count(3, 9).includes(count(2, 8)));
        assert!(count(3, 9).includes(count(3, 9)));
        assert!(!count(3, 9).includes(count(4, 9)));
        assert!(!count(2, 8).includes(count(3, 9)));
    }
}
