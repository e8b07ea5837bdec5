//! Many seeds on each kind of services. `cargo sim campaign --seeds 1000..3000 --world cassandra` runs others.

use std::ops::Range;
use std::sync::OnceLock;

use simulation::campaign::{Campaign, Limits};
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, World};
use simulation::{Seed, run};

use crate::played;

/// Seeds of every test run.
const SIMPLE: Range<Seed> = 0..2_000;
const CASSANDRA: Range<Seed> = 0..500;
const FULL: Range<Seed> = 0..200;

/// Failures that are reported in full.
const REPORTED: usize = 3;

/// Run once for all tests that need it.
fn campaign(world: World) -> &'static Campaign {
    static CAMPAIGNS: [OnceLock<Campaign>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let (index, seeds) = match world {
        World::Simple => (0, SIMPLE),
        World::Cassandra => (1, CASSANDRA),
        World::Full => (2, FULL),
    };
    let mut limits = Limits::seeds(seeds);
    if world.isolated() {
        limits.isolation = played::processes();
    }
    CAMPAIGNS[index].get_or_init(|| Campaign::run(world, Profile::Standard, &limits, |_, _| {}))
}

fn assert_no_failures(world: World) {
    let Campaign { failures, runs, events, simulated_ms, .. } = campaign(world);
    println!("{runs} seeds, {events} events, {} s of simulated time", simulated_ms / 1_000);
    for report in failures.iter().take(REPORTED) {
        let seed = report.scenario.seed;
        eprintln!("{report}to repeat it with its trace: cargo sim run --seed {seed} --world {world} --trace");
    }
    let name = |report: &simulation::Report| {
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
