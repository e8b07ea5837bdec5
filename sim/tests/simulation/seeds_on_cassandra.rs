//! Many seeds of the pipeline over simulated Cassandra. `EXACTLYONCE_SIM_CASSANDRA_SEEDS` says which: `17`, or
//! `1000..3000`; with `EXACTLYONCE_SIM_TRACE=1`, their traces are printed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use simulation::Seed;
use simulation::observed::Observed;
use simulation::on_cassandra::observed::EXPECTED;
use simulation::on_cassandra::{
    CassandraKind, CassandraPlan, CassandraReport, CassandraWorld, run_on_cassandra, run_on_cassandra_with,
    world,
};

use crate::seeds::range_of;

/// Seeds of every test run.
const SEEDS: std::ops::Range<Seed> = 0..60;

/// Failures that are told whole.
const TOLD: usize = 3;

const VARIABLE: &str = "EXACTLYONCE_SIM_CASSANDRA_SEEDS";

#[derive(Default)]
struct Campaign {
    observed: Observed,
    failures: Vec<CassandraReport>,
    played: u64,
    events: u64,
    simulated_ms: u64,
}

/// Plays the seeds on all cores, once for all tests that want to know.
fn campaign() -> &'static Campaign {
    static CAMPAIGN: OnceLock<Campaign> = OnceLock::new();
    CAMPAIGN.get_or_init(|| {
        let range = range_of(VARIABLE).unwrap_or(SEEDS);
        let next = AtomicU64::new(range.start);
        let campaign = Mutex::new(Campaign::default());
        let keep_trace = std::env::var_os("EXACTLYONCE_SIM_TRACE").is_some_and(|value| value != "0");
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= range.end {
                            return;
                        }
                        let report = run_on_cassandra(seed, keep_trace);
                        let mut campaign = campaign.lock().expect("a run's panic stays in its thread");
                        for line in &report.trace.lines {
                            println!("{line}");
                        }
                        campaign.played += 1;
                        campaign.events += report.trace.events;
                        campaign.simulated_ms += report.simulated_ms;
                        campaign.observed.add_all(&report.observed);
                        if report.violation.is_some() {
                            campaign.failures.push(report);
                        }
                    }
                });
            }
        });
        let mut campaign = campaign.into_inner().expect("a run's panic stays in its thread");
        campaign.failures.sort_by_key(|report| report.seed);
        campaign
    })
}

#[test]
fn seeds_on_cassandra_end_in_the_ground_truth() {
    let Campaign { failures, played, events, simulated_ms, .. } = campaign();
    println!("{played} seeds, {events} events, {} s of simulated time", simulated_ms / 1_000);
    for report in failures.iter().take(TOLD) {
        eprintln!("{report}");
    }
    let all: Vec<String> = failures
        .iter()
        .map(|report| {
            let violation = format!("{:?}", report.violation);
            let name = violation.split(['(', ' ', '{']).nth(1).unwrap_or_default().to_owned();
            format!("{} ({name})", report.seed)
        })
        .collect();
    assert!(all.is_empty(), "{} of {played} seeds fail: {}", all.len(), all.join(", "));
}

#[test]
fn faults_of_cassandra_are_really_injected() {
    let observed = &campaign().observed;
    for (name, count) in observed.iter() {
        println!("{count:>9}  {name}");
    }
    if range_of(VARIABLE).is_some() {
        println!("not judged: these seeds were chosen");
        return;
    }
    let names: BTreeSet<&str> = CassandraKind::NAMES.iter().chain(EXPECTED).copied().collect();
    let unseen: Vec<&str> = names.into_iter().filter(|name| observed.count(name) == 0).collect();
    assert!(unseen.is_empty(), "never happened in any seed: {unseen:?}");
}

#[test]
fn a_seed_on_cassandra_gives_the_same_trace_again() {
    for seed in [0, 1, 2] {
        let (one, other) = (run_on_cassandra(seed, true), run_on_cassandra(seed, true));
        for (number, (one, other)) in one.trace.lines.iter().zip(&other.trace.lines).enumerate() {
            assert_eq!(one, other, "seed {seed}: the traces part at line {number}");
        }
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn a_cluster_that_nothing_happens_to_ends_in_the_ground_truth() {
    for seed in 0..5 {
        let (world, cassandra) = (world(seed), CassandraWorld::of(seed));
        let faults = (Default::default(), CassandraPlan::default());
        let report = run_on_cassandra_with(seed, world, cassandra, faults.0, faults.1, false);
        assert_eq!(report.violation, None, "{report}");
    }
}
