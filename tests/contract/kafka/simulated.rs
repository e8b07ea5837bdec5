//! Simulated Kafka: three brokers of `sim/kafka` in this process.

use simulated_hosts::{HostFault, LinkFaultName, Recovery};

use super::backend::Verb;
use super::sockets::{Nodes, OnSockets};
use crate::simulated_kafka::SimulatedBrokers;

/// A cluster of its own, which ends with this value.
pub struct Simulated(SimulatedBrokers);

impl Simulated {
    /// Starts three brokers.
    pub fn start() -> Result<OnSockets<Self>, String> {
        OnSockets::new(Self(SimulatedBrokers::start()?))
    }
}

fn number(node: i32) -> u8 {
    u8::try_from(node).expect("nodes are numbered from 1")
}

impl Nodes for Simulated {
    const VERBS: &'static [Verb] = &[
        Verb::Host(HostFault::Pause),
        Verb::Host(HostFault::Kill),
        Verb::Host(HostFault::PowerLoss),
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
        self.0.addresses().iter().map(ToString::to_string).collect()
    }

    async fn apply(&self, fault: HostFault, node: i32) -> Result<(), String> {
        self.0.command(|brokers| async move { brokers.apply(number(node), fault).await }).await
    }

    async fn recover(&self, recovery: Recovery, nodes: &[i32]) -> Result<(), String> {
        let nodes: Vec<_> = nodes.iter().copied().map(number).collect();
        self.0.command(|brokers| async move { brokers.recover(recovery, &nodes).await }).await
    }
}
