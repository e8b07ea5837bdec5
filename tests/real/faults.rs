//! Fault injection into workers and services: the faults are drawn from a seed and printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use simulated_hosts::{HostFault, Recovery};

use crate::pipeline::Workers;
use crate::random::Random;
use crate::services::Services;

/// Maximum number of partitions of the topic.
const PARTITIONS: u64 = 6;

impl Random {
    /// An independent generator.
    pub fn fork(&mut self) -> Self {
        Self::new(self.below(u64::MAX))
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

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

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of one process.
    One(Host, HostFault),
    /// A pause of a worker that lasts longer than its session timeout.
    PauseOverSession,
    /// Of two of three nodes: nothing is acknowledged until it ends.
    QuorumOfNodes(HostFault),
    /// Of all nodes at once.
    AllNodes(HostFault),
    /// All processes are stopped and started, one after another.
    InTurn(Host),
    PartitionAdded,
}

impl Kind {
    /// What it affects and how, if it is a fault of a process.
    fn of_a_process(self) -> Option<(Host, HostFault)> {
        match self {
            Kind::One(host, fault) => Some((host, fault)),
            Kind::PauseOverSession => Some((Host::Worker, HostFault::Pause)),
            Kind::QuorumOfNodes(fault) | Kind::AllNodes(fault) => Some((Host::Node, fault)),
            Kind::InTurn(host) => Some((host, HostFault::Stop)),
            Kind::PartitionAdded => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::One(Host::Worker, HostFault::Pause) => {
                f.write_str("worker paused below the session timeout")
            }
            Kind::PauseOverSession => f.write_str("worker paused over the session timeout"),
            Kind::One(host, fault) => write!(f, "{host} {}", participle(*fault)),
            Kind::QuorumOfNodes(fault) => write!(f, "nodes {}, a quorum of them", participle(*fault)),
            Kind::AllNodes(fault) => write!(f, "nodes {}, all at once", participle(*fault)),
            Kind::InTurn(host) => write!(f, "{host}s restarted in turn"),
            Kind::PartitionAdded => f.write_str("partition added, now"),
        }
    }
}

fn participle(fault: HostFault) -> &'static str {
    match fault {
        HostFault::Kill => "killed",
        HostFault::PowerLoss => "without power",
        HostFault::Stop => "stopped",
        HostFault::Pause => "paused",
    }
}

/// The faults that were injected so far.
pub struct FaultLog {
    start: Instant,
    counts: Mutex<BTreeMap<Kind, u32>>,
}

impl FaultLog {
    pub fn new() -> Self {
        Self { start: Instant::now(), counts: Mutex::default() }
    }

    fn record(&self, kind: Kind, target: &str) {
        println!("{:>7.2} s  {kind} {target}", self.start.elapsed().as_secs_f64());
        *self.counts.lock().expect("no panic").entry(kind).or_default() += 1;
    }

    /// Number of faults of such processes; of any kind, if none is given.
    pub fn count(&self, host: Host, fault: Option<HostFault>) -> u32 {
        let counts = self.counts.lock().expect("no panic");
        let matches = |kind: &Kind| {
            kind.of_a_process()
                .is_some_and(|(of, what)| of == host && fault.is_none_or(|fault| fault == what))
        };
        counts.iter().filter(|(kind, _)| matches(kind)).map(|(_, count)| count).sum()
    }

    pub fn print(&self) {
        for (kind, count) in self.counts.lock().expect("no panic").iter() {
            println!("{count:>5} x {kind}");
        }
    }
}

/// Injects faults into one worker after another.
pub fn into_workers(groups: &[Workers], mut random: Random, until: Instant, log: &FaultLog) {
    while Instant::now() < until {
        std::thread::sleep(random.ms(500, 5_000));
        let group = &groups[random.below(groups.len() as u64) as usize];
        let number = random.below(group.len() as u64) as usize;
        let target = group.name(number);
        match random.below(10) {
            0..5 => {
                log.record(Kind::One(Host::Worker, HostFault::Kill), &target);
                group.kill(number, random.ms(0, 4_000));
            }
            5..7 => {
                log.record(Kind::One(Host::Worker, HostFault::Pause), &target);
                group.pause(number, random.ms(200, 4_000));
            }
            7..9 => {
                log.record(Kind::PauseOverSession, &target);
                group.pause(number, random.ms(7_000, 14_000));
            }
            _ => {
                log.record(Kind::InTurn(Host::Worker), &target);
                for number in 0..group.len() {
                    group.restart(number);
                }
            }
        }
    }
}

/// Injects faults into the services, one after another, alternating between nodes and brokers; each is healed before the
/// next one. Occasionally adds a partition to the topic.
pub fn into_services(services: &Services, topic: &str, mut random: Random, until: Instant, log: &FaultLog) {
    let mut partitions = 3;
    for turn in 0.. {
        std::thread::sleep(random.ms(1_000, 8_000));
        if Instant::now() >= until {
            return;
        }
        if turn % 2 == 0 {
            into_nodes(services, &mut random, log);
        } else {
            into_brokers(services, &mut random, log);
        }
        if partitions < PARTITIONS && random.below(6) == 0 {
            partitions += 1;
            log.record(Kind::PartitionAdded, &partitions.to_string());
            add_partition(services, topic, partitions as usize);
        }
    }
}

fn into_nodes(services: &Services, random: &mut Random, log: &FaultLog) {
    let number = random.below(3);
    let node = format!("cassandra-{}", 1 + number);
    match random.below(7) {
        0..3 => {
            log.record(Kind::One(Host::Node, HostFault::Kill), &node);
            services.apply(HostFault::Kill, &[&node]);
            std::thread::sleep(random.ms(0, 8_000));
            services.apply(Recovery::Start, &[&node]);
        }
        3..5 => {
            log.record(Kind::One(Host::Node, HostFault::Pause), &node);
            services.apply(HostFault::Pause, &[&node]);
            std::thread::sleep(random.ms(500, 10_000));
            services.apply(Recovery::Resume, &[&node]);
        }
        // Two of three nodes: nothing is acknowledged until they are resumed.
        5..6 => {
            let other = format!("cassandra-{}", 1 + (number + 1) % 3);
            log.record(Kind::QuorumOfNodes(HostFault::Pause), &format!("{node}, {other}"));
            services.apply(HostFault::Pause, &[&node, &other]);
            std::thread::sleep(random.ms(2_000, 12_000));
            services.apply(Recovery::Resume, &[&node, &other]);
        }
        _ => {
            log.record(Kind::AllNodes(HostFault::Kill), "");
            services.apply(HostFault::Kill, &["cassandra-1", "cassandra-2", "cassandra-3"]);
            services.apply(Recovery::Start, &["cassandra-1", "cassandra-2", "cassandra-3"]);
        }
    }
}

/// Injects a fault into the brokers. Each broker leads some partition, and one of them is the coordinator of the group.
fn into_brokers(services: &Services, random: &mut Random, log: &FaultLog) {
    let broker = format!("kafka-{}", 1 + random.below(3));
    match random.below(5) {
        0..2 => {
            log.record(Kind::One(Host::Broker, HostFault::Kill), &broker);
            services.apply(HostFault::Kill, &[&broker]);
            std::thread::sleep(random.ms(0, 8_000));
            services.apply(Recovery::Start, &[&broker]);
        }
        2..4 => {
            log.record(Kind::One(Host::Broker, HostFault::Pause), &broker);
            services.apply(HostFault::Pause, &[&broker]);
            std::thread::sleep(random.ms(500, 12_000));
            services.apply(Recovery::Resume, &[&broker]);
        }
        _ => {
            log.record(Kind::InTurn(Host::Broker), "");
            for number in 1..=3 {
                services.apply(HostFault::Stop, &[&format!("kafka-{number}")]);
                services.apply(Recovery::Start, &[&format!("kafka-{number}")]);
            }
        }
    }
}

fn add_partition(services: &Services, topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &services.kafka).create().expect("a client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let created = runtime
        .block_on(admin.create_partitions(&[NewPartitions::new(topic, partitions)], &AdminOptions::new()));
    let results = created.expect("the brokers respond");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn every_fault_is_printed_and_counted_by_what_it_does_to_which_process() {
    let log = FaultLog::new();
    let kinds = [
        (Kind::One(Host::Worker, HostFault::Kill), "worker killed"),
        (Kind::One(Host::Worker, HostFault::Pause), "worker paused below the session timeout"),
        (Kind::PauseOverSession, "worker paused over the session timeout"),
        (Kind::InTurn(Host::Worker), "workers restarted in turn"),
        (Kind::One(Host::Node, HostFault::Kill), "node killed"),
        (Kind::One(Host::Node, HostFault::Pause), "node paused"),
        (Kind::QuorumOfNodes(HostFault::Pause), "nodes paused, a quorum of them"),
        (Kind::AllNodes(HostFault::Kill), "nodes killed, all at once"),
        (Kind::One(Host::Broker, HostFault::Kill), "broker killed"),
        (Kind::One(Host::Broker, HostFault::Pause), "broker paused"),
        (Kind::InTurn(Host::Broker), "brokers restarted in turn"),
        (Kind::PartitionAdded, "partition added, now"),
    ];
    for (kind, text) in kinds {
        assert_eq!(kind.to_string(), text);
        log.record(kind, "");
    }
    let count = |host, fault| log.count(host, fault);
    assert_eq!(
        (count(Host::Worker, Some(HostFault::Kill)), count(Host::Worker, Some(HostFault::Pause))),
        (1, 2)
    );
    assert_eq!((count(Host::Worker, None), count(Host::Node, None), count(Host::Broker, None)), (4, 4, 3));
    assert_eq!(count(Host::Broker, Some(HostFault::PowerLoss)), 0);
}
