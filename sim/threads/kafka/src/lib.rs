//! A simulated Kafka cluster on machines of a simulation with threads: the unmodified librdkafka connects to its brokers by
//! their names.
//!
//! The crate [`simulated_kafka`] implements the brokers and their messages. This one gives each of them a machine, which
//! serves clients and is killed with its broker, and a name that the simulation resolves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_hosts::{HostFault, Recovery};
use simulated_kafka::cluster::{AdjustableClock, BrokerOptions, Cluster, Options, RuledLinks};
use simulated_kafka::log::Disk;
use simulated_kafka::serve::serve;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use simulated_threads::Threads;
use tokio::net::TcpListener;
use tokio::network::Network;

/// Initial time of the brokers' clocks: 2026-01-01, in microseconds.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

/// The port at which all brokers serve clients.
pub const PORT: u16 = 9092;

/// A cluster whose brokers are machines.
pub struct Kafka {
    cluster: Cluster,
    machines: Vec<NodeHandle>,
}

fn id(broker: u8) -> NodeId {
    NodeId(broker.into())
}

/// The name of a broker, which leads to its address. Brokers are numbered from 1.
pub fn name(broker: u8) -> String {
    format!("kafka-{broker}.example")
}

/// The address of a broker.
pub fn address(broker: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, broker)
}

/// Topics have as many replicas as there are brokers, at most three; groups do not wait for their first members.
fn options(brokers: u8) -> Options {
    let each = |broker| BrokerOptions {
        id: id(broker),
        host: name(broker),
        port: PORT,
        rack: None,
        clock: Arc::new(AdjustableClock::new(EPOCH_MICROS)),
        disk: Disk::new(),
    };
    let mut options = Options::new((1..=brokers).map(each).collect());
    let replicas = i16::from(brokers.min(3));
    options.controller.replication = replicas;
    options.offsets_partitions = 3;
    options.offsets_replication = replicas;
    options.transaction_partitions = 3;
    options.transaction_replication = replicas;
    options.transaction_min_in_sync = replicas.min(2);
    options.groups.initial_rebalance_delay = 0;
    options.groups.min_session_timeout = 1_000;
    options
}

impl Kafka {
    /// Starts a cluster, and waits until its brokers serve clients. `change` may change what it is configured with. The
    /// cluster's own tasks run on the caller's machine. If it has users, clients must authenticate by SASL.
    ///
    /// # Panics
    /// Outside a simulation with threads.
    pub async fn start(brokers: u8, seed: u64, change: impl FnOnce(&mut Options)) -> Kafka {
        let Some(threads) = Threads::current() else { panic!("a simulation without threads") };
        let mut options = options(brokers);
        change(&mut options);
        let server = ServerOptions { sasl: !options.sasl.users.is_empty(), ..ServerOptions::default() };
        let random = |stream| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            random
        };
        let millis = Duration::from_millis;
        let links = Arc::new(RuledLinks::new(millis(1), millis(3), random(0)));
        let cluster = Cluster::start(options, links, random(1));
        let machine = |broker| {
            threads.set_name(&name(broker), &[address(broker)]);
            let (cluster, server) = (cluster.clone(), server.clone());
            let serving = move || {
                let (running, server) = (cluster.broker(id(broker)), server.clone());
                async move {
                    match (TcpListener::bind((address(broker), PORT)).await, running) {
                        (Ok(listener), Some(running)) => serve(running, listener, server).await,
                        (Err(error), _) => panic!("broker {broker} cannot listen: {error}"),
                        (_, None) => panic!("broker {broker} does not run"),
                    }
                }
            };
            let node = Handle::current().create_node().name(name(broker)).init(serving).build();
            Network::current().plug_in(node.id(), address(broker).into());
            node
        };
        let machines = (1..=brokers).map(machine).collect();
        let kafka = Kafka { cluster, machines };
        kafka.cluster.settled().await;
        kafka
    }

    /// The cluster, for all other operations.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// All brokers by their names, as clients are configured.
    pub fn bootstrap(&self) -> String {
        let brokers = (1..).zip(&self.machines).map(|(broker, _)| format!("{}:{PORT}", name(broker)));
        brokers.collect::<Vec<_>>().join(",")
    }

    fn machine(&self, broker: u8) -> Option<&NodeHandle> {
        self.machines.get(usize::from(broker).checked_sub(1)?)
    }

    /// Kills the process of a broker.
    pub fn kill(&self, broker: u8) {
        if let Some(machine) = self.machine(broker) {
            Handle::current().kill(machine.id());
        }
        self.cluster.apply(id(broker), HostFault::Kill);
    }

    /// Starts a broker that was killed again, on its disk.
    pub fn start_again(&self, broker: u8) {
        self.cluster.recover(id(broker), Recovery::Start);
        if let Some(machine) = self.machine(broker) {
            Handle::current().restart(machine.id());
        }
    }
}
