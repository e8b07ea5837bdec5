//! Reduces a scenario that fails to a small one that fails with the same violation.
//!
//! Delta debugging: parts are left out, large ones first, as long as the run still has a violation of the same name. A
//! fault, a record or a worker less changes no draw of the others, because each has a random stream of its own. The result
//! depends only on the scenario, and on when the caller ends it.

use crate::run::run;
use crate::scenario::Scenario;
use crate::scenario::fault::{Fault, Target, Trigger};

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
pub fn shrink(scenario: Scenario, go_on: impl FnMut(&Shrunk) -> bool) -> Option<Shrunk> {
    let violation = run(scenario.clone(), false).violation?.name();
    let shrunk = Shrunk { scenario, violation, runs: 1 };
    let mut shrinker = Shrinker { shrunk, go_on, has_ended: false };
    loop {
        let before = shrinker.shrunk.scenario.clone();
        shrinker.without_faults();
        shrinker.without_records();
        shrinker.with_fewer_workers_and_partitions();
        shrinker.with_shorter_faults();
        if shrinker.shrunk.scenario == before || shrinker.has_ended {
            return Some(shrinker.shrunk);
        }
    }
}

struct Shrinker<P> {
    shrunk: Shrunk,
    go_on: P,
    has_ended: bool,
}

impl<P: FnMut(&Shrunk) -> bool> Shrinker<P> {
    /// Keeps a scenario if it fails with the same violation.
    fn keep_if_it_fails(&mut self, scenario: Scenario) -> bool {
        self.has_ended |= !(self.go_on)(&self.shrunk);
        if self.has_ended {
            return false;
        }
        self.shrunk.runs += 1;
        let fails = run(scenario.clone(), false).has(self.shrunk.violation);
        if fails {
            self.shrunk.scenario = scenario;
        }
        fails
    }

    fn without_faults(&mut self) {
        let of = |scenario: &Scenario, faults| Scenario { faults, ..scenario.clone() };
        self.without(|scenario| scenario.faults.clone(), of);
    }

    fn without_records(&mut self) {
        let of = |scenario: &Scenario, records| Scenario { records, ..scenario.clone() };
        self.without(|scenario| scenario.records.clone(), of);
    }

    /// Leaves out parts of a list: halves, quarters and so on, down to single items.
    fn without<T: Clone>(
        &mut self,
        items: impl Fn(&Scenario) -> Vec<T>,
        with: impl Fn(&Scenario, Vec<T>) -> Scenario,
    ) {
        let mut size = items(&self.shrunk.scenario).len();
        while size > 0 {
            let mut from = 0;
            loop {
                let mut left = items(&self.shrunk.scenario);
                if from >= left.len() {
                    break;
                }
                left.drain(from..(from + size).min(left.len()));
                if !self.keep_if_it_fails(with(&self.shrunk.scenario, left)) {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn with_fewer_workers_and_partitions(&mut self) {
        while self.shrunk.scenario.options.workers > 1 {
            let mut scenario = self.shrunk.scenario.clone();
            scenario.options.workers -= 1;
            let is_left = |fault: &Fault| match fault.target {
                Target::Worker(worker) => worker < scenario.options.workers,
                Target::Triggering | Target::Anyone => true,
            };
            scenario.faults.retain(is_left);
            if !self.keep_if_it_fails(scenario) {
                break;
            }
        }
        while self.shrunk.scenario.options.partitions > 1 {
            let mut scenario = self.shrunk.scenario.clone();
            scenario.options.partitions -= 1;
            if !self.keep_if_it_fails(scenario) {
                break;
            }
        }
    }

    /// Halves durations and times.
    fn with_shorter_faults(&mut self) {
        for index in 0..self.shrunk.scenario.faults.len() {
            for shorten in [half_duration, half_time] {
                loop {
                    let mut scenario = self.shrunk.scenario.clone();
                    shorten(&mut scenario.faults[index]);
                    if scenario == self.shrunk.scenario || !self.keep_if_it_fails(scenario) {
                        break;
                    }
                }
            }
        }
    }
}

fn half_duration(fault: &mut Fault) {
    fault.duration_ms /= 2;
}

fn half_time(fault: &mut Fault) {
    match &mut fault.trigger {
        Trigger::At { at_ms } => *at_ms /= 2,
        Trigger::When { nth, .. } => *nth = nth.div_ceil(2),
    }
}
