//! How many seeds it takes to find a mutant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A search from one starting seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The starting seed.
    pub start: u64,
    /// What it found, and after how many seeds; `None` if it reached its limit.
    pub found: Option<Found>,
    /// Seconds of a processor.
    pub seconds: f64,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The failing seed.
    pub seed: u64,
    /// The name of the violation.
    pub violation: String,
    /// Number of seeds from the start up to the failing one, at least 1.
    pub seeds: u64,
}

/// The figures of a mutant in a world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The profile that scenarios were drawn with.
    pub profile: String,
    /// Number of searches.
    pub starts: usize,
    /// How many of them reached the limit and found nothing; each counts as the limit below.
    pub without: usize,
    /// Seeds until found: the median.
    pub median: f64,
    /// The 95th percentile, by nearest rank.
    pub percentile_95: u64,
    /// The greatest number.
    pub most: u64,
    /// Seconds of a processor, of all searches.
    pub seconds: f64,
    /// How many searches found which violation.
    pub violations: BTreeMap<String, u64>,
    /// A failing seed: that of a search in the middle.
    pub seed: Option<u64>,
}

impl Figures {
    /// The figures of searches, at least one, of which each that found nothing played `limit` seeds.
    pub fn of(searches: &[Search], limit: u64, profile: &str) -> Self {
        let mut sorted: Vec<&Search> = searches.iter().collect();
        let seeds = |search: &Search| search.found.as_ref().map_or(limit, |found| found.seeds);
        sorted.sort_by_key(|search| (search.found.is_none(), seeds(search), search.start));
        let mut violations = BTreeMap::new();
        for found in sorted.iter().filter_map(|search| search.found.as_ref()) {
            *violations.entry(found.violation.clone()).or_default() += 1;
        }
        let starts = sorted.len();
        let at = |rank: usize| sorted.get(rank.saturating_sub(1)).map_or(0, |search| seeds(search));
        let found = sorted.iter().filter_map(|search| search.found.as_ref()).count();
        let middle = sorted.get(starts.div_ceil(2).min(found).saturating_sub(1));
        Self {
            profile: profile.to_owned(),
            starts,
            without: starts - found,
            median: (at(starts.div_ceil(2)) + at(starts / 2 + 1)) as f64 / 2.0,
            percentile_95: at(rank(starts)),
            most: at(starts),
            seconds: (searches.iter().map(|search| search.seconds).sum::<f64>() * 10.0).round() / 10.0,
            violations,
            seed: middle.and_then(|search| search.found.as_ref()).map(|found| found.seed),
        }
    }

    /// True if a search found it.
    pub fn is_found(&self) -> bool {
        self.without < self.starts
    }

    /// True if the median is a number of seeds after which it was found.
    pub fn has_median(&self) -> bool {
        self.starts / 2 < self.starts - self.without
    }

    /// The same of the 95th percentile.
    pub fn has_percentile_95(&self) -> bool {
        rank(self.starts) <= self.starts - self.without
    }

    /// The median as text; `>200` if the limit was reached.
    pub fn median_text(&self) -> String {
        format!("{}{}", if self.has_median() { "" } else { ">" }, self.median)
    }

    /// The 95th percentile as text.
    pub fn percentile_95_text(&self) -> String {
        format!("{}{}", if self.has_percentile_95() { "" } else { ">" }, self.percentile_95)
    }

    /// The greatest number as text.
    pub fn most_text(&self) -> String {
        format!("{}{}", if self.without == 0 { "" } else { ">" }, self.most)
    }
}

/// The rank of the 95th percentile, from 1: the least value that at least 95 of 100 do not exceed.
fn rank(count: usize) -> usize {
    (count * 95).div_ceil(100)
}

/// The median of some values; `None` if there is none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(start: u64, seeds: Option<u64>) -> Search {
        let violation = if start.is_multiple_of(2) { "wrong_count" } else { "lost_event" };
        let found = |seeds| Found { seed: start + seeds - 1, violation: violation.to_owned(), seeds };
        Search { start, found: seeds.map(found), seconds: 0.5 }
    }

    fn figures(seeds: &[Option<u64>]) -> Figures {
        let searches: Vec<Search> = (0..).zip(seeds).map(|(start, seeds)| search(start, *seeds)).collect();
        Figures::of(&searches, 200, "standard")
    }

    #[test]
    fn of_twenty_searches_the_95th_percentile_is_the_nineteenth() {
        let found = figures(&(1..=20).rev().map(|seeds| Some(seeds * 2)).collect::<Vec<_>>());
        assert_eq!((found.median, found.percentile_95, found.most), (21.0, 38, 40));
        assert_eq!((found.starts, found.without, found.seconds), (20, 0, 10.0));
        assert_eq!(found.violations, [("lost_event".to_owned(), 10), ("wrong_count".to_owned(), 10)].into());
        // 20 seeds from start 10: the tenth of the numbers 2, 4, ... 40.
        assert_eq!(found.seed, Some(10 + 20 - 1));
    }

    #[test]
    fn of_an_odd_number_of_searches_the_median_is_the_one_in_the_middle() {
        let found = figures(&[Some(9), Some(1), Some(5)]);
        assert_eq!((found.median, found.percentile_95, found.most, found.seed), (5.0, 9, 9, Some(2 + 5 - 1)));
        assert_eq!(figures(&[Some(7)]).median, 7.0);
    }

    #[test]
    fn a_search_that_reached_the_limit_is_more_than_any_other() {
        let found = figures(&[None, Some(200), Some(3), Some(4)]);
        assert_eq!((found.median, found.percentile_95, found.most, found.without), (102.0, 200, 200, 1));
        assert_eq!(found.median_text(), "102");
        assert_eq!((found.percentile_95_text(), found.most_text()), (">200".to_owned(), ">200".to_owned()));
        assert!(found.is_found() && found.has_median() && !found.has_percentile_95());
        let half = figures(&[None, None, Some(3), Some(4)]);
        assert_eq!((half.median_text(), half.seed), (">102".to_owned(), Some(3 + 4 - 1)));
        let none = figures(&[None, None, None]);
        assert!(!none.is_found() && none.seed.is_none());
        assert_eq!(none.median_text(), ">200");
    }

    #[test]
    fn a_median_of_values_is_in_the_middle_of_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[4.0, 1.0, 9.0]), Some(4.0));
    }
}
