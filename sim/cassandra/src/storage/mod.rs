//! What a node stores: cells in rows in partitions, each with its timestamp, and how two versions of one merge.
//!
//! Merging is commutative, associative and idempotent, as it is in Cassandra 5.0 (`Cells.resolveRegular`,
//! `Rows.merge`, `DeletionTime.supersedes`, `LivenessInfo.supersedes`); that is what lets replicas receive the same
//! mutations in any order, any number of times. A tombstone is data like any other until it is purged.

mod cell;
mod engine;
mod key;
mod mutation;
mod partition;
mod position;
mod read;
mod row;
mod scan;

pub use cell::{Cell, NO_DELETION_TIME};
pub use engine::{Ballot, Disk, Hint, PaxosState, SchemaEntry, StoredBatch};
pub(crate) use engine::{Engine, Record};
pub use key::{DecoratedKey, Token, fingerprint};
pub use mutation::Mutation;
pub use partition::{Partition, RangeTombstone};
pub use position::{ClusteringOrder, ComponentOrder, Position, Side};
pub use read::{
    ClusteringFilter, ColumnSelection, PartitionRange, ReadCommand, ReadResult, ResultPartition, Resume,
    Slice,
};
pub use row::{Deletion, Liveness, Row};
pub(crate) use scan::Counter;
pub(crate) use scan::scan;
pub use scan::{ReplicaRows, TooManyTombstones};

/// A write's timestamp: microseconds, by convention since 1970.
pub type Timestamp = i64;

/// Seconds since 1970, by some node's clock.
pub type Seconds = i64;

#[cfg(test)]
pub(crate) mod tests;
