//! A row: its marker, its deletion and its cells.

use std::collections::BTreeMap;

use super::{Cell, NO_DELETION_TIME, Seconds, Timestamp};
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

/// A row, in an update (what it writes), in a node's memory (what has been written) or in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The marker that an INSERT leaves.
    pub liveness: Option<Liveness>,
    /// The newest deletion of the whole row.
    pub deletion: Option<Deletion>,
    /// The cells by column.
    pub cells: BTreeMap<ColumnName, Cell>,
}
