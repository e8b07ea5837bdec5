//! A partition: what a mutation writes to it, what a node has of it, what a read finds in it.

use std::collections::BTreeMap;

use super::row::newer;
use super::{Cell, ColumnSelection, Deletion, Position, Row, Seconds, Timestamp};
use crate::schema::{ColumnName, DroppedColumn};

/// A deletion of every row between two places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The place it begins at; never a row.
    pub start: Position,
    /// The place it ends at; never a row.
    pub end: Position,
    /// What it deletes there.
    pub deletion: Deletion,
}

/// The content of one partition of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// The newest deletion of the whole partition.
    pub deletion: Option<Deletion>,
    /// The static columns.
    pub static_row: Row,
    /// The rows in clustering order.
    pub rows: BTreeMap<Position, Row>,
    /// The range tombstones by their start. They do not overlap.
    pub ranges: BTreeMap<Position, RangeTombstone>,
}

impl Partition {
    /// Whether it holds nothing, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.deletion.is_none()
            && self.static_row.is_empty()
            && self.rows.is_empty()
            && self.ranges.is_empty()
    }

    /// The columns that it has cells of, some of them several times.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &ColumnName> {
        self.rows.values().chain([&self.static_row]).flat_map(|row| row.cells.keys())
    }

    /// The newest deletion of the partition and the ranges that covers a row.
    pub fn deletion_at(&self, row: &Position) -> Option<Deletion> {
        let range = self.ranges.range(..=row).next_back().map(|(_, range)| range);
        newer(self.deletion, range.filter(|range| *row < range.end).map(|range| range.deletion))
    }

    /// Takes in what another version of the partition has, or an update of it. Nothing that a tombstone covers
    /// is kept, so that equal contents are equal values.
    pub fn merge(&mut self, other: &Self) {
        if let Some(deletion) = other.deletion
            && self.deletion.is_none_or(|own| deletion.supersedes(&own))
        {
            self.deletion = Some(deletion);
            // At a tie the partition's tombstone already does what the range's would.
            self.ranges.retain(|_, range| range.deletion.supersedes(&deletion));
            self.rows.retain(|_, row| {
                row.shadow(Some(deletion));
                !row.is_empty()
            });
        }
        self.static_row.merge(&other.static_row);
        self.static_row.shadow(self.deletion);
        for range in other.ranges.values() {
            self.delete_range(range);
        }
        for (position, update) in &other.rows {
            let deletion = self.deletion_at(position);
            match self.rows.get_mut(position) {
                Some(row) => {
                    row.merge(update);
                    row.shadow(deletion);
                    if row.is_empty() {
                        self.rows.remove(position);
                    }
                }
                None => {
                    let mut row = update.clone();
                    row.shadow(deletion);
                    if !row.is_empty() {
                        self.rows.insert(position.clone(), row);
                    }
                }
            }
        }
    }

    /// Adds a range tombstone. Where ranges overlap, the newer deletion holds; neighbours that delete the same
    /// become one.
    pub fn delete_range(&mut self, added: &RangeTombstone) {
        if added.start >= added.end || self.deletion.is_some_and(|own| !added.deletion.supersedes(&own)) {
            return;
        }
        // Those that touch the new one: of those that begin up to its end, the ones that do not end before it.
        let touched: Vec<RangeTombstone> = self
            .ranges
            .range(..=&added.end)
            .rev()
            .map(|(_, range)| range)
            .take_while(|range| range.end >= added.start)
            .cloned()
            .collect();
        for range in &touched {
            self.ranges.remove(&range.start);
        }
        let mut places: Vec<&Position> =
            touched.iter().chain([added]).flat_map(|range| [&range.start, &range.end]).collect();
        places.sort();
        places.dedup();
        let mut pieces: Vec<RangeTombstone> = Vec::new();
        for ends in places.windows(2) {
            let deletion = touched
                .iter()
                .chain([added])
                .filter(|range| range.start <= *ends[0] && *ends[1] <= range.end)
                .fold(None, |newest, range| newer(newest, Some(range.deletion)));
            let Some(deletion) = deletion else { continue };
            match pieces.last_mut() {
                Some(last) if last.end == *ends[0] && last.deletion == deletion => last.end = ends[1].clone(),
                _ => pieces.push(RangeTombstone { start: ends[0].clone(), end: ends[1].clone(), deletion }),
            }
        }
        for piece in pieces {
            self.ranges.insert(piece.start.clone(), piece);
        }
        let mut emptied = Vec::new();
        for (position, row) in self.rows.range_mut(&added.start..&added.end) {
            row.shadow(Some(added.deletion));
            if row.is_empty() {
                emptied.push(position.clone());
            }
        }
        for position in emptied {
            self.rows.remove(&position);
        }
    }

    /// Gives everything one timestamp, and deletions the one before: they are older than what is written with them
    /// (`PartitionUpdate.Builder.updateAllTimestamp`).
    pub(crate) fn stamp(&mut self, timestamp: Timestamp) {
        self.stamp_deletions_around_rows(timestamp);
        for row in self.rows.values_mut().chain([&mut self.static_row]) {
            row.stamp(timestamp);
        }
    }

    /// The same for the deletions of the partition and of ranges only.
    pub(crate) fn stamp_deletions_around_rows(&mut self, timestamp: Timestamp) {
        let ranges = self.ranges.values_mut().map(|range| &mut range.deletion);
        for deletion in ranges.chain(&mut self.deletion) {
            deletion.timestamp = timestamp - 1;
        }
    }

    /// Turns what has expired at `now` into tombstones, and drops the tombstones written before `gc_before`.
    pub fn purge(&mut self, now: Seconds, gc_before: Seconds) {
        self.deletion = self.deletion.filter(|deletion| deletion.local_deletion_time >= gc_before);
        self.ranges.retain(|_, range| range.deletion.local_deletion_time >= gc_before);
        self.static_row.purge(now, gc_before);
        self.rows.retain(|_, row| {
            row.purge(now, gc_before);
            !row.is_empty()
        });
    }

    /// Drops the cells of dropped columns that are not newer than the drop.
    pub(crate) fn without_dropped(&mut self, dropped: &BTreeMap<ColumnName, DroppedColumn>) {
        if dropped.is_empty() {
            return;
        }
        self.retain_cells(|column, cell| {
            dropped.get(column).is_none_or(|dropped| cell.timestamp > dropped.until)
        });
    }

    /// Keeps of the cells those that `is_kept` names, and rows that anything is left of.
    pub(crate) fn retain_cells(&mut self, is_kept: impl Fn(&ColumnName, &Cell) -> bool) {
        let keep = |row: &mut Row| row.cells.retain(|column, cell| is_kept(column, cell));
        keep(&mut self.static_row);
        self.rows.retain(|_, row| {
            keep(row);
            !row.is_empty()
        });
    }

    /// What this partition, the merged one, has over a replica's version of it: what the replica must be sent.
    /// Of cells only those that `queried` names.
    pub(crate) fn over(&self, version: &Self, queried: &ColumnSelection) -> Self {
        let mut difference = Self {
            deletion: self
                .deletion
                .filter(|deletion| version.deletion.is_none_or(|own| deletion.supersedes(&own))),
            static_row: self.static_row.over(Some(&version.static_row), queried),
            rows: BTreeMap::new(),
            ranges: BTreeMap::new(),
        };
        for (position, row) in &self.rows {
            let row = row.over(version.rows.get(position), queried);
            if !row.is_empty() {
                difference.rows.insert(position.clone(), row);
            }
        }
        for range in self.ranges.values() {
            for missing in version.not_deleted(range) {
                difference.delete_range(&missing);
            }
        }
        difference
    }

    /// The parts of a range where this version does not have the range's very deletion.
    fn not_deleted(&self, range: &RangeTombstone) -> Vec<RangeTombstone> {
        let mut missing = Vec::new();
        let mut from = range.start.clone();
        let known = self.ranges.range(..&range.end).map(|(_, known)| known);
        for known in known.filter(|known| known.deletion == range.deletion && known.end > range.start) {
            if known.start > from {
                missing.push(RangeTombstone {
                    start: from,
                    end: known.start.clone(),
                    deletion: range.deletion,
                });
            }
            from = known.end.clone();
        }
        if from < range.end {
            missing.push(RangeTombstone { start: from, end: range.end.clone(), deletion: range.deletion });
        }
        missing
    }

    /// How many tombstones it holds, of every kind.
    pub(crate) fn tombstones(&self) -> usize {
        let rows = self.rows.values().chain([&self.static_row]);
        let in_rows = rows.map(|row| {
            usize::from(row.deletion.is_some())
                + row.cells.values().filter(|cell| cell.value.is_none()).count()
        });
        usize::from(self.deletion.is_some()) + self.ranges.len() + in_rows.sum::<usize>()
    }

    /// An estimate of the bytes it takes in a mutation.
    pub fn size(&self) -> usize {
        let rows = self.rows.iter().map(|(position, row)| {
            position.values().iter().map(|value| 2 + value.len()).sum::<usize>() + row.size()
        });
        12 * usize::from(self.deletion.is_some())
            + self.static_row.size()
            + rows.sum::<usize>()
            + 24 * self.ranges.len()
    }

    /// Its size as `PartitionUpdate.dataSize` counts it: a static row and a deletion of the partition count even if
    /// there are none.
    pub(crate) fn data_size(&self) -> usize {
        let values = |position: &Position| position.values().iter().map(|value| value.len()).sum::<usize>();
        let rows = self.rows.iter().map(|(position, row)| values(position) + row.data_size());
        let ranges = self.ranges.values().map(|range| values(&range.start) + values(&range.end) + 8 + 4);
        let ranges = if self.ranges.is_empty() { 0 } else { 4 + ranges.sum::<usize>() };
        8 + ranges + self.static_row.data_size() + rows.sum::<usize>()
    }
}
