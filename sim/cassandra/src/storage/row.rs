//! A row: its marker, its deletion and its cells.

use std::collections::BTreeMap;

use super::cell::winner;
use super::{Cell, ColumnSelection, NO_DELETION_TIME, Seconds, Timestamp};
use crate::schema::ColumnName;

/// A deletion of everything with a timestamp up to its own: a row's, a range's or a partition's tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// What it deletes: cells and markers with this timestamp and below.
    pub timestamp: Timestamp,
    /// When it was written, by the clock of the coordinator.
    pub local_deletion_time: Seconds,
}

/// That an INSERT has been here (an UPDATE leaves none): the row exists even if all its columns are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// The timestamp of the INSERT.
    pub timestamp: Timestamp,
    /// The lifetime it was written with, in seconds; 0 if it does not expire.
    pub ttl: u32,
    /// When it expires; [`NO_DELETION_TIME`] if it does not.
    pub local_expiration_time: Seconds,
}

impl Liveness {
    /// A marker that expires `ttl` seconds after `now`; a `ttl` of 0 is none.
    pub fn new(timestamp: Timestamp, ttl: u32, now: Seconds) -> Self {
        let local_expiration_time = if ttl == 0 { NO_DELETION_TIME } else { now + Seconds::from(ttl) };
        Self { timestamp, ttl, local_expiration_time }
    }

    /// Whether the row exists by this marker at `now`.
    pub fn is_live(&self, now: Seconds) -> bool {
        now < self.local_expiration_time
    }
}

/// A row, in an update (what it writes), in a node's memory (what has been written) or in a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The marker that an INSERT leaves.
    pub liveness: Option<Liveness>,
    /// The newest deletion of the whole row.
    pub deletion: Option<Deletion>,
    /// The cells by column.
    pub cells: BTreeMap<ColumnName, Cell>,
}

impl Deletion {
    /// Whether this deletion says more than the other (`DeletionTime.supersedes`).
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.timestamp, self.local_deletion_time) > (other.timestamp, other.local_deletion_time)
    }

    /// Whether it deletes what was written with this timestamp: at a tie it does.
    pub fn deletes(&self, timestamp: Timestamp) -> bool {
        timestamp <= self.timestamp
    }
}

/// The one of two deletions that says more.
pub(crate) fn newer(left: Option<Deletion>, right: Option<Deletion>) -> Option<Deletion> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if right.supersedes(&left) { right } else { left }),
        (left, right) => left.or(right),
    }
}

impl Liveness {
    /// Whether this marker wins over the other (`LivenessInfo.supersedes`): the higher timestamp, then what
    /// expires, then the later expiry.
    pub fn supersedes(&self, other: &Self) -> bool {
        if self.timestamp != other.timestamp {
            return self.timestamp > other.timestamp;
        }
        match (self.ttl != 0, other.ttl != 0) {
            (expiring, other_expiring) if expiring != other_expiring => expiring,
            _ => self.local_expiration_time > other.local_expiration_time,
        }
    }
}

impl Row {
    /// Whether it holds nothing, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.liveness.is_none() && self.deletion.is_none() && self.cells.is_empty()
    }

    /// Whether a read at `now` sees a row: its marker or one of its cells is live.
    pub fn is_live(&self, now: Seconds) -> bool {
        self.liveness.is_some_and(|liveness| liveness.is_live(now))
            || self.cells.values().any(|cell| cell.is_live(now))
    }

    /// Takes in what another version of the row has (`Rows.merge`).
    pub fn merge(&mut self, other: &Self) {
        if let Some(liveness) = other.liveness
            && self.liveness.is_none_or(|own| liveness.supersedes(&own))
        {
            self.liveness = Some(liveness);
        }
        self.deletion = newer(self.deletion, other.deletion);
        for (column, cell) in &other.cells {
            match self.cells.get_mut(column) {
                Some(own) => {
                    if winner(cell, own).is_gt() {
                        *own = cell.clone();
                    }
                }
                None => {
                    self.cells.insert(column.clone(), cell.clone());
                }
            }
        }
        self.shadow(None);
    }

    /// Drops what a deletion of the partition or of a range around the row covers, and what its own deletion does.
    pub(crate) fn shadow(&mut self, around: Option<Deletion>) {
        let deletion = match (self.deletion, around) {
            (Some(own), Some(around)) if around.supersedes(&own) => {
                self.deletion = None;
                around
            }
            (Some(own), _) => own,
            (None, Some(around)) => around,
            (None, None) => return,
        };
        self.liveness = self.liveness.filter(|liveness| !deletion.deletes(liveness.timestamp));
        self.cells.retain(|_, cell| !deletion.deletes(cell.timestamp));
    }

    /// Gives everything one timestamp, and the row's deletion the one before (`BTreeRow.updateAllTimestamp`).
    pub(crate) fn stamp(&mut self, timestamp: Timestamp) {
        if let Some(liveness) = &mut self.liveness {
            liveness.timestamp = timestamp;
        }
        if let Some(deletion) = &mut self.deletion {
            deletion.timestamp = timestamp - 1;
        }
        for cell in self.cells.values_mut() {
            cell.timestamp = timestamp;
        }
    }

    /// Turns what has expired at `now` into tombstones, and drops the tombstones written before `gc_before`.
    pub(crate) fn purge(&mut self, now: Seconds, gc_before: Seconds) {
        let expired =
            |liveness: &Liveness| !liveness.is_live(now) && liveness.local_expiration_time < gc_before;
        self.liveness = self.liveness.filter(|liveness| !expired(liveness));
        self.deletion = self.deletion.filter(|deletion| deletion.local_deletion_time >= gc_before);
        self.cells.retain(|_, cell| {
            if cell.is_live(now) {
                return true;
            }
            if cell.local_deletion_time < gc_before {
                return false;
            }
            if cell.is_expiring() {
                // The tombstone counts from when the value was written, not from when it expired.
                let written = cell.local_deletion_time - Seconds::from(cell.ttl);
                *cell = Cell::tombstone(cell.timestamp, written);
            }
            cell.local_deletion_time >= gc_before
        });
    }

    /// What this row, the merged one, has over a replica's version of it: what the replica must be sent.
    /// Of cells only those that `queried` names.
    pub(crate) fn over(&self, version: Option<&Self>, queried: &ColumnSelection) -> Self {
        let Some(version) = version else {
            let mut whole = self.clone();
            whole.cells.retain(|column, _| queried.has(column));
            return whole;
        };
        Self {
            liveness: self.liveness.filter(|liveness| version.liveness != Some(*liveness)),
            deletion: self.deletion.filter(|deletion| version.deletion != Some(*deletion)),
            cells: self
                .cells
                .iter()
                .filter(|(column, cell)| queried.has(column) && version.cells.get(*column) != Some(*cell))
                .map(|(column, cell)| (column.clone(), cell.clone()))
                .collect(),
        }
    }

    /// An estimate of the bytes it takes in a mutation.
    pub(crate) fn size(&self) -> usize {
        let markers = 8 * usize::from(self.liveness.is_some()) + 12 * usize::from(self.deletion.is_some());
        markers
            + self
                .cells
                .values()
                .map(|cell| 9 + cell.value.as_ref().map_or(4, |value| value.len()))
                .sum::<usize>()
    }

    /// Its size as `BTreeRow.dataSize` counts it, without its clustering: a timestamp of 8 bytes, a TTL of 4 and a
    /// local deletion time of 8 for each cell, whether it expires or not.
    pub(crate) fn data_size(&self) -> usize {
        let expires = self.liveness.is_some_and(|marker| marker.ttl != 0);
        let liveness = if expires { 8 + 4 + 8 } else { 8 };
        let cells =
            self.cells.values().map(|cell| 8 + 4 + 8 + cell.value.as_ref().map_or(0, |value| value.len()));
        let deletion = 12 + 1;
        liveness + deletion + cells.sum::<usize>()
    }
}
