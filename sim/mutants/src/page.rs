//! `docs/mutants.md`: a generated part between two marks. Everything else in it is written by hand.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use thiserror::Error;

use crate::patch::Patch;
use crate::results::{Mutant, PlainTests, Results};
use crate::statistics::Figures;

/// The file, in the repository.
pub const FILE: &str = "docs/mutants.md";

const BEGIN: &str = "<!-- results of the mutants, written by cargo sim mutants --write -->";
const END: &str = "<!-- end of the results -->";

/// The profile that is not named.
const STANDARD: &str = "standard";

/// The page where there is none yet.
const INTRODUCTION: &str = include_str!("introduction.md");

/// The page cannot be read or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum PageError {
    #[error("{FILE}")]
    File(#[from] io::Error),
    #[error("{FILE} lacks the line {0}")]
    NoMark(&'static str),
}

/// Replaces the generated part of the page of a repository.
///
/// # Errors
/// If it cannot be read or written, or lacks the marks.
pub fn write(root: &Path, results: &Results, patches: &[Patch]) -> Result<(), PageError> {
    let path = root.join(FILE);
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("{INTRODUCTION}\n{BEGIN}\n{END}\n"),
        Err(error) => return Err(error.into()),
    };
    Ok(std::fs::write(&path, replace(&before, &part(results, patches))?)?)
}

/// A page with another generated part.
fn replace(page: &str, part: &str) -> Result<String, PageError> {
    let (head, rest) = page.split_once(BEGIN).ok_or(PageError::NoMark(BEGIN))?;
    let (_, tail) = rest.split_once(END).ok_or(PageError::NoMark(END))?;
    Ok(format!("{head}{BEGIN}\n\n{part}\n{END}{tail}"))
}

/// The generated part.
fn part(results: &Results, patches: &[Patch]) -> String {
    let mut text = String::new();
    for (goal, is_reached) in results.goals() {
        _ = writeln!(text, "- {}: {goal}.", if is_reached { "reached" } else { "NOT reached" });
    }
    for (world, unchanged) in &results.unchanged {
        _ = writeln!(
            text,
            "- The unchanged pipeline played {} of these seeds ({world}, {:.0} s of one core) without a violation.",
            unchanged.seeds, unchanged.seconds
        );
    }
    let mut worlds: Vec<&str> =
        results.mutants.values().flat_map(|mutant| mutant.worlds.keys().map(String::as_str)).collect();
    worlds.sort_unstable();
    worlds.dedup();
    let columns: String = worlds.iter().map(|world| format!(" seeds, {world} |")).collect();
    _ = writeln!(
        text,
        "\n| mutant | what a person would have been thinking |{columns} s | violations | smallest scenario | plain tests |"
    );
    _ = writeln!(text, "|---|---|{}---|---|---|---|", "---|".repeat(worlds.len()));
    for (name, mutant) in &results.mutants {
        let patch = patches.iter().find(|patch| patch.name == *name);
        let reasoning = patch.map(Patch::summary).unwrap_or_default().replace('|', "\\|");
        _ = write!(text, "| [`{name}`](../tests/mutants/{name}.patch) | {reasoning} |");
        for world in &worlds {
            _ = write!(text, " {} |", seeds(mutant, patch, world));
        }
        let best = mutant.best().map(|(_, figures)| figures);
        let seconds = best.map(|figures| format!("{:.1}", figures.seconds / figures.starts.max(1) as f64));
        _ = writeln!(
            text,
            " {} | {} | {} | {} |",
            seconds.unwrap_or_default(),
            best.map(violations).unwrap_or_default(),
            smallest(mutant),
            mutant.plain_tests.as_ref().map_or("".to_owned(), plain)
        );
    }
    text
}

fn seeds(mutant: &Mutant, patch: Option<&Patch>, world: &str) -> String {
    let worlds = patch.and_then(|patch| patch.worlds.as_ref());
    if worlds.is_some_and(|worlds| !worlds.iter().any(|each| each == world)) {
        return "cannot occur".to_owned();
    }
    match mutant.worlds.get(world) {
        None => "not played".to_owned(),
        Some(figures) if !figures.is_found() => "not found".to_owned(),
        Some(figures) => {
            let texts = [figures.median_text(), figures.percentile_95_text(), figures.most_text()];
            let profile = Some(&figures.profile).filter(|profile| *profile != STANDARD);
            texts.join(" / ") + &profile.map_or(String::new(), |profile| format!(" ({profile})"))
        }
    }
}

fn violations(figures: &Figures) -> String {
    let mut violations: Vec<(&String, &u64)> = figures.violations.iter().collect();
    violations.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    violations.iter().map(|(name, count)| format!("`{name}` {count}")).collect::<Vec<_>>().join(", ")
}

fn smallest(mutant: &Mutant) -> String {
    let Some(smallest) = &mutant.smallest else { return String::new() };
    let count = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", count(smallest.records, "record"), count(smallest.faults, "fault"))
}

fn plain(tests: &PlainTests) -> String {
    let mut parts: Vec<String> = tests.names.iter().map(|name| format!("`{name}`")).collect();
    let more = tests.failed.saturating_sub(tests.names.len());
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    parts.extend(tests.endless.iter().map(|program| format!("`{program}` does not end")));
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Smallest, Unchanged};

    #[test]
    fn a_row_has_the_reasoning_and_the_figures_of_each_world() {
        let diff = "--- a/src/x.rs\n+++ b/src/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let text = format!("Once | twice\nis the same.\n\nMore.\nWorlds: cassandra later\n\n{diff}");
        let patch = Patch::parse("twice", &text).expect("a patch");
        let figures = Figures {
            profile: "damaged".to_owned(),
            starts: 20,
            without: 1,
            median: 7.5,
            percentile_95: 31,
            most: 200,
            seconds: 50.0,
            violations: [("stuck".to_owned(), 2), ("wrong_count".to_owned(), 17)].into(),
            seed: Some(3),
        };
        let mutant = Mutant {
            worlds: [("cassandra".to_owned(), figures.clone())].into(),
            smallest: Some(Smallest { world: "cassandra".to_owned(), seed: 3, records: 1, faults: 2 }),
            plain_tests: Some(PlainTests {
                failed: 5,
                names: vec!["traits: a".to_owned()],
                ..PlainTests::default()
            }),
            ..Mutant::default()
        };
        let other = Mutant {
            worlds: [("simple".to_owned(), Figures { starts: 3, without: 3, ..figures })].into(),
            ..Mutant::default()
        };
        let mutants = [("other".to_owned(), other), ("twice".to_owned(), mutant)].into();
        let unchanged = Unchanged { seeds: 1234, seconds: 56.0, ..Unchanged::default() };
        let results = Results { mutants, unchanged: [("cassandra".to_owned(), unchanged)].into() };
        let part = part(&results, &[patch]);
        let expected = [
            "- NOT reached: every mutant is found in at least one world: 1 of 2.",
            "- The unchanged pipeline played 1234 of these seeds (cassandra, 56 s of one core) without a violation.",
            "| mutant | what a person would have been thinking | seeds, cassandra | seeds, simple | s | violations | smallest scenario | plain tests |",
            "|---|---|---|---|---|---|---|---|",
            "| [`other`](../tests/mutants/other.patch) |  | not played | not found |  |  |  |  |",
            "| [`twice`](../tests/mutants/twice.patch) | Once \\| twice is the same. | 7.5 / 31 / >200 (damaged) | cannot occur | 2.5 | \
             `wrong_count` 17, `stuck` 2 | 1 record, 2 faults | `traits: a`, 4 more |",
        ];
        for line in expected {
            assert!(part.lines().any(|other| other == line), "{line}\nis missing in\n{part}");
        }
    }

    #[test]
    fn what_is_written_by_hand_stays() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nBelow.\n");
        let replaced = replace(&page, "new\n").expect("the marks are there");
        assert_eq!(replaced, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nBelow.\n"));
        assert!(matches!(replace("# Title\n", "new"), Err(PageError::NoMark(BEGIN))));
        assert!(matches!(replace(BEGIN, "new"), Err(PageError::NoMark(END))));
    }
}
