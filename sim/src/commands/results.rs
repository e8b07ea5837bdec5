//! The command that keeps what campaigns have found: a file that grows, and a page of it.
//!
//! The file is a list with one entry for each campaign, the oldest first. An entry is never changed, and one that is there
//! already is not added again, so that several runners may add to it in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::of_file;
use super::summary::Summary;

/// Lines of the page's table of days.
const DAYS: usize = 60;

/// A campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    date: String,
    commit: String,
    world: String,
    profile: String,
    /// As `FROM..TO`.
    seeds: String,
    runs: u64,
    seconds: f64,
    /// How many runs had each violation first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    violations: BTreeMap<String, u64>,
}

/// What `campaign --json` prints: one campaign, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    One(Box<Summary>),
    Several(Vec<Summary>),
}

impl super::Results {
    /// Adds and renders. The exit code is 0.
    pub fn run(&self) -> io::Result<u8> {
        let mut entries: Vec<Entry> = match self.into.exists() {
            true => parse(&self.into)?,
            false => Vec::new(),
        };
        for file in &self.files {
            let summaries = match parse(file)? {
                Document::One(summary) => vec![*summary],
                Document::Several(summaries) => summaries,
            };
            for entry in summaries.into_iter().map(|summary| entry(summary, self.date.as_deref())) {
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
        entries.sort_by(|one, other| {
            let key = |entry: &Entry| (entry.date.clone(), entry.world.clone(), entry.profile.clone());
            key(one).cmp(&key(other))
        });
        if !self.render_only {
            write(&self.into, &(serde_json::to_string_pretty(&entries)? + "\n"))?;
        }
        write(&self.page, &page(&entries))?;
        Ok(0)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(file: &Path) -> io::Result<T> {
    let text = std::fs::read_to_string(file).map_err(|error| of_file(file, &error))?;
    serde_json::from_str(&text).map_err(|error| of_file(file, &error))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    std::fs::write(file, text).map_err(|error| of_file(file, &error))
}

/// The entry of a campaign.
fn entry(summary: Summary, date: Option<&str>) -> Entry {
    let Summary { world, profile, commit, seeds, runs, seconds, failures, .. } = summary;
    let mut violations = BTreeMap::new();
    for failure in failures {
        *violations.entry(failure.violation).or_default() += 1;
    }
    let date = date.unwrap_or_default().to_owned();
    Entry { date, commit, world, profile, seeds, runs, seconds: seconds.round(), violations }
}

/// Sums of several campaigns.
#[derive(Default)]
struct Sum {
    runs: u64,
    seconds: f64,
    violations: BTreeMap<String, u64>,
    commits: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.runs += entry.runs;
        self.seconds += entry.seconds;
        self.commits.insert(entry.commit.clone());
        for (violation, count) in &entry.violations {
            *self.violations.entry(violation.clone()).or_default() += count;
        }
    }

    /// The violations, as a cell of a table.
    fn found(&self) -> String {
        let found: Vec<String> =
            self.violations.iter().map(|(name, count)| format!("`{name}` {count}")).collect();
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    }
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn page(entries: &[Entry]) -> String {
    let mut worlds: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    let mut days: BTreeMap<(&str, &str, &str), Sum> = BTreeMap::new();
    for entry in entries {
        worlds.entry((&entry.world, &entry.profile)).or_default().add(entry);
        days.entry((&entry.date, &entry.commit, &entry.world)).or_default().add(entry);
    }
    let mut page = String::from(
        "# Campaigns\n\nWhat campaigns of the [simulation](simulation.md) have run and found. Rendered from \
         [campaigns.json](campaigns.json) by `cargo sim results`; do not edit it.\n\n## In all\n\n\
         | services | profile | seeds | commits | violations |\n|---|---|---|---|---|\n",
    );
    for ((world, profile), sum) in &worlds {
        let (runs, commits, found) = (grouped(sum.runs), sum.commits.len(), sum.found());
        // Writing to a string does not fail.
        let _ = writeln!(page, "| {world} | {profile} | {runs} | {commits} | {found} |");
    }
    page += "\n## By day\n\nThe newest first. Seconds are of the wall clock, with as many threads as the machine has \
             cores.\n\n| day | commit | services | seeds | s | violations |\n|---|---|---|---|---|---|\n";
    for ((date, commit, world), sum) in days.iter().rev().take(DAYS) {
        let (runs, seconds, found) = (grouped(sum.runs), grouped(sum.seconds as u64), sum.found());
        let _ = writeln!(page, "| {date} | `{commit}` | {world} | {runs} | {seconds} | {found} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::summary::Failure;
    use super::*;

    fn kept(date: &str, world: &str, runs: u64, violations: &[(&str, u64)]) -> Entry {
        let violations = violations.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Entry {
            date: date.to_owned(),
            commit: "c".to_owned(),
            world: world.to_owned(),
            profile: "standard".to_owned(),
            seeds: format!("0..{runs}"),
            runs,
            seconds: 1.0,
            violations,
        }
    }

    #[test]
    fn a_page_sums_what_was_run_and_found_and_begins_with_the_newest_day() {
        let entries = [
            kept("2026-01-01", "simple", 1_200, &[]),
            kept("2026-01-02", "simple", 800, &[("lost_event", 2)]),
            kept("2026-01-02", "simple", 1, &[("lost_event", 1)]),
        ];
        let page = page(&entries);
        assert!(page.contains("| simple | standard | 2,001 | 1 | `lost_event` 3 |"), "{page}");
        let newest = page.find("| 2026-01-02 | `c` | simple | 801 | 2 | `lost_event` 3 |");
        let oldest = page.find("| 2026-01-01 | `c` | simple | 1,200 | 1 | none |");
        assert!(newest.is_some() && newest < oldest, "{page}");
    }

    fn summary(violations: &[&str]) -> Summary {
        let failure = |(seed, violation): (usize, &&str)| Failure {
            seed: seed as u64,
            violation: (*violation).to_owned(),
            evidence: "Stuck { partitions: {} }".to_owned(),
            simulated_ms: 7,
            file: "simple-tiny-0.toml".into(),
            repeat: "cargo sim run".to_owned(),
            error: None,
        };
        Summary {
            world: "simple".to_owned(),
            profile: "tiny".to_owned(),
            commit: "c".to_owned(),
            seeds: "0..9".to_owned(),
            runs: 9,
            seconds: 1.4,
            seeds_per_second: 6.4,
            simulated_seconds: 3,
            faults: BTreeMap::new(),
            situations: BTreeMap::new(),
            missed: Vec::new(),
            first: None,
            failures: violations.iter().enumerate().map(failure).collect(),
        }
    }

    #[test]
    fn what_a_campaign_prints_becomes_an_entry() {
        let printed = serde_json::to_string(&summary(&["stuck", "stuck"])).expect("it is printed");
        let Ok(Document::One(read)) = serde_json::from_str(&printed) else { panic!("{printed}") };
        let entry = entry(*read, Some("2026-01-01"));
        assert_eq!((entry.world.as_str(), entry.seeds.as_str(), entry.seconds), ("simple", "0..9", 1.0));
        assert_eq!((entry.runs, entry.violations), (9, BTreeMap::from([("stuck".to_owned(), 2)])));
        let printed = serde_json::to_string(&[summary(&[]), summary(&["stuck"])]).expect("it is printed");
        let Ok(Document::Several(read)) = serde_json::from_str(&printed) else { panic!("{printed}") };
        assert_eq!(read.iter().map(|summary| summary.failures.len()).collect::<Vec<_>>(), [0, 1]);
    }
}
