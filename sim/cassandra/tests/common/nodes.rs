//! A cluster on loopback sockets.

// Each program calls what it needs.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::{
    AdjustableClock, Cluster, Ending, NodeId, NodeOptions, Options, RuledLinks,
};
use simulated_cassandra::serve::serve;
use simulated_cassandra::server::ServerOptions;
use simulated_cassandra::storage::{Disk, Token};
use tokio::net::TcpListener;

/// A cluster whose nodes listen on 127.0.0.1, 127.0.0.2 and so on, on one port.
pub struct Nodes {
    pub cluster: Cluster,
    pub port: u16,
}

impl Nodes {
    /// Starts `count` nodes.
    pub async fn start(count: u8) -> Nodes {
        let mut listeners = listeners(count).await;
        let port = listeners[0].local_addr().unwrap().port();
        let tokens = |node: u8| {
            (0..4i64)
                .map(|place| {
                    Token(i64::MIN / 2 + (place * i64::from(count) + i64::from(node)) * 9_999_999_999_999_999)
                })
                .collect()
        };
        let nodes = (0..count).map(|node| NodeOptions {
            address: address(node),
            port,
            data_center: "dc1".to_owned(),
            rack: format!("r{node}"),
            tokens: tokens(node),
            clock: Arc::new(AdjustableClock::new(1_600_000_000_000_000)),
            disk: Disk::new(),
        });
        let mut options = Options::new(nodes.collect());
        options.gossip_interval = Duration::from_millis(50);
        options.gossip_settle = Duration::from_millis(500);
        options.failure_timeout = Duration::from_millis(1000);
        let links = RuledLinks::new(Duration::ZERO, Duration::from_micros(100), ChaCha8Rng::seed_from_u64(1));
        let cluster = Cluster::start(options, Arc::new(links), ChaCha8Rng::seed_from_u64(2));
        let nodes = Nodes { cluster, port };
        for (node, listener) in listeners.drain(..).enumerate() {
            nodes.serve(NodeId(node as u32), listener);
        }
        nodes.cluster.settled().await;
        nodes
    }

    fn serve(&self, id: NodeId, listener: TcpListener) {
        let node = self.cluster.node(id).expect("the node runs");
        tokio::spawn(serve(node, listener, ServerOptions::default()));
    }

    /// Kills a node's process.
    pub fn kill(&self, node: u8) {
        self.cluster.end(NodeId(node.into()), Ending::Kill);
    }

    /// Starts a node again.
    pub async fn restart(&self, node: u8) {
        let id = NodeId(node.into());
        self.cluster.start_node(id);
        let listener = loop {
            match TcpListener::bind(SocketAddr::new(address(node), self.port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.serve(id, listener);
        self.cluster.settled().await;
    }

    /// A builder of sessions with this cluster.
    pub fn builder(&self) -> SessionBuilder {
        SessionBuilder::new()
            .known_node_addr(SocketAddr::new(address(0), self.port))
            .connection_timeout(Duration::from_secs(10))
    }

    /// A session with a keyspace `k` of as many replicas as there are nodes, at most three.
    pub async fn session(&self) -> Session {
        let session = self.builder().build().await.expect("the driver connects");
        let factor = self.cluster.nodes().count().min(3);
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS k WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
        );
        session.query_unpaged(create, &[]).await.expect("the keyspace is created");
        session
    }
}

fn address(node: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, node + 1).into()
}

/// Listeners on one port that is free on all addresses.
async fn listeners(count: u8) -> Vec<TcpListener> {
    loop {
        let first = TcpListener::bind(SocketAddr::new(address(0), 0)).await.expect("a free port");
        let port = first.local_addr().expect("bound").port();
        let mut all = vec![first];
        for node in 1..count {
            match TcpListener::bind(SocketAddr::new(address(node), port)).await {
                Ok(listener) => all.push(listener),
                Err(_) => break,
            }
        }
        if all.len() == usize::from(count) {
            return all;
        }
    }
}
