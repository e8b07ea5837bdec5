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

/// Tests without simulation that fail.
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
}

/// The unchanged pipeline in a world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unchanged {
    /// The commit that was played.
    pub commit: String,
    /// Number of seeds.
    pub seeds: u64,
    /// Seconds of one core.
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
