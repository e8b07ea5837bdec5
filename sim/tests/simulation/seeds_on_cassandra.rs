//! Many seeds of the pipeline on simulated Cassandra. `EXACTLYONCE_SIM_CASSANDRA_SEEDS` chooses which: `17`, or
//! `1000..3000`; with `EXACTLYONCE_SIM_TRACE=1`, their traces are printed.

use std::sync::OnceLock;

use simulation::Seed;
use simulation::on_cassandra::observed::EXPECTED;
use simulation::on_cassandra::{
    CassandraConfig, CassandraKind, CassandraPlan, CassandraReport, config, run_on_cassandra,
    run_on_cassandra_with,
};

use crate::campaign::{Campaign, RunResult};

/// Seeds of every test run.
const SEEDS: std::ops::Range<Seed> = 0..150;

/// Run once for all tests that need it.
fn campaign() -> &'static Campaign {
    static CAMPAIGN: OnceLock<Campaign> = OnceLock::new();
    CAMPAIGN.get_or_init(|| Campaign::of("EXACTLYONCE_SIM_CASSANDRA_SEEDS", SEEDS, run_seed))
}

fn run_seed(seed: Seed, keep_trace: bool) -> RunResult {
    let report = run_on_cassandra(seed, keep_trace);
    let text = report.violation.as_ref().map(|_| report.to_string()).unwrap_or_default();
    let CassandraReport { observed, trace, violation, simulated_ms, .. } = report;
    RunResult { seed, observed, trace, violation, simulated_ms, report: text }
}

#[test]
fn seeds_on_cassandra_end_in_the_ground_truth() {
    campaign().assert_no_failures();
}

#[test]
fn faults_of_cassandra_are_really_injected() {
    campaign().all_happened(CassandraKind::NAMES.iter().chain(EXPECTED).copied());
}

#[test]
fn a_seed_on_cassandra_gives_the_same_trace_again() {
    for seed in [0, 1, 2] {
        let (one, other) = (run_on_cassandra(seed, true), run_on_cassandra(seed, true));
        for (number, (one, other)) in one.trace.lines.iter().zip(&other.trace.lines).enumerate() {
            assert_eq!(one, other, "seed {seed}: the traces differ from line {number}");
        }
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn a_cluster_without_faults_ends_in_the_ground_truth() {
    for seed in 0..5 {
        let (config, cassandra) = (config(seed), CassandraConfig::of(seed));
        let faults = (Default::default(), CassandraPlan::default());
        let report = run_on_cassandra_with(seed, config, cassandra, faults.0, faults.1, false);
        assert_eq!(report.violation, None, "{report}");
    }
}
