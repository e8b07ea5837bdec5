//! Links: delay, loss and duplication of the messages between nodes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::Rng;

use super::NodeId;
use crate::storage::Mutation;

/// The kind of a message between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A mutation for a replica.
    Write,
    /// A mutation of a read repair.
    ReadRepair,
    /// A hint delivered.
    Hint,
    /// A read of rows.
    Read,
    /// A read of the rows' digest.
    ReadDigest,
    /// A logged batch for the batch log.
    StoreBatch,
    /// The removal of a logged batch.
    RemoveBatch,
    /// The first step of a conditional write (prepare).
    Prepare,
    /// The second step (propose).
    Propose,
    /// The third step (commit).
    Commit,
    /// A TRUNCATE.
    Truncate,
    /// A heartbeat.
    Gossip,
    /// An echo request, before a node is considered alive.
    Echo,
    /// Schema changes.
    Schema,
    /// A request for schema changes.
    SchemaPull,
    /// Rows requested by a repair or by a joining node.
    RepairRead,
    /// Rows written by a repair.
    RepairWrite,
    /// The response to a message of this kind.
    Response,
}

/// A message in flight, as links see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: NodeId,
    /// The receiver, another node.
    pub to: NodeId,
    /// Its kind.
    pub verb: Verb,
    /// The kind of its request, if it is a response.
    pub response_to: Option<Verb>,
    /// The place of its request among all requests of the cluster.
    pub request: u64,
}

/// Decides how each message between two nodes is delivered. It is not asked about messages of a node to itself.
pub trait Links: Send + Sync {
    /// How long each copy of the message takes: one for a message as it should be, none if it is lost, two if it is
    /// duplicated. Copies are delivered in the order of their delays.
    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration>;

    /// Sees what happens to a mutation, for tests. The node that it happens at must not be looked at meanwhile.
    fn observe(&self, _observation: Observation<'_>) {}
}

/// What happens to a mutation on its way to the replicas.
#[derive(Debug, Clone, Copy)]
pub enum Observation<'a> {
    /// A write, a read repair or a hint is sent to a replica, possibly by the replica to itself. It may be lost.
    Sent(&'a Envelope, &'a Arc<Mutation>),
    /// A coordinator keeps a hint.
    HintKept {
        /// The coordinator.
        by: NodeId,
        /// The replica that missed the write.
        target: NodeId,
        /// The write.
        mutation: &'a Arc<Mutation>,
    },
}

/// Sees what happens to mutations.
pub type Observer = Box<dyn FnMut(Observation<'_>) + Send>;

/// A rule of [`RuledLinks`]: none leaves the message to the next rule.
pub type Rule = Box<dyn FnMut(&Envelope) -> Option<Vec<Duration>> + Send>;

struct Ruled {
    cut: BTreeSet<(NodeId, NodeId)>,
    rules: Vec<(u64, Rule)>,
    next_rule: u64,
    observers: Vec<Observer>,
    random: Box<dyn Rng + Send>,
}

/// Links that deliver each message once, after a random delay, except where they are cut or a rule says otherwise.
pub struct RuledLinks {
    shortest: Duration,
    longest: Duration,
    state: Mutex<Ruled>,
}

impl RuledLinks {
    /// Links with delays between `shortest` and `longest`.
    pub fn new(shortest: Duration, longest: Duration, random: impl Rng + Send + 'static) -> Self {
        let state = Ruled {
            cut: BTreeSet::new(),
            rules: Vec::new(),
            next_rule: 0,
            observers: Vec::new(),
            random: Box::new(random),
        };
        Self { shortest, longest, state: Mutex::new(state) }
    }

    /// Loses every message from one node to another. The other direction is not changed.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    /// Undoes [`cut`](Self::cut).
    pub fn restore(&self, from: NodeId, to: NodeId) {
        self.lock().cut.remove(&(from, to));
    }

    /// Undoes every cut and forgets every rule and every observer.
    pub fn restore_all(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.rules.clear();
        state.observers.clear();
    }

    /// Adds an observer of mutations.
    pub fn add_observer(&self, observer: impl FnMut(Observation<'_>) + Send + 'static) {
        self.lock().observers.push(Box::new(observer));
    }

    /// Adds a rule, evaluated after the existing ones. Returns its number, for [`remove`](Self::remove).
    pub fn rule(&self, rule: impl FnMut(&Envelope) -> Option<Vec<Duration>> + Send + 'static) -> u64 {
        let mut state = self.lock();
        let number = state.next_rule;
        state.next_rule += 1;
        state.rules.push((number, Box::new(rule)));
        number
    }

    /// Removes a rule.
    pub fn remove(&self, rule: u64) {
        self.lock().rules.retain(|(number, _)| *number != rule);
    }

    fn lock(&self) -> MutexGuard<'_, Ruled> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for RuledLinks {
    fn observe(&self, observation: Observation<'_>) {
        self.lock().observers.iter_mut().for_each(|observer| observer(observation));
    }

    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        let mut state = self.lock();
        if state.cut.contains(&(envelope.from, envelope.to)) {
            return Vec::new();
        }
        if let Some(deliveries) = state.rules.iter_mut().find_map(|(_, rule)| rule(envelope)) {
            return deliveries;
        }
        let range = (self.longest.saturating_sub(self.shortest).as_nanos() as u64).saturating_add(1);
        vec![self.shortest + Duration::from_nanos(state.random.next_u64() % range)]
    }
}
