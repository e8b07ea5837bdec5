//! A simulated Kafka cluster on machines of a simulation with threads: the unmodified librdkafka connects to its brokers by
//! their names.
//!
//! The crate [`simulated_kafka`] implements the brokers and their messages. This one gives each of them a machine, which
//! serves clients and is killed with its broker, and a name that the simulation resolves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// The partitions of the topic with the groups' offsets and members, `__consumer_offsets`.
pub const OFFSETS_PARTITIONS: i32 = 3;

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
    links: Arc<RuledLinks>,
    clocks: Vec<Arc<AdjustableClock>>,
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
    Ipv4Addr::new(10, 0, 4, broker)
}

/// Topics have as many replicas as there are brokers, at most three; groups do not wait for their first members.
fn options(clocks: &[Arc<AdjustableClock>]) -> Options {
    let brokers = clocks.len() as u8;
    let each = |(broker, clock): (u8, &Arc<AdjustableClock>)| BrokerOptions {
        id: id(broker),
        host: name(broker),
        port: PORT,
        rack: Some(broker.to_string()),
        clock: clock.clone(),
        disk: Disk::new(),
    };
    let mut options = Options::new((1..=brokers).zip(clocks).map(each).collect());
    let replicas = i16::from(brokers.min(3));
    options.controller.replication = replicas;
    options.offsets_partitions = OFFSETS_PARTITIONS;
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
        let clocks: Vec<_> = (0..brokers).map(|_| Arc::new(AdjustableClock::new(EPOCH_MICROS))).collect();
        let mut options = options(&clocks);
        change(&mut options);
        let server = ServerOptions { sasl: !options.sasl.users.is_empty(), ..ServerOptions::default() };
        let random = |stream| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            random
        };
        let millis = Duration::from_millis;
        let links = Arc::new(RuledLinks::new(millis(1), millis(3), random(0)));
        let cluster = Cluster::start(options, links.clone(), random(1));
        let machine = |broker| {
            threads.set_name(&name(broker), &[address(broker)]);
            // The simulator keeps a machine's start function forever; the cluster must not live as long.
            let (cluster, server) = (cluster.downgrade(), server.clone());
            let serving = move || {
                let running = cluster.upgrade().and_then(|cluster| cluster.broker(id(broker)));
                let server = server.clone();
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
        let kafka = Kafka { cluster, links, clocks, machines };
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

    /// The links between the brokers.
    pub fn links(&self) -> &RuledLinks {
        &self.links
    }

    /// The clocks of the brokers, from the first.
    pub fn clocks(&self) -> &[Arc<AdjustableClock>] {
        &self.clocks
    }

    /// Begins a fault of a broker's process or host.
    pub fn apply(&self, broker: u8, fault: HostFault) {
        let handle = Handle::current();
        let Some(machine) = self.machine(broker) else { return };
        match fault {
            HostFault::Kill => handle.kill(machine.id()),
            // Its connections end with the process, which goes on for a while.
            HostFault::Stop => {}
            HostFault::PowerLoss => {
                Network::current().power_off(address(broker).into());
                handle.kill(machine.id());
            }
            HostFault::Pause => handle.pause(machine.id()),
        }
        self.cluster.apply(id(broker), fault);
    }

    /// Ends a fault of a broker: its process starts again on its disk, or resumes.
    pub fn recover(&self, broker: u8, recovery: Recovery) {
        let handle = Handle::current();
        let Some(machine) = self.machine(broker) else { return };
        match recovery {
            Recovery::Start => {
                // One that is shutting down ends now.
                handle.kill(machine.id());
                self.cluster.apply(id(broker), HostFault::Kill);
                Network::current().power_on(address(broker).into());
                self.cluster.recover(id(broker), recovery);
                handle.restart(machine.id());
            }
            Recovery::Resume => {
                self.cluster.recover(id(broker), recovery);
                handle.resume(machine.id());
            }
        }
    }

    /// Shuts the machines down for good.
    pub fn shut_down(&self) {
        self.machines.iter().for_each(|machine| Handle::current().kill(machine.id()));
    }
}
