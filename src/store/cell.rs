//! How two writes of one row are resolved: Cassandra's rule, shared by the stores of this project.
//!
//! Source: `org.apache.cassandra.db.rows.Cells.resolveRegular` (5.0): for each cell the greater timestamp
//! wins; at equal timestamps the greater serialized value does, compared as unsigned bytes. (Tombstones and
//! expiring cells do not occur: the protocol's tables have neither.)
//!
//! Every write of the protocol sets all cells of a row, or of an independent part of one (`origin` and
//! `next_offset` of `progress`), at one timestamp. So the cells of such a part always share a timestamp, which
//! is kept once, and only a tie has to be resolved cell by cell.

use crate::event::{Body, DeadLetter, Event, Health, Reason};
use crate::store::Count;

/// Cells that are always written together, with their write timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells<T> {
    /// Write timestamp of each of them.
    pub timestamp: i64,
    /// Their values.
    pub values: T,
}

impl<T: Tie> Cells<T> {
    /// Resolves another write of the same cells against this one.
    pub fn merge(&mut self, other: Cells<T>) {
        if other.timestamp > self.timestamp {
            *self = other;
        } else if other.timestamp == self.timestamp {
            self.values.resolve_tie(other.values);
        }
    }
}

/// Resolves two writes at one timestamp: each cell takes the value whose bytes are greater.
pub trait Tie {
    /// Takes the cells of `other` that win.
    fn resolve_tie(&mut self, other: Self);
}

fn keep_greater<T, K: Ord>(cell: &mut T, other: T, bytes: impl Fn(&T) -> K) {
    if bytes(&other) > bytes(cell) {
        *cell = other;
    }
}

impl Tie for i64 {
    fn resolve_tie(&mut self, other: i64) {
        // Big-endian two's complement as unsigned bytes: a negative number is greater than a positive one.
        keep_greater(self, other, |value| value.to_be_bytes());
    }
}

impl Tie for i32 {
    fn resolve_tie(&mut self, other: i32) {
        keep_greater(self, other, |value| value.to_be_bytes());
    }
}

impl Tie for Option<i64> {
    fn resolve_tie(&mut self, other: Self) {
        keep_greater(self, other, |value| value.map(i64::to_be_bytes));
    }
}

impl Tie for String {
    fn resolve_tie(&mut self, other: String) {
        if other > *self {
            *self = other;
        }
    }
}

impl Tie for Option<Vec<u8>> {
    /// A missing cell loses to any existing one.
    fn resolve_tie(&mut self, other: Self) {
        if other > *self {
            *self = other;
        }
    }
}

impl Tie for Count {
    fn resolve_tie(&mut self, other: Count) {
        self.count.resolve_tie(other.count);
        self.through_offset.resolve_tie(other.through_offset);
    }
}

impl Tie for Event {
    fn resolve_tie(&mut self, other: Event) {
        self.id.resolve_tie(other.id);
        self.ts.resolve_tie(other.ts);
        self.source.resolve_tie(other.source);
        self.client.resolve_tie(other.client);
        keep_greater(&mut self.health, other.health, |health: &Health| health.code().to_be_bytes());
    }
}

/// The cells of a row of `dead_letters`, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCells {
    /// [`Reason::code`].
    pub reason: String,
    /// The broker's timestamp of the record, in milliseconds.
    pub timestamp: i64,
    /// The record's key, if it has one and is not too large.
    pub key: Option<Vec<u8>>,
    /// The record's value, likewise.
    pub value: Option<Vec<u8>>,
    /// Bytes of the key of a record that is too large.
    pub key_length: Option<i64>,
    /// Bytes of its value.
    pub value_length: Option<i64>,
    /// The hash of both.
    pub sha256: Option<Vec<u8>>,
}

impl Tie for DeadLetterCells {
    fn resolve_tie(&mut self, other: Self) {
        self.reason.resolve_tie(other.reason);
        self.timestamp.resolve_tie(other.timestamp);
        self.key.resolve_tie(other.key);
        self.value.resolve_tie(other.value);
        self.key_length.resolve_tie(other.key_length);
        self.value_length.resolve_tie(other.value_length);
        self.sha256.resolve_tie(other.sha256);
    }
}

impl From<DeadLetter> for DeadLetterCells {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { reason, timestamp, body } = letter;
        let empty = Self {
            reason: reason.code(),
            timestamp,
            key: None,
            value: None,
            key_length: None,
            value_length: None,
            sha256: None,
        };
        match body {
            Body::Whole { key, value } => Self { key, value, ..empty },
            Body::Digest { key_length, value_length, sha256 } => {
                Self { key_length, value_length, sha256: Some(sha256.into()), ..empty }
            }
        }
    }
}

impl TryFrom<DeadLetterCells> for DeadLetter {
    /// The column with a value that no version of this program writes, and what is wrong with it.
    type Error = (&'static str, String);

    fn try_from(cells: DeadLetterCells) -> Result<Self, Self::Error> {
        let reason = Reason::from_code(&cells.reason)
            .ok_or_else(|| ("reason", format!("{:?} is not a reason", cells.reason)))?;
        let body = match cells.sha256 {
            None => Body::Whole { key: cells.key, value: cells.value },
            Some(hash) => Body::Digest {
                key_length: cells.key_length,
                value_length: cells.value_length,
                sha256: hash
                    .try_into()
                    .map_err(|hash: Vec<u8>| ("sha256", format!("{} bytes and not 32", hash.len())))?,
            },
        };
        Ok(DeadLetter { reason, timestamp: cells.timestamp, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged<T: Tie>(a: (i64, T), b: (i64, T)) -> T {
        let mut cells = Cells { timestamp: a.0, values: a.1 };
        cells.merge(Cells { timestamp: b.0, values: b.1 });
        cells.values
    }

    #[test]
    fn the_greater_timestamp_wins_in_either_order() {
        assert_eq!(merged((1, 7i64), (2, 3)), 3);
        assert_eq!(merged((2, 3i64), (1, 7)), 3);
    }

    #[test]
    fn at_a_tie_the_greater_unsigned_bytes_win_in_either_order() {
        assert_eq!(merged((1, 7i64), (1, 3)), 7);
        assert_eq!(merged((1, 3i64), (1, 7)), 7);
        assert_eq!(merged((1, -1i64), (1, 7)), -1);
        assert_eq!(merged((1, 7i32), (1, -1)), -1);
        assert_eq!(merged((1, "b".to_owned()), (1, "ab".to_owned())), "b");
        assert_eq!(merged((1, None), (1, Some(vec![0u8]))), Some(vec![0]));
    }

    #[test]
    fn a_tie_is_resolved_cell_by_cell_into_a_row_that_was_never_written() {
        let a = Count { count: 12, through_offset: 90 };
        let b = Count { count: 10, through_offset: 100 };
        assert_eq!(merged((1, a), (1, b)), Count { count: 12, through_offset: 100 });
    }

    #[test]
    fn a_dead_letter_is_restored_from_its_cells() {
        let whole = Body::Whole { key: Some(b"k".to_vec()), value: None };
        let digest = Body::Digest { key_length: None, value_length: Some(9), sha256: [7; 32] };
        for body in [whole, digest] {
            let letter = DeadLetter { reason: Reason::TooLarge, timestamp: -1, body };
            assert_eq!(DeadLetter::try_from(DeadLetterCells::from(letter.clone())), Ok(letter));
        }
    }
}
