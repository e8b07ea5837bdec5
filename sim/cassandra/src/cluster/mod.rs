//! A cluster: nodes, replicas and the messages between them.
//!
//! Every node has its own disk, clock and view of which nodes are alive, and its own copy of the data; nodes only
//! exchange messages, and a write to three replicas is three messages. The caller's [`Links`]
//! decide whether each is delayed, lost or duplicated, in one direction or both. Node processes can be killed, with or
//! without the power, paused and started again, on the same disk or an empty one.
//!
//! A cluster runs in tasks of the runtime that it was started in, and ends when its last [`Cluster`] is dropped.
//!
//! Not simulated: repairs of sub-ranges and incremental repairs, materialized views, secondary indexes, counters,
//! nodes that leave or join besides those in the options (a node can be replaced, on its tokens), and the time that
//! a replica takes for its work: only links and syncs take time.

mod agreement;
mod batch_log;
mod coordinator;
mod gossip;
mod hints;
mod links;
mod message;
mod node;
mod options;
mod paxos;
mod plan;
mod read;
mod repair;
mod replica;
mod resolver;
mod ring;
mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use coordinator::RunningNode;
pub use links::{Envelope, Links, Observation, Observer, Rule, RuledLinks, Verb};
pub use node::Misbehaviour;
pub use options::{CommitLogSync, HintOptions, NodeId, NodeOptions, Options, Settings};
pub use repair::RepairError;
pub use simulated_hosts::clock::{AdjustableClock, Clock};
pub use simulated_hosts::{HostFault, Recovery};

use message::Message;
use node::Node;
use rand_core::Rng;
use ring::Ring;
use simulated_hosts::hub::{Hub, hub};
use simulated_hosts::watch::Watched;

use crate::storage::{DecoratedKey, Disk, Partition, fingerprint};

/// What all nodes share: the environment.
pub(crate) struct Environment {
    options: Options,
    /// Settings that may change while nodes run.
    settings: Watched<Settings>,
    ring: Ring,
    links: Arc<dyn Links>,
    hub: Hub<Message>,
    random: Mutex<Box<dyn Rng + Send>>,
    requests: AtomicU64,
    running: Mutex<BTreeMap<NodeId, Arc<Node>>>,
}

impl Environment {
    fn member(&self, id: NodeId) -> &NodeOptions {
        // Node ids come from `ids` alone, but for those in the cluster's own methods, which check them.
        &self.options.nodes[id.0 as usize]
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.options.nodes.len() as u32).map(NodeId)
    }

    fn host_id(&self, id: NodeId) -> u128 {
        let member = self.member(id);
        let identity = fingerprint(&[
            self.options.cluster_name.as_bytes(),
            member.address.to_string().as_bytes(),
            &member.disk.predecessors().to_be_bytes(),
        ]);
        as_uuid(identity)
    }

    fn by_host_id(&self, host_id: u128) -> Option<NodeId> {
        self.ids().find(|id| self.host_id(*id) == host_id)
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        self.lock_random().next_u64()
    }

    fn shuffle<T>(&self, things: &mut [T]) {
        plan::shuffle(self.lock_random().as_mut(), things);
    }

    fn unique(&self) -> u128 {
        let mut random = self.lock_random();
        as_uuid((u128::from(random.next_u64()) << 64) | u128::from(random.next_u64()))
    }

    fn lock_random(&self) -> MutexGuard<'_, Box<dyn Rng + Send>> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Node>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a message to its receiver, if that is running.
    fn deliver(&self, message: Message) {
        let receiver = self.running().get(&message.to).cloned();
        if let Some(receiver) = receiver {
            receiver.receive(message);
        }
    }
}

/// Makes a UUID of version 4 of a number.
fn as_uuid(number: u128) -> u128 {
    (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
}

struct Handle(Arc<Environment>);

impl Drop for Handle {
    fn drop(&mut self) {
        for node in std::mem::take(&mut *self.0.running()).into_values() {
            node.die();
        }
    }
}

/// A cluster. A clone is the same cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

/// A weak reference to a cluster.
#[derive(Clone)]
pub struct WeakCluster(Weak<Handle>);

impl WeakCluster {
    /// The cluster, if it still exists.
    pub fn upgrade(&self) -> Option<Cluster> {
        self.0.upgrade().map(Cluster)
    }
}

impl Cluster {
    /// Starts a cluster with all its nodes. Must be called within a tokio runtime, whose tasks do all the work.
    pub fn start(options: Options, links: Arc<dyn Links>, random: impl Rng + Send + 'static) -> Self {
        let (hub, hub_tasks) = hub();
        let shared = Arc::new(Environment {
            ring: Ring::new(&options.nodes),
            settings: Watched::new(Settings {
                hints: options.hints.clone(),
                commit_log_sync: options.commit_log_sync,
            }),
            options,
            links,
            hub,
            random: Mutex::new(Box::new(random)),
            requests: AtomicU64::new(0),
            running: Mutex::new(BTreeMap::new()),
        });
        hub_tasks.start(&shared, Environment::deliver);
        let cluster = Self(Arc::new(Handle(shared)));
        for id in cluster.nodes() {
            cluster.start_as(id, false);
        }
        cluster
    }

    /// The same cluster, without keeping it alive.
    pub fn downgrade(&self) -> WeakCluster {
        WeakCluster(Arc::downgrade(&self.0))
    }

    fn shared(&self) -> &Arc<Environment> {
        &self.0.0
    }

    fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.shared().running().get(&id).cloned()
    }

    /// Whether a node is running.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.get(id).is_some()
    }

    /// The nodes, running or not.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.shared().ids()
    }

    /// What a node was configured with; none if there is no such node.
    pub fn node_options(&self, id: NodeId) -> Option<&NodeOptions> {
        self.shared().options.nodes.get(id.0 as usize)
    }

    /// A node, if it is running.
    pub fn node(&self, id: NodeId) -> Option<RunningNode> {
        self.get(id).map(RunningNode)
    }

    /// Waits until every running node serves clients and believes that all running nodes are alive.
    pub async fn settled(&self) {
        loop {
            let running = self.shared().running().clone();
            let agree = running.values().all(|node| {
                node.readiness.get()
                    && running.keys().all(|other| node.is_alive(*other) && !node.is_joining(*other))
            });
            if agree {
                return;
            }
            tokio::time::sleep(self.shared().options.gossip_interval / 10).await;
        }
    }

    /// Starts a node that gets its data from the other replicas first. Until then it accepts writes and
    /// refuses reads as a node that is bootstrapping.
    pub fn replace(&self, id: NodeId) {
        self.start_as(id, true);
    }

    fn start_as(&self, id: NodeId, joining: bool) {
        if self.node_options(id).is_none() || self.get(id).is_some() {
            return;
        }
        let node = Node::start(self.shared().clone(), id, joining);
        self.shared().running().insert(id, node.clone());
        node.begin_work();
        tracing::debug!(node = id.0, generation = node.generation, joining, "started");
    }

    /// Begins a fault of a node's process or host, if the process is running. A power loss also loses what is not synced
    /// if it is not.
    ///
    /// Of what Cassandra keeps in memory, [`HostFault::Stop`] flushes hints and syncs the commit log.
    /// [`HostFault::Kill`] keeps the commit log, which is a mapped file, and loses hints that were not flushed.
    pub fn apply(&self, id: NodeId, fault: HostFault) {
        let Some(options) = self.node_options(id) else { return };
        if fault.ends_process() {
            let node = self.shared().running().remove(&id);
            if let Some(node) = node {
                if fault == HostFault::Stop {
                    node.flush_hints_now();
                    options.disk.sync();
                }
                node.die();
            }
            if fault.loses_unsynced() {
                options.disk.lose_unsynced();
            }
        } else if let Some(node) = self.get(id) {
            node.pause();
        }
        tracing::debug!(node = id.0, %fault, "began");
    }

    /// Ends a fault of a node. [`Recovery::Start`] starts its process on its disk, if it is not running; on an empty disk it
    /// serves what it does not have, see [`replace`](Self::replace). [`Recovery::Resume`] resumes a paused process, with
    /// the messages that arrived in the meantime.
    pub fn recover(&self, id: NodeId, recovery: Recovery) {
        match (recovery, self.get(id)) {
            (Recovery::Start, _) => self.start_as(id, false),
            (Recovery::Resume, Some(node)) => node.resume(),
            (Recovery::Resume, None) => {}
        }
    }

    /// Makes a node misbehave, until this is changed or the node is restarted.
    pub fn misbehave(&self, id: NodeId, misbehaviour: Misbehaviour) {
        if let Some(node) = self.get(id) {
            node.lock().misbehaviour = misbehaviour;
        }
    }

    /// Changes settings on all nodes, as an operator can while they run.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) {
        self.shared().settings.modify(change);
    }

    /// Makes the replicas of a keyspace equal, at the request of one node.
    ///
    /// # Errors
    ///
    /// If that node or a replica is not there.
    pub async fn repair(&self, id: NodeId, keyspace: &str) -> Result<(), RepairError> {
        let Some(node) = self.get(id) else { return Err(RepairError::NotRunning) };
        tokio::select! {
            biased;
            () = node.died() => Err(RepairError::NotRunning),
            result = node.clone().repair(keyspace.to_owned()) => result,
        }
    }

    /// Drops for good the tombstones of a node that are past their table's `gc_grace_seconds`, by its clock.
    pub fn compact(&self, id: NodeId) {
        if let Some(node) = self.get(id) {
            let now = node.now();
            let schema = node.schema();
            node.lock().engine.compact(&schema, now);
        }
    }

    /// Flushes a node's memory to its disk, hints included.
    pub fn flush(&self, id: NodeId) {
        if let Some(node) = self.get(id) {
            node.lock().engine.flush();
            node.flush_hints_now();
        }
    }

    /// A node's disk.
    pub fn disk(&self, id: NodeId) -> Option<Disk> {
        self.node_options(id).map(|options| options.disk.clone())
    }

    /// What one replica has of a partition, as a test's oracle may look at it; none if it has nothing or is not
    /// running.
    pub fn peek(&self, id: NodeId, table: crate::schema::TableId, key: &DecoratedKey) -> Option<Partition> {
        self.look(id, table, key, |partition| partition.cloned()).flatten()
    }

    /// Looks at what one replica has of a partition, as a test's oracle may, without copying it; none if the node is not
    /// running.
    pub fn look<R>(
        &self,
        id: NodeId,
        table: crate::schema::TableId,
        key: &DecoratedKey,
        look: impl FnOnce(Option<&Partition>) -> R,
    ) -> Option<R> {
        let node = self.get(id)?;
        let state = node.lock();
        Some(look(
            state.engine.table(table).and_then(|table| table.get(key)).map(|partition| partition.as_ref()),
        ))
    }

    /// Whether two running nodes have the same rows of a table, tombstones and timestamps included. Compares what both have
    /// of every partition, so it is meant for tables of which both are replicas.
    pub fn has_equal_replicas(&self, keyspace: &str, table: &str, one: NodeId, other: NodeId) -> bool {
        let Some(table) = self.table(keyspace, table) else { return false };
        let (Some(one), Some(other)) = (self.get(one), self.get(other)) else { return false };
        let one = one.lock().engine.table(table.id).cloned().unwrap_or_default();
        let other = other.lock().engine.table(table.id).cloned().unwrap_or_default();
        one == other
    }

    /// Whether one node believes that another is alive.
    pub fn believes_alive(&self, id: NodeId, other: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.is_alive(other))
    }

    /// A table, as the first running node's schema has it.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<Arc<crate::schema::Table>> {
        let first = self.shared().running().values().next().cloned()?;
        first.schema().table(keyspace, name).cloned()
    }

    /// The replicas of a partition, as the first running node's schema has it, the owner first.
    pub fn replicas(&self, keyspace: &str, key: &DecoratedKey) -> Vec<NodeId> {
        let first = self.shared().running().values().next().cloned();
        let Some(schema) = first.map(|node| node.schema()) else { return Vec::new() };
        let Some(keyspace) = schema.keyspaces.get(keyspace) else { return Vec::new() };
        self.shared().ring.replicas(&keyspace.replication, key.token())
    }
}
