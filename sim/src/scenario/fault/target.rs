//! To whom or what a fault happens.

use serde::{Deserialize, Serialize};

use crate::parties::Service;

/// A host of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// This worker's.
    Worker(u8),
    /// That of the worker that reached the point.
    Triggering,
    /// That of a simple service.
    Service(Service),
    /// A node of Cassandra; they are counted from 0.
    Node(u8),
    /// A broker of Kafka; they are counted from 0.
    Broker(u8),
}

impl Host {
    /// True if it is a worker's.
    pub fn is_of_worker(self) -> bool {
        matches!(self, Host::Worker(_) | Host::Triggering)
    }
}

/// To whom or what a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// This host, its process, disk or clock.
    Host(Host),
    /// All nodes of Cassandra.
    AllNodes,
    /// All brokers of Kafka.
    AllBrokers,
    /// The link between two hosts: of a worker to a service, a node or a broker, of a node to another, or of a broker to
    /// another.
    Link {
        /// One end: the worker, if there is one.
        from: Host,
        /// The other end.
        to: Host,
        /// In which direction.
        direction: Direction,
    },
    /// Requests to a simple service, and their responses.
    Requests(Service),
    /// Messages between nodes of Cassandra.
    Replicas,
    /// Messages between brokers of Kafka.
    Brokers,
    /// None in particular.
    Anyone,
}

impl Target {
    /// True if it is the link that a message from one host to another takes, in a direction that is affected.
    pub(crate) fn cuts(self, sender: Host, receiver: Host) -> bool {
        let Target::Link { from, to, direction } = self else { return false };
        (sender, receiver) == (from, to) && direction.loses(true)
            || (sender, receiver) == (to, from) && direction.loses(false)
    }

    /// The worker's host, if one is affected.
    pub fn worker(mut self) -> Option<Host> {
        self.worker_mut().copied()
    }

    /// The same, to be changed.
    pub(crate) fn worker_mut(&mut self) -> Option<&mut Host> {
        match self {
            Target::Host(host) | Target::Link { from: host, .. } if host.is_of_worker() => Some(host),
            _ => None,
        }
    }
}

/// In which direction of a link messages are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    Both,
    /// What the one end sends: the requests of a worker.
    Forward,
    /// What the other end sends: requests of a worker arrive, and responses are lost.
    Backward,
}

impl Direction {
    /// The links from one host to another that this is.
    pub(crate) fn links<T: Copy>(self, from: T, to: T) -> Vec<(T, T)> {
        match self {
            Direction::Both => vec![(from, to), (to, from)],
            Direction::Forward => vec![(from, to)],
            Direction::Backward => vec![(to, from)],
        }
    }

    /// True if what one of the ends sends is lost.
    pub(crate) fn loses(self, is_forward: bool) -> bool {
        match self {
            Direction::Both => true,
            Direction::Forward => is_forward,
            Direction::Backward => !is_forward,
        }
    }
}
