//! One column's value in one row, or the tombstone in its place.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{Seconds, Timestamp};

/// The local deletion time of a cell that neither expires nor is a tombstone.
pub const NO_DELETION_TIME: Seconds = i64::MAX;

/// One column's value in one row, or the tombstone in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The timestamp of the write.
    pub timestamp: Timestamp,
    /// The value as the column's type serializes it; none in a tombstone.
    pub value: Option<Bytes>,
    /// The lifetime it was written with, in seconds; 0 if it does not expire.
    pub ttl: u32,
    /// When it expires, or when the tombstone was written; [`NO_DELETION_TIME`] for a value without TTL.
    pub local_deletion_time: Seconds,
}

impl Cell {
    /// A value that does not expire.
    pub fn live(timestamp: Timestamp, value: Bytes) -> Self {
        Self { timestamp, value: Some(value), ttl: 0, local_deletion_time: NO_DELETION_TIME }
    }

    /// A value that expires `ttl` seconds after `now`; a `ttl` of 0 is none.
    pub fn expiring(timestamp: Timestamp, value: Bytes, ttl: u32, now: Seconds) -> Self {
        match ttl {
            0 => Self::live(timestamp, value),
            ttl => Self { timestamp, value: Some(value), ttl, local_deletion_time: now + Seconds::from(ttl) },
        }
    }

    /// A tombstone written at `now`.
    pub fn tombstone(timestamp: Timestamp, now: Seconds) -> Self {
        Self { timestamp, value: None, ttl: 0, local_deletion_time: now }
    }

    /// Whether it has a TTL, expired or not.
    pub fn is_expiring(&self) -> bool {
        self.ttl != 0
    }

    /// Whether a read at `now` sees a value.
    pub fn is_live(&self, now: Seconds) -> bool {
        self.value.is_some() && now < self.local_deletion_time
    }
}

/// Which of two cells of one column of one row wins (`Cells.resolveRegular`): the higher timestamp; then what
/// expires or is deleted over what stays; then a tombstone over what expires; then the later local deletion time;
/// then the larger bytes.
pub(crate) fn winner(left: &Cell, right: &Cell) -> Ordering {
    let deleted_or_expiring = |cell: &Cell| cell.local_deletion_time != NO_DELETION_TIME;
    left.timestamp.cmp(&right.timestamp).then_with(|| {
        match (deleted_or_expiring(left), deleted_or_expiring(right)) {
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (true, true) => {
                let kinds = (!left.is_expiring()).cmp(&!right.is_expiring());
                let times = left.local_deletion_time.cmp(&right.local_deletion_time);
                if kinds.is_ne() || times.is_ne() {
                    return kinds.then(times);
                }
            }
            (false, false) => {}
        }
        left.value.cmp(&right.value)
    })
}
