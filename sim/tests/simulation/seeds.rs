//! Many seeds, each a world of its own. `EXACTLYONCE_SIM_SEEDS` says which: `17`, or `1000..3000`; with
//! `EXACTLYONCE_SIM_TRACE=1`, their traces are printed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use simulation::faults::Kind;
use simulation::observed::{EXPECTED, Observed};
use simulation::{Report, Seed};

/// Seeds of every test run.
const SEEDS: Range<Seed> = 0..1_000;

/// Failures that are told whole; one is enough to begin with.
const TOLD: usize = 3;

/// The seeds that somebody chose in a variable of the environment.
pub fn range_of(variable: &str) -> Option<Range<Seed>> {
    let text = std::env::var(variable).ok()?;
    let range = match text.split_once("..") {
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()).map(|(from, to)| from..to),
        None => text.parse().ok().map(|seed| seed..seed + 1),
    };
    let range = range.filter(|range: &Range<Seed>| !range.is_empty());
    Some(range.unwrap_or_else(|| panic!("{variable}={text:?} is neither a seed nor FROM..TO")))
}

/// The seeds to be played, and whether somebody chose them.
fn seeds() -> (Range<Seed>, bool) {
    let chosen = range_of("EXACTLYONCE_SIM_SEEDS");
    (chosen.clone().unwrap_or(SEEDS), chosen.is_some())
}

struct Campaign {
    observed: Observed,
    failures: Vec<Report>,
    played: u64,
    events: u64,
    simulated_ms: u64,
}

/// Plays the seeds on all cores, once for all tests that want to know.
fn campaign() -> &'static Campaign {
    static CAMPAIGN: OnceLock<Campaign> = OnceLock::new();
    CAMPAIGN.get_or_init(|| {
        let (range, _) = seeds();
        let next = AtomicU64::new(range.start);
        let campaign = Mutex::new(Campaign {
            observed: Observed::default(),
            failures: Vec::new(),
            played: 0,
            events: 0,
            simulated_ms: 0,
        });
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
                        let report = simulation::run(seed, keep_trace);
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
fn a_thousand_seeds_end_in_the_ground_truth() {
    let Campaign { failures, played, events, simulated_ms, .. } = campaign();
    println!("{played} seeds, {events} events, {} s of simulated time", simulated_ms / 1_000);
    if failures.is_empty() {
        return;
    }
    for report in failures.iter().take(TOLD) {
        eprintln!("{report}");
    }
    let all: Vec<String> = failures
        .iter()
        .map(|report| {
            let violation = format!("{:?}", report.violation.as_ref().expect("only failures are here"));
            let name = violation.split(['(', ' ']).next().unwrap_or_default().to_owned();
            format!("{} ({name})", report.seed)
        })
        .collect();
    panic!("{} of {played} seeds fail: {}", failures.len(), all.join(", "));
}

#[test]
fn faults_are_really_injected() {
    let observed = &campaign().observed;
    for (name, count) in observed.iter() {
        println!("{count:>9}  {name}");
    }
    if seeds().1 {
        println!("not judged: these seeds were chosen");
        return;
    }
    let names: BTreeSet<&str> = Kind::DRAWN.iter().chain(EXPECTED).copied().collect();
    let unseen: Vec<&str> = names.into_iter().filter(|name| observed.count(name) == 0).collect();
    assert!(unseen.is_empty(), "never happened in any seed: {unseen:?}");
}
