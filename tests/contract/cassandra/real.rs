//! Real nodes of Cassandra.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::Consistency;
use simulated_hosts::{ClockFault, DiskFault, HostCommand, HostFault, Recovery};
use tokio::time::{Instant, sleep};

use super::backend::{self, Verb};
use super::client::{Client, keyspace_of};
use crate::cluster::Cluster;
use crate::suite;

/// Three nodes of `docker/local/cluster`.
pub struct Real {
    cluster: Arc<Cluster>,
    addresses: [SocketAddr; 3],
    /// The faults of the nodes that were not undone yet.
    nodes: RefCell<[Node; 3]>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    paused: bool,
    killed: bool,
    silent: bool,
    /// Was down in this case, so that other nodes may not have detected yet that it is up.
    was_down: bool,
    /// Whether hinted handoff is on, if known.
    handoff: Option<bool>,
}

const NAMES: [&str; 3] = ["cassandra-1", "cassandra-2", "cassandra-3"];

/// Maximum time until all nodes have detected which nodes are up.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(90);

/// How long the others may see a node as up that has announced that it stops to gossip: attempt by attempt. Gossip that is in
/// flight at that time marks it as up again (`Gossiper.applyStateLocally`: one that was shut down is not in a dead state). Then
/// only the failure detector is left, which took 32 to 63 s on a busy machine.
const ANNOUNCED_WITHIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(120)];

impl Real {
    /// Finds the running nodes.
    pub fn start() -> Result<Self, String> {
        let cluster = Cluster::find()?;
        let found = cluster.addresses("CASSANDRA", 3)?;
        let mut addresses = [SocketAddr::from(([0; 4], 0)); 3];
        for (address, found) in addresses.iter_mut().zip(found) {
            *address = found.parse().map_err(|_| format!("{found:?} is not the address of a node"))?;
        }
        // An interrupted run may have left them silent.
        let nodes = [Node { silent: true, was_down: true, ..Node::default() }; 3];
        Ok(Self { cluster: Arc::new(cluster), addresses, nodes: RefCell::new(nodes) })
    }

    async fn command(&self, command: impl Into<HostCommand>, nodes: &[usize]) {
        let names: Vec<_> = nodes.iter().map(|&node| NAMES[node]).collect();
        self.cluster.call_apply(command, &names).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Runs nodetool on several nodes concurrently.
    async fn nodetool(&self, nodes: &[usize], arguments: &[&str]) -> Result<(), String> {
        let calls = nodes.iter().map(|&node| async move {
            self.cluster.call(&[&["nodetool", NAMES[node]], arguments].concat()).await
        });
        try_join_all(calls).await.map(drop)
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
        self.nodetool(&nodes, &[if on { "enablehandoff" } else { "disablehandoff" }]).await?;
        self.mark(&nodes, |node| node.handoff = Some(on));
        Ok(())
    }

    /// Waits until each of these nodes sees this many nodes as up.
    async fn all_know(&self, nodes: &[usize], up: usize) -> Result<(), String> {
        self.all_know_within(DETECTION_TIMEOUT, nodes, up).await
    }

    async fn all_know_within(&self, time: Duration, nodes: &[usize], up: usize) -> Result<(), String> {
        const OF_ALL: &str = "SELECT * FROM system_distributed.view_build_status WHERE keyspace_name = 'x' AND view_name = 'x'";
        let end = Instant::now() + time;
        for &node in nodes {
            let client = Client::connect(self, node).await.at(Consistency::All);
            loop {
                let known = match client.run(OF_ALL).await {
                    Ok(_) => 3,
                    Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                        DbError::Unavailable { alive, .. },
                        _,
                    ))) => alive as usize,
                    Err(_) => 0,
                };
                if known == up {
                    break;
                }
                if Instant::now() > end {
                    return Err(format!("{} sees {known} nodes as up, not {up}", NAMES[node]));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

impl suite::Backend for Real {
    type Verb = Verb;
    const VERBS: &'static [Verb] = &[
        Verb::Host(HostFault::Pause),
        Verb::Host(HostFault::Kill),
        Verb::HintedHandoff,
        Verb::Silence,
        Verb::Compact,
        Verb::AntiEntropy,
    ];

    async fn heal(&self, case: &str) -> Result<(), String> {
        let paused = self.which(|node| node.paused);
        if !paused.is_empty() {
            backend::Backend::recover(self, Recovery::Resume, &paused).await;
        }
        let killed = self.which(|node| node.killed);
        if !killed.is_empty() {
            backend::Backend::recover(self, Recovery::Start, &killed).await;
        }
        let silent = self.which(|node| node.silent);
        if !silent.is_empty() {
            backend::Backend::end_silence(self).await;
        }
        if !self.which(|node| node.was_down).is_empty() {
            self.all_know(&[0, 1, 2], 3).await?;
            self.mark(&[0, 1, 2], |node| node.was_down = false);
        }
        let client = Client::connect(self, 0).await;
        let drop = format!("DROP KEYSPACE IF EXISTS {}", keyspace_of(case));
        client.run(&drop).await.map(|_| ()).map_err(|error| format!("{drop}: {error}"))
    }

    async fn finish(&self) -> Result<(), String> {
        if self.which(|node| node.handoff.is_some()).is_empty() {
            return Ok(());
        }
        self.set_handoff(true).await
    }
}

impl backend::Backend for Real {
    fn addresses(&self) -> [SocketAddr; 3] {
        self.addresses
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn delivered_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn death_noticed_within(&self) -> Duration {
        DETECTION_TIMEOUT
    }

    async fn apply(&self, fault: HostFault, nodes: &[usize]) {
        match fault {
            HostFault::Pause => self.mark(nodes, |node| (node.paused, node.was_down) = (true, true)),
            HostFault::Kill => {
                self.mark(nodes, |node| *node = Node { killed: true, was_down: true, ..Node::default() });
            }
            HostFault::Stop => panic!("no case stops a node"),
            HostFault::PowerLoss => panic!("no power of a real node is cut"),
        }
        self.command(fault, nodes).await;
    }

    async fn recover(&self, recovery: Recovery, nodes: &[usize]) {
        self.command(recovery, nodes).await;
        match recovery {
            Recovery::Resume => self.mark(nodes, |node| node.paused = false),
            Recovery::Start => {
                self.mark(nodes, |node| {
                    *node = Node { was_down: true, handoff: Some(true), ..Node::default() }
                });
                self.all_know(&[0, 1, 2], 3).await.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    async fn apply_to_disk(&self, _fault: DiskFault, _node: usize) {
        panic!("a real node with an empty disk would be another node");
    }

    async fn apply_to_clock(&self, _fault: ClockFault, _node: usize) {
        panic!("no clock of a real node is moved");
    }

    async fn restore_clock(&self, _fault: ClockFault, _node: usize) {
        panic!("no clock of a real node is moved");
    }

    async fn cut_mutations(&self, _from: usize, _to: usize) {
        panic!("no messages of real nodes are dropped");
    }

    async fn restore_mutations(&self, _from: usize, _to: usize) {
        panic!("no messages of real nodes are dropped");
    }

    async fn hinted_handoff(&self, on: bool) {
        self.set_handoff(on).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn silence(&self, nodes: &[usize]) {
        self.mark(nodes, |node| (node.silent, node.was_down) = (true, true));
        let others = self.which(|node| !node.silent && !node.killed);
        for within in ANNOUNCED_WITHIN {
            self.nodetool(nodes, &["disablegossip"]).await.unwrap_or_else(|error| panic!("{error}"));
            if self.all_know_within(within, &others, others.len()).await.is_ok() {
                return;
            }
            self.nodetool(nodes, &["enablegossip"]).await.unwrap_or_else(|error| panic!("{error}"));
            let running = self.which(|node| !node.killed);
            self.all_know(&running, running.len()).await.unwrap_or_else(|error| panic!("{error}"));
        }
        panic!("the others see nodes as up that do not gossip any more: {nodes:?}");
    }

    async fn end_silence(&self) {
        let silent = self.which(|node| node.silent);
        self.nodetool(&silent, &["enablegossip"]).await.unwrap_or_else(|error| panic!("{error}"));
        self.mark(&silent, |node| node.silent = false);
        self.all_know(&[0, 1, 2], 3).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn compact(&self, keyspace: &str, merge: bool) {
        let nodes = [0, 1, 2];
        self.nodetool(&nodes, &["flush", keyspace]).await.unwrap_or_else(|error| panic!("{error}"));
        if merge {
            self.nodetool(&nodes, &["compact", keyspace]).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    async fn hold_hints(&self) {
        panic!("real nodes flush their hints");
    }

    async fn repair(&self, keyspace: &str) {
        let arguments = ["repair", "--full", keyspace];
        self.nodetool(&[0], &arguments).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn periodic_sync(&self, _on: bool) {
        panic!("how the commit log is synced was chosen when the nodes were started");
    }
}
