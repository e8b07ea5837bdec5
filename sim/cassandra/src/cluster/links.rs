//! Links: delay, loss and duplication of the messages between nodes.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::Rng;
use simulated_hosts::links::{self, Message};

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
pub type Rule = links::Rule<Envelope>;

impl Message for Envelope {
    type Host = NodeId;

    fn sender(&self) -> NodeId {
        self.from
    }

    fn receiver(&self) -> NodeId {
        self.to
    }
}

/// Links that deliver each message once, after a random delay, except where they are cut or a rule says otherwise.
pub struct RuledLinks {
    rules: links::RuledLinks<Envelope>,
    observers: Mutex<Vec<Observer>>,
}

impl RuledLinks {
    /// Links with delays between `shortest` and `longest`.
    pub fn new(shortest: Duration, longest: Duration, random: impl Rng + Send + 'static) -> Self {
        Self { rules: links::RuledLinks::new(shortest, longest, random), observers: Mutex::default() }
    }

    /// Undoes every cut and forgets every rule and every observer.
    pub fn restore_all(&self) {
        self.rules.restore_all();
        self.observers().clear();
    }

    /// Adds an observer of mutations.
    pub fn add_observer(&self, observer: impl FnMut(Observation<'_>) + Send + 'static) {
        self.observers().push(Box::new(observer));
    }

    fn observers(&self) -> MutexGuard<'_, Vec<Observer>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for RuledLinks {
    type Target = links::RuledLinks<Envelope>;

    fn deref(&self) -> &links::RuledLinks<Envelope> {
        &self.rules
    }
}

impl Links for RuledLinks {
    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        self.rules.deliveries(envelope)
    }

    fn observe(&self, observation: Observation<'_>) {
        self.observers().iter_mut().for_each(|observer| observer(observation));
    }
}
