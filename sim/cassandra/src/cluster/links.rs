//! Links: delay, loss and duplication of the messages between nodes.

use std::time::Duration;

use simulated_hosts::links::Message;

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

    /// Sees a write, a read repair or a hint that a node sends to a replica, itself included, before it is asked about its
    /// delivery.
    fn sends(&self, _envelope: &Envelope, _mutation: &Mutation) {}
}

/// Links that deliver each message once, after a random delay, except where they are cut or a rule says otherwise.
pub type RuledLinks = simulated_hosts::links::RuledLinks<Envelope>;

/// A rule of [`RuledLinks`]: none leaves the message to the next rule.
pub type Rule = simulated_hosts::links::Rule<Envelope>;

/// Sees what a node sends to a replica.
pub type Observer = simulated_hosts::links::Observer<Envelope>;

impl Message for Envelope {
    type Host = NodeId;
    type Content = Mutation;

    fn sender(&self) -> NodeId {
        self.from
    }

    fn receiver(&self) -> NodeId {
        self.to
    }
}

impl Links for RuledLinks {
    fn sends(&self, envelope: &Envelope, mutation: &Mutation) {
        RuledLinks::sends(self, envelope, mutation);
    }

    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        RuledLinks::deliveries(self, envelope)
    }
}
