//! A seed has one run, whichever process runs it. Without this, a failure could not be reproduced.

use std::process::Command;

use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use simulation::trace::Record;
use simulation::{Seed, run};

use crate::seeds::{assert_same, in_processes};

/// Seeds whose traces are compared.
const SEEDS: [Seed; 6] = [0, 1, 2, 3, 40, 41];

fn trace_of(seed: Seed, world: World, is_kept: bool) -> Record {
    run(Scenario::draw(seed, world, Profile::Standard), is_kept).trace
}

fn trace_of_a_process(seed: Seed) -> String {
    let program = env!("CARGO_BIN_EXE_simulation");
    let process = Command::new(program).args(["run", "--trace", "--seed", &seed.to_string()]).output();
    let process = process.expect("the simulation's own program starts");
    let text = String::from_utf8(process.stdout).expect("a trace is text");
    assert!(text.contains("trace: "), "seed {seed}: {}", String::from_utf8_lossy(&process.stderr));
    text
}

#[test]
fn a_seed_gives_the_same_trace_in_two_processes() {
    for seed in SEEDS {
        let (first, second) = (trace_of_a_process(seed), trace_of_a_process(seed));
        let mut before = "(the beginning)";
        let mut lines = 0;
        for (one, other) in first.lines().zip(second.lines()) {
            assert_eq!(
                one, other,
                "seed {seed}: the processes differ after {lines} lines, the last was\n{before}"
            );
            before = one;
            lines += 1;
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one trace goes on after\n{before}");
        assert!(lines > 100, "seed {seed}: a trace of {lines} lines compares nothing");
    }
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let (kept, not_kept) = (trace_of(5, World::Simple, true), trace_of(5, World::Simple, false));
    assert_eq!((kept.hash, kept.events), (not_kept.hash, not_kept.events));
    assert_eq!(kept.events, kept.lines.len() as u64);
    assert!(not_kept.lines.is_empty());
}

#[test]
fn two_seeds_give_two_traces() {
    assert_ne!(trace_of(6, World::Simple, false).hash, trace_of(7, World::Simple, false).hash);
}

#[test]
fn a_seed_on_cassandra_gives_the_same_trace_again() {
    for seed in [0, 1, 2] {
        let of = |seed| trace_of(seed, World::Cassandra, true);
        let (one, other) = (of(seed), of(seed));
        for (number, (one, other)) in one.lines.iter().zip(&other.lines).enumerate() {
            assert_eq!(one, other, "seed {seed}: the traces differ from line {number}");
        }
        assert_eq!(one, other, "seed {seed}");
    }
}

/// In addition to those that every test run has (`seeds.rs`).
#[test]
#[ignore = "takes minutes: cargo sim _1000_more_seeds --ignored"]
fn _1000_more_seeds_of_the_production_drivers_have_the_same_trace_in_two_processes() {
    let [one, other] = [(); 2].map(|()| in_processes(1_000..2_000).1);
    assert_same(&one, &other);
}

#[test]
fn keeping_the_trace_changes_nothing_for_the_production_drivers() {
    let (kept, not_kept) = (trace_of(5, World::Full, true), trace_of(5, World::Full, false));
    assert_eq!((kept.hash, kept.events), (not_kept.hash, not_kept.events));
}

#[test]
fn a_scenario_from_its_file_has_the_trace_of_its_seed() {
    for (seed, world) in [(8, World::Simple), (9, World::Simple), (1, World::Cassandra)] {
        let scenario = Scenario::draw(seed, world, Profile::Standard);
        let read: Scenario = scenario.to_toml().parse().expect("a scenario");
        assert_eq!(run(read, false).trace, run(scenario, false).trace, "seed {seed}");
    }
}
