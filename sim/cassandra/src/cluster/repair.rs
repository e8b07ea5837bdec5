//! Anti-entropy repair, and how a node with an empty disk gets its data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::NodeId;
use super::message::{Partitions, Request, Response};
use super::node::Node;
use crate::schema::{Keyspace, TableId};
use crate::storage::{ColumnSelection, Partition, Token};

/// A repair that could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The coordinating node has no such keyspace.
    #[error("keyspace {0} does not exist")]
    UnknownKeyspace(String),
    /// A replica is down or did not respond; what was repaired before stays repaired.
    #[error("node {} did not respond", .0.0)]
    NoResponse(NodeId),
    /// The coordinating node is not running, or died.
    #[error("the node is not running")]
    NotRunning,
}

impl Node {
    /// Makes all replicas of a keyspace equal, tombstones and all (`nodetool repair -full`).
    pub(crate) async fn repair(self: Arc<Self>, keyspace: String) -> Result<(), RepairError> {
        let schema = self.schema();
        let Some(keyspace) = schema.keyspaces.get(keyspace.as_str()) else {
            return Err(RepairError::UnknownKeyspace(keyspace));
        };
        for table in keyspace.tables.values() {
            for (after, up_to, replicas) in self.cluster.ring.ranges(&keyspace.replication) {
                self.repair_range(table.id, after, up_to, &replicas).await?;
            }
        }
        Ok(())
    }

    async fn repair_range(
        self: &Arc<Self>,
        table: TableId,
        after: Token,
        up_to: Token,
        replicas: &[NodeId],
    ) -> Result<(), RepairError> {
        let mut versions: BTreeMap<NodeId, Partitions> = BTreeMap::new();
        let mut merged: BTreeMap<_, Partition> = BTreeMap::new();
        for replica in replicas {
            let rows =
                self.rows_of(*replica, table, after, up_to).await.ok_or(RepairError::NoResponse(*replica))?;
            for (key, partition) in &rows {
                merged.entry(key.clone()).or_default().merge(partition);
            }
            versions.insert(*replica, rows);
        }
        let nothing = Arc::new(Partition::default());
        for (replica, rows) in versions {
            let mut missing = Partitions::new();
            for (key, partition) in &merged {
                let difference = partition.over(rows.get(key).unwrap_or(&nothing), &ColumnSelection::All);
                if !difference.is_empty() {
                    missing.insert(key.clone(), Arc::new(difference));
                }
            }
            if missing.is_empty() {
                continue;
            }
            let request = Request::RepairWrite { table, rows: missing };
            let wait = self.options().truncate_timeout;
            if self.ask(replica, request, wait).await.is_none() {
                return Err(RepairError::NoResponse(replica));
            }
        }
        Ok(())
    }

    /// Everything that a replica has of a range.
    async fn rows_of(
        self: &Arc<Self>,
        replica: NodeId,
        table: TableId,
        after: Token,
        up_to: Token,
    ) -> Option<Partitions> {
        if !self.is_alive(replica) {
            return None;
        }
        let wait = self.options().truncate_timeout;
        match self.ask(replica, Request::RepairRead { table, after, up_to }, wait).await? {
            Response::Rows(rows) => Some(rows),
            _ => None,
        }
    }

    /// Joins the ring: gets the schema from the others and, for each range, the rows of one replica, and only then
    /// serves reads. Tries until it has everything.
    pub(crate) async fn join(self: Arc<Self>) {
        let others: Vec<NodeId> = self.cluster.ids().filter(|other| *other != self.id).collect();
        while !others.is_empty() && !self.until_alive(&others, Duration::from_secs(60)).await {}
        loop {
            self.agree(&others).await;
            let schema = self.schema();
            let mut complete = true;
            for keyspace in schema.keyspaces.values() {
                complete &= self.stream_keyspace(keyspace).await;
            }
            // What was created meanwhile came in by writes, which joining nodes get.
            if complete {
                break;
            }
            sleep(self.options().gossip_interval).await;
        }
        self.lock().joining = false;
        tracing::debug!(node = self.id.0, "joined");
    }

    /// Waits until this node knows the schema of one that is alive.
    async fn agree(&self, others: &[NodeId]) {
        let until = Instant::now() + self.options().gossip_interval * 30;
        loop {
            let agrees = {
                let state = self.lock();
                let version = state.schema.version;
                others.is_empty()
                    || state.peers.values().any(|peer| {
                        peer.alive && !peer.heartbeat.joining && peer.heartbeat.schema_version == version
                    })
            };
            if agrees || Instant::now() >= until {
                return;
            }
            sleep(self.options().gossip_interval / 4).await;
        }
    }

    async fn stream_keyspace(self: &Arc<Self>, keyspace: &Keyspace) -> bool {
        for (after, up_to, replicas) in self.cluster.ring.ranges(&keyspace.replication) {
            let sources: Vec<NodeId> = replicas
                .iter()
                .copied()
                .filter(|replica| *replica != self.id && !self.is_joining(*replica))
                .collect();
            if sources.is_empty() || !replicas.contains(&self.id) {
                continue;
            }
            for table in keyspace.tables.values() {
                let mut found = false;
                for source in &sources {
                    if let Some(rows) = self.rows_of(*source, table.id, after, up_to).await {
                        self.stream_in(table.id, rows);
                        found = true;
                        break;
                    }
                }
                if !found {
                    return false;
                }
            }
        }
        true
    }
}
