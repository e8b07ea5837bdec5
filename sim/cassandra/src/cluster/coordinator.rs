//! A running node, as clients use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::NodeId;
use super::message::{Request, Response};
use super::node::Node;
use crate::coordinator::{
    ConditionalOutcome, ConditionalWrite, Consistency, Coordinator, Decision, Event, Peer, RequestError,
    StoredStatement, Topology, Warnings, WriteMode,
};
use crate::schema::{Schema, SchemaChange, TableId};
use crate::storage::{Mutation, ReadCommand, ReadResult, Seconds, Timestamp};

/// One run of a node, from its start to its end. A request to a node that has died gets no response; also wait for
/// [`died`](Self::died), as a client notices the broken connection.
#[derive(Clone)]
pub struct RunningNode(pub(super) Arc<Node>);

impl RunningNode {
    /// Which node it is.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Waits until the node serves clients: until it knows which others are alive.
    pub async fn ready(&self) {
        self.0.ready().await;
    }

    /// Waits for the end of this run.
    pub async fn died(&self) {
        self.0.died().await;
    }

    /// Whether this run is at its end.
    pub fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    /// Starts a task of the node's process: it is suspended while the process is paused, and ends with it.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.begin(|_| work);
    }

    /// Carries out a request of a client, unless the node has too many of them.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Node>) -> F) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let _admitted = Admitted::new(&self.0)?;
        work(self.0.clone()).await
    }
}

/// One request among those that the node has in flight.
struct Admitted(Arc<Node>);

impl Admitted {
    fn new(node: &Arc<Node>) -> Result<Self, RequestError> {
        let mut state = node.lock();
        if state.misbehaviour.overloaded || state.requests >= node.options().max_requests {
            return Err(RequestError::Overloaded("Server is in overloaded state".to_owned()));
        }
        state.requests += 1;
        Ok(Self(node.clone()))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.lock().requests -= 1;
    }
}

impl Coordinator for RunningNode {
    fn schema(&self) -> Arc<Schema> {
        self.0.schema()
    }

    fn topology(&self) -> Topology {
        let node = &self.0;
        let peer = |id: NodeId, schema_version, alive| {
            let member = node.cluster.member(id);
            Peer {
                address: member.address,
                port: member.port,
                host_id: node.cluster.host_id(id),
                data_center: member.data_center.clone(),
                rack: member.rack.clone(),
                tokens: member.tokens.clone(),
                schema_version,
                alive,
            }
        };
        let state = node.lock();
        Topology {
            cluster_name: node.options().cluster_name.clone(),
            local: peer(node.id, state.schema.version, true),
            peers: state
                .peers
                .iter()
                .map(|(id, view)| peer(*id, view.heartbeat.schema_version, view.alive))
                .collect(),
        }
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    fn timestamp(&self) -> Timestamp {
        self.0.timestamp()
    }

    fn now(&self) -> Seconds {
        self.0.now()
    }

    fn unique(&self) -> u128 {
        self.0.cluster.unique()
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.0.task(work));
    }

    async fn write(
        &self,
        mutations: Vec<Mutation>,
        mode: WriteMode,
        consistency: Consistency,
    ) -> Result<Warnings, RequestError> {
        self.run(|node| node.write(mutations, mode, consistency)).await
    }

    async fn read(&self, command: ReadCommand, consistency: Consistency) -> Result<ReadResult, RequestError> {
        self.run(|node| node.read(command, consistency)).await
    }

    async fn write_if<F>(
        &self,
        write: ConditionalWrite<F>,
        serial: Consistency,
        consistency: Consistency,
    ) -> Result<ConditionalOutcome, RequestError>
    where
        F: Fn(&ReadResult, Timestamp) -> Result<Decision, RequestError> + Send + Sync + 'static,
    {
        self.run(|node| node.write_if(write, serial, consistency)).await
    }

    async fn truncate(&self, table: TableId) -> Result<(), RequestError> {
        self.run(|node| node.truncate(table)).await
    }

    fn store_prepared(&self, id: Bytes, statement: StoredStatement) {
        if !self.is_dead() {
            self.0.member().disk.store_prepared(id, statement);
        }
    }

    fn remove_prepared(&self, id: &Bytes) {
        if !self.is_dead() {
            self.0.member().disk.remove_prepared(id);
        }
    }

    fn stored_statement(&self, id: &Bytes) -> Option<StoredStatement> {
        self.0.member().disk.stored_statement(id)
    }

    fn stored_prepared(&self) -> BTreeMap<Bytes, StoredStatement> {
        self.0.member().disk.stored_prepared()
    }

    async fn change_schema(&self, change: SchemaChange) -> Result<(), RequestError> {
        self.0.change_schema(change)
    }
}

impl Node {
    /// Empties a table on every node, all of which must be alive (`StorageProxy.truncateBlocking`).
    async fn truncate(self: Arc<Self>, table: TableId) -> Result<(), RequestError> {
        let nodes: Vec<NodeId> = self.cluster.ids().collect();
        let alive = nodes.iter().filter(|node| self.is_alive(**node)).count();
        if alive < nodes.len() {
            return Err(RequestError::Unavailable {
                consistency: Consistency::All,
                required: nodes.len(),
                alive,
            });
        }
        let wait = self.options().truncate_timeout;
        let deadline = Instant::now() + wait;
        let mut call = self.call();
        for node in &nodes {
            call.send(*node, Request::Truncate(table), wait);
        }
        let mut silent: std::collections::BTreeSet<NodeId> = nodes.into_iter().collect();
        while !silent.is_empty() {
            match call.next(deadline).await {
                Some((from, Response::Done)) => {
                    silent.remove(&from);
                }
                Some(_) => {}
                None => {
                    return Err(RequestError::Truncate(format!(
                        "Truncate timed out - received only {} responses",
                        self.cluster.ids().count() - silent.len()
                    )));
                }
            }
        }
        Ok(())
    }
}
