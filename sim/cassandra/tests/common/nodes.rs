//! A cluster on loopback sockets.

// Each program calls what it needs.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::{HostFault, NodeId, Recovery};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

/// A cluster whose nodes listen on 127.0.0.1, 127.0.0.2 and so on, on one port.
pub struct Nodes(LocalNodes);

impl Nodes {
    /// Starts `count` nodes.
    pub async fn start(count: u8) -> Nodes {
        let options = LocalOptions { nodes: count, port: 0, ..LocalOptions::new(1_600_000_000_000_000) };
        Nodes(LocalNodes::start(options, |_| {}).await.expect("the nodes start"))
    }

    /// Kills a node's process. Nodes are counted from 1.
    pub fn kill(&self, node: u8) {
        self.0.apply(node, HostFault::Kill).expect("the node runs");
    }

    /// Waits until every other node knows that a node is dead.
    pub async fn until_noticed(&self, node: u8) {
        let id = |node: u8| NodeId(u32::from(node) - 1);
        let others = || (1..=self.0.count()).filter(|other| *other != node);
        while others().any(|other| self.0.cluster().believes_alive(id(other), id(node))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts a node again.
    pub async fn restart(&self, node: u8) {
        self.0.recover(node, Recovery::Start).await.expect("the node starts");
    }

    /// Where the first node listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address(1)
    }

    /// A builder of sessions with this cluster.
    pub fn builder(&self) -> SessionBuilder {
        SessionBuilder::new().known_node_addr(self.0.address(1)).connection_timeout(Duration::from_secs(10))
    }

    /// A session with a keyspace `k` of as many replicas as there are nodes, at most three.
    pub async fn session(&self) -> Session {
        let session = self.builder().build().await.expect("the driver connects");
        let factor = self.0.count().min(3);
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS k WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
        );
        session.query_unpaged(create, &[]).await.expect("the keyspace is created");
        session
    }
}
