//! A keyspace for each test on a real Cassandra cluster, which `docker/local/cluster` starts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::cluster::Cluster;

/// The nodes, `host:port`.
pub(crate) fn nodes() -> Vec<String> {
    Cluster::running().addresses("CASSANDRA", 1).unwrap_or_else(|error| panic!("{error}"))
}

/// Options for a keyspace that only this test uses.
pub(crate) fn options() -> CassandraOptions {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    CassandraOptions::new(nodes(), Keyspace::try_from(name).expect("a valid name"))
}

/// Replication with a replica on each node.
pub(crate) fn replication(options: &CassandraOptions) -> Replication {
    Replication::anywhere(options.contact_points.len() as i64).expect("a valid replication factor")
}

/// A session with which a test inspects and changes the tables directly. Its timeout is long, because dropping a keyspace
/// is slow on a busy machine.
pub(crate) async fn session(options: &CassandraOptions) -> Session {
    let profile = ExecutionProfile::builder().request_timeout(Some(Duration::from_secs(180))).build();
    let session = SessionBuilder::new()
        .known_nodes(&options.contact_points)
        .default_execution_profile_handle(profile.into_handle());
    session.build().await.expect("the nodes respond")
}

/// A keyspace of one test and a store in it. A failed test leaves the keyspace behind for inspection.
pub(crate) struct TestKeyspace {
    pub(crate) options: CassandraOptions,
    pub(crate) store: CassandraStore,
}

impl TestKeyspace {
    pub(crate) async fn new(layout: Layout) -> Self {
        Self::with(options(), layout).await
    }

    /// Creates the keyspace of these options.
    pub(crate) async fn with(options: CassandraOptions, layout: Layout) -> Self {
        apply_schema(&options, &replication(&options), layout).await.expect("the tables can be created");
        let store = CassandraStore::connect(&options, layout).await.expect("the tables can be opened");
        Self { options, store }
    }

    /// Drops the keyspace.
    pub(crate) async fn drop(self) {
        let cql = format!("DROP KEYSPACE {}", self.options.keyspace);
        session(&self.options).await.query_unpaged(cql, ()).await.expect("the keyspace can be dropped");
    }
}
