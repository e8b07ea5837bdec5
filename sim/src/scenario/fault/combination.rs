//! Combinations: faults that do harm only together, at moments that they hardly ever meet by chance.

use simulated_hosts::{HostFault, LinkFault};
use strum::{EnumIter, IntoEnumIterator};

use super::{Direction, Fault, Host, Kind, Moment, Point, Step, Target, Trigger};
use crate::parties::Service;
use crate::random::{Random, Stream};
use crate::scenario::cassandra::NODES;
use crate::scenario::kafka::{BROKERS, KafkaCluster};
use crate::scenario::options::RunOptions;
use crate::scenario::{Log, Services, Tables};

/// The ids of the faults of combinations: those of the nth one begin `IDS` further than those of the one before.
const FIRST_ID: u64 = 500;

/// The ids of the restarts that a scenario with damage has, and those of its pauses.
const FIRST_RESTART: u64 = 900;
const FIRST_PAUSE: u64 = 950;

/// Ids of a combination.
const IDS: u64 = 50;

/// One in so many scenarios has a combination.
const ONE_IN: u64 = 5;

/// One in so many scenarios with two data centers has a failure of the first.
const ONE_IN_WITH_TWO: u64 = 2;

/// Faults that do harm together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter)]
enum Combination {
    /// The tables do not respond for as long as a worker that is asked to stop may take, and a worker is asked to.
    StoppedWithoutTables,
    /// The tables do not respond while records arrive.
    RecordsWithoutTables,
    /// A worker does not run for about its session timeout, while retention deletes what its successor has processed.
    TrimmedWhileAway,
    /// Workers are restarted while the log's end lags, so that it may be below their progress.
    RestartedWhileEndLags,
    /// A worker that its group has given up joins again while the tables do not respond: others must release partitions, and
    /// cannot finish their work on them.
    RebalancedWithoutTables,
    /// Too few nodes respond for a quorum: of the only data center, some do; of two, all of the workers' do not, and all of the
    /// other one do.
    QuorumLost,
}

/// The faults of the combinations that a scenario has.
pub(crate) fn draw(seed: u64, options: &RunOptions, services: Services<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (id, combination) in (FIRST_ID..).step_by(IDS as usize).zip(Combination::iter()) {
        let random = &mut Random::new(seed, Stream::Fault(id));
        if random.below(combination.one_in(services)) == 0 {
            let drawn = combination.draw(random, options, services);
            faults.extend((id..).zip(drawn).map(|(id, fault)| Fault { id, ..fault }));
        }
    }
    faults
}

/// In half of the scenarios with damage, each worker is killed once in the second half of the faults' time: most damage is
/// noticed where a worker starts. In the others what workers must notice while they run is seen.
pub(crate) fn restarts(seed: u64, options: &RunOptions) -> Vec<Fault> {
    let random = &mut Random::new(seed, Stream::Fault(FIRST_RESTART));
    let restarted = if random.coin() { options.workers } else { 0 };
    let kill = |worker: u8| Fault {
        id: FIRST_RESTART + u64::from(worker),
        trigger: Trigger::At { at_ms: random.within(options.chaos_ms / 2..=options.chaos_ms * 9 / 10) },
        target: Target::Host(Host::Worker(worker)),
        kind: Kind::Host(HostFault::Kill),
        duration_ms: random.within(1..=200),
    };
    (0..restarted).map(kill).collect()
}

/// In three of four scenarios whose damage is that records are deleted which are not processed, all workers are paused shortly
/// before it, for less than their session: so some of the records are not fetched either, and the consumer is where the log
/// is no more.
pub(crate) fn pauses(seed: u64, options: &RunOptions, log: &Log, damage: &mut Fault) -> Vec<Fault> {
    let random = &mut Random::new(seed, Stream::Fault(FIRST_PAUSE));
    let Kind::LogTrimmedPastProgress { records } = &mut damage.kind else { return Vec::new() };
    if random.below(4) == 0 {
        return Vec::new();
    }
    *records = random.within(10..=40);
    let at_ms = random.within(options.chaos_ms / 10..=options.chaos_ms * 6 / 10);
    let duration_ms = session_ms(options, log) * random.within(60..=95) / 100;
    damage.trigger = Trigger::At { at_ms: at_ms + duration_ms * random.within(80..=100) / 100 };
    let pause = |worker: u8| Fault {
        id: FIRST_PAUSE + u64::from(worker),
        trigger: Trigger::At { at_ms },
        target: Target::Host(Host::Worker(worker)),
        kind: Kind::Host(HostFault::Pause),
        duration_ms,
    };
    (0..options.workers).map(pause).collect()
}

/// The timeout of sessions.
fn session_ms(options: &RunOptions, log: &Log) -> u64 {
    match log {
        Log::Simple => options.session_timeout_ms,
        Log::Kafka(_) => KafkaCluster::session_ms(options),
    }
}

impl Combination {
    /// One in so many scenarios on these services has it.
    fn one_in(self, services: Services<'_>) -> u64 {
        match (self, services.tables) {
            (Self::QuorumLost, Tables::Cassandra(cluster)) if cluster.data_centers > 1 => ONE_IN_WITH_TWO,
            _ => ONE_IN,
        }
    }

    fn draw(self, random: &mut Random, options: &RunOptions, services: Services<'_>) -> Vec<Fault> {
        let Services { tables, log } = services;
        let began_ms = random.within(options.chaos_ms / 10..=options.chaos_ms / 2);
        let latest_ms = options.chaos_ms * 9 / 10;
        let at = |at_ms| Trigger::At { at_ms };
        let worker = Target::Host(Host::Worker(random.below(options.workers.into()) as u8));
        match self {
            Self::StoppedWithoutTables => {
                let began_ms = began_ms / 2;
                let duration_ms = options.longest_stop().as_millis() as u64 + random.within(200..=2_000);
                let stop = Kind::Host(HostFault::Stop);
                let stopped_ms = began_ms + random.within(1..=150);
                vec![
                    outage(tables, at(began_ms), duration_ms),
                    Fault { id: 0, trigger: at(stopped_ms), target: worker, kind: stop, duration_ms },
                ]
            }
            Self::RecordsWithoutTables => {
                vec![outage(tables, at(began_ms), random.within(500..=options.chaos_ms / 2))]
            }
            Self::TrimmedWhileAway => {
                let point =
                    |step, moment, nth| Trigger::When { point: Point { step, moment }, nth, latest_ms };
                let first = random.log_uniform(1..=12);
                let after_progress = |nth| point(Step::WriteProgress, Moment::After, nth);
                let triggering = Target::Host(Host::Triggering);
                let (trigger, target, kind) = match random.below(4) {
                    // Between two reads of its start, so that it knows the progress from before, and the log from after.
                    0 | 1 => {
                        let nth = random.within(1..=6);
                        let trigger = point(Step::ReadProgress, Moment::After, nth);
                        (trigger, triggering, Kind::Host(HostFault::Pause))
                    }
                    2 => (after_progress(first), triggering, Kind::Host(HostFault::Pause)),
                    _ => {
                        let coordinator = match log {
                            Log::Simple => Host::Service(Service::Coordinator),
                            Log::Kafka(_) => Host::Broker((options.chaos_ms % u64::from(BROKERS)) as u8),
                        };
                        let (from, to) = (Host::Triggering, coordinator);
                        let target = Target::Link { from, to, direction: Direction::Both };
                        (after_progress(first), target, Kind::Link(LinkFault::Cut))
                    }
                };
                let duration_ms = options.session_timeout_ms * random.within(12..=40) / 10;
                let trimmed = Fault {
                    id: 0,
                    trigger,
                    target: Target::Anyone,
                    kind: Kind::LogTrimmed,
                    duration_ms: duration_ms + options.session_timeout_ms / 2,
                };
                vec![Fault { id: 0, trigger, target, kind, duration_ms }, trimmed]
            }
            Self::RestartedWhileEndLags => {
                let duration_ms = random.within(500..=4_000.min(options.chaos_ms / 2));
                let behind = random.log_uniform(1..=30);
                // Kafka's end lags after another broker was elected.
                let (target, kind) = match log {
                    Log::Simple => (Target::Anyone, Kind::LogEndLags { behind }),
                    Log::Kafka(_) => (
                        Target::Host(Host::Broker((behind % u64::from(BROKERS)) as u8)),
                        Kind::Host(HostFault::Kill),
                    ),
                };
                let lags = Fault { id: 0, trigger: at(began_ms), target, kind, duration_ms };
                let kill = |worker| Fault {
                    id: 0,
                    trigger: at(began_ms + duration_ms * random.within(2..=7) / 10),
                    target: Target::Host(Host::Worker(worker)),
                    kind: Kind::Host(HostFault::Kill),
                    duration_ms: random.within(1..=duration_ms / 10),
                };
                let kills: Vec<Fault> = (0..options.workers).map(kill).collect();
                [vec![lags], kills].concat()
            }
            Self::RebalancedWithoutTables => {
                let began_ms = began_ms / 2;
                let duration_ms = session_ms(options, log) * random.within(12..=25) / 10;
                let pause = Kind::Host(HostFault::Pause);
                let outage_ms = began_ms + duration_ms - random.within(50..=500).min(duration_ms);
                vec![
                    Fault { id: 0, trigger: at(began_ms), target: worker, kind: pause, duration_ms },
                    outage(tables, at(outage_ms), random.within(1_000..=4_000)),
                ]
            }
            Self::QuorumLost => {
                let duration_ms = random.within(500..=options.chaos_ms / 2);
                let Tables::Cassandra(cluster) = tables else {
                    return vec![outage(tables, at(began_ms), duration_ms)];
                };
                let down = if cluster.data_centers > 1 { NODES } else { NODES / 2 + 1 };
                let kill = |node| Fault {
                    id: 0,
                    trigger: at(began_ms),
                    target: Target::Host(Host::Node(node)),
                    kind: Kind::Host(HostFault::Kill),
                    duration_ms,
                };
                let first = if down < NODES { random.below(NODES.into()) as u8 } else { 0 };
                (first..first + down).map(|node| kill(node % NODES)).collect()
            }
        }
    }
}

/// The tables do not respond.
fn outage(tables: &Tables, trigger: Trigger, duration_ms: u64) -> Fault {
    let target = match tables {
        Tables::Simple => Target::Host(Host::Service(Service::Store)),
        Tables::Cassandra(_) => Target::AllNodes,
    };
    Fault { id: 0, trigger, target, kind: Kind::Host(HostFault::Kill), duration_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::fault::KindName;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    #[test]
    fn workers_are_paused_when_records_are_deleted_that_are_not_processed() {
        for world in World::iter() {
            let (mut paused, mut all) = (0, 0);
            for seed in 0..400 {
                let draft = Draft::new(seed, world, Profile::Damaged);
                let (options, log) = (draft.options.clone(), draft.log.clone());
                let faults = draft.damaged().faults;
                let pauses: Vec<&Fault> = faults
                    .iter()
                    .filter(|fault| (FIRST_PAUSE..FIRST_PAUSE + 9).contains(&fault.id))
                    .collect();
                let damage = faults.iter().find(|fault| fault.name() == KindName::LogTrimmedPastProgress);
                all += u32::from(damage.is_some());
                let Some(pause) = pauses.first() else { continue };
                paused += 1;
                assert_eq!(pauses.len(), usize::from(options.workers));
                assert!(pause.duration_ms < session_ms(&options, &log));
                let (Trigger::At { at_ms: began }, Some(Trigger::At { at_ms })) =
                    (pause.trigger, damage.map(|damage| damage.trigger))
                else {
                    panic!("{damage:?}")
                };
                assert!((began..=began + pause.duration_ms).contains(&at_ms), "{pause} {damage:?}");
            }
            assert!(paused * 2 > all && paused < all, "{paused} of {all} in {world}");
        }
    }

    #[test]
    fn the_faults_of_combinations_can_happen_to_the_tables_and_have_ids_of_their_own() {
        assert!(FIRST_ID + IDS * Combination::iter().count() as u64 <= FIRST_RESTART);
        for world in World::iter() {
            let mut seen = 0;
            for seed in 0..200 {
                let draft = Draft::new(seed, world, Profile::Standard);
                let faults = draw(seed, &draft.options, draft.services());
                let mut ids: Vec<u64> = faults.iter().map(|fault| fault.id).collect();
                ids.dedup();
                assert_eq!(ids.len(), faults.len());
                for fault in &faults {
                    assert!(KindName::drawn(draft.services()).any(|name| name == fault.name()), "{fault}");
                }
                seen += usize::from(!faults.is_empty());
            }
            assert!((120..175).contains(&seen), "{seen} of 200 scenarios in {world}");
        }
    }
}
