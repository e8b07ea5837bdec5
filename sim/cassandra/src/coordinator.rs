//! The interface between a node and its CQL clients, and the errors of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::broadcast;

use crate::schema::{Schema, SchemaChange, TableId};
use crate::storage::{DecoratedKey, Mutation, ReadCommand, ReadResult, Seconds, Timestamp, Token};

/// How many replicas must have responded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consistency {
    /// A hint is enough. Writes only.
    Any,
    /// One.
    One,
    /// Two.
    Two,
    /// Three.
    Three,
    /// A majority of all replicas.
    Quorum,
    /// All.
    All,
    /// A majority of the replicas in the coordinator's data centre.
    LocalQuorum,
    /// A majority in every data centre. Writes only.
    EachQuorum,
    /// A majority, and linearizable with conditional writes.
    Serial,
    /// The same within the coordinator's data centre.
    LocalSerial,
    /// One in the coordinator's data centre.
    LocalOne,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "ANY",
            Self::One => "ONE",
            Self::Two => "TWO",
            Self::Three => "THREE",
            Self::Quorum => "QUORUM",
            Self::All => "ALL",
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::EachQuorum => "EACH_QUORUM",
            Self::Serial => "SERIAL",
            Self::LocalSerial => "LOCAL_SERIAL",
            Self::LocalOne => "LOCAL_ONE",
        })
    }
}

/// What kind of write timed out or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteType {
    /// A write of one statement, or of a batch that came down to one mutation.
    Simple,
    /// A logged batch whose batch log was written.
    Batch,
    /// An unlogged batch.
    UnloggedBatch,
    /// A logged batch's batch log.
    BatchLog,
    /// A conditional write.
    Cas,
}

impl fmt::Display for WriteType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "SIMPLE",
            Self::Batch => "BATCH",
            Self::UnloggedBatch => "UNLOGGED_BATCH",
            Self::BatchLog => "BATCH_LOG",
            Self::Cas => "CAS",
        })
    }
}

/// Why a replica refused (`RequestFailureReason`, with the codes of protocol v5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// Not known.
    Unknown,
    /// The read met too many tombstones.
    ReadTooManyTombstones,
    /// It took too long on the replica.
    Timeout,
    /// The replica does not know the table (yet, or any longer).
    IncompatibleSchema,
}

impl FailureReason {
    /// The code in protocol v5's map of failures.
    pub fn code(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::ReadTooManyTombstones => 1,
            Self::Timeout => 2,
            Self::IncompatibleSchema => 3,
        }
    }
}

/// Why a request failed. Fields and texts are those of the native protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too few replicas are believed to be alive. Part of a batch may have been sent before it was found.
    #[error("Cannot achieve consistency level {consistency}")]
    Unavailable {
        /// The requested level.
        consistency: Consistency,
        /// How many replicas it needs.
        required: usize,
        /// How many are believed to be alive.
        alive: usize,
    },
    /// Too few replicas acknowledged a write in time. It may have happened, or may yet, or not.
    #[error("Operation timed out - received only {received} responses.")]
    WriteTimeout {
        /// The requested level.
        consistency: Consistency,
        /// How many acknowledged.
        received: usize,
        /// How many had to.
        block_for: usize,
        /// The kind of write.
        write_type: WriteType,
    },
    /// Too few replicas responded to a read in time, or acknowledged the repair that it made.
    #[error("Operation timed out - received only {received} responses.")]
    ReadTimeout {
        /// The requested level.
        consistency: Consistency,
        /// How many responded.
        received: usize,
        /// How many had to.
        block_for: usize,
        /// Whether the replica that returns data, not only a digest, was among them.
        data_present: bool,
    },
    /// Replicas refused a write. Others may have done it.
    #[error("Operation failed - received {received} responses and {} failures", .failures.len())]
    WriteFailure {
        /// The requested level.
        consistency: Consistency,
        /// How many acknowledged.
        received: usize,
        /// How many had to.
        block_for: usize,
        /// The replicas that refused, and why.
        failures: BTreeMap<IpAddr, FailureReason>,
        /// The kind of write.
        write_type: WriteType,
    },
    /// Replicas refused a read.
    #[error("Operation failed - received {received} responses and {} failures", .failures.len())]
    ReadFailure {
        /// The requested level.
        consistency: Consistency,
        /// How many responded.
        received: usize,
        /// How many had to.
        block_for: usize,
        /// The replicas that refused, and why.
        failures: BTreeMap<IpAddr, FailureReason>,
        /// Whether the replica that returns data was among those that responded.
        data_present: bool,
    },
    /// The coordinator has too much to do.
    #[error("{0}")]
    Overloaded(String),
    /// The coordinator is still starting.
    #[error("Cannot read from a bootstrapping node")]
    IsBootstrapping,
    /// A TRUNCATE failed.
    #[error("Error during truncate: {0}")]
    Truncate(String),
    /// The request makes no sense to this node (`InvalidRequestException`).
    #[error("{0}")]
    Invalid(String),
    /// A schema change makes no sense (`ConfigurationException`).
    #[error("{0}")]
    Configuration(String),
    /// Something unexpected.
    #[error("{0}")]
    Server(String),
}

impl RequestError {
    /// An unhandled exception of Cassandra's own, from `java.lang`, which its clients see as an error of the server.
    pub(crate) fn internal_error(exception: &str) -> Self {
        Self::Server(format!("java.lang.{exception}"))
    }
}

/// How mutations are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// One statement outside a batch.
    Single,
    /// BEGIN BATCH: if there are several mutations, they go through the batch log.
    LoggedBatch,
    /// BEGIN UNLOGGED BATCH: each mutation for itself.
    UnloggedBatch,
}

/// Warnings of the node, for the frame.
pub type Warnings = Vec<String>;

/// A conditional write of one partition.
pub struct ConditionalWrite<F> {
    /// The table.
    pub table: TableId,
    /// The partition.
    pub key: DecoratedKey,
    /// The rows on which the condition depends, within this partition.
    pub read: ReadCommand,
    /// Decides, given these rows and the timestamp that the write will have. It may be called several times.
    pub decide: F,
}

/// The outcome of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The condition holds: write this.
    Apply(Mutation),
    /// It does not.
    Refuse,
}

/// The outcome of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionalOutcome {
    /// It was written.
    Applied,
    /// The condition did not hold, with the rows that were found instead.
    Refused(ReadResult),
}

/// A prepared statement as it is kept on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStatement {
    /// The keyspace of the session that prepared it, if there was one.
    pub keyspace: Option<String>,
    /// Its text.
    pub query: String,
}

/// A node as its peers see it (`system.local`, `system.peers`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address for clients and for other nodes.
    pub address: IpAddr,
    /// The port for clients.
    pub port: u16,
    /// The host id, a UUID.
    pub host_id: u128,
    /// The data centre.
    pub data_center: String,
    /// The rack.
    pub rack: String,
    /// Its places on the ring.
    pub tokens: Vec<Token>,
    /// The schema version last heard from it.
    pub schema_version: u128,
    /// Whether it is believed to be alive.
    pub alive: bool,
}

/// The ring as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The cluster's name.
    pub cluster_name: String,
    /// This node.
    pub local: Peer,
    /// The others, by address.
    pub peers: Vec<Peer>,
}

/// What drivers can register for.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A node is believed to be alive again.
    Up(IpAddr, u16),
    /// A node is believed to be down.
    Down(IpAddr, u16),
    /// A node joined.
    NewNode(IpAddr, u16),
    /// A node left.
    RemovedNode(IpAddr, u16),
    /// The schema of this node changed.
    Schema(ChangeKind, Arc<SchemaChange>),
}

/// What a schema change did to the keyspace or table it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// It was, and is another now.
    Updated,
    /// It is not there any more.
    Dropped,
}

/// One node, as its CQL clients use it.
///
/// A request is carried out by the task that awaits its future, which should be one of the node ([`spawn`](Self::spawn)):
/// only then does it stop while the node's process is paused, and end with it. Dropping the future ends the request where
/// it is: what was sent to replicas stays sent.
pub trait Coordinator: Send + Sync + 'static {
    /// The schema as this node knows it.
    fn schema(&self) -> Arc<Schema>;

    /// The ring as this node knows it.
    fn topology(&self) -> Topology;

    /// What happens from now on. A receiver that lags loses the oldest events.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// A timestamp for a statement without one: this node's clock in microseconds.
    fn timestamp(&self) -> Timestamp;

    /// This node's clock in seconds, for TTLs and deletions.
    fn now(&self) -> Seconds;

    /// A number that no other call on this cluster returns, for identities (of tables).
    fn unique(&self) -> u128;

    /// Starts a task of the node's process: it is suspended while the process is paused, and ends with it. Must be called
    /// in the runtime of the cluster.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static);

    /// Writes mutations. They are merged by keyspace and partition key first, whatever the mode.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `WriteTimeout`, `WriteFailure`, `Overloaded`, `IsBootstrapping`, or `Invalid` for what is too
    /// large. Each but the last three may come after a part was written.
    fn write(
        &self,
        mutations: Vec<Mutation>,
        mode: WriteMode,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Warnings, RequestError>> + Send;

    /// Reads rows.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `ReadTimeout`, `ReadFailure`, `Overloaded`, `IsBootstrapping`.
    fn read(
        &self,
        command: ReadCommand,
        consistency: Consistency,
    ) -> impl Future<Output = Result<ReadResult, RequestError>> + Send;

    /// Reads a partition and writes to it if a condition holds, as one step in the partition's serial order.
    /// `serial` is SERIAL or LOCAL_SERIAL; `consistency` is that of the write's visibility to ordinary reads.
    ///
    /// # Errors
    ///
    /// As of reads and writes; a `WriteTimeout` of type `Cas` leaves open whether it was written.
    fn write_if<F>(
        &self,
        write: ConditionalWrite<F>,
        serial: Consistency,
        consistency: Consistency,
    ) -> impl Future<Output = Result<ConditionalOutcome, RequestError>> + Send
    where
        F: Fn(&ReadResult, Timestamp) -> Result<Decision, RequestError> + Send + Sync + 'static;

    /// Empties a table on every node.
    ///
    /// # Errors
    ///
    /// `Unavailable` if a node is believed to be down, `Truncate` if one did not respond in time.
    fn truncate(&self, table: TableId) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// Keeps a prepared statement on the node's disk (`system.prepared_statements`), so that it is known after a
    /// restart.
    fn store_prepared(&self, id: Bytes, statement: StoredStatement);

    /// Forgets a prepared statement.
    fn remove_prepared(&self, id: &Bytes);

    /// One of the prepared statements on the node's disk.
    fn stored_statement(&self, id: &Bytes) -> Option<StoredStatement> {
        self.stored_prepared().remove(id)
    }

    /// The prepared statements on the node's disk.
    fn stored_prepared(&self) -> BTreeMap<Bytes, StoredStatement>;

    /// Changes this node's schema and sends it to the others, without waiting for them.
    ///
    /// # Errors
    ///
    /// `Configuration` or `Server` if this node cannot.
    fn change_schema(&self, change: SchemaChange) -> impl Future<Output = Result<(), RequestError>> + Send;
}
