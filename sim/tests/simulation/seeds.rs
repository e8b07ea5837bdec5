//! Many seeds. `EXACTLYONCE_SIM_SEEDS` chooses which: `17`, or `1000..3000`; with
//! `EXACTLYONCE_SIM_TRACE=1`, their traces are printed.

use std::ops::Range;
use std::sync::OnceLock;

use simulation::faults::Kind;
use simulation::observed::EXPECTED;
use simulation::{Report, Seed};

use crate::campaign::{Campaign, RunResult};

/// Seeds of every test run.
const SEEDS: Range<Seed> = 0..1_000;

/// Run once for all tests that need it.
fn campaign() -> &'static Campaign {
    static CAMPAIGN: OnceLock<Campaign> = OnceLock::new();
    CAMPAIGN.get_or_init(|| Campaign::of("EXACTLYONCE_SIM_SEEDS", SEEDS, run_seed))
}

fn run_seed(seed: Seed, keep_trace: bool) -> RunResult {
    let report = simulation::run(seed, keep_trace);
    let text = report.violation.as_ref().map(|_| report.to_string()).unwrap_or_default();
    let Report { observed, trace, violation, simulated_ms, .. } = report;
    RunResult { seed, observed, trace, violation, simulated_ms, report: text }
}

#[test]
fn a_thousand_seeds_end_in_the_ground_truth() {
    campaign().assert_no_failures();
}

#[test]
fn faults_are_really_injected() {
    campaign().all_happened(Kind::DRAWN.iter().chain(EXPECTED).copied());
}
