//! A change of a scenario in a few bytes.
//!
//! What it adds or sets is within what scenarios are drawn with, so that a correct pipeline survives it: a fault is of a kind
//! that is drawn and has drawn parameters, an option gets one of a few values of its distribution.

use fuzz_runner::Draw;
use simulation::scenario::Scenario;
use simulation::scenario::fault::{Fault, Host, KindName, Point, Target, Trigger};
use simulation::scenario::simplification::Simplification;
use strum::IntoEnumIterator;

use crate::options::CHOICES;

/// Faults of a kind, at most; a scenario is drawn with as many.
const MOST_OF_A_KIND: usize = 12;

/// The shortest duration that is drawn, in milliseconds.
const SHORTEST_MS: u64 = 20;

/// The longest of a fault that affects no worker, in milliseconds.
const LONGEST_MS: u64 = 4_000;

/// How often a point must be passed, of the range that is drawn.
const OCCURRENCES: [u64; 12] = [1, 1, 2, 2, 3, 4, 5, 6, 8, 12, 16, 24];

/// Each of these numbers is an operation; some are there several times, so that random bytes are more often one of them.
const OPERATIONS: [fn(&Edit, u64, &mut Scenario); 16] = [
    Edit::add_fault,
    Edit::add_fault,
    Edit::add_fault,
    Edit::add_fault,
    Edit::leave_out_fault,
    Edit::leave_out_kind,
    Edit::keep_kinds,
    Edit::move_fault,
    Edit::move_fault,
    Edit::lengthen_fault,
    Edit::draw_fault_again,
    Edit::set_option,
    Edit::set_option,
    Edit::simplify,
    Edit::leave_out_records,
    Edit::run_with_another_seed,
];

/// A change of a scenario: the operation, and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit(pub [u8; Edit::LENGTH]);

impl Edit {
    /// Its length in bytes.
    pub const LENGTH: usize = 6;

    /// The edit that bytes are. What is missing is 0.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut all = [0; Self::LENGTH];
        all[..bytes.len()].copy_from_slice(bytes);
        Self(all)
    }

    /// Any.
    pub fn draw(draw: &mut Draw) -> Self {
        Self([(); Self::LENGTH].map(|()| draw.byte()))
    }

    /// Changes the scenario; `nth` counts its edits from 1.
    pub fn apply(&self, nth: u64, scenario: &mut Scenario) {
        let operation = OPERATIONS[usize::from(self.0[0]) % OPERATIONS.len()];
        operation(self, nth, scenario);
    }

    /// A parameter, from 1.
    fn parameter(&self, number: usize) -> usize {
        usize::from(self.0[number])
    }

    /// The fault that the first parameter selects.
    fn fault<'s>(&self, scenario: &'s mut Scenario) -> Option<&'s mut Fault> {
        let number = self.parameter(1) % scenario.faults.len().max(1);
        scenario.faults.get_mut(number)
    }

    /// Adds one of this kind, at this point and occurrence, for this long.
    fn add_fault(&self, nth: u64, scenario: &mut Scenario) {
        let kinds: Vec<KindName> = KindName::drawn(scenario.services()).collect();
        let kind = kinds[self.parameter(1) % kinds.len()];
        if scenario.faults.iter().filter(|fault| fault.name() == kind).count() >= MOST_OF_A_KIND {
            return;
        }
        // Smaller than all ids that are drawn.
        let id = nth;
        let mut fault = drawn(self.parameter(5), id, scenario, kind);
        set_trigger(&mut fault, self.parameter(2), self.parameter(3), scenario.options.chaos_ms);
        set_duration(&mut fault, self.parameter(4), scenario);
        scenario.faults.push(fault);
    }

    fn leave_out_fault(&self, _: u64, scenario: &mut Scenario) {
        if let Some(id) = self.fault(scenario).map(|fault| fault.id) {
            scenario.faults.retain(|fault| fault.id != id);
        }
    }

    /// Leaves out all of the kind of a fault.
    fn leave_out_kind(&self, _: u64, scenario: &mut Scenario) {
        if let Some(kind) = self.fault(scenario).map(|fault| fault.name()) {
            scenario.faults.retain(|fault| fault.name() != kind);
        }
    }

    /// Keeps the kinds whose bits are set.
    fn keep_kinds(&self, _: u64, scenario: &mut Scenario) {
        let bits = self.parameter(1) | self.parameter(2) << 8;
        let kinds: Vec<KindName> = KindName::drawn(scenario.services()).collect();
        let is_kept = |kind| {
            let number = kinds.iter().position(|other| *other == kind).unwrap_or_default();
            bits & 1 << (number % 16) != 0
        };
        scenario.faults.retain(|fault| is_kept(fault.name()));
    }

    /// Gives a fault another trigger.
    fn move_fault(&self, _: u64, scenario: &mut Scenario) {
        let chaos_ms = scenario.options.chaos_ms;
        if let Some(fault) = self.fault(scenario) {
            set_trigger(fault, self.parameter(2), self.parameter(3), chaos_ms);
        }
    }

    /// Gives a fault another duration.
    fn lengthen_fault(&self, _: u64, scenario: &mut Scenario) {
        if let Some(mut fault) = self.fault(scenario).cloned() {
            set_duration(&mut fault, self.parameter(2), scenario);
            self.fault(scenario).into_iter().for_each(|old| *old = fault.clone());
        }
    }

    /// Draws the parameters and the target of a fault again, and keeps when and for how long it happens.
    fn draw_fault_again(&self, _: u64, scenario: &mut Scenario) {
        if let Some(Fault { id, trigger, duration_ms, .. }) = self.fault(scenario).cloned() {
            let Some(kind) = self.fault(scenario).map(|fault| fault.name()) else { return };
            let mut fault = drawn(self.parameter(2), id, scenario, kind);
            (fault.trigger, fault.duration_ms) = (trigger, duration_ms);
            choose_worker(&mut fault, self.parameter(3));
            self.fault(scenario).into_iter().for_each(|old| *old = fault.clone());
        }
    }

    fn set_option(&self, _: u64, scenario: &mut Scenario) {
        CHOICES[self.parameter(1) % CHOICES.len()](&mut scenario.options, self.parameter(2));
    }

    fn simplify(&self, _: u64, scenario: &mut Scenario) {
        let number = self.parameter(1) % Simplification::iter().count();
        if let Some(simplification) = Simplification::iter().nth(number) {
            simplification.apply(&mut scenario.options, &mut scenario.tables, &mut scenario.log);
        }
    }

    /// Leaves out a part of the records, or lets all of them be there before the workers start.
    fn leave_out_records(&self, _: u64, scenario: &mut Scenario) {
        let records = &mut scenario.records;
        let part = |byte: usize| records.len() * byte / 256;
        match self.parameter(1) % 4 {
            0 => {
                let end = part(self.parameter(2)) + 1;
                records.truncate(end);
            }
            1 => {
                let end = part(self.parameter(2));
                records.drain(..end);
            }
            2 => {
                let mut number = 0;
                let every = 2 + self.parameter(2) % 6;
                records.retain(|_| {
                    number += 1;
                    number % every != 0
                });
            }
            _ => records.iter_mut().for_each(|record| record.at_ms = None),
        }
    }

    /// Everything that services and workers draw while it runs is another.
    fn run_with_another_seed(&self, _: u64, scenario: &mut Scenario) {
        scenario.seed ^= (self.parameter(1) | self.parameter(2) << 8) as u64;
    }
}

/// A fault of a kind with parameters as they are drawn.
fn drawn(seed: usize, id: u64, scenario: &Scenario, kind: KindName) -> Fault {
    Fault::draw(seed as u64, id, &scenario.options, scenario.services(), kind)
}

/// Lets a fault wait for a point, or for a time.
fn set_trigger(fault: &mut Fault, point: usize, occurrence: usize, chaos_ms: u64) {
    let points: Vec<Point> = Point::of_worker().collect();
    fault.trigger = match point {
        224.. => Trigger::At { at_ms: chaos_ms * 7 / 10 * occurrence as u64 / 256 },
        _ => Trigger::When {
            point: points[point % points.len()],
            nth: OCCURRENCES[occurrence % OCCURRENCES.len()],
            latest_ms: chaos_ms * 9 / 10,
        },
    };
    choose_worker(fault, occurrence);
}

/// The worker that reaches the point is the target, if the fault waits for one.
fn choose_worker(fault: &mut Fault, number: usize) {
    let chosen = match fault.trigger {
        Trigger::When { .. } => Host::Triggering,
        Trigger::At { .. } => Host::Worker((number % 3) as u8),
    };
    if let Target::Host(host) | Target::Link { from: host, .. } = &mut fault.target
        && host.is_of_worker()
    {
        *host = chosen;
    }
}

/// Sets how long a fault lasts, up to the longest that is drawn; 0 keeps what it has.
fn set_duration(fault: &mut Fault, duration: usize, scenario: &Scenario) {
    if duration == 0 {
        return;
    }
    let options = &scenario.options;
    let longest_ms = match fault.target.worker() {
        Some(_) => options.session_timeout_ms * 3,
        None => LONGEST_MS,
    };
    let longest_ms = longest_ms.min(options.chaos_ms / 4).max(SHORTEST_MS);
    let steps = (longest_ms / SHORTEST_MS).ilog2() as usize + 1;
    fault.duration_ms = (SHORTEST_MS << (duration % (steps + 1))).min(longest_ms);
}
