//! A cluster on loopback addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_hosts::local::{self, ListenError, MAX_NODES};
use thiserror::Error;
use tokio::net::TcpListener;

use super::serve;
use crate::cluster::{
    AdjustableClock, Cluster, HostFault, NodeId, NodeOptions, Options, Recovery, RuledLinks,
};
use crate::server::ServerOptions;
use crate::storage::{Disk, Token};

/// Options of a cluster on loopback addresses.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// How many nodes, from 1 to 100. The first listens on 127.0.0.1, the next on 127.0.0.2, and so on.
    pub nodes: u8,
    /// The port of all; 0 for one that is free on all addresses.
    pub port: u16,
    /// Places on the ring that each node has.
    pub tokens: u8,
    /// The seed of everything random: the delays of messages between the nodes, if there are any, and the order in which
    /// replicas are contacted.
    pub seed: u64,
    /// The longest that a message between two nodes takes; each takes a random part of it. Without one a message
    /// arrives immediately. Delays below a millisecond or two are as long as that because of tokio's timers.
    pub longest_delay: Duration,
    /// What the clocks of all nodes show at the start, in microseconds since 1970.
    pub clock: i64,
    /// How each node serves its clients.
    pub server: ServerOptions,
}

impl LocalOptions {
    /// Three nodes on port 9042, whose clocks show `clock`.
    pub fn new(clock: i64) -> LocalOptions {
        LocalOptions {
            nodes: 3,
            port: 9042,
            tokens: 4,
            seed: 1,
            longest_delay: Duration::ZERO,
            clock,
            server: ServerOptions::default(),
        }
    }
}

/// Why a cluster on loopback addresses, or one of its nodes, cannot carry out a command.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The number of nodes is 0 or more than 100.
    #[error("{0} nodes: there can be from 1 to {MAX_NODES}")]
    Nodes(u8),
    /// There is no such node.
    #[error("no node {0}")]
    NoNode(u8),
    /// The node runs already.
    #[error("node {0} runs already")]
    Running(u8),
    /// The node does not run.
    #[error("node {0} does not run")]
    NotRunning(u8),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A cluster whose nodes listen on loopback addresses: what happens to their processes is up to the caller. Nodes are
/// numbered from 1, as their addresses are. Its nodes end when it is dropped.
pub struct LocalNodes {
    cluster: Cluster,
    links: Arc<RuledLinks>,
    clocks: Vec<Arc<AdjustableClock>>,
    port: u16,
    server: ServerOptions,
}

impl LocalNodes {
    /// Starts a cluster, and waits until every node serves clients. `change` may change what it is configured with; by
    /// default its nodes gossip faster than Cassandra's, so that what happens is known within a second or two.
    ///
    /// # Errors
    /// If the number of nodes is not allowed, or an address is in use.
    pub async fn start(
        options: LocalOptions,
        change: impl FnOnce(&mut Options),
    ) -> Result<LocalNodes, LocalError> {
        if options.nodes == 0 || options.nodes > MAX_NODES {
            return Err(LocalError::Nodes(options.nodes));
        }
        let listeners = local::listen(options.nodes, options.port).await?;
        let port = match listeners.first().map(TcpListener::local_addr) {
            Some(Ok(address)) => address.port(),
            _ => options.port,
        };
        let clocks: Vec<_> =
            (0..options.nodes).map(|_| Arc::new(AdjustableClock::new(options.clock))).collect();
        let nodes = (1..=options.nodes).zip(&clocks).map(|(node, clock)| NodeOptions {
            address: local::address(node),
            port,
            data_center: "datacenter1".to_owned(),
            rack: "rack1".to_owned(),
            tokens: tokens(node, options.nodes, options.tokens.max(1)),
            clock: clock.clone(),
            disk: Disk::new(),
        });
        let mut configured = Options::new(nodes.collect());
        configured.gossip_interval = Duration::from_millis(100);
        configured.gossip_settle = Duration::from_millis(500);
        configured.failure_timeout = Duration::from_secs(1);
        configured.hints.dispatch_interval = Duration::from_secs(1);
        change(&mut configured);
        let random = |stream: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(options.seed);
            random.set_stream(stream);
            random
        };
        let links = Arc::new(RuledLinks::new(Duration::ZERO, options.longest_delay, random(0)));
        let cluster = Cluster::start(configured, links.clone(), random(1));
        let nodes = LocalNodes { cluster, links, clocks, port, server: options.server };
        for (node, listener) in (1..).zip(listeners) {
            nodes.serve(node, listener);
        }
        nodes.cluster.settled().await;
        Ok(nodes)
    }

    fn serve(&self, node: u8, listener: TcpListener) {
        if let Some(running) = self.cluster.node(id(node)) {
            tokio::spawn(serve(running, listener, self.server.clone()));
        }
    }

    /// The cluster, for all other operations.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The links between the nodes.
    pub fn links(&self) -> &RuledLinks {
        &self.links
    }

    /// The clock of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn clock(&self, node: u8) -> Result<&AdjustableClock, LocalError> {
        let clock = usize::from(node).checked_sub(1).and_then(|place| self.clocks.get(place));
        clock.map(Arc::as_ref).ok_or(LocalError::NoNode(node))
    }

    /// How many nodes there are, running or not.
    pub fn count(&self) -> u8 {
        // No more were started.
        u8::try_from(self.clocks.len()).unwrap_or(u8::MAX)
    }

    /// Where a node listens while it runs.
    pub fn address(&self, node: u8) -> SocketAddr {
        SocketAddr::new(local::address(node), self.port)
    }

    /// Whether a node runs, paused or not.
    pub fn is_running(&self, node: u8) -> bool {
        node > 0 && self.cluster.node(id(node)).is_some()
    }

    /// Begins a fault of a node: see [`Cluster::apply`]. A paused node responds neither to clients nor to other nodes.
    ///
    /// # Errors
    /// If it does not run.
    pub fn apply(&self, node: u8, fault: HostFault) -> Result<(), LocalError> {
        self.running(node)?;
        self.cluster.apply(id(node), fault);
        Ok(())
    }

    /// Ends a fault of a node: see [`Cluster::recover`]. [`Recovery::Start`] waits until the running nodes know each other.
    ///
    /// # Errors
    /// If a node to start runs, or its address is taken; if a node to resume does not run.
    pub async fn recover(&self, node: u8, recovery: Recovery) -> Result<(), LocalError> {
        match recovery {
            Recovery::Start => {
                let listener = self.listener(node).await?;
                self.cluster.recover(id(node), recovery);
                self.serve(node, listener);
                self.cluster.settled().await;
            }
            Recovery::Resume => {
                self.running(node)?;
                self.cluster.recover(id(node), recovery);
            }
        }
        Ok(())
    }

    /// Starts a node that gets its data from the others first, and waits for nothing: see [`Cluster::replace`].
    ///
    /// # Errors
    /// If it runs, or its address is taken.
    pub async fn replace(&self, node: u8) -> Result<(), LocalError> {
        let listener = self.listener(node).await?;
        self.cluster.replace(id(node));
        self.serve(node, listener);
        Ok(())
    }

    /// The address of a node that does not run, taken for its next run.
    async fn listener(&self, node: u8) -> Result<TcpListener, LocalError> {
        self.clock(node)?;
        if self.is_running(node) {
            return Err(LocalError::Running(node));
        }
        Ok(local::listen_again(self.address(node)).await?)
    }

    fn running(&self, node: u8) -> Result<(), LocalError> {
        self.clock(node)?;
        if self.is_running(node) { Ok(()) } else { Err(LocalError::NotRunning(node)) }
    }
}

fn id(node: u8) -> NodeId {
    NodeId(u32::from(node).saturating_sub(1))
}

/// Places spread evenly over the ring, in turn with the other nodes'.
fn tokens(node: u8, nodes: u8, each: u8) -> Vec<Token> {
    let step = u64::MAX / (u64::from(each) * u64::from(nodes));
    let places = (0..u64::from(each)).map(|place| place * u64::from(nodes) + u64::from(node) - 1);
    places.map(|place| Token((i64::MIN + 1).wrapping_add_unsigned(place * step))).collect()
}
