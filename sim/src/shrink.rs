//! Reduces a scenario that fails to a small one that fails with the same violation.
//!
//! Delta debugging: parts are left out or made simpler, large steps first, as long as the run still has a violation of the
//! same name. A fault, a record or a worker less changes no draw of the others, because each has a random stream of its own.
//! The result depends only on the scenario, and on when the caller ends it; reduced again, it stays the same.

mod faults;
mod records;

use std::collections::BTreeSet;

use strum::IntoEnumIterator;

use crate::campaign::{Isolation, play};
use crate::scenario::Scenario;
use crate::scenario::fault::Host;
use crate::scenario::simplification::Simplification;

/// So many other seeds are tried without each fault, before a scenario is the smallest one.
const OTHER_SEEDS: u64 = 4;

/// What a reduction has reached.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest scenario so far.
    pub scenario: Scenario,
    /// The name of its violation.
    pub violation: &'static str,
    /// How many scenarios were run.
    pub runs: u64,
}

/// Reduces a scenario until nothing more can be left out, or until `go_on` returns false, which is called with the smallest
/// scenario so far before each run. `None` if the scenario itself has no violation.
pub fn shrink(
    scenario: Scenario,
    isolation: &Isolation,
    go_on: impl FnMut(&Shrunk) -> bool,
) -> Option<Shrunk> {
    let violation = play(scenario.clone(), isolation).violation?.name();
    let shrunk = Shrunk { scenario, violation, runs: 1 };
    let mut shrinker = Shrinker { shrunk, isolation, go_on, has_ended: false, passed: BTreeSet::new() };
    loop {
        let before = shrinker.shrunk.scenario.clone();
        shrinker.without_faults();
        shrinker.shorter();
        shrinker.without_records();
        shrinker.with_fewer_workers_and_partitions();
        shrinker.with_simpler_options();
        shrinker.with_simpler_records();
        shrinker.with_simpler_faults();
        let is_smallest = shrinker.shrunk.scenario == before && !shrinker.without_a_fault_with_another_seed();
        if is_smallest || shrinker.has_ended {
            return Some(shrinker.shrunk);
        }
    }
}

struct Shrinker<'a, P> {
    shrunk: Shrunk,
    isolation: &'a Isolation,
    go_on: P,
    has_ended: bool,
    /// The files of scenarios that were run, and do not have the violation.
    passed: BTreeSet<String>,
}

impl<P: FnMut(&Shrunk) -> bool> Shrinker<'_, P> {
    fn scenario(&self) -> &Scenario {
        &self.shrunk.scenario
    }

    /// Keeps a scenario if it fails with the same violation, and is another one.
    fn keep_if_it_fails(&mut self, scenario: Scenario) -> bool {
        if scenario == self.shrunk.scenario || self.has_ended {
            return false;
        }
        let file = scenario.to_toml();
        if self.passed.contains(&file) {
            return false;
        }
        self.has_ended = !(self.go_on)(&self.shrunk);
        if self.has_ended {
            return false;
        }
        self.shrunk.runs += 1;
        let fails = play(scenario.clone(), self.isolation).has(self.shrunk.violation);
        if fails {
            self.shrunk.scenario = scenario;
        } else {
            self.passed.insert(file);
        }
        fails
    }

    /// Keeps the current scenario with a change, if it still fails.
    fn keep_with(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut scenario = self.shrunk.scenario.clone();
        change(&mut scenario);
        self.keep_if_it_fails(scenario)
    }

    /// Changes items by number, as many as possible: all of them at once, or else each half for itself, and so on.
    fn simplify(&mut self, items: &[usize], change: &impl Fn(&mut Scenario, &[usize])) {
        if items.is_empty() || self.keep_with(|scenario| change(scenario, items)) || items.len() == 1 {
            return;
        }
        let (one, other) = items.split_at(items.len() / 2);
        self.simplify(one, change);
        self.simplify(other, change);
    }

    /// Leaves out parts of a list: everything, then all but a half as long as that is possible, and then halves, quarters
    /// and so on, down to single items.
    fn without<T>(&mut self, list: impl Fn(&mut Scenario) -> &mut Vec<T>) {
        if self.keep_with(|scenario| list(scenario).clear()) {
            return;
        }
        let length = |shrinker: &mut Self| list(&mut shrinker.shrunk.scenario).len();
        loop {
            let half = length(self) / 2;
            let is_halved = half > 0
                && (self.keep_with(|scenario| list(scenario).truncate(half))
                    || self.keep_with(|scenario| drop(list(scenario).drain(..half))));
            if !is_halved {
                break;
            }
        }
        let mut size = length(self) / 2;
        while size > 0 {
            let mut from = 0;
            while from < length(self) {
                let to = (from + size).min(length(self));
                if !self.keep_with(|scenario| drop(list(scenario).drain(from..to))) {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn without_faults(&mut self) {
        self.without(|scenario| &mut scenario.faults);
    }

    /// A fault may matter only because it changes when everything else happens, which another seed does, too.
    fn without_a_fault_with_another_seed(&mut self) -> bool {
        let (faults, seed) = (self.scenario().faults.len(), self.scenario().seed);
        (0..faults).filter(|_| faults > 1).any(|fault| {
            (1..=OTHER_SEEDS).any(|other| {
                self.keep_with(|scenario| {
                    scenario.faults.remove(fault);
                    scenario.seed = seed.wrapping_add(other);
                })
            })
        })
    }

    fn without_records(&mut self) {
        self.without(|scenario| &mut scenario.records);
    }

    /// Halves the time of the faults.
    fn shorter(&mut self) {
        while self.scenario().options.chaos_ms > 1
            && self.keep_with(|scenario| scenario.options.chaos_ms /= 2)
        {}
    }

    fn with_fewer_workers_and_partitions(&mut self) {
        for workers in 1..self.scenario().options.workers {
            if self.keep_with(|scenario| keep_workers(scenario, workers)) {
                break;
            }
        }
        for partitions in 1..self.scenario().options.partitions {
            if self.keep_with(|scenario| scenario.options.partitions = partitions) {
                break;
            }
        }
    }

    fn with_simpler_options(&mut self) {
        let all: Vec<Simplification> = Simplification::iter().collect();
        let numbers: Vec<usize> = (0..all.len()).collect();
        self.simplify(&numbers, &|scenario: &mut Scenario, numbers: &[usize]| {
            for number in numbers {
                all[*number].apply(&mut scenario.options, &mut scenario.tables, &mut scenario.log);
            }
        });
    }
}

/// Leaves so many workers; the others' faults affect those that are left.
fn keep_workers(scenario: &mut Scenario, workers: u8) {
    scenario.options.workers = workers;
    for fault in &mut scenario.faults {
        if let Some(Host::Worker(worker)) = fault.target.worker_mut() {
            *worker %= workers;
        }
    }
}
