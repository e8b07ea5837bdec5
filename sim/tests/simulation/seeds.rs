//! Many seeds on each kind of services. `cargo sim campaign --seeds 1000..3000 --world cassandra` runs others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use simulation::campaign::{Campaign, Limits};
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, World};
use simulation::{Report, Seed, run};

use crate::played;

/// Seeds of every test run.
const SIMPLE: Range<Seed> = 0..2_000;
const CASSANDRA: Range<Seed> = 0..500;
const FULL: Range<Seed> = 0..200;

/// Failures that are reported in full.
const REPORTED: usize = 3;

/// Run once for all tests that need it.
fn campaign(world: World) -> &'static Campaign {
    static CAMPAIGNS: [OnceLock<Campaign>; 2] = [OnceLock::new(), OnceLock::new()];
    let (index, seeds) = match world {
        World::Simple => (0, SIMPLE),
        World::Cassandra => (1, CASSANDRA),
        World::Full => return &full().0,
    };
    let limits = Limits::seeds(seeds);
    CAMPAIGNS[index].get_or_init(|| Campaign::run(world, Profile::Standard, &limits, |_, _| {}))
}

/// Those of both production drivers, run once, with the report of each.
fn full() -> &'static (Campaign, BTreeMap<Seed, Report>) {
    static CAMPAIGN: OnceLock<(Campaign, BTreeMap<Seed, Report>)> = OnceLock::new();
    CAMPAIGN.get_or_init(|| in_processes(FULL))
}

/// Runs each seed of both production drivers in a process of its own.
pub fn in_processes(seeds: Range<Seed>) -> (Campaign, BTreeMap<Seed, Report>) {
    let limits = Limits { isolation: played::processes(), ..Limits::seeds(seeds) };
    let reports = Mutex::new(BTreeMap::new());
    let campaign = Campaign::run(World::Full, Profile::Standard, &limits, |_, report| {
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(report.scenario.seed, report.clone());
    });
    (campaign, reports.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn assert_no_failures(world: World) {
    let Campaign { failures, runs, events, simulated_ms, .. } = campaign(world);
    println!("{runs} seeds, {events} events, {} s of simulated time", simulated_ms / 1_000);
    for report in failures.iter().take(REPORTED) {
        let seed = report.scenario.seed;
        eprintln!("{report}to repeat it with its trace: cargo sim run --seed {seed} --world {world} --trace");
    }
    let name = |report: &Report| {
        let violation = format!("{:?}", report.violation.as_ref());
        format!("{} ({})", report.scenario.seed, violation.split([' ', '{']).next().unwrap_or_default())
    };
    let all: Vec<String> = failures.iter().map(name).collect();
    assert!(all.is_empty(), "{} of {runs} seeds fail: {}", all.len(), all.join(", "));
}

fn assert_everything_happened(world: World) {
    let campaign = campaign(world);
    println!("{}", campaign.observed);
    let missed = campaign.missed(world);
    assert!(missed.is_empty(), "never happened in any seed: {missed:?}");
}

#[test]
fn seeds_on_simple_services_end_in_the_ground_truth() {
    assert_no_failures(World::Simple);
}

#[test]
fn seeds_on_cassandra_end_in_the_ground_truth() {
    assert_no_failures(World::Cassandra);
}

#[test]
fn seeds_on_kafka_and_cassandra_end_in_the_ground_truth() {
    assert_no_failures(World::Full);
}

/// Processes have different addresses.
#[test]
fn a_seed_on_kafka_and_cassandra_has_the_same_trace_in_two_processes() {
    assert_same(&full().1, &in_processes(FULL).1);
}

/// Compares all that is left of runs.
pub fn assert_same(one: &BTreeMap<Seed, Report>, other: &BTreeMap<Seed, Report>) {
    assert!(one.values().all(|report| report.trace.events > 100), "a short trace compares nothing");
    assert!(one.keys().eq(other.keys()));
    for (seed, report) in one {
        assert_eq!(Some(report), other.get(seed), "seed {seed}");
    }
}

#[test]
fn every_fault_takes_effect_and_every_rare_situation_occurs_on_kafka_and_cassandra() {
    assert_everything_happened(World::Full);
}

#[test]
fn every_fault_takes_effect_and_every_rare_situation_occurs_on_simple_services() {
    assert_everything_happened(World::Simple);
}

#[test]
fn every_fault_takes_effect_and_every_rare_situation_occurs_on_cassandra() {
    assert_everything_happened(World::Cassandra);
}

#[test]
fn a_cluster_without_faults_ends_in_the_ground_truth() {
    for seed in 0..5 {
        let report = run(Draft::new(seed, World::Cassandra, Profile::Standard).without_faults(), false);
        assert_eq!(report.violation, None, "{report}");
    }
}
