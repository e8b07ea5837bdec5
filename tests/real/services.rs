//! The services: three brokers and three nodes, real or simulated.

use std::fmt;

use simulated_hosts::HostCommand;

use crate::cluster::Cluster;
use crate::simulated::SimulatedServices;

/// What runs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Worker,
    /// Of Cassandra.
    Node,
    /// Of Kafka.
    Broker,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Host::Worker => "worker",
            Host::Node => "node",
            Host::Broker => "broker",
        })
    }
}

/// A node or a broker, numbered from 1 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Node(u8),
    Broker(u8),
}

impl Server {
    /// All three of a kind.
    pub fn all(kind: fn(u8) -> Self) -> [Self; 3] {
        [1, 2, 3].map(kind)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Node(number) => write!(f, "cassandra-{number}"),
            Server::Broker(number) => write!(f, "kafka-{number}"),
        }
    }
}

pub trait Services: Send + Sync {
    /// The addresses of the brokers, separated by commas.
    fn kafka(&self) -> &str;

    /// The addresses of the nodes, separated by commas.
    fn cassandra(&self) -> &str;

    /// Applies a fault to servers of one kind, or ends it. A start returns when they respond.
    ///
    /// # Panics
    /// If it fails.
    fn apply(&self, command: HostCommand, servers: &[Server]);

    /// Starts servers that are down, resumes paused ones, and waits until all respond.
    fn heal(&self);

    /// The simulated services, which also lose their power and their links.
    fn simulated(&self) -> Option<&SimulatedServices> {
        None
    }
}

/// What `docker/local/cluster` runs.
pub struct RealServices {
    cluster: Cluster,
    kafka: String,
    cassandra: String,
}

impl RealServices {
    /// # Panics
    /// Unless three brokers and three nodes were started.
    pub fn find() -> Self {
        let cluster = Cluster::running();
        let three =
            |name: &str| cluster.addresses(name, 3).unwrap_or_else(|error| panic!("{error}")).join(",");
        let (kafka, cassandra) = (three("KAFKA"), three("CASSANDRA"));
        Self { cluster, kafka, cassandra }
    }
}

impl Services for RealServices {
    fn kafka(&self) -> &str {
        &self.kafka
    }

    fn cassandra(&self) -> &str {
        &self.cassandra
    }

    fn apply(&self, command: HostCommand, servers: &[Server]) {
        let names: Vec<String> = servers.iter().map(Server::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.cluster.apply(command, &names).unwrap_or_else(|error| panic!("{error}"));
    }

    fn heal(&self) {
        let up = ["up", "--kafka", "3", "--cassandra", "3"];
        self.cluster.run(&up).unwrap_or_else(|error| panic!("{error}"));
    }
}
