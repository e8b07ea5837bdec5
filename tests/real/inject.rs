//! Fault injection into workers and services: the faults are drawn from a seed and printed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use simulated_hosts::{HostFault, Recovery};

use crate::faults::{FaultLog, Kind};
use crate::pipeline::Workers;
use crate::random::Random;
use crate::services::{Host, Server, Services};

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

/// How long faults last, and how long it takes to the next one.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Divides both.
    pub speed: u32,
    /// The session timeout of workers, in milliseconds.
    pub session_ms: u64,
}

impl Pace {
    /// A pause between these times, in milliseconds, at the speed of 1.
    fn pause(self, random: &mut Random, from: u64, to: u64) -> Duration {
        random.ms(from, to) / self.speed
    }
}

/// Kinds of faults, each as often as it shall be drawn in a round. Every kind of a round is drawn before the next round
/// begins, so that a short run has many kinds.
struct Deck {
    round: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    fn new(kinds: &[(Kind, usize)]) -> Self {
        let round = kinds.iter().flat_map(|&(kind, times)| std::iter::repeat_n(kind, times)).collect();
        Self { round, left: Vec::new() }
    }

    fn draw(&mut self, random: &mut Random) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.round);
        }
        self.left.swap_remove(random.below(self.left.len() as u64) as usize)
    }
}

/// Injects faults into one worker after another, at least one.
pub fn into_workers(groups: &[Workers], pace: Pace, mut random: Random, until: Instant, log: &FaultLog) {
    let mut deck = Deck::new(&[
        (Kind::One(Host::Worker, HostFault::Kill), 5),
        (Kind::One(Host::Worker, HostFault::Pause), 2),
        (Kind::PauseOverSession, 2),
        (Kind::InTurn(Host::Worker), 1),
    ]);
    for turn in 0.. {
        sleep(pace.pause(&mut random, 500, 5_000));
        if turn > 0 && Instant::now() >= until {
            return;
        }
        let group = &groups[random.below(groups.len() as u64) as usize];
        let number = random.below(group.len() as u64) as usize;
        let kind = deck.draw(&mut random);
        log.record(kind, &group.name(number));
        match kind {
            Kind::One(_, HostFault::Pause) => {
                group.pause(number, random.ms(200, pace.session_ms * 2 / 3));
            }
            Kind::PauseOverSession => {
                let session = pace.session_ms;
                group.pause(number, random.ms(session * 7 / 6, session * 7 / 3));
            }
            Kind::InTurn(_) => (0..group.len()).for_each(|number| group.restart(number)),
            _ => group.kill(number, pace.pause(&mut random, 0, 4_000)),
        }
    }
}

/// Injects faults into the services, one after another, alternating between nodes and brokers; each is healed before the
/// next one. Both get at least one. Occasionally adds a partition to the topic.
pub fn into_services(
    services: &dyn Services,
    topic: &str,
    pace: Pace,
    mut random: Random,
    until: Instant,
    log: &FaultLog,
) {
    let (mut nodes, mut brokers) = decks(services.simulated().is_some());
    let mut partitions = 3;
    for turn in 0.. {
        sleep(pace.pause(&mut random, 1_000, 8_000));
        if turn > 1 && Instant::now() >= until {
            return;
        }
        let (deck, server): (_, fn(u8) -> Server) =
            if turn % 2 == 0 { (&mut nodes, Server::Node) } else { (&mut brokers, Server::Broker) };
        let kind = deck.draw(&mut random);
        into_servers(services, topic, pace, (kind, server), &mut random, log);
        if partitions < PARTITIONS && random.below(6) == 0 {
            partitions += 1;
            log.record(Kind::PartitionAdded, &partitions.to_string());
            add_partition(services, topic, partitions as usize);
        }
    }
}

/// The faults of nodes, and those of brokers. Only simulated hosts lose their power and links. All nodes may lose their power
/// at once, because they sync before they acknowledge; of the brokers, which do not, only one at a time.
fn decks(simulated: bool) -> (Deck, Deck) {
    let mut nodes = vec![
        (Kind::One(Host::Node, HostFault::Kill), 3),
        (Kind::One(Host::Node, HostFault::Pause), 2),
        (Kind::QuorumOfNodes(HostFault::Pause), 1),
        (Kind::AllNodes(HostFault::Kill), 1),
    ];
    let mut brokers = vec![
        (Kind::One(Host::Broker, HostFault::Kill), 2),
        (Kind::One(Host::Broker, HostFault::Pause), 2),
        (Kind::InTurn(Host::Broker), 1),
    ];
    if simulated {
        nodes.extend([
            (Kind::One(Host::Node, HostFault::PowerLoss), 1),
            (Kind::AllNodes(HostFault::PowerLoss), 1),
            (Kind::Cut(Host::Node), 1),
            (Kind::CutOff(Host::Node), 1),
        ]);
        brokers.extend([
            (Kind::One(Host::Broker, HostFault::PowerLoss), 2),
            (Kind::Cut(Host::Broker), 1),
            (Kind::CutOff(Host::Broker), 2),
            (Kind::LeaderMoved, 2),
        ]);
    }
    (Deck::new(&nodes), Deck::new(&brokers))
}

/// Injects a fault into nodes or brokers, and heals it. Each broker leads some partition, and one of them is the
/// coordinator of the group.
fn into_servers(
    services: &dyn Services,
    topic: &str,
    pace: Pace,
    (kind, server): (Kind, fn(u8) -> Server),
    random: &mut Random,
    log: &FaultLog,
) {
    let number = 1 + random.below(3) as u8;
    let (one, other) = (server(number), server(1 + number % 3));
    let for_a_time = |fault: HostFault, servers: &[Server], pause: Duration| {
        services.apply(fault.into(), servers);
        sleep(pause);
        services.apply(fault.recovery().into(), servers);
    };
    match kind {
        Kind::One(_, fault) => {
            log.record(kind, &one.to_string());
            let pause = match fault {
                HostFault::Pause => pace.pause(random, 500, 12_000),
                HostFault::Kill | HostFault::PowerLoss | HostFault::Stop => pace.pause(random, 0, 8_000),
            };
            for_a_time(fault, &[one], pause);
        }
        // Nothing is acknowledged until they are healed.
        Kind::QuorumOfNodes(fault) => {
            log.record(kind, &format!("{one}, {other}"));
            for_a_time(fault, &[one, other], pace.pause(random, 2_000, 12_000));
        }
        Kind::AllNodes(fault) => {
            log.record(kind, "");
            for_a_time(fault, &Server::all(server), Duration::ZERO);
        }
        Kind::InTurn(_) => {
            log.record(kind, "");
            for server in Server::all(server) {
                services.apply(HostFault::Stop.into(), &[server]);
                services.apply(Recovery::Start.into(), &[server]);
            }
        }
        Kind::Cut(_) => {
            log.record(kind, &format!("from {one} to {other}"));
            let simulated = services.simulated().expect("drawn for simulated services only");
            simulated.cut(one, other);
            sleep(pace.pause(random, 500, 12_000));
            simulated.restore_links();
        }
        // Of a broker for so long that the others elect leaders, while it accepts records that it cannot replicate.
        Kind::CutOff(_) => {
            log.record(kind, &one.to_string());
            let simulated = services.simulated().expect("drawn for simulated services only");
            for other in Server::all(server).into_iter().filter(|other| *other != one) {
                simulated.cut(one, other);
                simulated.cut(other, one);
            }
            sleep(pace.pause(random, 4_000, 20_000));
            simulated.restore_links();
        }
        Kind::LeaderMoved => {
            let simulated = services.simulated().expect("drawn for simulated services only");
            let moved = simulated.move_leader(topic, random);
            log.record(kind, &moved.unwrap_or_else(|| "but no other replica was in sync".to_owned()));
        }
        Kind::PauseOverSession | Kind::PartitionAdded => unreachable!("not a fault of a server"),
    }
}

fn add_partition(services: &dyn Services, topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", services.kafka()).create().expect("a client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let created = runtime
        .block_on(admin.create_partitions(&[NewPartitions::new(topic, partitions)], &AdminOptions::new()));
    let results = created.expect("the brokers respond");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn every_kind_is_drawn_as_often_as_it_is_in_a_round_before_the_next_round_begins() {
    let (kill, pause) = (Kind::One(Host::Node, HostFault::Kill), Kind::One(Host::Node, HostFault::Pause));
    let mut deck = Deck::new(&[(kill, 2), (pause, 1)]);
    let mut random = Random::new(7);
    for _ in 0..10 {
        let mut round: Vec<_> = (0..3).map(|_| deck.draw(&mut random)).collect();
        round.sort();
        assert_eq!(round, [kill, kill, pause]);
    }
}
