//! A running node: its state, the requests that it serves and those that it sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_hosts::calls::{self, Calls};
use simulated_hosts::process::Process;
use simulated_hosts::watch::Watched;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::message::{Body, Heartbeat, Message, Request, Response};
use super::options::{NodeOptions, Options};
use super::{Envelope, Environment, NodeId, Observation};
use crate::coordinator::{Event, RequestError};
use crate::schema::{Replication, Schema, Table, TableId};
use crate::storage::{Engine, Hint, Seconds, Timestamp};

/// What a node believes of another.
#[derive(Debug, Clone)]
pub(crate) struct PeerView {
    pub(crate) alive: bool,
    /// Since when it is believed to be down.
    pub(crate) down_since: Instant,
    pub(crate) heard: Instant,
    /// The newest heartbeat, from any node.
    pub(crate) heartbeat: Heartbeat,
    /// Whether an echo is in flight.
    pub(crate) echoing: bool,
}

/// How a node is made to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Misbehaviour {
    /// As a replica, it refuses writes (its disk is full).
    pub refuse_writes: bool,
    /// As a replica, it refuses reads.
    pub refuse_reads: bool,
    /// As a coordinator, it says that it is overloaded.
    pub overloaded: bool,
    /// As a coordinator, it has more hints to write than it may for every node that it believes to be down, and says
    /// that it is overloaded when it comes to a mutation for one: those before it in a batch are on their way.
    pub overloaded_by_hints: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) schema: Arc<Schema>,
    pub(crate) peers: BTreeMap<NodeId, PeerView>,
    pub(crate) joining: bool,
    /// Number of heartbeats that this node has sent.
    pub(crate) heartbeats: u64,
    /// Hints that are not on the disk yet, by host id.
    pub(crate) hints: BTreeMap<u128, Vec<Hint>>,
    /// The nodes that hints are being delivered to.
    pub(crate) dispatching: Vec<u128>,
    pub(crate) misbehaviour: Misbehaviour,
    pub(crate) requests: usize,
    last_timestamp: Timestamp,
    read_latencies: Latencies,
}

/// How long the last reads took.
#[derive(Debug, Default)]
struct Latencies {
    by_age: VecDeque<Duration>,
    sorted: Vec<Duration>,
}

impl Latencies {
    /// How many are kept.
    const KEPT: usize = 128;
    /// How many a percentile requires.
    const ENOUGH: usize = 16;

    fn add(&mut self, latency: Duration) {
        self.by_age.push_back(latency);
        let place = self.sorted.partition_point(|other| *other < latency);
        self.sorted.insert(place, latency);
        if self.by_age.len() > Self::KEPT
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.sorted.remove(self.sorted.partition_point(|other| *other < oldest));
        }
    }

    /// A percentile; none while there are few.
    fn percentile(&self, percentile: f64) -> Option<Duration> {
        let place = (self.sorted.len() as f64 * percentile / 100.0) as usize;
        let enough = self.sorted.len() >= Self::ENOUGH;
        self.sorted.get(place.min(self.sorted.len().saturating_sub(1))).copied().filter(|_| enough)
    }
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) cluster: Arc<Environment>,
    pub(crate) generation: u32,
    pub(crate) events: broadcast::Sender<Event>,
    /// The number of commit log records that are safe.
    pub(crate) synced: Watched<u64>,
    /// Notified of each record that is logged.
    pub(crate) logged: Notify,
    /// Whether it serves clients.
    pub(crate) readiness: Watched<bool>,
    process: Arc<Process<Message>>,
    calls: Arc<Calls<(NodeId, Response)>>,
    state: Mutex<State>,
}

impl Node {
    pub(crate) fn start(cluster: Arc<Environment>, id: NodeId, joining: bool) -> Arc<Self> {
        let disk = cluster.member(id).disk.clone();
        let generation = disk.next_generation();
        let engine = Engine::open(disk, cluster.options.flush_after_records);
        let now = Instant::now();
        let peer = PeerView {
            alive: false,
            down_since: now,
            heard: now,
            heartbeat: Heartbeat { generation: 0, version: 0, schema_version: 0, joining: false },
            echoing: false,
        };
        let peers = cluster.ids().filter(|other| *other != id).map(|other| (other, peer.clone())).collect();
        let state = State {
            engine,
            schema: Arc::new(Schema::default()),
            peers,
            joining,
            heartbeats: 0,
            hints: BTreeMap::new(),
            dispatching: Vec::new(),
            misbehaviour: Misbehaviour::default(),
            requests: 0,
            last_timestamp: 0,
            read_latencies: Latencies::default(),
        };
        let node = Arc::new(Self {
            id,
            cluster,
            generation,
            events: broadcast::Sender::new(256),
            synced: Watched::new(0),
            logged: Notify::new(),
            readiness: Watched::new(false),
            process: Arc::default(),
            calls: Arc::default(),
            state: Mutex::new(state),
        });
        node.load_schema();
        node
    }

    /// Starts the node's periodic tasks.
    pub(crate) fn begin_work(self: &Arc<Self>) {
        self.begin(Self::sync_commit_log);
        self.begin(Self::gossip);
        self.begin(Self::flush_hints);
        self.begin(Self::dispatch_hints);
        self.begin(Self::replay_batches);
        if self.lock().joining {
            self.begin(Self::join);
        }
    }

    /// Begins a task that ends with the node at the latest.
    pub(crate) fn begin<F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.cluster.hub.begin(self.task(work(self.clone())));
    }

    /// What a task of the node does: suspended while the process is paused, and ended with it.
    pub(crate) fn task<F>(self: &Arc<Self>, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.process.task(work)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.cluster.options
    }

    pub(crate) fn member(&self) -> &NodeOptions {
        self.cluster.member(self.id)
    }

    pub(crate) fn schema(&self) -> Arc<Schema> {
        self.lock().schema.clone()
    }

    /// A table, and how its keyspace is replicated.
    pub(crate) fn table(&self, id: TableId) -> Result<(Arc<Table>, Replication), RequestError> {
        let schema = self.schema();
        let table = schema.table_by_id(id).map_err(|error| RequestError::Invalid(error.to_string()))?;
        let keyspace = schema.keyspaces.get(&table.keyspace);
        let replication = keyspace.map(|keyspace| keyspace.replication.clone());
        Ok((table.clone(), replication.unwrap_or(Replication::Local)))
    }

    /// This node's clock in whole milliseconds, or one more than the last timestamp: on one node no two are equal and
    /// none is smaller, until it is restarted. Those of two nodes in one millisecond they are often equal
    /// (`ClientState.getTimestamp`: `currentTimeMillis() * 1000`).
    pub(crate) fn timestamp(&self) -> Timestamp {
        let clock = self.member().clock.micros().div_euclid(1000) * 1000;
        let mut state = self.lock();
        state.last_timestamp = clock.max(state.last_timestamp + 1);
        state.last_timestamp
    }

    /// This node's clock in seconds.
    pub(crate) fn now(&self) -> Seconds {
        self.member().clock.micros().div_euclid(1_000_000)
    }

    /// Whether this node believes that another can serve: alive, and itself always.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        node == self.id || self.lock().peers.get(&node).is_some_and(|peer| peer.alive)
    }

    /// Whether a node is still joining, as far as this one knows.
    pub(crate) fn is_joining(&self, node: NodeId) -> bool {
        let state = self.lock();
        match state.peers.get(&node) {
            Some(peer) => peer.heartbeat.joining,
            None => state.joining,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Ends the node: its tasks and its responses. What it had in memory is lost.
    pub(crate) fn die(&self) {
        self.process.end();
        self.calls.clear();
    }

    /// Waits for the node's end.
    pub(crate) async fn died(&self) {
        self.process.died().await;
    }

    /// Suspends the node's tasks and keeps the messages that arrive.
    pub(crate) fn pause(&self) {
        self.process.pause();
    }

    /// Handles the messages that arrived meanwhile, and continues the tasks.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.process.resume(|message| self.receive(message));
    }

    /// Receives a message.
    pub(crate) fn receive(self: &Arc<Self>, message: Message) {
        let Some(message) = self.process.receive(message) else { return };
        match message.body {
            Body::Response(_, response) => self.calls.respond(message.request, (message.from, response)),
            Body::Request(request) => {
                let expired = message.lifetime.is_some_and(|lifetime| message.sent.elapsed() >= lifetime);
                if !(expired && self.options().drop_expired) {
                    self.handle(message.from, message.request, request);
                }
            }
        }
    }

    /// Sends a message. One to the node itself arrives at once, though not before this returns.
    fn send(&self, to: NodeId, request: u64, lifetime: Option<Duration>, body: Body) {
        if self.is_dead() {
            return;
        }
        let message = Message { from: self.id, to, request, sent: Instant::now(), lifetime, body };
        let (verb, response_to) = match &message.body {
            Body::Request(request) => (request.verb(), None),
            Body::Response(verb, _) => (super::Verb::Response, Some(*verb)),
        };
        let envelope = Envelope { from: self.id, to, verb, response_to, request };
        if let Body::Request(
            Request::Write(mutation) | Request::ReadRepair(mutation) | Request::Hint(mutation, _),
        ) = &message.body
        {
            self.cluster.links.observe(Observation::Sent(&envelope, mutation));
        }
        if to == self.id {
            self.cluster.hub.send(message.sent, message);
            return;
        }
        for delay in self.cluster.links.deliveries(&envelope) {
            self.cluster.hub.send(message.sent + delay, message.clone());
        }
    }

    /// Sends a message that has no response.
    pub(crate) fn notify(&self, to: NodeId, request: Request) {
        self.send(to, self.cluster.next_request(), None, Body::Request(request));
    }

    /// Responds to a request.
    pub(crate) fn respond(&self, to: NodeId, request: u64, verb: super::Verb, response: Response) {
        self.send(to, request, None, Body::Response(verb, response));
    }

    /// Begins a request to some nodes.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        Call { node: self.clone(), call: self.calls.begin(self.cluster.next_request()) }
    }

    /// Asks one node. None if it does not respond in time.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        to: NodeId,
        request: Request,
        wait: Duration,
    ) -> Option<Response> {
        let mut call = self.call();
        call.send(to, request, wait);
        call.next(Instant::now() + wait).await.map(|(_, response)| response)
    }

    /// Notes how long a read took.
    pub(crate) fn note_read_latency(&self, latency: Duration) {
        self.lock().read_latencies.add(latency);
    }

    /// A percentile of the last reads' latencies; half the read timeout while there were few.
    pub(crate) fn read_latency(&self, percentile: f64) -> Duration {
        self.lock().read_latencies.percentile(percentile).unwrap_or(self.options().read_timeout / 2)
    }
}

/// A request in flight to some nodes. Responses that come after it is dropped are ignored.
pub(crate) struct Call {
    node: Arc<Node>,
    call: calls::Call<(NodeId, Response)>,
}

impl Call {
    /// Sends it to one more node, which ignores it after `lifetime`.
    pub(crate) fn send(&self, to: NodeId, request: Request, lifetime: Duration) {
        self.node.send(to, self.call.number(), Some(lifetime), Body::Request(request));
    }

    /// The next response, none at the deadline.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Option<(NodeId, Response)> {
        let response = self.call.next(deadline).await;
        if response.is_none() && self.node.is_dead() {
            std::future::pending::<()>().await;
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_of_the_last_latencies_and_requires_enough_of_them() {
        let mut latencies = Latencies::default();
        // In no order, and each several times.
        let all: Vec<Duration> = (0..500).map(|n| Duration::from_micros(n * 7919 % 101)).collect();
        for (count, latency) in (1..).zip(&all) {
            latencies.add(*latency);
            let mut last = all[count - count.min(Latencies::KEPT)..count].to_vec();
            last.sort();
            for percentile in [0.0, 50.0, 99.0, 100.0] {
                let place = (last.len() as f64 * percentile / 100.0) as usize;
                let expected = last.get(place.min(last.len() - 1)).filter(|_| count >= Latencies::ENOUGH);
                assert_eq!(latencies.percentile(percentile).as_ref(), expected, "{percentile} of {count}");
            }
        }
    }
}
