//! Tests of merging, reading and of what a disk keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::schema::{Column, ColumnKind, ColumnName, Order, Table, TableId, TableOptions};
use crate::types::DataType;

pub(crate) fn table() -> Table {
    let column = |name: &str, kind, data_type| Column { name: name.into(), kind, data_type };
    Table::new(
        TableId(7),
        "ks",
        "t",
        [
            column("p", ColumnKind::PartitionKey(0), DataType::Int),
            column("a", ColumnKind::Clustering(0, Order::Ascending), DataType::Int),
            column("b", ColumnKind::Clustering(1, Order::Descending), DataType::Int),
            column("s", ColumnKind::Static, DataType::Int),
            column("v", ColumnKind::Regular, DataType::Int),
            column("w", ColumnKind::Regular, DataType::Int),
        ],
        TableOptions { gc_grace_seconds: 100, ..TableOptions::default() },
    )
}

pub(crate) fn int(value: i32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// One statement's effect.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Insert { a: i32, b: i32, timestamp: i64, ttl: u32, value: i32 },
    Null { a: i32, b: i32, timestamp: i64 },
    Static { timestamp: i64, value: i32 },
    DeleteRow { a: i32, b: i32, timestamp: i64 },
    DeleteRange { from: i32, to: i32, timestamp: i64 },
    DeletePrefix { a: i32, timestamp: i64 },
    DeletePartition { timestamp: i64 },
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    // Few values, so that rows, timestamps and expiry times meet.
    let (key, time) = (0..4i32, 0..6i64);
    prop_oneof![
        4 => (key.clone(), key.clone(), time.clone(), 0..3u32, 0..3i32)
            .prop_map(|(a, b, timestamp, ttl, value)| Step::Insert { a, b, timestamp, ttl, value }),
        2 => (key.clone(), key.clone(), time.clone()).prop_map(|(a, b, timestamp)| Step::Null { a, b, timestamp }),
        1 => (time.clone(), 0..3i32).prop_map(|(timestamp, value)| Step::Static { timestamp, value }),
        2 => (key.clone(), key.clone(), time.clone())
            .prop_map(|(a, b, timestamp)| Step::DeleteRow { a, b, timestamp }),
        2 => (key.clone(), key.clone(), time.clone())
            .prop_map(|(from, to, timestamp)| Step::DeleteRange { from, to, timestamp }),
        2 => (key, time.clone()).prop_map(|(a, timestamp)| Step::DeletePrefix { a, timestamp }),
        1 => time.prop_map(|timestamp| Step::DeletePartition { timestamp }),
    ]
}

pub(crate) const NOW: Seconds = 1000;

fn update(table: &Table, step: &Step) -> Partition {
    let mut partition = Partition::default();
    let deletion = |timestamp| Deletion { timestamp, local_deletion_time: NOW + timestamp % 2 };
    match *step {
        Step::Insert { a, b, timestamp, ttl, value } => {
            let row = Row {
                liveness: Some(Liveness::new(timestamp, ttl, NOW)),
                deletion: None,
                cells: BTreeMap::from([
                    (ColumnName::from("v"), Cell::expiring(timestamp, int(value), ttl, NOW)),
                    (ColumnName::from("w"), Cell::live(timestamp - 1, int(value))),
                ]),
            };
            partition.rows.insert(table.row(vec![int(a), int(b)]), row);
        }
        Step::Null { a, b, timestamp } => {
            let cells = BTreeMap::from([(ColumnName::from("v"), Cell::tombstone(timestamp, NOW))]);
            partition.rows.insert(table.row(vec![int(a), int(b)]), Row { cells, ..Row::default() });
        }
        Step::Static { timestamp, value } => {
            partition.static_row.cells.insert("s".into(), Cell::live(timestamp, int(value)));
        }
        Step::DeleteRow { a, b, timestamp } => {
            let row = Row { deletion: Some(deletion(timestamp)), ..Row::default() };
            partition.rows.insert(table.row(vec![int(a), int(b)]), row);
        }
        Step::DeleteRange { from, to, timestamp } => {
            let (start, end) = (table.before(vec![int(from)]), table.after(vec![int(to)]));
            partition.delete_range(&RangeTombstone { start, end, deletion: deletion(timestamp) });
        }
        Step::DeletePrefix { a, timestamp } => {
            let (start, end) = (table.before(vec![int(a)]), table.after(vec![int(a)]));
            partition.delete_range(&RangeTombstone { start, end, deletion: deletion(timestamp) });
        }
        Step::DeletePartition { timestamp } => partition.deletion = Some(deletion(timestamp)),
    }
    partition
}

pub(crate) fn merged(table: &Table, steps: &[Step]) -> Partition {
    let mut partition = Partition::default();
    for step in steps {
        partition.merge(&update(table, step));
    }
    partition
}

proptest! {
    #[test]
    fn the_order_in_which_a_replica_gets_mutations_does_not_matter(
        steps in vec(step(), 1..12).prop_flat_map(|steps| (Just(steps.clone()), Just(steps).prop_shuffle())),
    ) {
        let table = table();
        prop_assert_eq!(merged(&table, &steps.0), merged(&table, &steps.1));
    }

    #[test]
    fn how_mutations_are_grouped_and_repeated_does_not_matter(
        left in vec(step(), 0..8), right in vec(step(), 0..8),
    ) {
        let table = table();
        let all: Vec<Step> = left.iter().chain(&right).cloned().collect();
        let mut groups = merged(&table, &left);
        groups.merge(&merged(&table, &right));
        groups.merge(&merged(&table, &left));
        prop_assert_eq!(groups, merged(&table, &all));
    }

    #[test]
    fn a_row_reads_as_if_every_deletion_were_looked_at(steps in vec(step(), 1..12), a in 0..4i32, b in 0..4i32) {
        let table = table();
        let partition = merged(&table, &steps);
        let row = partition.rows.get(&table.row(vec![int(a), int(b)]));
        let deleted = steps.iter().filter_map(|step| match *step {
            Step::DeleteRow { a: of, b: and, timestamp } if (of, and) == (a, b) => Some(timestamp),
            Step::DeleteRange { from, to, timestamp } if from <= a && a <= to => Some(timestamp),
            Step::DeletePrefix { a: of, timestamp } if of == a => Some(timestamp),
            Step::DeletePartition { timestamp } => Some(timestamp),
            _ => None,
        }).max().unwrap_or(i64::MIN);
        let written = steps.iter().filter_map(|step| match *step {
            Step::Insert { a: of, b: and, timestamp, value, .. } if (of, and) == (a, b) => Some((timestamp - 1, value)),
            _ => None,
        }).filter(|(timestamp, _)| *timestamp > deleted).max();
        let found = row.and_then(|row| row.cells.get("w")).map(|cell| (cell.timestamp, cell.value.clone()));
        prop_assert_eq!(found, written.map(|(timestamp, value)| (timestamp, Some(int(value)))));
    }

    #[test]
    fn range_tombstones_never_overlap(steps in vec(step(), 1..16)) {
        let partition = merged(&table(), &steps);
        let ranges: Vec<_> = partition.ranges.values().collect();
        for range in &ranges {
            prop_assert!(range.start < range.end);
        }
        for neighbours in ranges.windows(2) {
            prop_assert!(neighbours[0].end <= neighbours[1].start);
        }
    }

    #[test]
    fn a_repair_makes_a_replica_equal_to_the_merged_rows(left in vec(step(), 0..8), right in vec(step(), 0..8)) {
        let table = table();
        let (mut replica, other) = (merged(&table, &left), merged(&table, &right));
        let mut all = replica.clone();
        all.merge(&other);
        let repair = all.over(&replica, &ColumnSelection::All);
        replica.merge(&repair);
        prop_assert_eq!(&replica, &all);
        prop_assert!(all.over(&replica, &ColumnSelection::All).is_empty());
    }

    #[test]
    fn pages_together_give_what_one_read_gives(
        steps in vec(step(), 1..20), page in 1..4u32, per_partition in 1..6u32, reversed: bool,
    ) {
        let table = table();
        let key = table.key(&[int(1)]);
        let rows = BTreeMap::from([(key.clone(), Arc::new(merged(&table, &steps)))]);
        let whole = ReadCommand {
            reversed,
            per_partition_limit: per_partition,
            ..ReadCommand::of_partition(table.id, key.clone(), NOW + 1)
        };
        let live = |command: &ReadCommand| {
            let response = scan(&rows, &table, command, usize::MAX).expect("few tombstones");
            let mut live: Vec<Position> = response.partitions.get(&key).into_iter().flat_map(|found| {
                found.rows.iter().filter(|(_, row)| row.is_live(NOW + 1)).map(|(position, _)| position.clone())
            }).collect();
            if command.reversed {
                live.reverse();
            }
            (live, response.stopped.is_some())
        };
        let (expected, _) = live(&whole);
        let mut paged = Vec::new();
        let mut command = ReadCommand { limit: page, ..whole };
        loop {
            let (rows, stopped) = live(&command);
            prop_assert!(rows.len() <= page as usize);
            paged.extend(rows);
            match paged.last() {
                Some(last) if stopped => command.resume = Some(Resume {
                    key: key.clone(),
                    row: Some(last.clone()),
                    remaining_in_partition: per_partition - paged.len() as u32,
                }),
                _ => break,
            }
            if paged.len() as u32 >= per_partition {
                break;
            }
        }
        prop_assert_eq!(paged, expected);
    }
}

fn write(key: i32, timestamp: i64) -> Record {
    let table = table();
    let step = Step::Insert { a: 0, b: 0, timestamp, ttl: 0, value: 1 };
    Record::Write(Arc::new(Mutation::new(
        "ks".into(),
        table.key(&[int(key)]),
        table.id,
        update(&table, &step),
    )))
}

fn keys(engine: &Engine) -> usize {
    engine.table(table().id).map_or(0, BTreeMap::len)
}

#[test]
fn a_power_failure_takes_what_was_not_synced_and_a_kill_does_not() {
    let disk = Disk::new();
    let mut engine = Engine::open(disk.clone(), 1000);
    engine.apply(write(1, 1), true);
    disk.sync();
    engine.apply(write(2, 1), true);
    drop(engine);
    let engine = Engine::open(disk.clone(), 1000);
    assert_eq!(keys(&engine), 2, "the process was killed");
    drop(engine);
    let mut engine = Engine::open(disk.clone(), 1000);
    engine.apply(write(3, 1), true);
    disk.sync();
    engine.apply(write(4, 1), true);
    drop(engine);
    disk.lose_unsynced();
    assert_eq!(keys(&Engine::open(disk, 1000)), 3);
}

#[test]
fn a_flush_survives_without_the_log() {
    let disk = Disk::new();
    let mut engine = Engine::open(disk.clone(), 3);
    for key in 0..4 {
        engine.apply(write(key, 1), true);
    }
    drop(engine);
    disk.lose_unsynced();
    assert_eq!(keys(&Engine::open(disk, 3)), 3, "three were flushed, the fourth was only logged");
}

#[test]
fn a_truncated_table_does_not_come_back_from_the_log() {
    let disk = Disk::new();
    let mut engine = Engine::open(disk.clone(), 1000);
    engine.apply(write(1, 1), true);
    engine.truncate(table().id, 5);
    engine.apply(write(2, 1), true);
    drop(engine);
    assert_eq!(keys(&Engine::open(disk, 1000)), 1);
}

#[test]
fn a_batch_becomes_one_mutation_for_each_partition_across_tables() {
    let mutation = |key: i32, table: u128| {
        Mutation::new("ks".into(), DecoratedKey::new(int(key)), TableId(table), Partition::default())
    };
    let merged = Mutation::merged(vec![mutation(2, 1), mutation(1, 1), mutation(2, 2)]);
    let shape: Vec<_> =
        merged.iter().map(|mutation| (mutation.key.bytes().clone(), mutation.updates.len())).collect();
    assert_eq!(shape, [(int(2), 2), (int(1), 1)]);
}

#[test]
fn an_expired_value_becomes_a_tombstone_that_is_purged_after_gc_grace() {
    let mut row = Row::default();
    row.cells.insert("v".into(), Cell::expiring(5, int(1), 10, NOW));
    row.purge(NOW + 9, NOW - 91);
    assert!(row.is_live(NOW + 9));
    row.purge(NOW + 10, NOW - 90);
    assert_eq!(row.cells["v"], Cell::tombstone(5, NOW));
    row.purge(NOW + 101, NOW + 1);
    assert!(row.is_empty());
}

#[test]
fn at_equal_timestamps_a_tombstone_beats_a_value_and_then_the_larger_bytes_win() {
    let cells = [
        Cell::live(1, int(1)),
        Cell::live(1, int(2)),
        Cell::expiring(1, int(0), 5, NOW),
        Cell::expiring(1, int(0), 6, NOW),
        Cell::tombstone(1, NOW),
        Cell::live(2, int(0)),
    ];
    for pair in cells.windows(2) {
        assert!(super::cell::winner(&pair[1], &pair[0]).is_gt(), "{pair:?}");
        assert!(super::cell::winner(&pair[0], &pair[1]).is_lt(), "{pair:?}");
    }
}

#[test]
fn of_two_row_markers_the_newer_wins_then_what_expires_then_the_later_expiry() {
    let markers = [
        Liveness::new(1, 0, NOW),
        Liveness::new(1, 5, NOW),
        Liveness::new(1, 6, NOW),
        Liveness::new(2, 0, NOW),
    ];
    for pair in markers.windows(2) {
        assert!(pair[1].supersedes(&pair[0]) && !pair[0].supersedes(&pair[1]), "{pair:?}");
    }
    assert!(!markers[0].supersedes(&markers[0]));
}

#[test]
fn a_partitions_deletion_takes_static_columns_rows_and_ranges_up_to_its_timestamp() {
    let table = table();
    let steps = |timestamp| {
        [
            Step::Static { timestamp, value: 1 },
            Step::Insert { a: 1, b: 1, timestamp, ttl: 0, value: 1 },
            Step::DeletePrefix { a: 2, timestamp },
        ]
    };
    let deletion = Step::DeletePartition { timestamp: 3 };
    let shape = |timestamp| {
        let found = merged(&table, &[&steps(timestamp)[..], std::slice::from_ref(&deletion)].concat());
        let cells = found.rows.values().map(|row| row.cells.len()).sum::<usize>();
        (found.static_row.cells.len(), cells, found.ranges.len())
    };
    assert_eq!(shape(3), (0, 0, 0));
    // One of the row's cells is a microsecond older than the row.
    assert_eq!(shape(4), (1, 1, 1));
}

/// Seen of Cassandra 5.0.5 by random statements.
#[test]
fn a_row_whose_marker_has_expired_lives_by_older_cells_only_where_they_are_asked_for() {
    let table = table();
    let (liveness, place) = (Liveness::new(12, 1, NOW), table.row(vec![int(1), int(1)]));
    let cells = [("w".into(), Cell::live(4, int(5)))].into();
    let row = Row { liveness: Some(liveness), cells, ..Row::default() };
    let written = Partition { rows: [(place, row)].into(), ..Partition::default() };
    let mut engine = Engine::open(Disk::new(), 1000);
    let key = table.key(&[int(1)]);
    let mutation = Mutation::new("ks".into(), key.clone(), table.id, written);
    engine.apply(Record::Write(Arc::new(mutation)), true);
    for (column, now, rows) in [("v", NOW, 1), ("v", NOW + 2, 0), ("w", NOW + 2, 1)] {
        let mut command = ReadCommand::of_partition(table.id, key.clone(), now);
        command.columns = ColumnSelection::Queried([column.into()].into());
        let response = engine.read(&table, &command, 1000).expect("few tombstones");
        let live = |partition: &Partition| partition.rows.values().filter(|row| row.is_live(now)).count();
        assert_eq!(response.partitions.values().map(live).sum::<usize>(), rows, "{column} at {now}");
    }
}
