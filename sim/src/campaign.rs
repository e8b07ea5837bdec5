//! Runs many seeds, several at a time, and judges them together.

mod child;
mod isolation;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strum::IntoEnumIterator;

pub use isolation::{Isolation, PLAY, play};

use crate::observed::{FaultCounts, Observed, Sometimes};
use crate::run::{Report, Seed};
use crate::scenario::fault::KindName;
use crate::scenario::profile::Profile;
use crate::scenario::{Scenario, World};
use crate::service::declaration::Declaration;

/// Of the faults of each kind, how many must begin, and how many must take effect.
const BEGUN_PERCENT: u64 = 70;
const EFFECTIVE_PERCENT: u64 = 25;

/// The results of many seeds.
#[derive(Debug, Default)]
pub struct Campaign {
    /// What happened, summed over all runs.
    pub observed: Observed,
    /// The runs with a violation, by seed; until the first failure, only that one.
    pub failures: Vec<Report>,
    /// Number of runs.
    pub runs: u64,
    /// Events of their traces.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
}

/// When a campaign ends, and how it is run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The seeds.
    pub seeds: Range<Seed>,
    /// Number of runs at the same time, at least 1.
    pub jobs: usize,
    /// Where they take place. The results do not depend on it, unless a run crashes.
    pub isolation: Isolation,
    /// No seed is started later than this.
    pub time: Option<Duration>,
    /// No seed is started after one that failed. Those before it are finished, so the least failing seed is the same
    /// with any number of threads.
    pub until_first: bool,
}

impl Limits {
    /// These seeds in threads on all cores, without a time limit, whatever fails.
    pub fn seeds(seeds: Range<Seed>) -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self { seeds, jobs, isolation: Isolation::Threads, time: None, until_first: false }
    }
}

impl Campaign {
    /// Runs the seeds. `after` is called after each of them, with the results so far and its report.
    pub fn run(
        world: World,
        profile: Profile,
        limits: &Limits,
        after: impl Fn(&Campaign, &Report) + Sync,
    ) -> Self {
        let campaign = Mutex::<Self>::default();
        // Claimed in order, so that every seed before a failing one is claimed when it fails.
        let next = AtomicU64::new(limits.seeds.start);
        let end = AtomicU64::new(limits.seeds.end);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..limits.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let is_over = limits.time.is_some_and(|time| began.elapsed() > time);
                        if seed >= end.load(Ordering::Relaxed) || is_over {
                            return;
                        }
                        let report = play(Scenario::draw(seed, world, profile), &limits.isolation);
                        if limits.until_first && report.violation.is_some() {
                            end.fetch_min(seed, Ordering::Relaxed);
                        }
                        let mut campaign = campaign.lock().expect("a run's panic stays in its thread");
                        campaign.count(&report);
                        after(&campaign, &report);
                        if report.violation.is_some() {
                            campaign.failures.push(report);
                        }
                    }
                });
            }
        });
        let mut campaign = campaign.into_inner().expect("a run's panic stays in its thread");
        campaign.failures.sort_by_key(|report| report.scenario.seed);
        if limits.until_first {
            campaign.failures.truncate(1);
        }
        campaign
    }

    fn count(&mut self, report: &Report) {
        self.runs += 1;
        self.events += report.trace.events;
        self.simulated_ms += report.simulated_ms;
        self.observed.add_all(&report.observed);
    }

    /// What a campaign of 150 seeds of the standard profile must reach in this world and did not: kinds of faults that
    /// begin or take effect too rarely, and situations; the rare ones only after 1,000 seeds.
    pub fn missed(&self, world: World) -> Vec<String> {
        let drawn = Scenario::draw(0, world, Profile::Standard);
        let services = drawn.services();
        let kinds = KindName::drawn(services).filter_map(|kind| {
            let FaultCounts { planned, begun, effective, .. } = self.observed.faults(kind);
            let is_enough = begun * 100 >= planned * BEGUN_PERCENT
                && effective * 100 >= planned * EFFECTIVE_PERCENT
                && effective > 0;
            (!is_enough).then(|| format!("{kind} ({begun} begun and {effective} effective of {planned})"))
        });
        let used = Declaration::of_run(services);
        let is_possible = |situation: &Sometimes| {
            let declares = |each: &&Declaration| each.situations.contains(situation);
            used.iter().any(declares) || !Declaration::all().iter().any(declares)
        };
        let of_damage =
            [Sometimes::WorkerRefused, Sometimes::DamageFoundByVerify, Sometimes::DamageWithoutConsequence];
        let is_due = |situation: &Sometimes| {
            !of_damage.contains(situation) && (self.runs >= 1_000 || !situation.is_rare())
        };
        let situations = Sometimes::iter().filter(is_possible).filter(is_due);
        let situations = situations.filter(|situation| self.observed.count(*situation) == 0);
        kinds.chain(situations.map(|situation| situation.to_string())).collect()
    }
}
