//! Simpler faults: shorter, of every message instead of some, and at the first occurrence of a point instead of a time.

use super::{Shrinker, Shrunk};
use crate::scenario::fault::{Direction, Fault, Kind, Point, Target, Trigger};

/// Of more faults, no trigger is replaced by each point in turn.
const FEW: usize = 3;

impl<P: FnMut(&Shrunk) -> bool> Shrinker<P> {
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
                for point in Point::all() {
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

    fn keep_with_trigger(&mut self, index: usize, trigger: Trigger, target: Target) -> bool {
        let target = match (trigger, target) {
            (_, Target::Anyone) => Target::Anyone,
            (Trigger::When { .. }, _) => Target::Triggering,
            (Trigger::At { .. }, Target::Triggering) => Target::Worker(0),
            (Trigger::At { .. }, worker) => worker,
        };
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
    if let Kind::LinkCut { direction, .. } | Kind::ClientLinkCut { direction, .. } = &mut fault.kind {
        *direction = Direction::Both;
    }
}

fn of_first_worker(fault: &mut Fault) {
    if let Target::Worker(worker) = &mut fault.target {
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
        Kind::RequestsDelayed { up_to_ms, .. }
        | Kind::RequestsDuplicated { up_to_ms, .. }
        | Kind::ReplicaMessagesDelayed { up_to_ms, .. } => *up_to_ms = up_to_ms.div_ceil(2),
        Kind::ClockStepped { by_ms, .. } => *by_ms /= 2,
        Kind::ClockCoarse { step_ms, .. } => *step_ms -= *step_ms / 2,
        Kind::CoordinatorKilled { writes, .. } => *writes = writes.div_ceil(2),
        _ => {}
    }
}
