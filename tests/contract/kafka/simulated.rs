//! Simulated Kafka: three brokers of `sim/kafka` in this process, on loopback addresses.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use simulated_hosts::{HostFault, LinkFaultName, Recovery};
use simulated_kafka::serve::{LocalBrokers, LocalOptions};
use tokio::runtime::Runtime;

use super::backend::Verb;
use super::sockets::{Nodes, OnSockets};

/// A cluster of its own, which ends with this value.
pub struct Simulated {
    brokers: Arc<LocalBrokers>,
    /// Where the brokers run: a case may block its thread.
    runtime: Runtime,
}

impl Simulated {
    /// Starts three brokers, configured as the real ones of `docker/local/cluster` are.
    pub fn start() -> Result<OnSockets<Self>, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for brokers: {error}"))?;
        let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros());
        let clock = i64::try_from(clock).unwrap_or(i64::MAX);
        let options = LocalOptions { port: 0, ..LocalOptions::new(clock) };
        let starting = LocalBrokers::start(options, |options| {
            // What else it says is what brokers on loopback addresses have by themselves.
            options.auto_create_topics = false;
            let defaults = [("min.insync.replicas", "2"), ("segment.bytes", "16777216")];
            let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
            options.controller.topic_defaults.extend(defaults);
        });
        let started = runtime.block_on(async { tokio::time::timeout(START_TIMEOUT, starting).await });
        let brokers = started.map_err(|_| format!("the brokers did not start within {START_TIMEOUT:?}"))?;
        let brokers = Arc::new(brokers.map_err(|error| error.to_string())?);
        OnSockets::new(Self { brokers, runtime })
    }
}

const START_TIMEOUT: Duration = Duration::from_secs(60);

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
        (1..=self.brokers.count()).map(|broker| self.brokers.address(broker).to_string()).collect()
    }

    async fn apply(&self, fault: HostFault, node: i32) -> Result<(), String> {
        let brokers = self.brokers.clone();
        let applying = async move { brokers.apply(number(node), fault).await };
        let applied = self.runtime.spawn(applying).await.map_err(|error| error.to_string())?;
        applied.map_err(|error| error.to_string())
    }

    async fn recover(&self, recovery: Recovery, nodes: &[i32]) -> Result<(), String> {
        let (brokers, nodes) = (self.brokers.clone(), nodes.iter().copied().map(number).collect::<Vec<_>>());
        let recovering = async move { brokers.recover(recovery, &nodes).await };
        let recovered = self.runtime.spawn(recovering).await.map_err(|error| error.to_string())?;
        recovered.map_err(|error| error.to_string())
    }
}
