//! Real nodes of Cassandra.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::client::{Client, keyspace_of};
use super::world::{self, Verb};
use crate::real::Cluster;
use crate::suite;

/// Three nodes of `docker/local/cluster`.
pub struct Real {
    cluster: Arc<Cluster>,
    addresses: [SocketAddr; 3],
    /// What was done to the nodes and not undone.
    nodes: RefCell<[Node; 3]>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    paused: bool,
    killed: bool,
    /// Was paused or killed in this case, so that the others may not know yet that it is back.
    was_away: bool,
    /// As far as it is known.
    handoff: Option<bool>,
}

const NAMES: [&str; 3] = ["cassandra-1", "cassandra-2", "cassandra-3"];

impl Real {
    /// Finds them.
    pub fn start() -> Result<Self, String> {
        let cluster = Cluster::find()?;
        let found = cluster.addresses("CASSANDRA", 3)?;
        let mut addresses = [SocketAddr::from(([0; 4], 0)); 3];
        for (address, found) in addresses.iter_mut().zip(found) {
            *address = found.parse().map_err(|_| format!("{found:?} is not the address of a node"))?;
        }
        cluster.run(&["status"])?;
        Ok(Self { cluster: Arc::new(cluster), addresses, nodes: RefCell::default() })
    }

    async fn verb(&self, verb: &str, nodes: &[usize]) {
        let mut words = vec![verb];
        words.extend(nodes.iter().map(|&node| NAMES[node]));
        self.cluster.call(&words).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn nodetool(&self, node: usize, words: &[&str]) -> Result<String, String> {
        self.cluster.call(&[&["nodetool", NAMES[node]], words].concat()).await
    }

    fn mark(&self, nodes: &[usize], change: impl Fn(&mut Node)) {
        for &node in nodes {
            change(&mut self.nodes.borrow_mut()[node]);
        }
    }

    fn which(&self, is: impl Fn(&Node) -> bool) -> Vec<usize> {
        (0..3).filter(|&node| is(&self.nodes.borrow()[node])).collect()
    }

    async fn set_handoff(&self, on: bool) -> Result<(), String> {
        let nodes = self.which(|node| !node.killed && node.handoff != Some(on));
        let word = if on { "enablehandoff" } else { "disablehandoff" };
        let words = [word];
        try_join_all(nodes.iter().map(|&node| self.nodetool(node, &words))).await?;
        self.mark(&nodes, |node| node.handoff = Some(on));
        Ok(())
    }

    /// Waits until every node knows every other to be up.
    async fn all_seen(&self) -> Result<(), String> {
        let end = tokio::time::Instant::now() + Duration::from_secs(90);
        for node in 0..3 {
            loop {
                let status = self.nodetool(node, &["status"]).await;
                if status
                    .as_ref()
                    .is_ok_and(|text| text.lines().filter(|line| line.starts_with("UN ")).count() == 3)
                {
                    break;
                }
                if tokio::time::Instant::now() > end {
                    return Err(format!("{} does not see three nodes up: {status:?}", NAMES[node]));
                }
            }
        }
        Ok(())
    }
}

impl suite::World for Real {
    type Verb = Verb;
    const VERBS: &'static [Verb] = &[Verb::Pause, Verb::Kill, Verb::HintedHandoff, Verb::Flush];

    async fn heal(&self, case: &str) -> Result<(), String> {
        let paused = self.which(|node| node.paused);
        if !paused.is_empty() {
            world::World::resume(self, &paused).await;
        }
        let killed = self.which(|node| node.killed);
        if !killed.is_empty() {
            world::World::start(self, &killed).await;
        }
        if !self.which(|node| node.was_away).is_empty() {
            self.all_seen().await?;
            self.mark(&[0, 1, 2], |node| node.was_away = false);
        }
        let client = Client::connect(self, 0).await;
        let drop = format!("DROP KEYSPACE IF EXISTS {}", keyspace_of(case));
        client.run(&drop).await.map(|_| ()).map_err(|error| format!("{drop}: {error}"))
    }

    async fn finish(&self) -> Result<(), String> {
        self.set_handoff(true).await
    }
}

impl world::World for Real {
    fn addresses(&self) -> [SocketAddr; 3] {
        self.addresses
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn read_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn hints_delivered_within(&self) -> Duration {
        Duration::from_secs(40)
    }

    fn silence_noticed_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn batchlog_replayed_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn pause(&self, nodes: &[usize]) {
        self.mark(nodes, |node| (node.paused, node.was_away) = (true, true));
        self.verb("pause", nodes).await;
    }

    async fn resume(&self, nodes: &[usize]) {
        self.verb("resume", nodes).await;
        self.mark(nodes, |node| node.paused = false);
    }

    async fn kill(&self, nodes: &[usize]) {
        self.mark(nodes, |node| *node = Node { killed: true, was_away: true, ..Node::default() });
        self.verb("kill", nodes).await;
    }

    async fn start(&self, nodes: &[usize]) {
        self.verb("start", nodes).await;
        self.all_seen().await.unwrap_or_else(|error| panic!("{error}"));
        self.mark(nodes, |node| *node = Node { handoff: Some(true), ..Node::default() });
    }

    async fn hinted_handoff(&self, on: bool) {
        self.set_handoff(on).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn flush(&self, node: usize, keyspace: &str, table: &str) {
        self.nodetool(node, &["flush", keyspace, table]).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn power_loss(&self, _node: usize) {
        panic!("no power of a real node is cut");
    }

    async fn clock_skew(&self, _node: usize, _micros: i64) {
        panic!("no clock of a real node is moved");
    }

    async fn drop_messages(&self, _from: usize, _to: usize, _lost: bool) {
        panic!("no messages of real nodes are dropped");
    }
}
