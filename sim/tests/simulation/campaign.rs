//! Runs many seeds on all cores, and checks them together.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::Seed;
use simulation::checker::Violation;
use simulation::observed::Observed;
use simulation::trace::Record;

/// Failures that are reported in full.
const REPORTED: usize = 3;

/// The seeds chosen by an environment variable.
pub fn range_of(variable: &str) -> Option<Range<Seed>> {
    let text = std::env::var(variable).ok()?;
    let range = match text.split_once("..") {
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()).map(|(from, to)| from..to),
        None => text.parse().ok().map(|seed| seed..seed + 1),
    };
    let range = range.filter(|range: &Range<Seed>| !range.is_empty());
    Some(range.unwrap_or_else(|| panic!("{variable}={text:?} is neither a seed nor FROM..TO")))
}

/// A run that has ended.
pub struct RunResult {
    pub seed: Seed,
    pub observed: Observed,
    pub trace: Record,
    pub violation: Option<Violation>,
    pub simulated_ms: u64,
    /// The full report of a run that failed.
    pub report: String,
}

#[derive(Default)]
pub struct Campaign {
    observed: Observed,
    failures: Vec<(Seed, Violation, String)>,
    runs: u64,
    events: u64,
    simulated_ms: u64,
    /// The seeds were chosen by the environment variable.
    chosen: bool,
}

impl Campaign {
    /// Runs the seeds that the variable names, by default these. `run_seed` gets whether to keep the trace.
    pub fn of(variable: &str, seeds: Range<Seed>, run_seed: fn(Seed, bool) -> RunResult) -> Self {
        let chosen = range_of(variable);
        let campaign = Mutex::new(Self { chosen: chosen.is_some(), ..Self::default() });
        let range = chosen.unwrap_or(seeds);
        let next = AtomicU64::new(range.start);
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
                        let result = run_seed(seed, keep_trace);
                        campaign.lock().expect("a run's panic stays in its thread").add(result);
                    }
                });
            }
        });
        let mut campaign = campaign.into_inner().expect("a run's panic stays in its thread");
        campaign.failures.sort_by_key(|(seed, ..)| *seed);
        campaign
    }

    fn add(&mut self, result: RunResult) {
        for line in &result.trace.lines {
            println!("{line}");
        }
        self.runs += 1;
        self.events += result.trace.events;
        self.simulated_ms += result.simulated_ms;
        self.observed.add_all(&result.observed);
        if let Some(violation) = result.violation {
            self.failures.push((result.seed, violation, result.report));
        }
    }

    /// Fails if any run has failed.
    pub fn assert_no_failures(&self) {
        let Self { failures, runs, events, simulated_ms, .. } = self;
        println!("{runs} seeds, {events} events, {} s of simulated time", simulated_ms / 1_000);
        for (_, _, report) in failures.iter().take(REPORTED) {
            eprintln!("{report}");
        }
        let name = |(seed, violation, _): &(Seed, Violation, String)| {
            let violation = format!("{violation:?}");
            format!("{seed} ({})", violation.split(['(', ' ']).next().unwrap_or_default())
        };
        let all: Vec<String> = failures.iter().map(name).collect();
        assert!(all.is_empty(), "{} of {runs} seeds fail: {}", all.len(), all.join(", "));
    }

    /// Fails if one of these has happened in no run, unless the seeds were chosen.
    pub fn all_happened<'a>(&self, names: impl Iterator<Item = &'a str>) {
        for (name, count) in self.observed.iter() {
            println!("{count:>9}  {name}");
        }
        if self.chosen {
            println!("not checked: these seeds were chosen");
            return;
        }
        let names: BTreeSet<&str> = names.collect();
        let unseen: Vec<&str> = names.into_iter().filter(|name| self.observed.count(name) == 0).collect();
        assert!(unseen.is_empty(), "never happened in any seed: {unseen:?}");
    }
}
