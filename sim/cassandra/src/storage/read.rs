//! What is read, and what was found.

use std::collections::BTreeSet;

use super::{DecoratedKey, Position, Row, Seconds, Token};
use crate::schema::{ColumnName, TableId};

/// The partitions that a read covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionRange {
    /// One.
    Key(DecoratedKey),
    /// All whose token lies above `after` and not above `up_to`. `Token::MIN` as `after` is the beginning of the
    /// ring; `i64::MAX` as `up_to` its end.
    Tokens {
        /// The token before the first.
        after: Token,
        /// The last token.
        up_to: Token,
    },
}

/// The rows between two places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The place it begins at; never a row.
    pub start: Position,
    /// The place it ends at; never a row.
    pub end: Position,
}

/// The rows of each partition that a read covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusteringFilter {
    /// Every row.
    All,
    /// Those in these slices, which are in order and do not overlap.
    Slices(Vec<Slice>),
    /// These.
    Names(BTreeSet<Position>),
}

/// The columns of a read.
///
/// Replicas return every regular column's timestamps, for a row exists even when the queried columns are null; but
/// values, digests and read repairs are of the queried columns only (`ColumnFilter`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSelection {
    /// All.
    All,
    /// These regular and static columns.
    Queried(BTreeSet<ColumnName>),
}

/// Where an earlier page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The partition that the last row was in.
    pub key: DecoratedKey,
    /// The last row; none if it was a partition with only static columns.
    pub row: Option<Position>,
    /// How many more rows this partition may give, with PER PARTITION LIMIT; `u32::MAX` without.
    pub remaining_in_partition: u32,
}

/// A read of one partition or a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCommand {
    /// The table.
    pub table: TableId,
    /// The partitions.
    pub partitions: PartitionRange,
    /// The rows of each.
    pub rows: ClusteringFilter,
    /// Whether rows come in reverse of the clustering order. Slices are given in clustering order anyway.
    pub reversed: bool,
    /// The columns.
    pub columns: ColumnSelection,
    /// At most so many rows. A partition that has nothing but static columns counts as one row.
    pub limit: u32,
    /// At most so many rows of each partition; `u32::MAX` for no limit.
    pub per_partition_limit: u32,
    /// Stop after so many partitions (DISTINCT); `u32::MAX` for no limit.
    pub partition_limit: u32,
    /// The time at which expiry is judged, by the clock of the coordinator.
    pub now: Seconds,
    /// Where the page before ended.
    pub resume: Option<Resume>,
}

/// A partition in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultPartition {
    /// The partition key.
    pub key: DecoratedKey,
    /// The live static cells.
    pub static_row: Row,
    /// The live rows, with their live cells, in the requested order. Empty if only static columns are live.
    pub rows: Vec<(Position, Row)>,
}

/// What a read found: live data only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadResult {
    /// The partitions in the order of the ring.
    pub partitions: Vec<ResultPartition>,
    /// Whether the read stopped at its limit: there may be more rows.
    pub limited: bool,
}

impl ColumnSelection {
    /// Whether a column is requested.
    pub fn has(&self, column: &ColumnName) -> bool {
        match self {
            Self::All => true,
            Self::Queried(columns) => columns.contains(column),
        }
    }
}

impl ReadCommand {
    /// A read of one whole partition.
    pub fn of_partition(table: TableId, key: DecoratedKey, now: Seconds) -> Self {
        Self {
            table,
            partitions: PartitionRange::Key(key),
            rows: ClusteringFilter::All,
            reversed: false,
            columns: ColumnSelection::All,
            limit: u32::MAX,
            per_partition_limit: u32::MAX,
            partition_limit: u32::MAX,
            now,
            resume: None,
        }
    }

    /// A read of every partition of a table.
    pub fn of_table(table: TableId, now: Seconds) -> Self {
        let partitions = PartitionRange::Tokens { after: Token::MIN, up_to: Token(i64::MAX) };
        Self { partitions, ..Self::of_partition(table, DecoratedKey::new(bytes::Bytes::new()), now) }
    }
}
