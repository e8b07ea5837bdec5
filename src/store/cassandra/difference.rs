//! The differences between the tables in a cluster and those of this program.

use thiserror::Error;

use crate::store::SCHEMA_VERSION;

/// The first thing in a cluster that is not as the protocol needs it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// There is no such keyspace.
    #[error("keyspace {keyspace} does not exist: `exactlyonce schema apply` creates it")]
    NoKeyspace {
        /// Its name.
        keyspace: String,
    },
    /// Writes to the keyspace bypass the commit log.
    #[error(
        "keyspace {keyspace} has durable_writes = false: a node that is killed loses what it acknowledged"
    )]
    NotDurable {
        /// Its name.
        keyspace: String,
    },
    /// The keyspace has no replicas where a local quorum is asked for.
    #[error(
        "keyspace {keyspace} has no replicas in datacenter {datacenter}, its replication is {replication}"
    )]
    NoReplicas {
        /// Its name.
        keyspace: String,
        /// The datacenter that was asked for.
        datacenter: String,
        /// As the cluster has it.
        replication: String,
    },
    /// There is no such table.
    #[error("table {table} does not exist: `exactlyonce schema apply` creates it")]
    NoTable {
        /// Keyspace and name.
        table: String,
    },
    /// The tables are those of an older version of this program.
    #[error(
        "table {table} is keyed as in schema version 1, and this program needs version {SCHEMA_VERSION}: start over in \
         a new keyspace (`store.keyspace`), from the log's start or with `init --from`, and keep the old one until the \
         new one has caught up"
    )]
    OlderVersion {
        /// Keyspace and name.
        table: String,
    },
    /// The table of events was made for another layout.
    #[error("table {table} {has} a column bucket, so its layout is not {layout}")]
    Layout {
        /// Keyspace and name.
        table: String,
        /// `has` or `has not`.
        has: &'static str,
        /// The layout that was asked for.
        layout: String,
    },
    /// A column is missing, or is one too many, or is another.
    #[error("table {table} column {column}: expected {expected}, found {found}")]
    Column {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
        /// Its type and place.
        expected: String,
        /// What the cluster has.
        found: String,
    },
    /// A column was dropped once and added again.
    #[error(
        "table {table} column {column} was dropped and added again: everything written at a timestamp before \
         that moment is hidden, and so is all that this program writes. use a keyspace of another name"
    )]
    AddedAgain {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
    },
    /// An option under which rows vanish.
    #[error("table {table} has {option}: {reason}")]
    Option {
        /// Keyspace and name.
        table: String,
        /// The option and its value.
        option: String,
        /// What it does.
        reason: &'static str,
    },
}
