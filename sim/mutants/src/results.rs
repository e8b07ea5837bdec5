//! `docs/mutants.json`: the results that are kept, and what is compared with them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::statistics::{Figures, median};

/// The file, in the repository.
pub const FILE: &str = "docs/mutants.json";

/// Most seeds of the median over all mutants of their medians, each in the world where it is found fastest.
pub const GOAL_MEDIAN: f64 = 20.0;

/// Most seeds of the 95th percentile of each mutant in that world.
pub const GOAL_PERCENTILE_95: u64 = 200;

/// A mutant may be found this many times slower than before.
const SLOWER: f64 = 2.0;

/// And by this many seeds, where there are few.
const SLACK: f64 = 3.0;

/// All results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// The mutants, by name.
    pub mutants: BTreeMap<String, Mutant>,
    /// The unchanged pipeline, by world.
    pub unchanged: BTreeMap<String, Unchanged>,
}

/// The results of a mutant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The commit that was played.
    pub commit: String,
    /// The figures by world.
    pub worlds: BTreeMap<String, Figures>,
    /// The smallest scenario that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest: Option<Smallest>,
    /// What tests without simulation find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_tests: Option<PlainTests>,
}

/// A reduced scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smallest {
    /// Its world.
    pub world: String,
    /// The seed that it was reduced from.
    pub seed: u64,
    /// Number of records that are left.
    pub records: usize,
    /// Number of faults that are left.
    pub faults: usize,
}

/// Tests without simulation that fail, of the quickest program that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainTests {
    /// The test programs that were run.
    pub programs: Vec<String>,
    /// Number of tests that fail.
    pub failed: usize,
    /// Some of their names.
    pub names: Vec<String>,
    /// Programs that did not end.
    pub endless: Vec<String>,
}

impl PlainTests {
    /// True if one of them fails.
    pub fn find_it(&self) -> bool {
        self.failed > 0 || !self.endless.is_empty()
    }

    /// The first of them.
    pub fn first(&self) -> Option<String> {
        let endless = || self.endless.first().map(|program| format!("{program} does not end"));
        self.names.first().cloned().or_else(endless)
    }
}

/// The unchanged pipeline in a world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unchanged {
    /// The commit that was played.
    pub commit: String,
    /// Number of seeds.
    pub seeds: u64,
    /// Seconds of a processor.
    pub seconds: f64,
}

impl Mutant {
    /// The world in which it is found after the fewest seeds, with its figures.
    pub fn best(&self) -> Option<(&str, &Figures)> {
        let found = self.worlds.iter().filter(|(_, figures)| figures.is_found());
        let key = |figures: &Figures| (figures.has_median(), figures.median);
        let best = found.min_by(|(_, one), (_, other)| {
            let ((has_one, one), (has_other, other)) = (key(one), key(other));
            has_other.cmp(&has_one).then(one.total_cmp(&other))
        });
        best.map(|(world, figures)| (world.as_str(), figures))
    }
}

/// The file cannot be read or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum ResultsError {
    #[error("{FILE}")]
    File(#[from] io::Error),
    #[error("{FILE} does not have results; `--write` replaces it when it is removed")]
    Json(#[from] serde_json::Error),
}

impl Results {
    /// Reads the file of a repository; nothing if there is none.
    ///
    /// # Errors
    /// If it has something else.
    pub fn read(root: &Path) -> Result<Self, ResultsError> {
        match std::fs::read_to_string(root.join(FILE)) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the file of a repository.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, root: &Path) -> Result<(), ResultsError> {
        Ok(std::fs::write(root.join(FILE), serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// Replaces what was played; what was not stays, unless its patch is gone.
    pub fn update(&mut self, played: Self, patches: &[&str]) {
        for (name, mut mutant) in played.mutants {
            if let Some(before) = self.mutants.remove(&name) {
                mutant.smallest = mutant.smallest.or(before.smallest);
                mutant.plain_tests = mutant.plain_tests.or(before.plain_tests);
                if mutant.worlds.is_empty() {
                    mutant.commit = before.commit;
                }
                for (world, figures) in before.worlds {
                    mutant.worlds.entry(world).or_insert(figures);
                }
            }
            self.mutants.insert(name, mutant);
        }
        self.mutants.retain(|name, _| patches.contains(&name.as_str()));
        for (world, unchanged) in played.unchanged {
            // A run of a few mutants needs few seeds.
            match self.unchanged.get(&world) {
                Some(before) if before.seeds > unchanged.seeds => {}
                _ => _ = self.unchanged.insert(world, unchanged),
            }
        }
    }

    /// The mutants that take the least time in their best world, and that world.
    pub fn quickest(&self, count: usize) -> Vec<(&str, &str)> {
        let best = self.mutants.iter().filter_map(|(name, mutant)| {
            mutant.best().map(|(world, figures)| (figures.seconds, name.as_str(), world))
        });
        let mut best: Vec<_> = best.collect();
        best.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(other.1)));
        best.into_iter().take(count).map(|(_, name, world)| (name, world)).collect()
    }

    /// What is worse in these results than in the kept ones, a sentence each: mutants that are not found, or much slower.
    pub fn worse(&self, kept: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, mutant) in &self.mutants {
            if mutant.best().is_none() {
                let worlds: Vec<&str> = mutant.worlds.keys().map(String::as_str).collect();
                let before = kept.mutants.get(name).and_then(Mutant::best);
                let elsewhere = before.filter(|(world, _)| !worlds.contains(world));
                if elsewhere.is_none() {
                    problems.push(format!("{name}: not found ({})", worlds.join(", ")));
                }
                continue;
            }
            let Some((world, before)) = kept.mutants.get(name).and_then(Mutant::best) else { continue };
            let Some(now) = mutant.worlds.get(world) else { continue };
            let most = (before.median * SLOWER).max(before.median + SLACK);
            if now.median > most || before.has_median() && !now.has_median() {
                let text = now.median_text();
                problems.push(format!(
                    "{name}: found after {text} seeds in the median ({world}), {} in {FILE}",
                    before.median
                ));
            }
        }
        problems
    }

    /// The goals, and whether they are reached.
    pub fn goals(&self) -> Vec<(String, bool)> {
        let best: Vec<(&str, &Figures)> = self
            .mutants
            .iter()
            .filter_map(|(name, mutant)| mutant.best().map(|(_, figures)| (name.as_str(), figures)))
            .collect();
        let of_all = |found: usize| format!("{found} of {}", self.mutants.len());
        let medians: Vec<f64> = best.iter().map(|(_, figures)| figures.median).collect();
        let median = median(&medians);
        let is_quick =
            |figures: &Figures| figures.has_percentile_95() && figures.percentile_95 <= GOAL_PERCENTILE_95;
        let quick = best.iter().filter(|(_, figures)| is_quick(figures)).count();
        vec![
            (
                format!("every mutant is found in at least one world: {}", of_all(best.len())),
                best.len() == self.mutants.len(),
            ),
            (
                format!(
                    "the median over the mutants of their medians, each in its best world, is at most {GOAL_MEDIAN} seeds: {}",
                    median.map_or("none".to_owned(), |median| median.to_string())
                ),
                median.is_some_and(|median| median <= GOAL_MEDIAN),
            ),
            (
                format!(
                    "the 95th percentile in the best world is at most {GOAL_PERCENTILE_95} seeds: {}",
                    of_all(quick)
                ),
                quick == self.mutants.len(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of 20 searches with this median.
    fn figures(median: f64, seconds: f64) -> Figures {
        let percentile_95 = median as u64 * 4;
        Figures { starts: 20, median, percentile_95, most: percentile_95 + 1, seconds, ..Figures::default() }
    }

    fn not_found() -> Figures {
        Figures { starts: 3, without: 3, median: 200.0, percentile_95: 200, most: 200, ..Figures::default() }
    }

    fn mutant(worlds: &[(&str, Figures)]) -> Mutant {
        let worlds = worlds.iter().map(|(world, figures)| ((*world).to_owned(), figures.clone()));
        Mutant { commit: "0123".to_owned(), worlds: worlds.collect(), ..Mutant::default() }
    }

    fn results(mutants: &[(&str, Mutant)]) -> Results {
        let mutants = mutants.iter().map(|(name, mutant)| ((*name).to_owned(), mutant.clone())).collect();
        Results { mutants, ..Results::default() }
    }

    #[test]
    fn the_best_world_is_that_of_the_least_median_where_it_is_found() {
        let both = mutant(&[("cassandra", figures(3.0, 9.0)), ("simple", figures(8.0, 1.0))]);
        assert_eq!(both.best().map(|(world, _)| world), Some("cassandra"));
        let one = mutant(&[("cassandra", not_found()), ("simple", figures(300.0, 1.0))]);
        assert_eq!(one.best().map(|(world, _)| world), Some("simple"));
        let mut rarely = figures(100.0, 1.0);
        rarely.without = 15;
        let rarely = mutant(&[("cassandra", rarely), ("simple", figures(300.0, 1.0))]);
        assert_eq!(
            rarely.best().map(|(world, _)| world),
            Some("simple"),
            "most of the other searches found nothing"
        );
        assert!(mutant(&[("simple", not_found())]).best().is_none());
    }

    #[test]
    fn a_mutant_that_is_not_found_or_much_slower_is_worse() {
        let kept = results(&[
            ("fast", mutant(&[("simple", figures(2.0, 1.0))])),
            ("slow", mutant(&[("simple", figures(40.0, 1.0)), ("cassandra", figures(50.0, 1.0))])),
        ]);
        let worse = |name: &str, worlds: &[(&str, Figures)]| results(&[(name, mutant(worlds))]).worse(&kept);
        assert!(worse("fast", &[("simple", figures(5.0, 1.0))]).is_empty(), "3 more are allowed");
        assert_eq!(
            worse("fast", &[("simple", figures(5.5, 1.0))]),
            ["fast: found after 5.5 seeds in the median (simple), 2 in docs/mutants.json"]
        );
        assert!(worse("slow", &[("simple", figures(80.0, 1.0))]).is_empty(), "twice is allowed");
        assert_eq!(worse("slow", &[("simple", figures(80.5, 1.0))]).len(), 1);
        assert!(worse("slow", &[("cassandra", figures(500.0, 1.0))]).is_empty(), "not its best world");
        assert_eq!(worse("slow", &[("simple", not_found())]), ["slow: not found (simple)"]);
        assert!(
            worse("slow", &[("cassandra", not_found())]).is_empty(),
            "it is found elsewhere, and was not played there"
        );
        assert_eq!(worse("new", &[("cassandra", not_found())]), ["new: not found (cassandra)"]);
        assert!(worse("new", &[("cassandra", figures(100.0, 1.0))]).is_empty());
    }

    #[test]
    fn the_quickest_are_those_of_the_least_seconds_in_their_best_worlds() {
        let kept = results(&[
            ("a", mutant(&[("simple", figures(2.0, 9.0)), ("cassandra", figures(3.0, 0.1))])),
            ("b", mutant(&[("cassandra", figures(1.0, 5.0))])),
            ("c", mutant(&[("simple", figures(1.0, 7.0))])),
            ("d", mutant(&[("simple", not_found())])),
        ]);
        assert_eq!(kept.quickest(2), [("b", "cassandra"), ("c", "simple")]);
        assert_eq!(kept.quickest(9).len(), 3);
    }

    #[test]
    fn what_was_not_played_stays_unless_its_patch_is_gone() {
        let smallest = Smallest { world: "simple".to_owned(), seed: 3, records: 2, faults: 1 };
        let before = Mutant {
            smallest: Some(smallest.clone()),
            ..mutant(&[("simple", figures(2.0, 1.0)), ("cassandra", figures(9.0, 1.0))])
        };
        let mut kept = results(&[("a", before), ("b", mutant(&[])), ("gone", mutant(&[]))]);
        let unchanged = |seeds| Unchanged { seeds, ..Unchanged::default() };
        kept.unchanged.insert("simple".to_owned(), unchanged(500));
        let mut played = results(&[("a", mutant(&[("simple", figures(4.0, 1.0))]))]);
        played.unchanged =
            [("simple".to_owned(), unchanged(5)), ("cassandra".to_owned(), unchanged(7))].into();
        kept.update(played, &["a", "b"]);
        assert_eq!(kept.mutants.keys().collect::<Vec<_>>(), ["a", "b"]);
        let a = &kept.mutants["a"];
        assert_eq!((a.worlds["simple"].median, a.worlds["cassandra"].median), (4.0, 9.0));
        assert_eq!(a.smallest, Some(smallest));
        assert_eq!((kept.unchanged["simple"].seeds, kept.unchanged["cassandra"].seeds), (500, 7));
    }

    #[test]
    fn the_goals_are_of_all_mutants_in_their_best_worlds() {
        let goals = |results: &Results| -> Vec<bool> {
            results.goals().iter().map(|(_, reached)| *reached).collect()
        };
        let one = ("one", mutant(&[("simple", figures(2.0, 1.0)), ("cassandra", figures(90.0, 1.0))]));
        let two = ("two", mutant(&[("simple", figures(30.0, 1.0))]));
        let rare = ("rare", mutant(&[("simple", figures(60.0, 1.0))]));
        let lost = ("lost", mutant(&[("simple", not_found())]));
        assert_eq!(goals(&results(&[one.clone(), two.clone()])), [true; 3]);
        assert_eq!(goals(&results(&[one.clone(), two.clone(), rare.clone()])), [true, false, false]);
        assert_eq!(goals(&results(&[one.clone(), lost])), [false, true, false]);
        let text = &results(&[one, two]).goals()[1].0;
        assert!(text.ends_with("at most 20 seeds: 16"), "{text}");
    }
}
