//! The services: three brokers and three nodes.

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

    /// Runs the script.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) {
        self.cluster.run(arguments).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts nodes that are down, resumes paused ones, and waits until all respond.
    pub fn heal(&self) {
        self.run(&["up", "--kafka", "3", "--cassandra", "3"]);
    }
}
