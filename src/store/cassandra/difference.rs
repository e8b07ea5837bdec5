//! The differences between the tables in a cluster and those of this program.

use thiserror::Error;

use crate::store::SCHEMA_VERSION;

/// The first difference between the tables in a cluster and those that the protocol requires.
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
    /// The keyspace has no replicas in the datacenter of a local quorum.
    #[error(
        "keyspace {keyspace} has no replicas in datacenter {datacenter}, its replication is {replication}"
    )]
    NoReplicas {
        /// Its name.
        keyspace: String,
        /// The configured datacenter.
        datacenter: String,
        /// The replication settings in the cluster.
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
        "table {table} is keyed as in schema version 1, and this program requires version {SCHEMA_VERSION}: start over in \
         a new keyspace (`store.keyspace`), from the log's start or with `init --from`, and keep the old one until the \
         new one has caught up"
    )]
    OlderVersion {
        /// Keyspace and name.
        table: String,
    },
    /// The table of events was created with a different layout.
    #[error("table {table} {has} a column bucket, so its layout is not {layout}")]
    Layout {
        /// Keyspace and name.
        table: String,
        /// `has` or `does not have`.
        has: &'static str,
        /// The configured layout.
        layout: String,
    },
    /// A column is missing, unexpected, or different.
    #[error("table {table} column {column}: expected {expected}, found {found}")]
    Column {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
        /// Its type and role.
        expected: String,
        /// Its type and role in the cluster.
        found: String,
    },
    /// A column was dropped and added again.
    #[error(
        "table {table} column {column} was dropped and added again: everything written at a timestamp before \
         that time is hidden, and so is everything that this program writes. use a different keyspace"
    )]
    AddedAgain {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
    },
    /// A table option with which rows are lost.
    #[error("table {table} has {option}: {reason}")]
    Option {
        /// Keyspace and name.
        table: String,
        /// The option and its value.
        option: String,
        /// Its effect.
        reason: &'static str,
    },
}
