//! A search for a violation: by seeds, or guided by the states of the protocol that scenarios reach.
//!
//! The guided one keeps each scenario that reached a state, or reached it twice as often, first. It takes one of them, rather
//! one of a state that few runs have reached, changes it a little, and runs that. It does not look at coverage of code; the
//! target `scenario` of libFuzzer does, in addition.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use fuzz_runner::Draw;
use simulation::observed::Sometimes;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use simulation::{Report, run};
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

use crate::Genome;
use crate::states::States;

/// Seeds between those of one start and the next.
const SEEDS_OF_A_START: u64 = 1_000_000;

/// One of so many scenarios is drawn, instead of changed: drawn ones differ more from each other.
const DRAWN_ONE_IN: usize = 2;

/// Of so many states, the rarest is chosen.
const TOURNAMENT: usize = 8;

/// How scenarios are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr, ValueEnum)]
#[strum(serialize_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum By {
    /// Seeds of the standard profile
    Random,
    /// Seeds of the profile `swarm`
    Swarm,
    /// Seeds, of each profile in turn
    Profiles,
    /// Changes of scenarios that reached new states
    Coverage,
}

/// A scenario that reached a new state.
#[derive(Clone, Debug)]
struct Kept {
    genome: Genome,
    /// See [`States::classes`].
    classes: Vec<usize>,
}

/// A search.
#[derive(Debug)]
pub struct Search {
    by: By,
    draw: Draw,
    start: u64,
    runs: u64,
    /// Scenarios to be run before any other.
    initial: Vec<Genome>,
    kept: Vec<Kept>,
    /// For each class of a state the first scenario that reached it, and the number of runs that did.
    reached: BTreeMap<usize, (usize, u64)>,
    /// The pairs of situations that occurred in one run.
    pairs: BTreeSet<(Sometimes, Sometimes)>,
}

impl Search {
    /// A search from this start, which determines all of it. The guided one begins with the scenarios that it is given.
    pub fn new(by: By, start: u64, mut initial: Vec<Genome>) -> Self {
        initial.reverse();
        Self {
            by,
            draw: Draw::new(start, "search"),
            start,
            runs: 0,
            initial,
            kept: Vec::new(),
            reached: BTreeMap::new(),
            pairs: BTreeSet::new(),
        }
    }

    /// How many scenarios it has run.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// How many classes of states it has reached.
    pub fn states(&self) -> usize {
        self.reached.len()
    }

    /// How many pairs of rare situations have occurred in one run: a measure that does not guide any search.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// How many scenarios it has kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Runs the next scenario.
    pub fn step(&mut self) -> Report {
        let seed = self.start * SEEDS_OF_A_START + self.runs;
        self.runs += 1;
        let profile = match self.by {
            By::Coverage => return self.step_by_coverage(),
            By::Random => Profile::Standard,
            By::Swarm => Profile::Swarm,
            By::Profiles => {
                let all: Vec<Profile> =
                    Profile::survivable().filter(|profile| *profile != Profile::Damaged).collect();
                all[(seed % all.len() as u64) as usize]
            }
        };
        let report = run(Scenario::draw(seed, World::Simple, profile), false);
        self.count(Genome::new(profile, seed), &report);
        report
    }

    fn step_by_coverage(&mut self) -> Report {
        let genome = match self.initial.pop() {
            Some(genome) => genome,
            None if self.kept.is_empty() || self.draw.one_in(DRAWN_ONE_IN) => Genome::draw(&mut self.draw),
            None => {
                let other = self.draw.below(self.kept.len());
                let chosen = self.choose();
                self.kept[chosen].genome.mutated(&mut self.draw, &self.kept[other].genome)
            }
        };
        let report = run(genome.scenario(), false);
        self.count(genome, &report);
        report
    }

    /// The scenario that reached a rare state first.
    fn choose(&mut self) -> usize {
        let classes: Vec<usize> = self.reached.keys().copied().collect();
        let drawn = (0..TOURNAMENT).map(|_| *self.draw.pick(&classes)).collect::<Vec<_>>();
        let rarest = drawn.iter().filter_map(|class| self.reached.get(class)).min_by_key(|(_, runs)| *runs);
        rarest.map_or(0, |(kept, _)| *kept)
    }

    /// Counts what a scenario reached, and keeps it if it is new.
    fn count(&mut self, genome: Genome, report: &Report) {
        let classes: Vec<usize> = States::of(report).classes().collect();
        let next = self.kept.len();
        let mut is_new = false;
        for class in &classes {
            let (first, runs) = self.reached.entry(*class).or_insert((next, 0));
            *runs += 1;
            is_new |= *first == next;
        }
        let occurred: Vec<Sometimes> =
            Sometimes::iter().filter(|situation| report.observed.count(*situation) > 0).collect();
        for (number, one) in occurred.iter().enumerate() {
            self.pairs.extend(occurred[number + 1..].iter().map(|other| (*one, *other)));
        }
        if is_new {
            self.kept.push(Kept { genome, classes });
        }
    }

    /// Scenarios that together reach every state that was reached: few, each time the one with the most that the others lack;
    /// at most this many.
    pub fn cover(&self, most: usize) -> Vec<Genome> {
        let mut left: BTreeSet<usize> = self.reached.keys().copied().collect();
        let mut cover = Vec::new();
        while cover.len() < most {
            let number = |kept: &Kept| kept.classes.iter().filter(|class| left.contains(class)).count();
            let Some(best) = self.kept.iter().max_by_key(|kept| number(kept)).filter(|best| number(best) > 0)
            else {
                break;
            };
            left.retain(|class| !best.classes.contains(class));
            cover.push(best.genome.clone());
        }
        cover
    }
}

/// All ways to search.
pub fn all() -> impl Iterator<Item = By> {
    By::iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_repeats_and_another_start_is_another_search() {
        for by in all() {
            let of = |start| {
                let mut search = Search::new(by, start, Vec::new());
                let traces: Vec<u64> = (0..6).map(|_| search.step().trace.hash).collect();
                (traces, search.states())
            };
            assert_eq!(of(1), of(1), "{by:?}");
            assert_ne!(of(1), of(2), "{by:?}");
        }
    }

    #[test]
    fn a_cover_reaches_all_states_with_fewer_scenarios() {
        let mut search = Search::new(By::Coverage, 3, Vec::new());
        (0..30).for_each(|_| drop(search.step()));
        let cover = search.cover(usize::MAX);
        assert!(cover.len() < search.kept());
        let mut again = Search::new(By::Coverage, 4, cover.clone());
        cover.iter().for_each(|_| drop(again.step()));
        assert_eq!(again.states(), search.states());
    }
}
