//! Simpler faults: shorter, of every message instead of some, and at the first occurrence of a point instead of a time.

use simulated_hosts::{ClockFault, LinkFault};

use super::{Shrinker, Shrunk};
use crate::scenario::fault::{Direction, Fault, Host, Kind, Point, Target, Trigger};

/// Of more faults, no trigger is replaced by each point in turn.
const FEW: usize = 3;

impl<P: FnMut(&Shrunk) -> bool> Shrinker<'_, P> {
    pub(super) fn with_simpler_faults(&mut self) {
        for index in 0..self.scenario().faults.len() {
            self.with_simpler_trigger(index);
            for simplify in [worst_rate, shortest_duration, both_directions, of_first_worker] {
                self.keep_with(|scenario| simplify(&mut scenario.faults[index]));
            }
            for shorten in [half_duration, half_time, half_delay] {
                while self.keep_with(|scenario| shorten(&mut scenario.faults[index])) {}
            }
        }
    }

    /// The start is simpler than a point, and a point is simpler than a time, because it stays when other things change.
    fn with_simpler_trigger(&mut self, index: usize) {
        let latest_ms = self.scenario().options.chaos_ms;
        let fault = &self.scenario().faults[index];
        let (trigger, target) = (fault.trigger, fault.target);
        if self.keep_with_trigger(index, Trigger::At { at_ms: 0 }, target) {
            return;
        }
        match trigger {
            Trigger::At { at_ms: 0 } => {}
            Trigger::At { .. } if self.scenario().faults.len() <= FEW => {
                for point in Point::of_worker() {
                    let trigger = Trigger::When { point, nth: 1, latest_ms };
                    if self.keep_with_trigger(index, trigger, target) {
                        break;
                    }
                }
            }
            Trigger::At { .. } => {}
            Trigger::When { point, nth, latest_ms: latest } => {
                // Only at the point.
                let latest_ms =
                    match self.keep_with_trigger(index, Trigger::When { point, nth, latest_ms }, target) {
                        true => latest_ms,
                        false => latest,
                    };
                for fewer in [1, nth / 2, nth.saturating_sub(1)] {
                    let trigger = Trigger::When { point, nth: fewer, latest_ms };
                    if (1..nth).contains(&fewer) && self.keep_with_trigger(index, trigger, target) {
                        break;
                    }
                }
            }
        }
    }

    fn keep_with_trigger(&mut self, index: usize, trigger: Trigger, mut target: Target) -> bool {
        match (trigger, target.worker_mut()) {
            (Trigger::When { .. }, Some(worker)) => *worker = Host::Triggering,
            (Trigger::At { .. }, Some(worker @ Host::Triggering)) => *worker = Host::Worker(0),
            _ => {}
        }
        self.keep_with(|scenario| {
            let fault = &mut scenario.faults[index];
            (fault.trigger, fault.target) = (trigger, target);
        })
    }
}

fn worst_rate(fault: &mut Fault) {
    match &mut fault.kind {
        Kind::AcknowledgedWritesDropped { per_mille } | Kind::Sabotaged { per_mille, .. } => {
            *per_mille = 1_000
        }
        kind => kind.rate_mut().into_iter().for_each(|per_mille| *per_mille = 1_000),
    }
}

fn shortest_duration(fault: &mut Fault) {
    fault.duration_ms = 1;
}

fn half_duration(fault: &mut Fault) {
    fault.duration_ms = fault.duration_ms.div_ceil(2);
}

fn both_directions(fault: &mut Fault) {
    if let Target::Link { from, direction, .. } = &mut fault.target
        && from.is_of_worker()
    {
        *direction = Direction::Both;
    }
}

fn of_first_worker(fault: &mut Fault) {
    if let Some(Host::Worker(worker)) = fault.target.worker_mut() {
        *worker = 0;
    }
}

/// Only of a trigger that is a time; a point is not passed earlier.
fn half_time(fault: &mut Fault) {
    if let Trigger::At { at_ms } = &mut fault.trigger {
        *at_ms /= 2;
    }
}

fn half_delay(fault: &mut Fault) {
    match &mut fault.kind {
        Kind::Link(LinkFault::Delay { up_to_ms, .. } | LinkFault::Duplicate { up_to_ms, .. }) => {
            *up_to_ms = up_to_ms.div_ceil(2);
        }
        Kind::Clock(ClockFault::Step { by_ms }) => *by_ms /= 2,
        Kind::Clock(ClockFault::Coarse { step_ms }) => *step_ms -= *step_ms / 2,
        Kind::CoordinatorKilled { writes, .. } => *writes = writes.div_ceil(2),
        _ => {}
    }
}
