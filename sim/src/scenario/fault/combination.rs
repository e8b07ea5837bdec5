//! Combinations: faults that do harm only together, at moments that they hardly ever meet by chance.

use simulated_hosts::{HostFault, LinkFault};
use strum::{EnumIter, IntoEnumIterator};

use super::{Direction, Fault, Host, Kind, Moment, Point, Step, Target, Trigger};
use crate::parties::Service;
use crate::random::{Random, Stream};
use crate::scenario::kafka::BROKERS;
use crate::scenario::options::RunOptions;
use crate::scenario::{Log, Services, Tables};

/// The ids of the faults of combinations: those of the nth one begin `IDS` further than those of the one before.
const FIRST_ID: u64 = 500;

/// The ids of the restarts that a scenario with damage has.
const FIRST_RESTART: u64 = 900;

/// Ids of a combination.
const IDS: u64 = 50;

/// One in so many scenarios has a combination.
const ONE_IN: u64 = 5;

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
}

/// The faults of the combinations that a scenario has.
pub(crate) fn draw(seed: u64, options: &RunOptions, services: Services<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (id, combination) in (FIRST_ID..).step_by(IDS as usize).zip(Combination::iter()) {
        let random = &mut Random::new(seed, Stream::Fault(id));
        if random.below(ONE_IN) == 0 {
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

impl Combination {
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
            assert!((95..145).contains(&seen), "{seen} of 200 scenarios in {world}");
        }
    }
}
