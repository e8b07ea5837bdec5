//! Simulated services: three brokers of `sim/kafka` and three nodes of `sim/cassandra` in this process, on loopback
//! sockets, configured as the real ones of `docker/local/cluster`, except that failures are noticed sooner.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use simulated_cassandra::cluster::{CommitLogSync, NodeId as CassandraId};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};
use simulated_hosts::{HostCommand, HostFault, Recovery};
use simulated_kafka::metadata::CONSUMER_OFFSETS;
use simulated_kafka::types::NodeId as KafkaId;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::random::Random;
use crate::services::{Server, Services};
use crate::simulated_kafka::SimulatedBrokers;

/// Maximum time of a command.
const COMMAND: Duration = Duration::from_secs(60);

/// The session timeout of workers, in milliseconds.
pub const SESSION_MS: u64 = 3_000;

/// How long a node syncs its commit log before it acknowledges.
const SYNC: Duration = Duration::from_millis(1);

/// What differs from the configuration of the real brokers.
const PROPERTIES: [(&str, &str); 5] = [
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "2000"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("replica.lag.time.max.ms", "3000"),
];

pub struct SimulatedServices {
    brokers: SimulatedBrokers,
    nodes: LocalNodes,
    /// Where the nodes run.
    runtime: Runtime,
    kafka: String,
    cassandra: String,
}

impl SimulatedServices {
    pub fn start() -> Self {
        let brokers = SimulatedBrokers::start_with(&PROPERTIES).unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let options = LocalOptions { port: 0, ..LocalOptions::new(now as i64) };
        let starting = LocalNodes::start(options, |options| {
            options.commit_log_sync = CommitLogSync::Batch(SYNC);
        });
        let nodes = runtime.block_on(starting).expect("three nodes start");
        let kafka: Vec<String> = brokers.addresses().iter().map(ToString::to_string).collect();
        let cassandra: Vec<String> = (1..=3).map(|node| nodes.address(node).to_string()).collect();
        Self { brokers, nodes, runtime, kafka: kafka.join(","), cassandra: cassandra.join(",") }
    }

    /// Loses every message from one server to another of its kind.
    pub fn cut(&self, from: Server, to: Server) {
        match (from, to) {
            (Server::Broker(from), Server::Broker(to)) => {
                self.brokers.brokers().links().cut(broker(from), broker(to));
            }
            (Server::Node(from), Server::Node(to)) => self.nodes.links().cut(node(from), node(to)),
            _ => panic!("no link from {from} to {to}"),
        }
    }

    /// Ends every cut.
    pub fn restore_links(&self) {
        self.brokers.brokers().links().restore_all();
        self.nodes.links().restore_all();
    }

    /// Lets another in-sync replica lead a partition of the topic, or of the groups' offsets, which moves a coordinator.
    /// Returns what moved where; none if no other replica is in sync.
    pub fn move_leader(&self, topic: &str, random: &mut Random) -> Option<String> {
        let topic = if random.below(3) == 0 { CONSUMER_OFFSETS } else { topic };
        let cluster = self.brokers.brokers().cluster();
        let metadata = cluster.metadata();
        let partitions = &metadata.topic(topic)?.partitions;
        let number = random.below(partitions.len() as u64) as usize;
        let partition = partitions.get(number)?;
        let mut others = partition.in_sync.clone();
        others.retain(|id| Some(*id) != partition.leader);
        let to = *others.get(random.below(others.len().max(1) as u64) as usize)?;
        let is_moved = cluster.move_leader(topic, number as i32, to);
        is_moved.then(|| format!("of {topic} {number} to kafka-{}", to.0))
    }

    /// Waits until all replicas of all partitions are in sync. Records are then lost only if all three lose their power.
    async fn in_sync(&self) {
        let deadline = Instant::now() + COMMAND;
        let is_complete = || {
            let metadata = self.brokers.brokers().cluster().metadata();
            metadata.partitions().all(|(_, _, partition)| partition.in_sync.len() == partition.replicas.len())
        };
        while !is_complete() {
            assert!(Instant::now() < deadline, "replicas are not in sync after {COMMAND:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn apply_to_brokers(&self, command: HostCommand, numbers: &[u8]) -> Result<(), String> {
        match command {
            HostCommand::Fault(fault) => numbers.iter().try_for_each(|&number| {
                if fault == HostFault::PowerLoss {
                    self.runtime.block_on(self.in_sync());
                }
                self.brokers.wait(COMMAND, |brokers| async move { brokers.apply(number, fault).await })
            }),
            HostCommand::Recovery(recovery) => {
                let numbers = numbers.to_vec();
                self.brokers.wait(COMMAND, |brokers| async move { brokers.recover(recovery, &numbers).await })
            }
        }
    }

    fn apply_to_nodes(&self, command: HostCommand, numbers: &[u8]) -> Result<(), String> {
        numbers.iter().try_for_each(|&number| {
            let command = async {
                match command {
                    HostCommand::Fault(fault) => self.nodes.apply(number, fault),
                    HostCommand::Recovery(recovery) => self.nodes.recover(number, recovery).await,
                }
            };
            let done = self.runtime.block_on(async { timeout(COMMAND, command).await });
            done.map_err(|_| format!("not done after {COMMAND:?}"))?.map_err(|error| error.to_string())
        })
    }
}

impl Services for SimulatedServices {
    fn kafka(&self) -> &str {
        &self.kafka
    }

    fn cassandra(&self) -> &str {
        &self.cassandra
    }

    fn apply(&self, command: HostCommand, servers: &[Server]) {
        let (mut brokers, mut nodes) = (Vec::new(), Vec::new());
        for server in servers {
            match *server {
                Server::Broker(number) => brokers.push(number),
                Server::Node(number) => nodes.push(number),
            }
        }
        let applied =
            self.apply_to_brokers(command, &brokers).and_then(|()| self.apply_to_nodes(command, &nodes));
        applied.unwrap_or_else(|error| panic!("{command} of {servers:?}: {error}"));
    }

    /// Every fault has ended by then, except that of a thread that panicked.
    fn heal(&self) {
        self.restore_links();
        for number in 1..=3 {
            if !self.nodes.is_running(number) {
                self.apply(Recovery::Start.into(), &[Server::Node(number)]);
            }
            if !self.brokers.brokers().is_running(number) {
                self.apply(Recovery::Start.into(), &[Server::Broker(number)]);
            }
        }
    }

    fn simulated(&self) -> Option<&SimulatedServices> {
        Some(self)
    }
}

fn broker(number: u8) -> KafkaId {
    KafkaId(i32::from(number))
}

fn node(number: u8) -> CassandraId {
    CassandraId(u32::from(number) - 1)
}
