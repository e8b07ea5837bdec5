//! How faults are drawn.

use simulated_hosts::{ClockFault, DiskFault, HostFault, LinkFault};
use strum::IntoEnumIterator;

use super::name::{FAULTS_OF_A_KIND, IDS_OF_A_KIND};
use super::{
    DeletedFrom, Direction, Fault, Host, Kind, KindName, POINTS_OF_A_BATCH, POINTS_TO_HOLD,
    POINTS_TO_HOLD_UNTIL, POINTS_TO_TEAR, Point, Sabotage, Target, Trigger,
};
use crate::parties::Service;
use crate::random::{Random, Stream};
use crate::scenario::cassandra::NODES;
use crate::scenario::kafka::BROKERS;
use crate::scenario::mix::FaultMix;
use crate::scenario::options::RunOptions;
use crate::scenario::{Log, Services, Tables};
use crate::service::declaration::Declaration;

/// Maximum delay of a request, in milliseconds; a run waits at least this long after all faults have ended.
pub const LONGEST_DELAY_MS: u64 = 8_000;

/// Maximum delay of the second copy of a message between nodes.
const LONGEST_REPLICA_DUPLICATE_MS: u64 = 2_000;

impl Fault {
    /// The faults of a seed: each kind is enabled, or not, with log-uniform numbers.
    pub(crate) fn draw_all(
        seed: u64,
        options: &RunOptions,
        services: Services<'_>,
        mix: &FaultMix,
    ) -> Vec<Fault> {
        let mut faults = Vec::new();
        for name in KindName::iter() {
            let random = &mut Random::new(seed, Stream::Kind(name.number()));
            let (is_enabled, count) = (mix.enables(name, random), random.log_uniform(1..=FAULTS_OF_A_KIND));
            let powerless = name == KindName::PowerLost
                && matches!(services.tables, Tables::Cassandra(cluster) if !cluster.synced_first);
            if is_enabled && !powerless && KindName::drawn(services).any(|drawn| drawn == name) {
                // A worker that is down cannot be killed, the log lags or does not; and each fault of Cassandra costs time.
                let exclusive = name.affects_process_of_worker()
                    || matches!(name, KindName::LogEndLags | KindName::TransactionOpen);
                let count = match (exclusive, is_of_a_cluster(services, name)) {
                    (true, _) => count.div_ceil(4),
                    (_, true) => count.div_ceil(2),
                    _ => count,
                };
                let drawn = 0..mix.number(count);
                faults.extend(drawn.map(|nth| Fault::draw(seed, name.id(nth), options, services, name)));
            }
        }
        faults
    }

    /// True if it is the first drawn one of its kind.
    pub(crate) fn is_first_of_its_kind(&self) -> bool {
        self.id.is_multiple_of(IDS_OF_A_KIND)
    }

    /// A fault of the class damage, beside the other faults of a scenario.
    pub(crate) fn draw_damage(seed: u64, options: &RunOptions, services: Services<'_>) -> Fault {
        let kinds: Vec<KindName> = KindName::damage(services).collect();
        let name = Random::new(seed, Stream::Damage).pick(&kinds);
        // None of that kind is drawn otherwise.
        Fault::draw(seed, name.id(0), options, services, name)
    }

    /// A fault of a kind, as it is drawn for a scenario of this seed with these options and tables; its draws come from the
    /// stream of its id. The kind must be one that can happen to these services ([`KindName::drawn`]).
    pub fn draw(seed: u64, id: u64, options: &RunOptions, services: Services<'_>, name: KindName) -> Self {
        let random = &mut Random::new(seed, Stream::Fault(id));
        let (kind, mut target) = draw_kind(random, name, services);
        let all: Vec<Point> = Point::of_worker().collect();
        let (point, nth) = (random.pick(&all), random.log_uniform(1..=24));
        let (point_of_batch, nth_of_batch) = (random.pick(&POINTS_OF_A_BATCH), random.log_uniform(1..=8));
        // Early enough that it has an effect.
        let at_ms = random.below(options.chaos_ms * 7 / 10 + 1);
        let of_cluster = Declaration::of_clusters(services);
        let at_cluster = (!of_cluster.is_empty() && random.below(3) == 0).then(|| random.pick(&of_cluster));
        let nth_at_cluster = random.log_uniform(1..=200);
        let (point, nth) = at_cluster.map_or((point, nth), |point| (point, nth_at_cluster));
        let latest_ms = options.chaos_ms * 9 / 10;
        let trigger = match random.below(10) {
            0..4 => Trigger::At { at_ms },
            4..8 if name.affects_process_of_worker() => {
                Trigger::When { point: point_of_batch, nth: nth_of_batch, latest_ms }
            }
            _ => Trigger::When { point, nth, latest_ms: at_ms },
        };
        let trigger = match name {
            KindName::WorkerHeld => {
                Trigger::When { point: random.pick(&POINTS_TO_HOLD), nth: nth_of_batch, latest_ms }
            }
            KindName::WriteTorn => {
                // A partition is registered once, so a registration is written rarely.
                let points = if random.coin() { &POINTS_TO_TEAR[..1] } else { &POINTS_TO_TEAR[1..] };
                Trigger::When { point: random.pick(points), nth: random.log_uniform(1..=4), latest_ms }
            }
            _ => trigger,
        };
        let worker = random.below(options.workers.into()) as u8;
        if let (Trigger::At { .. }, Some(host)) = (trigger, target.worker_mut()) {
            *host = Host::Worker(worker);
        }
        // A run that spends its time with nothing running finds nothing.
        let longest_ms = match (services.tables, services.log) {
            // Below and above the time until a broker is fenced and out of sync.
            (_, Log::Kafka(cluster)) if Declaration::of_log(services.log).has(name) => {
                2 * cluster.broker_session_ms.max(cluster.replica_lag_ms)
            }
            // Up to twice the hint window.
            (Tables::Cassandra(cluster), _) if is_of_a_cluster(services, name) => {
                (2 * cluster.hint_window_ms).min(8_000)
            }
            // Around the session timeout, below and above.
            _ if name.needs_worker() => options.session_timeout_ms * 3,
            _ => 4_000,
        };
        let duration_ms = random.log_uniform(20..=longest_ms.min(options.chaos_ms / 4));
        // Long enough to read the binding.
        let duration_ms = if name == KindName::WorkerMisconfigured { 4_000 } else { duration_ms };
        Self { id, trigger, target, kind, duration_ms }
    }
}

/// True for faults of a cluster of Cassandra or Kafka.
fn is_of_a_cluster(services: Services<'_>, name: KindName) -> bool {
    let of_tables = matches!(services.tables, Tables::Cassandra(_));
    let of_log = matches!(services.log, Log::Kafka(_));
    of_tables && Declaration::of_tables(services.tables).has(name)
        || of_log && Declaration::of_log(services.log).has(name)
}

/// Draws parameters and target of a kind; a worker is the one that triggers it.
fn draw_kind(random: &mut Random, name: KindName, services: Services<'_>) -> (Kind, Target) {
    let tables = services.tables;
    let service = match tables {
        Tables::Simple => random.pick(&[Service::Store, Service::Store, Service::Log, Service::Coordinator]),
        Tables::Cassandra(_) => random.pick(&[Service::Log, Service::Coordinator]),
    };
    let per_mille = random.log_uniform(30..=700);
    let up_to_ms = random.log_uniform(30..=LONGEST_DELAY_MS);
    let direction = random.pick(&[Direction::Both, Direction::Both, Direction::Forward, Direction::Backward]);
    let nodes = match tables {
        Tables::Simple => NODES,
        Tables::Cassandra(cluster) => cluster.nodes(),
    };
    let node = random.below(nodes.into()) as u8;
    let other = (node + 1 + random.below(u64::from(nodes) - 1) as u8) % nodes;
    let (kill, of_worker) = (Kind::Host(HostFault::Kill), Target::Host(Host::Triggering));
    let (of_node, requests) = (Target::Host(Host::Node(node)), Target::Requests(service));
    let link = |to, direction| Target::Link { from: Host::Triggering, to, direction };
    match name {
        KindName::WorkerKilled => (kill, of_worker),
        KindName::WorkerPaused => (Kind::Host(HostFault::Pause), of_worker),
        KindName::WorkerStopped => (Kind::Host(HostFault::Stop), of_worker),
        KindName::WorkerMisconfigured => (Kind::WorkerMisconfigured, of_worker),
        KindName::WorkerHeld => {
            let (point, same_partition) = (random.pick(&POINTS_TO_HOLD_UNTIL), random.coin());
            (Kind::HeldUntil { point, same_partition }, of_worker)
        }
        KindName::WriteTorn => (Kind::WriteTorn, of_worker),
        KindName::ServiceKilled => (kill, Target::Host(Host::Service(service))),
        KindName::LinkCut => (Kind::Link(LinkFault::Cut), link(Host::Service(service), direction)),
        KindName::RequestsLost => (Kind::Link(LinkFault::Lose { per_mille }), requests),
        KindName::RequestsDelayed => (Kind::Link(LinkFault::Delay { per_mille, up_to_ms }), requests),
        KindName::RequestsDuplicated => (Kind::Link(LinkFault::Duplicate { per_mille, up_to_ms }), requests),
        KindName::ResponsesLost => (Kind::Link(LinkFault::LoseResponses { per_mille }), requests),
        KindName::ErrorsReturned => (Kind::ErrorsReturned { per_mille }, requests),
        KindName::CallsTorn => (Kind::CallsTorn { per_mille }, Target::Requests(Service::Store)),
        KindName::NodeKilled => (kill, of_node),
        KindName::AllNodesKilled => (kill, Target::AllNodes),
        KindName::PowerLost => (Kind::Host(HostFault::PowerLoss), of_node),
        KindName::NodePaused => (Kind::Host(HostFault::Pause), of_node),
        KindName::DiskWiped => (Kind::Disk(DiskFault::Wipe), of_node),
        KindName::CoordinatorKilled => {
            (Kind::CoordinatorKilled { writes: random.log_uniform(1..=20) }, of_node)
        }
        KindName::ReplicaLinkCut => {
            let (from, to) = (Host::Node(node), Host::Node(other));
            (Kind::Link(LinkFault::Cut), Target::Link { from, to, direction: Direction::Forward })
        }
        KindName::ReplicaMessagesLost => (Kind::Link(LinkFault::Lose { per_mille }), Target::Replicas),
        KindName::ReplicaMessagesDelayed => {
            let up_to_ms = random.log_uniform(10..=4_000);
            (Kind::Link(LinkFault::Delay { per_mille, up_to_ms }), Target::Replicas)
        }
        KindName::ReplicaMessagesDuplicated => {
            let up_to_ms = LONGEST_REPLICA_DUPLICATE_MS;
            (Kind::Link(LinkFault::Duplicate { per_mille, up_to_ms }), Target::Replicas)
        }
        KindName::ClientLinkCut => (Kind::Link(LinkFault::Cut), link(Host::Node(node), direction)),
        KindName::ConnectionsReset => (Kind::Link(LinkFault::Reset), link(Host::Node(node), Direction::Both)),
        KindName::ClockStepped => {
            let by_ms = random.log_uniform(1..=3_600_000) as i64;
            let by_ms = if random.coin() { by_ms } else { -by_ms };
            (Kind::Clock(ClockFault::Step { by_ms }), of_node)
        }
        KindName::ClockCoarse => {
            let step_ms = random.log_uniform(1..=2_000) as i64;
            (Kind::Clock(ClockFault::Coarse { step_ms }), of_node)
        }
        name => match draw_of_brokers(random, name, (per_mille, direction)) {
            Some(drawn) => drawn,
            None => (draw_of_anyone(random, name, per_mille), Target::Anyone),
        },
    }
}

/// Draws what happens to brokers of Kafka, to their links or to messages between them.
fn draw_of_brokers(
    random: &mut Random,
    name: KindName,
    (per_mille, direction): (u64, Direction),
) -> Option<(Kind, Target)> {
    let broker = |random: &mut Random| random.below(BROKERS.into()) as u8;
    let host = |random: &mut Random| Target::Host(Host::Broker(broker(random)));
    let link = |to, direction| Target::Link { from: Host::Triggering, to, direction };
    Some(match name {
        KindName::BrokerKilled => (Kind::Host(HostFault::Kill), host(random)),
        KindName::BrokerPowerLost => (Kind::Host(HostFault::PowerLoss), host(random)),
        KindName::BrokerPaused => (Kind::Host(HostFault::Pause), host(random)),
        KindName::BrokerStopped => (Kind::Host(HostFault::Stop), host(random)),
        KindName::AllBrokersKilled => (Kind::Host(HostFault::Kill), Target::AllBrokers),
        KindName::LeadersMoved => (Kind::LeadersMoved, host(random)),
        KindName::InSyncShrunk => (Kind::InSyncShrunk, host(random)),
        KindName::MetadataLags => {
            (Kind::MetadataLags { by_ms: random.log_uniform(20..=3_000) }, host(random))
        }
        KindName::ReadsFail => (Kind::ReadsFail, host(random)),
        KindName::BrokerClockStepped => {
            // Brokers refuse records whose timestamps are an hour ahead of their clock.
            let by_ms = random.log_uniform(1..=1_800_000) as i64;
            let by_ms = if random.coin() { by_ms } else { -by_ms };
            (Kind::Clock(ClockFault::Step { by_ms }), host(random))
        }
        KindName::BrokerLinkCut => {
            let from = broker(random);
            let to = (from + 1 + random.below(u64::from(BROKERS) - 1) as u8) % BROKERS;
            let (from, to) = (Host::Broker(from), Host::Broker(to));
            (Kind::Link(LinkFault::Cut), Target::Link { from, to, direction: Direction::Forward })
        }
        KindName::BrokerMessagesLost => (Kind::Link(LinkFault::Lose { per_mille }), Target::Brokers),
        KindName::BrokerMessagesDelayed => {
            let up_to_ms = random.log_uniform(10..=2_000);
            (Kind::Link(LinkFault::Delay { per_mille, up_to_ms }), Target::Brokers)
        }
        KindName::BrokerMessagesDuplicated => {
            let up_to_ms = LONGEST_REPLICA_DUPLICATE_MS;
            (Kind::Link(LinkFault::Duplicate { per_mille, up_to_ms }), Target::Brokers)
        }
        KindName::ConsumerLinkCut => {
            (Kind::Link(LinkFault::Cut), link(Host::Broker(broker(random)), direction))
        }
        KindName::ConsumerConnectionsReset => {
            (Kind::Link(LinkFault::Reset), link(Host::Broker(broker(random)), Direction::Both))
        }
        KindName::NamesUnavailable => (Kind::NamesUnavailable, Target::Anyone),
        KindName::TransactionOpen => (Kind::TransactionOpen, Target::Anyone),
        KindName::TransactionHangs => (Kind::TransactionHangs, Target::Anyone),
        KindName::AllBrokersPowerLost => (Kind::Host(HostFault::PowerLoss), Target::AllBrokers),
        _ => return None,
    })
}

/// Draws what happens to no host, link or message in particular.
fn draw_of_anyone(random: &mut Random, name: KindName, per_mille: u64) -> Kind {
    match name {
        KindName::PartitionAdded => Kind::PartitionAdded,
        KindName::GroupShuffled => Kind::GroupShuffled { every_ms: random.log_uniform(20..=1_000) },
        KindName::LogEndLags => {
            let behind = random.log_uniform(1..=30);
            Kind::LogEndLags { behind: if random.coin() { behind } else { 0 } }
        }
        KindName::LogTrimmed => Kind::LogTrimmed,
        KindName::AcknowledgedWritesDropped => Kind::AcknowledgedWritesDropped { per_mille },
        KindName::Sabotaged => {
            let all: Vec<Sabotage> = Sabotage::iter().collect();
            Kind::Sabotaged { how: random.pick(&all), per_mille }
        }
        KindName::LogTrimmedPastProgress => Kind::LogTrimmedPastProgress { records: random.within(1..=100) },
        KindName::LogTruncated => Kind::LogTruncated { offsets: random.log_uniform(1..=40) },
        KindName::TopicRecreated => Kind::TopicRecreated,
        KindName::TopicCompacted => Kind::TopicCompacted { deletes: random.coin() },
        KindName::RowsDeleted => {
            let all: Vec<DeletedFrom> = DeletedFrom::iter().collect();
            Kind::RowsDeleted { table: random.pick(&all) }
        }
        _ => unreachable!("{name} happens to a host, a link or messages"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;
    use crate::scenario::World;
    use crate::scenario::profile::Profile;

    #[test]
    fn the_scenarios_of_many_seeds_have_every_kind_and_every_point_and_no_store_that_drops_writes() {
        for world in World::iter() {
            let scenarios = (0..300).map(|seed| Scenario::draw(seed, world, Profile::Standard));
            let mut faults: Vec<Fault> = Vec::new();
            let mut expected: BTreeSet<KindName> = BTreeSet::new();
            for scenario in scenarios {
                expected.extend(KindName::drawn(scenario.services()));
                faults.extend(scenario.faults);
            }
            let drawn: BTreeSet<KindName> = faults.iter().map(|fault| fault.name()).collect();
            assert_eq!(drawn, expected);
            for point in Point::of_worker() {
                let at =
                    |fault: &Fault| matches!(fault.trigger, Trigger::When { point: p, .. } if p == point);
                assert!(faults.iter().any(at), "{point:?}");
            }
        }
    }

    #[test]
    fn ids_and_streams_depend_on_names_and_no_two_kinds_share_them() {
        let mut numbers: Vec<u64> = KindName::iter().map(KindName::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), KindName::iter().count(), "rename the new kind");
        // As any other implementation of FNV-1a has it.
        assert_eq!(KindName::WorkerKilled.id(3), 168_303);
        for (world, profile) in World::iter().flat_map(|world| Profile::iter().map(move |each| (world, each)))
        {
            for seed in 0..30 {
                let faults = Scenario::draw(seed, world, profile).faults;
                let ids: BTreeSet<u64> = faults.iter().map(|fault| fault.id).collect();
                assert_eq!(ids.len(), faults.len(), "seed {seed} ({world}, {profile})");
                for fault in faults {
                    // Those of profiles and combinations.
                    let is_added = fault.id <= Fault::ADDED;
                    assert!(is_added || fault.name().id(0) == fault.id / 100 * 100, "{fault}");
                    assert!(is_added || fault.id < 1_000_000, "{fault}");
                }
            }
        }
    }

    #[test]
    fn each_kind_is_drawn_with_a_target_that_gives_it_its_name() {
        for world in World::iter() {
            let Scenario { tables, log, options, .. } = Scenario::draw(1, world, Profile::Standard);
            let services = Services { tables: &tables, log: &log };
            for (name, nth) in KindName::iter().flat_map(|name| (0..20).map(move |nth| (name, nth))) {
                let fault = Fault::draw(1, name.id(nth), &options, services, name);
                assert_eq!(KindName::of(fault.kind, fault.target), Some(name), "{fault}");
                let worker = fault.target.worker();
                assert_eq!(worker.is_some(), name.needs_worker(), "{fault}");
                let waits = matches!(fault.trigger, Trigger::When { .. });
                assert_eq!(worker == Some(Host::Triggering), waits && worker.is_some(), "{fault}");
            }
        }
    }
}
