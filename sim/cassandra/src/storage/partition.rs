//! A partition: what a mutation writes to it, what a node has of it, what a read finds in it.

use std::collections::BTreeMap;

use super::{Deletion, Position, Row};

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
