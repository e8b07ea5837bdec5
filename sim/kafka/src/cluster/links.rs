//! Links: delay, loss and duplication of the messages between brokers.

use std::time::Duration;

use simulated_hosts::links::{self, Message};

use crate::types::NodeId;

/// The kind of a message between brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A fetch of a follower.
    Replicate,
    /// A follower asks for the range of its leader's log.
    Range,
    /// A broker registers at the controller.
    Register,
    /// A broker's heartbeat to the controller.
    Heartbeat,
    /// A broker asks the controller for newer metadata.
    Metadata,
    /// A leader proposes an in-sync set to the controller.
    AlterPartition,
    /// A broker asks the controller for producer ids.
    ProducerIds,
    /// A request of a client that a broker forwards to the controller.
    Admin,
    /// A transaction coordinator writes markers.
    WriteMarkers,
    /// A leader verifies or adds a partition at a transaction coordinator.
    VerifyTransaction,
    /// The response to a message of this kind.
    Response,
}

/// A message in flight, as links see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: NodeId,
    /// The receiver, another broker.
    pub to: NodeId,
    /// Its kind.
    pub verb: Verb,
    /// The kind of its request, if it is a response.
    pub response_to: Option<Verb>,
    /// The place of its request among all requests of the cluster.
    pub request: u64,
}

impl Message for Envelope {
    type Host = NodeId;

    fn sender(&self) -> NodeId {
        self.from
    }

    fn receiver(&self) -> NodeId {
        self.to
    }
}

/// Decides how each message between two brokers is delivered. It is not asked about messages of a broker to itself.
pub trait Links: Send + Sync {
    /// How long each copy of the message takes: one for a message as it should be, none if it is lost, two if it is
    /// duplicated.
    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration>;
}

/// A rule of [`RuledLinks`]: none leaves the message to the next rule.
pub type Rule = links::Rule<Envelope>;

/// Links that deliver each message once, after a random delay, except where they are cut or a rule says otherwise.
pub type RuledLinks = links::RuledLinks<Envelope>;

impl Links for RuledLinks {
    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        links::RuledLinks::deliveries(self, envelope)
    }
}
