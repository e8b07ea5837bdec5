//! The states of the protocol that a run reached: what guides the search for other scenarios.
//!
//! A state is a number below [`States::NUMBER`], with how often it was reached:
//!
//! - each rare situation ([`Sometimes`]);
//! - each kind of fault that had an effect;
//! - each pair of kinds, the second of which had its first effect while one of the first, which had one before, was active;
//! - each way in which the requests of a step ended: acknowledged, unknown, refused; and each of these with each kind of fault
//!   that was active then and had had an effect;
//! - each point of the protocol with each kind of fault that began there and had an effect.

use std::collections::BTreeMap;

use simulation::Report;
use simulation::observed::Sometimes;
use simulation::scenario::fault::{KindName, Point, Trigger};
use strum::IntoEnumIterator;

/// More than there are of each.
const SITUATIONS: usize = 128;
const KINDS: usize = 64;
const STEPS: usize = 32;
const ENDINGS: usize = 4;
const POINTS: usize = STEPS * 2;

const FIRST_KIND: usize = SITUATIONS;
const FIRST_PAIR: usize = FIRST_KIND + KINDS;
const FIRST_ENDING: usize = FIRST_PAIR + KINDS * KINDS;
const FIRST_DURING: usize = FIRST_ENDING + STEPS * ENDINGS;
const FIRST_POINT: usize = FIRST_DURING + KINDS * STEPS * ENDINGS;

/// The states that a run reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States(BTreeMap<usize, u64>);

/// The place of a value among all of its type.
fn place<T: IntoEnumIterator + PartialEq>(value: &T) -> usize {
    T::iter().position(|other| other == *value).unwrap_or_default()
}

fn place_of_point(point: Point) -> usize {
    place(&point.step) * 2 + place(&point.moment)
}

impl States {
    /// The number of states that there can be.
    pub const NUMBER: usize = FIRST_POINT + POINTS * KINDS;

    /// The states of a run.
    pub fn of(report: &Report) -> Self {
        let observed = &report.observed;
        let mut states = Self::default();
        for situation in Sometimes::iter() {
            states.add(place(&situation), observed.count(situation));
        }
        for kind in KindName::iter() {
            states.add(FIRST_KIND + place(&kind), observed.faults(kind).effective);
        }
        for (other, kind, count) in observed.overlaps() {
            states.add(FIRST_PAIR + place(&other) * KINDS + place(&kind), count);
        }
        for (step, ending, count) in observed.endings() {
            states.add(FIRST_ENDING + place(&step) * ENDINGS + place(&ending), count);
        }
        for (kind, step, ending, count) in observed.endings_during() {
            let of_kind = (place(&kind) * STEPS + place(&step)) * ENDINGS + place(&ending);
            states.add(FIRST_DURING + of_kind, count);
        }
        for fault in report.scenario.faults.iter().filter(|fault| observed.had_effect(fault.id)) {
            if let Trigger::When { point, .. } = fault.trigger {
                states.add(FIRST_POINT + place_of_point(point) * KINDS + place(&fault.name()), 1);
            }
        }
        states
    }

    fn add(&mut self, state: usize, count: u64) {
        if count > 0 {
            *self.0.entry(state).or_default() += count;
        }
    }

    /// Each state with how often it was reached.
    pub fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().map(|(state, count)| (*state, *count))
    }

    /// Each state with the class of how often it was reached, by powers of two, as one number.
    pub fn classes(&self) -> impl Iterator<Item = usize> {
        self.counts().map(|(state, count)| state * 64 + count.ilog2() as usize)
    }
}

#[cfg(test)]
mod tests {
    use simulation::observed::Ending;
    use simulation::run;
    use simulation::scenario::fault::{Moment, Step};
    use simulation::scenario::profile::Profile;
    use simulation::scenario::{Scenario, World};

    use super::*;

    #[test]
    fn each_group_has_space_for_all_of_its_values() {
        assert!(Sometimes::iter().count() <= SITUATIONS && KindName::iter().count() <= KINDS);
        assert!(Step::iter().count() <= STEPS && Ending::iter().count() <= ENDINGS);
        assert!(Moment::iter().count() <= POINTS / STEPS);
    }

    #[test]
    fn a_run_has_states_of_each_group_and_the_same_ones_again() {
        let of = |seed| States::of(&run(Scenario::draw(seed, World::Simple, Profile::Standard), false));
        let mut reached = [0; 6];
        for seed in 0..10 {
            let states = of(seed);
            assert_eq!(states, of(seed));
            for (state, _) in states.counts() {
                let group = [FIRST_KIND, FIRST_PAIR, FIRST_ENDING, FIRST_DURING, FIRST_POINT, States::NUMBER]
                    .iter()
                    .position(|end| state < *end)
                    .expect("a state");
                reached[group] += 1;
            }
        }
        assert!(reached.iter().all(|number| *number > 0), "{reached:?}");
    }
}
