//! Simulated nodes in this process, on loopback addresses. They end with the test.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore};
use exactlyonce::store::cql::Keyspace;
use scylla::client::session::Session;
use scylla_proxy::{Node, Proxy, RequestRule, RunningProxy, ShardAwareness};
use simulated_cassandra::cluster::{HostFault, NodeId, Options, RuledLinks};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};
use simulated_cassandra::server::Credentials;

use super::services::{self, TestKeyspace};

/// Three nodes of one datacenter, or six of two.
pub(crate) struct Nodes(LocalNodes);

/// The only datacenter, as that of the real nodes, or the first one.
pub(crate) const OSLO: &str = "dc1";

/// The second datacenter.
pub(crate) const PARIS: &str = "dc2";

impl Nodes {
    /// Starts three nodes of one datacenter.
    pub(crate) async fn start() -> Self {
        Self::start_with(3, None).await
    }

    /// Starts three nodes that require these credentials.
    pub(crate) async fn start_secured(username: &str, password: &str) -> Self {
        let (username, password) = (username.to_owned(), password.to_owned());
        Self::start_with(3, Some(Credentials { username, password })).await
    }

    /// Starts six nodes: 1 to 3 are in Oslo, 4 to 6 in Paris.
    pub(crate) async fn start_in_two_datacenters() -> Self {
        Self::start_with(6, None).await
    }

    async fn start_with(nodes: u8, credentials: Option<Credentials>) -> Self {
        let mut options = LocalOptions { nodes, port: 0, ..LocalOptions::new(1_600_000_000_000_000) };
        options.server.credentials = credentials;
        let change = |options: &mut Options| {
            // As of the real nodes.
            options.max_mutation_size = 4 << 20;
            // Longer than a busy machine delays anything, and shorter than the store waits.
            options.read_timeout = Duration::from_secs(10);
            options.write_timeout = Duration::from_secs(4);
            options.cas_contention_timeout = Duration::from_secs(4);
            // Nodes are killed only where there are two datacenters.
            options.failure_timeout = Duration::from_secs(if nodes > 3 { 3 } else { 20 });
            for (number, node) in options.nodes.iter_mut().enumerate() {
                node.data_center = if number < 3 { OSLO } else { PARIS }.to_owned();
            }
        };
        Self(LocalNodes::start(options, change).await.expect("the nodes start"))
    }

    /// Options for a keyspace, with all nodes as contact points.
    pub(crate) fn options(&self) -> CassandraOptions {
        let nodes = (1..=self.0.count()).map(|node| self.0.address(node).to_string());
        CassandraOptions::new(nodes.collect(), Keyspace::try_from("test".to_owned()).expect("a valid name"))
    }

    /// A store with a replica of its rows on each node.
    pub(crate) async fn store(&self, layout: Layout) -> CassandraStore {
        TestKeyspace::with(self.options(), layout).await.store
    }

    /// A session, with which a test writes what a store does not.
    pub(crate) async fn session(&self) -> Session {
        services::session(&self.options()).await
    }

    /// The links between the nodes, which are numbered from 0 there.
    pub(crate) fn links(&self) -> &RuledLinks {
        self.0.links()
    }

    /// Kills a node, and waits until all others know.
    pub(crate) async fn kill(&self, node: u8) {
        self.0.apply(node, HostFault::Kill).expect("the node runs");
        let id = |node: u8| NodeId(u32::from(node) - 1);
        let knows = |other: u8| !self.0.cluster().believes_alive(id(other), id(node));
        let others = || (1..=self.0.count()).filter(|other| self.0.is_running(*other));
        while !others().all(knows) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A proxy before each node, which forges responses.
pub(crate) struct Proxied {
    proxy: RunningProxy,
    /// Options to connect through the proxies.
    pub(crate) options: CassandraOptions,
}

impl Nodes {
    /// Starts a proxy before each node.
    pub(crate) async fn proxied(&self) -> Proxied {
        // The driver gets the nodes' addresses from the nodes, and assumes that all have the port of the first contact
        // point: so the proxies have the nodes' addresses and a common port.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut proxies = Vec::new();
        let mut contact_points = Vec::new();
        for node in 1..=self.0.count() {
            let node = self.0.address(node);
            let proxied = SocketAddr::new(node.ip(), port);
            contact_points.push(proxied.to_string());
            let proxy = Node::builder().real_address(node).proxy_address(proxied);
            proxies.push(proxy.shard_awareness(ShardAwareness::Unaware).build());
        }
        let proxy = Proxy::new(proxies).run().await.expect("the proxies start");
        Proxied { proxy, options: CassandraOptions { contact_points, ..self.options() } }
    }
}

impl Proxied {
    /// Applies a rule to all requests.
    pub(crate) fn on_requests(&mut self, rule: RequestRule) {
        for node in &mut self.proxy.running_nodes {
            node.change_request_rules(Some(vec![rule.clone()]));
        }
    }

    /// Ends the proxies.
    pub(crate) async fn finish(self) {
        // It fails where connections were open.
        let _ = self.proxy.finish().await;
    }
}
