//! What a replica responds to a read, and how rows are counted against limits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::engine::Partitions;
use super::{
    Cell, ClusteringFilter, DecoratedKey, Partition, PartitionRange, Position, RangeTombstone, ReadCommand,
    Row, Slice, fingerprint,
};
use crate::schema::{ColumnKind, Table};

/// What one replica found: rows and tombstones, up to the read's limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaRows {
    /// What lies in the partitions that were read. Range tombstones end where reading ended.
    pub partitions: BTreeMap<DecoratedKey, Partition>,
    /// The partitions that may have more rows than PER PARTITION LIMIT allowed, with the last row read.
    pub cuts: BTreeMap<DecoratedKey, Position>,
    /// The row (or the partition of static columns only) at which the limit was reached; there may be more after.
    pub stopped: Option<(DecoratedKey, Option<Position>)>,
}

/// A read met more tombstones than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTombstones;

/// Counts live rows against a read's limits (`DataLimits`): a partition that has live static columns and no live
/// row counts as one row.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    limit: u32,
    per_partition: u32,
    partition_limit: u32,
    rows: u32,
    in_partition: u32,
    allowed_in_partition: u32,
    counts_static: bool,
    partitions: u32,
}

impl Counter {
    pub(crate) fn new(command: &ReadCommand) -> Self {
        Self {
            limit: command.limit,
            per_partition: command.per_partition_limit,
            partition_limit: command.partition_limit,
            rows: 0,
            in_partition: 0,
            allowed_in_partition: command.per_partition_limit,
            counts_static: true,
            partitions: 0,
        }
    }

    /// Begins a partition. The one that the page before ended in may give only what is left of its rows, and its
    /// static columns have been counted.
    pub(crate) fn begin(&mut self, command: &ReadCommand, key: &DecoratedKey) {
        self.in_partition = 0;
        let resumed = command.resume.as_ref().filter(|resume| resume.key == *key);
        self.counts_static = resumed.is_none();
        self.allowed_in_partition = resumed
            .map_or(self.per_partition, |resume| resume.remaining_in_partition.min(self.per_partition));
    }

    pub(crate) fn count_row(&mut self) {
        self.rows += 1;
        self.in_partition += 1;
    }

    /// Ends a partition. Returns whether it counted as one for its static columns.
    pub(crate) fn end(&mut self, static_live: bool) -> bool {
        let only_static = self.in_partition == 0 && static_live && self.counts_static;
        if only_static {
            self.rows += 1;
        }
        if only_static || self.in_partition > 0 {
            self.partitions += 1;
        }
        only_static
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rows >= self.limit || self.partitions >= self.partition_limit
    }

    pub(crate) fn is_partition_done(&self) -> bool {
        self.rows >= self.limit || self.in_partition >= self.allowed_in_partition
    }
}

/// The slices of one partition that a read covers, in clustering order, after what earlier pages returned.
fn slices(table: &Table, command: &ReadCommand, key: &DecoratedKey) -> Vec<Slice> {
    let mut slices = match &command.rows {
        ClusteringFilter::All => {
            vec![Slice { start: table.before(Vec::new()), end: table.after(Vec::new()) }]
        }
        ClusteringFilter::Slices(slices) => slices.clone(),
        ClusteringFilter::Names(names) => {
            names.iter().map(|name| Slice { start: name.just_before(), end: name.just_after() }).collect()
        }
    };
    if let Some(resume) = command.resume.as_ref().filter(|resume| resume.key == *key) {
        let Some(last) = &resume.row else { return Vec::new() };
        for slice in &mut slices {
            if command.reversed {
                let before = last.just_before();
                if slice.end > before {
                    slice.end = before;
                }
            } else {
                let after = last.just_after();
                if slice.start < after {
                    slice.start = after;
                }
            }
        }
    }
    slices.retain(|slice| slice.start < slice.end);
    slices
}

/// Reads from a node's rows of a table.
///
/// # Errors
///
/// If there are more than `tombstone_limit` tombstones in what is read.
pub(crate) fn scan(
    rows: &Partitions,
    table: &Table,
    command: &ReadCommand,
    tombstone_limit: usize,
) -> Result<ReplicaRows, TooManyTombstones> {
    let gc_before = command.now - i64::from(table.options.gc_grace_seconds);
    let mut response = ReplicaRows::default();
    let mut counter = Counter::new(command);
    let mut tombstones = 0;
    let mut visit = |key: &DecoratedKey, partition: &Arc<Partition>| {
        if command.limit == 0 {
            return Ok(false);
        }
        counter.begin(command, key);
        let (found, cut) = scan_partition(partition, table, command, key, gc_before, &mut counter);
        tombstones += found.tombstones();
        if tombstones > tombstone_limit {
            return Err(TooManyTombstones);
        }
        counter.end(found.static_row.is_live(command.now));
        if !found.is_empty() {
            response.partitions.insert(key.clone(), found);
        }
        if counter.is_done() {
            response.stopped = Some((key.clone(), cut));
            return Ok(false);
        }
        if let Some(cut) = cut {
            response.cuts.insert(key.clone(), cut);
        }
        Ok(true)
    };
    match &command.partitions {
        PartitionRange::Key(key) => {
            if let Some(partition) = rows.get(key) {
                visit(key, partition)?;
            }
        }
        PartitionRange::Tokens { after, up_to } => {
            let resume = command.resume.as_ref().map(|resume| &resume.key);
            let from = resume.map_or(Bound::Unbounded, Bound::Included);
            for (key, partition) in rows.range::<DecoratedKey, _>((from, Bound::Unbounded)) {
                if key.token() <= *after {
                    continue;
                }
                if key.token() > *up_to || !visit(key, partition)? {
                    break;
                }
            }
        }
    }
    Ok(response)
}

/// What a read finds in one partition, and the last row if a limit ended it.
fn scan_partition(
    partition: &Partition,
    table: &Table,
    command: &ReadCommand,
    key: &DecoratedKey,
    gc_before: i64,
    counter: &mut Counter,
) -> (Partition, Option<Position>) {
    let mut found = Partition { deletion: partition.deletion, ..Partition::default() };
    found.static_row = partition.static_row.clone();
    found.static_row.cells.retain(|column, _| command.columns.has(column));
    let mut cut = None;
    let mut covered = slices(table, command, key);
    if command.reversed {
        covered.reverse();
    }
    let visit = |found: &mut Partition, position: &Position, row: &Row, counter: &mut Counter| {
        let mut row = row.clone();
        if !table.dropped.is_empty() {
            row.cells.retain(|column, cell| {
                table.dropped.get(column).is_none_or(|dropped| cell.timestamp > dropped.until)
                    && table.columns.get(column).is_some_and(|column| column.kind == ColumnKind::Regular)
            });
        }
        // Cells that are fetched only to decide whether there is a row are left out below its marker's timestamp, also if
        // the marker has expired: the row is then none (`BTreeRow.filter`, CASSANDRA-10657).
        if let Some(marker) = row.liveness {
            row.cells
                .retain(|column, cell| command.columns.has(column) || cell.timestamp >= marker.timestamp);
        }
        row.purge(command.now, gc_before);
        if row.is_empty() {
            return false;
        }
        if row.is_live(command.now) {
            counter.count_row();
        }
        found.rows.insert(position.clone(), row);
        counter.is_partition_done()
    };
    for slice in &mut covered {
        if counter.is_partition_done() {
            break;
        }
        let range = partition.rows.range(&slice.start..&slice.end);
        let last = if command.reversed {
            range.rev().find(|(position, row)| visit(&mut found, position, row, counter))
        } else {
            { range }.find(|(position, row)| visit(&mut found, position, row, counter))
        };
        if let Some((last, _)) = last {
            cut = Some(last.clone());
            if command.reversed {
                slice.start = last.just_before();
            } else {
                slice.end = last.just_after();
            }
        }
        for range in partition.ranges.range(..&slice.end).map(|(_, range)| range) {
            if range.end > slice.start {
                found.delete_range(&RangeTombstone {
                    start: range.start.clone().max(slice.start.clone()),
                    end: range.end.clone().min(slice.end.clone()),
                    deletion: range.deletion,
                });
            }
        }
    }
    found.without_dropped(&table.dropped);
    found.purge(command.now, gc_before);
    (found, cut)
}

impl ReplicaRows {
    /// What two replicas' responses are compared by: equal contents have equal digests.
    pub fn digest(&self) -> u128 {
        let mut bytes = BytesMut::new();
        for (key, partition) in &self.partitions {
            put(&mut bytes, key.bytes());
            if let Some(deletion) = partition.deletion {
                bytes.put_i64(deletion.timestamp);
                bytes.put_i64(deletion.local_deletion_time);
            }
            put_row(&mut bytes, &partition.static_row);
            for (position, row) in &partition.rows {
                bytes.put_u8(b'r');
                put_position(&mut bytes, position);
                put_row(&mut bytes, row);
            }
            for range in partition.ranges.values() {
                bytes.put_u8(b't');
                put_position(&mut bytes, &range.start);
                put_position(&mut bytes, &range.end);
                bytes.put_i64(range.deletion.timestamp);
                bytes.put_i64(range.deletion.local_deletion_time);
            }
        }
        fingerprint(&[&bytes])
    }
}

fn put(bytes: &mut BytesMut, value: &[u8]) {
    bytes.put_u64(value.len() as u64);
    bytes.put_slice(value);
}

fn put_position(bytes: &mut BytesMut, position: &Position) {
    bytes.put_u8(position.side() as u8);
    bytes.put_u64(position.values().len() as u64);
    for value in position.values() {
        put(bytes, value);
    }
}

fn put_row(bytes: &mut BytesMut, row: &Row) {
    if let Some(liveness) = row.liveness {
        bytes.put_u8(b'l');
        bytes.put_i64(liveness.timestamp);
        bytes.put_u32(liveness.ttl);
        bytes.put_i64(liveness.local_expiration_time);
    }
    if let Some(deletion) = row.deletion {
        bytes.put_u8(b'd');
        bytes.put_i64(deletion.timestamp);
        bytes.put_i64(deletion.local_deletion_time);
    }
    for (column, Cell { timestamp, value, ttl, local_deletion_time }) in &row.cells {
        bytes.put_u8(b'c');
        put(bytes, column.as_bytes());
        bytes.put_i64(*timestamp);
        bytes.put_u32(*ttl);
        bytes.put_i64(*local_deletion_time);
        bytes.put_u8(u8::from(value.is_some()));
        put(bytes, value.as_deref().unwrap_or_default());
    }
}
