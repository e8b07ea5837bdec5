//! The services: three brokers and three nodes.

use simulated_hosts::HostCommand;

use crate::cluster::Cluster;

pub struct Services {
    cluster: Cluster,
    pub kafka: String,
    pub cassandra: String,
}

impl Services {
    /// # Panics
    /// Unless three brokers and three nodes were started.
    pub fn find() -> Self {
        let cluster = Cluster::running();
        let three =
            |name: &str| cluster.addresses(name, 3).unwrap_or_else(|error| panic!("{error}")).join(",");
        let (kafka, cassandra) = (three("KAFKA"), three("CASSANDRA"));
        Self { cluster, kafka, cassandra }
    }

    /// Applies a fault to nodes or brokers, or ends it.
    ///
    /// # Panics
    /// If it fails.
    pub fn apply(&self, command: impl Into<HostCommand>, nodes: &[&str]) {
        self.cluster.apply(command, nodes).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts nodes that are down, resumes paused ones, and waits until all respond.
    pub fn heal(&self) {
        let up = ["up", "--kafka", "3", "--cassandra", "3"];
        self.cluster.run(&up).unwrap_or_else(|error| panic!("{error}"));
    }
}
