//! The tables in Apache Cassandra (4.1, 5.0) or ScyllaDB, with the driver `scylla`.
//!
//! # How the contract of [`crate::store`] is kept
//!
//! - Every read and write is at QUORUM, or LOCAL_QUORUM if so configured; the binding records which. So what was
//!   acknowledged is seen by every later read. The binding itself is written conditionally at SERIAL, across all
//!   datacenters, whatever the consistency of the other requests (`bind.rs`).
//! - Every write carries its timestamp (`USING TIMESTAMP ?`), and missing cells are left unset, never null, which would
//!   be a tombstone. So writes may be repeated, delayed, or reordered.
//! - Errors of the driver are turned into an [`Outcome`] in one place (`outcomes.rs`); `docs/outcomes.md` is its
//!   table.
//!
//! # Retries: the driver makes none
//!
//! The retry policy is `FallthroughRetryPolicy` and there is no speculative execution. The pipeline itself
//! retries requests with unknown outcomes, with backoff, the same bytes and the same timestamp, and it decides when
//! to stop; retries below it would multiply the load on an overloaded cluster and hide from the log how many
//! requests fail. Retries would be safe: every statement except the conditional insert is idempotent and
//! marked so. The driver does two things on its own, neither of which repeats a request that may have been applied: it
//! skips a node without a working connection, and it prepares a statement again if a restarted node does not know it.
//!
//! # Requests
//!
//! Rows, counts and alerts are written in unlogged batches of one partition of the store each, which is one mutation
//! there; counts are read hundreds at a time (`counts.rs`). Statements are token-aware: they go to a replica. Bytes
//! of rows and requests in flight are limited, for all clones together, see [`CassandraOptions`]: more would only
//! load the garbage collectors of the nodes.
//!
//! # Encryption
//!
//! With [`CassandraOptions::tls`] the certificate of each node must come from a trusted authority and name
//! the node's IP address among its alternative names; the driver identifies nodes by address, so it does not check host
//! names. Verification cannot be disabled.
//!
//! # Limitation
//!
//! A node that freezes while its kernel still accepts connections makes [`CassandraStore::connect`] wait until its
//! deadline: the driver has no timeout for the handshake. Once connected, frozen nodes are detected by keepalive.

mod bind;
mod connect;
mod counts;
mod difference;
mod error;
mod execute;
mod guarantee;
mod limits;
mod options;
mod outcomes;
mod read;
mod requests;
mod schema;
mod statements;
#[cfg(feature = "tls")]
mod tls;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::frame::types::Consistency as Level;

pub use bind::Changed;
pub use difference::Difference;
pub use error::{ConnectError, DriverError, lacks_permission};
pub use options::{CassandraOptions, Compression, Consistency, Credentials, Tls};
pub use requests::RequestKind;
pub use schema::{apply_schema, check_schema};

use crate::event::{DeadLetter, Event, Row};
use crate::guarantee::Finding;
use crate::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey,
};
use limits::Limits;
use outcomes::ErrorClass;
use requests::Requests;
use schema::Checked;
use statements::Statements;
use write::{Batches, SizeWarnings};

/// The tables of a keyspace. Cheap to clone; the connections are closed when the last clone is dropped.
#[derive(Clone)]
pub struct CassandraStore {
    shared: Arc<Connection>,
}

/// The shared state of the clones of a store.
struct Connection {
    session: Session,
    statements: Statements,
    keyspace: String,
    layout: Layout,
    replicas: u32,
    /// From the schema at the time when the store was opened.
    replication: BTreeMap<String, String>,
    request_bytes: usize,
    limits: Limits,
    requests: Requests,
    slices: counts::Slices,
    batches: Batches,
    consistency: BoundConsistency,
    size_warnings: SizeWarnings,
}

/// A request that was refused, or whose outcome is unknown.
#[derive(Debug)]
struct Failed {
    class: ErrorClass,
    error: StoreError,
}

impl Failed {
    fn refused(what: impl Into<String>) -> Self {
        Self { class: ErrorClass::Refused, error: StoreError::of(what) }
    }

    fn unknown(what: impl Into<String>) -> Self {
        Self { class: ErrorClass::Unknown, error: StoreError::of(what) }
    }

    /// With an error of the driver.
    fn unknown_because(what: impl Into<String>, error: impl Into<crate::error::Cause>) -> Self {
        let error = StoreError::new(what, DriverError::new(error));
        Self { class: ErrorClass::Unknown, error }
    }
}

fn outcome<T>(result: Result<T, Failed>) -> Outcome<T> {
    match result {
        Ok(answer) => Outcome::Acknowledged(answer),
        Err(Failed { class: ErrorClass::Refused, error }) => Outcome::Refused(error),
        Err(Failed { class: ErrorClass::Unknown, error }) => Outcome::Unknown(error),
    }
}

impl fmt::Debug for CassandraStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connection { keyspace, layout, .. } = &*self.shared;
        f.debug_struct("CassandraStore").field("keyspace", keyspace).field("layout", layout).finish()
    }
}

impl CassandraStore {
    /// Connects, checks the schema and prepares the statements. One attempt, which takes at most a few
    /// times the timeouts of the options; the caller decides whether to retry.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(options: &CassandraOptions, layout: Layout) -> Result<Self, ConnectError> {
        let consistency = connect::consistency(options)?;
        let session = connect::session(options).await?;
        let Checked { replicas, datacenters, replication } = schema::check(&session, options, layout).await?;
        let mut statements = connect::prepare(&session, options, layout).await?;
        // See `bind.rs`.
        statements.insert_binding.set_consistency(match datacenters {
            2.. => Level::EachQuorum,
            _ => Level::Quorum,
        });
        let shared = Connection {
            session,
            statements,
            keyspace: options.keyspace.to_string(),
            layout,
            replicas,
            replication,
            request_bytes: options.request_bytes,
            limits: Limits::new(options),
            requests: Requests::default(),
            slices: counts::Slices::default(),
            batches: Batches::default(),
            consistency,
            size_warnings: SizeWarnings::new(options.warn_rows),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The keyspace.
    pub fn keyspace(&self) -> &str {
        &self.shared.keyspace
    }

    /// Requests sent so far by all clones of this store, by kind.
    pub fn requests(&self) -> impl Iterator<Item = (RequestKind, u64)> + '_ {
        self.shared.requests.all()
    }

    /// Changes the consistency that the keyspace is bound to from `from` to the one that this store is opened with.
    ///
    /// This is for an operator, while no worker runs, and after a repair of the whole keyspace: until then the
    /// replicas that are read from now on may lack acknowledged rows. Every replica must be available, because
    /// every one must have the change when this returns.
    pub async fn change_consistency(&self, from: &BoundConsistency) -> Outcome<Changed> {
        outcome(self.shared.change_consistency(from, &self.shared.consistency).await)
    }

    /// Number of replicas of which a quorum is more than half: those of the datacenter with LOCAL_QUORUM, else
    /// all of them. From the schema at the time when the store was opened.
    pub fn replicas(&self) -> u32 {
        self.shared.replicas
    }
}

impl Store for CassandraStore {
    fn layout(&self) -> Layout {
        self.shared.layout
    }

    fn consistency(&self) -> BoundConsistency {
        self.shared.consistency.clone()
    }

    async fn guarantees(&self) -> Outcome<Vec<Finding>> {
        outcome(self.shared.guarantees().await)
    }

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        outcome(self.shared.stored_binding().await)
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        outcome(self.shared.bind(binding).await)
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        outcome(self.shared.holds_rows().await)
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        outcome(self.shared.stored_progress().await)
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        outcome(self.shared.progress(partition).await)
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        outcome(self.shared.write_progress(partition, progress).await)
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        outcome(self.shared.register(partition).await)
    }

    async fn registered(&self) -> Outcome<i32> {
        outcome(self.shared.registered().await)
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        outcome(self.shared.counts(partition, windows).await)
    }

    async fn sums(&self, partitions: &[i32], windows: &[WindowKey]) -> Outcome<Vec<i64>> {
        outcome(self.shared.sums(partitions, windows).await)
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        outcome(self.shared.write_counts(partition, counts).await)
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        outcome(self.shared.write_alerts(alerts).await)
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        outcome(self.shared.write_rows(partition, rows).await)
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        outcome(self.shared.rows_below(partition, from, below, limit).await)
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        outcome(self.shared.events(partition, from, to, limit).await)
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        outcome(self.shared.dead_letters(partition, from, to, limit).await)
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        outcome(self.shared.partitions().await)
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        outcome(self.shared.alerts(after, limit).await)
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        outcome(self.shared.all_counts(after, limit).await)
    }
}
