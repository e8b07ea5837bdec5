//! Real Kafka: the three brokers of `docker/local/cluster`.

use std::sync::Arc;

use simulated_hosts::{HostCommand, HostFault, LinkFaultName, Recovery};

use super::backend::Verb;
use super::sockets::{Nodes, OnSockets};
use crate::cluster::Cluster;

/// Three brokers of `docker/local/cluster`.
pub struct Real {
    cluster: Arc<Cluster>,
    addresses: Vec<String>,
}

impl Real {
    /// Finds the running brokers.
    pub fn start() -> Result<OnSockets<Self>, String> {
        let cluster = Cluster::find()?;
        let addresses = cluster.addresses("KAFKA", 3)?;
        OnSockets::new(Self { cluster: Arc::new(cluster), addresses })
    }

    async fn command(&self, command: impl Into<HostCommand>, nodes: &[i32]) -> Result<(), String> {
        let names: Vec<_> = nodes.iter().map(|node| format!("kafka-{node}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.cluster.call_apply(command, &names).await
    }
}

impl Nodes for Real {
    const VERBS: &'static [Verb] = &[
        Verb::Host(HostFault::Pause),
        Verb::Host(HostFault::Kill),
        Verb::Host(HostFault::Stop),
        Verb::Link(LinkFaultName::Cut),
        Verb::Link(LinkFaultName::LoseResponses),
        Verb::Transactions,
        Verb::Compaction,
        Verb::ConsumerProtocol,
        Verb::Compression,
        Verb::PreferredElection,
        Verb::UncleanElection,
    ];

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    async fn apply(&self, fault: HostFault, node: i32) -> Result<(), String> {
        self.command(fault, &[node]).await
    }

    async fn recover(&self, recovery: Recovery, nodes: &[i32]) -> Result<(), String> {
        self.command(recovery, nodes).await
    }
}
