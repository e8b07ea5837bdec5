//! Durability: whenever a worker learns that something is written, a quorum of replicas has it.
//!
//! The replicas are looked at directly, without reads, which would repair them. A replica that is down counts as having it,
//! because what is on its disk cannot be seen. A later write may have replaced the cell meanwhile, so a cell with a greater
//! timestamp counts, too.

use exactlyonce::event::Row;
use exactlyonce::store::{Alert, Count, Layout, Progress, WindowKey, registration, row_timestamp};

use crate::checker::Violation;

/// A cell that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenCell {
    /// The table.
    pub table: &'static str,
    /// The columns of the partition key, serialized.
    pub key: Vec<Vec<u8>>,
    /// The clustering columns, serialized.
    pub clustering: Vec<Vec<u8>>,
    /// The column.
    pub column: &'static str,
    /// The write timestamp.
    pub timestamp: i64,
}

/// The replicas of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holders {
    /// That have it, or a newer one.
    pub holding: usize,
    /// That are down.
    pub down: usize,
    /// All of them.
    pub replicas: usize,
}

/// A service whose replicas can be looked at.
pub(crate) trait Replicas: Send + Sync {
    /// The replicas of a cell; `None` if nothing can be said about them.
    fn holders(&self, cell: &WrittenCell) -> Option<Holders>;
}

/// The violation of the first cell that fewer replicas have than a quorum.
pub(crate) fn violation(replicas: &dyn Replicas, cells: Vec<WrittenCell>) -> Option<Violation> {
    cells.into_iter().find_map(|cell| {
        let holders = replicas.holders(&cell)?;
        let is_durable = holders.holding + holders.down > holders.replicas / 2;
        (!is_durable).then_some(Violation::NotDurable { cell, holders })
    })
}

fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn bigint(value: i64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub(crate) fn of_progress(partition: i32, progress: Progress) -> Vec<WrittenCell> {
    vec![WrittenCell {
        table: "progress",
        key: vec![int(partition)],
        clustering: Vec::new(),
        column: "next_offset",
        timestamp: progress.write_timestamp(),
    }]
}

pub(crate) fn of_registration(partition: i32) -> Vec<WrittenCell> {
    vec![WrittenCell {
        table: "registry",
        key: vec![b"partitions".to_vec()],
        clustering: Vec::new(),
        column: "partitions",
        timestamp: registration(partition).into(),
    }]
}

pub(crate) fn of_counts(partition: i32, layout: Layout, counts: &[(WindowKey, Count)]) -> Vec<WrittenCell> {
    let cell = |(window, count): &(WindowKey, Count)| {
        let place = layout.counts.place(window);
        WrittenCell {
            table: "window_counts",
            key: vec![int(partition), bigint(place.block), int(place.shard)],
            clustering: vec![bigint(window.end), window.source.as_bytes().to_vec()],
            column: "count",
            timestamp: count.write_timestamp(),
        }
    };
    counts.iter().map(cell).collect()
}

pub(crate) fn of_alerts(alerts: &[Alert]) -> Vec<WrittenCell> {
    let cell = |alert: &Alert| WrittenCell {
        table: "alerts",
        key: vec![alert.source.as_bytes().to_vec()],
        clustering: vec![bigint(alert.ts)],
        column: "event_count",
        timestamp: alert.event_count.into(),
    };
    alerts.iter().map(cell).collect()
}

pub(crate) fn of_rows(partition: i32, layout: Layout, rows: &[(i64, Row)]) -> Vec<WrittenCell> {
    let cell = |(offset, row): &(i64, Row)| {
        let (table, column) = match row {
            Row::Event(_) => ("events", "id"),
            Row::DeadLetter(_) => ("dead_letters", "reason"),
        };
        let bucket = match (row, layout.events) {
            (Row::Event(_), exactlyonce::store::EventLayout::Bucketed { rows }) => {
                Some(bigint(offset / i64::from(rows.get())))
            }
            _ => None,
        };
        let key = std::iter::once(int(partition)).chain(bucket).collect();
        WrittenCell {
            table,
            key,
            clustering: vec![bigint(*offset)],
            column,
            timestamp: row_timestamp(*offset),
        }
    };
    rows.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(Holders);

    impl Replicas for Always {
        fn holders(&self, _: &WrittenCell) -> Option<Holders> {
            Some(self.0)
        }
    }

    #[test]
    fn a_cell_that_fewer_replicas_than_a_quorum_have_is_a_violation() {
        let cells = || of_progress(0, Progress { origin: 0, next_offset: 7 });
        for (holding, down, is_violation) in
            [(3, 0, false), (2, 0, false), (1, 1, false), (0, 2, false), (1, 0, true), (0, 1, true)]
        {
            let holders = Holders { holding, down, replicas: 3 };
            let found = violation(&Always(holders), cells());
            assert_eq!(found.is_some(), is_violation, "{holders:?}");
        }
    }
}
