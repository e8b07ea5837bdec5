//! Fault injection into workers and services: the faults are drawn from a seed and printed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

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

/// The faults that were injected so far.
pub struct FaultLog {
    start: Instant,
    counts: Mutex<BTreeMap<String, u32>>,
}

impl FaultLog {
    pub fn new() -> Self {
        Self { start: Instant::now(), counts: Mutex::default() }
    }

    fn record(&self, kind: &str, target: &str) {
        println!("{:>7.2} s  {kind} {target}", self.start.elapsed().as_secs_f64());
        *self.counts.lock().expect("no panic").entry(kind.to_owned()).or_default() += 1;
    }

    /// Number of faults whose kind starts with this text.
    pub fn count(&self, kind: &str) -> u32 {
        let counts = self.counts.lock().expect("no panic");
        counts.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, count)| count).sum()
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
                log.record("worker killed", &target);
                group.kill(number, random.ms(0, 4_000));
            }
            5..7 => {
                log.record("worker paused below the session timeout", &target);
                group.pause(number, random.ms(200, 4_000));
            }
            7..9 => {
                log.record("worker paused over the session timeout", &target);
                group.pause(number, random.ms(7_000, 14_000));
            }
            _ => {
                log.record("workers restarted in turn", &target);
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
            log.record("partition added, now", &partitions.to_string());
            add_partition(services, topic, partitions as usize);
        }
    }
}

fn into_nodes(services: &Services, random: &mut Random, log: &FaultLog) {
    let number = random.below(3);
    let node = format!("cassandra-{}", 1 + number);
    match random.below(7) {
        0..3 => {
            log.record("node killed", &node);
            services.run(&["kill", &node]);
            std::thread::sleep(random.ms(0, 8_000));
            services.run(&["start", &node]);
        }
        3..5 => {
            log.record("node paused", &node);
            services.run(&["pause", &node]);
            std::thread::sleep(random.ms(500, 10_000));
            services.run(&["resume", &node]);
        }
        // Two of three nodes: nothing is acknowledged until they are resumed.
        5..6 => {
            let other = format!("cassandra-{}", 1 + (number + 1) % 3);
            log.record("nodes paused, a quorum of them", &format!("{node}, {other}"));
            services.run(&["pause", &node, &other]);
            std::thread::sleep(random.ms(2_000, 12_000));
            services.run(&["resume", &node, &other]);
        }
        _ => {
            log.record("nodes killed, all at once", "");
            services.run(&["kill", "cassandra-1", "cassandra-2", "cassandra-3"]);
            services.run(&["start", "cassandra-1", "cassandra-2", "cassandra-3"]);
        }
    }
}

/// Injects a fault into the brokers. Each broker leads some partition, and one of them is the coordinator of the group.
fn into_brokers(services: &Services, random: &mut Random, log: &FaultLog) {
    let broker = format!("kafka-{}", 1 + random.below(3));
    match random.below(5) {
        0..2 => {
            log.record("broker killed", &broker);
            services.run(&["kill", &broker]);
            std::thread::sleep(random.ms(0, 8_000));
            services.run(&["start", &broker]);
        }
        2..4 => {
            log.record("broker paused", &broker);
            services.run(&["pause", &broker]);
            std::thread::sleep(random.ms(500, 12_000));
            services.run(&["resume", &broker]);
        }
        _ => {
            log.record("brokers restarted in turn", "");
            for number in 1..=3 {
                services.run(&["stop", &format!("kafka-{number}")]);
                services.run(&["start", &format!("kafka-{number}")]);
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
