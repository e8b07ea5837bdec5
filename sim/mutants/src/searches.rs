//! Compares the ways to search for scenarios: after how many runs each finds a mutant, with the program `search` of `sim/fuzz`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;
use thiserror::Error;

use crate::combine::VARIABLE;

/// The ways, as `search --by` calls them: seeds of the profile `standard`, of `swarm`, of each profile in turn, and scenarios
/// that are changed, guided by the states of the protocol that they reach.
pub const WAYS: [&str; 4] = ["random", "swarm", "profiles", "coverage"];

/// The program found a violation.
const FOUND: i32 = 1;

/// The program cannot be run, or prints what it must not.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum SearchError {
    #[error("{path} cannot be run")]
    Run { path: PathBuf, source: io::Error },
    #[error("{path} --by {way} ended with {status}")]
    Status { path: PathBuf, way: String, status: ExitStatus },
    #[error("{path} --by {way} printed something else than its results")]
    Output { path: PathBuf, way: String, source: serde_json::Error },
}

/// A line of the program: a search from one start.
#[derive(Debug, Deserialize)]
struct Line {
    /// The number of the first run with a violation.
    found_after: Option<u64>,
}

/// After how many runs each search found the mutant, sorted; those that did not are last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs(Vec<Option<u64>>);

impl Runs {
    /// The runs of some searches.
    pub fn new(mut runs: Vec<Option<u64>>) -> Self {
        runs.sort_by_key(|runs| (runs.is_none(), *runs));
        Self(runs)
    }

    /// The lower median; `None` if that search found nothing.
    pub fn median(&self) -> Option<u64> {
        self.0.get(self.0.len().div_ceil(2).saturating_sub(1)).copied().flatten()
    }

    /// The greatest number; `None` if a search found nothing.
    pub fn most(&self) -> Option<u64> {
        self.0.last().copied().flatten()
    }
}

/// Searches for a mutant in one way, from each of some starts, with so many runs at most.
///
/// # Errors
/// If the program cannot be run, or fails.
pub fn search(
    program: &Path,
    mutant: &str,
    way: &str,
    (starts, most, jobs): (u64, u64, usize),
) -> Result<Runs, SearchError> {
    let path = || program.to_owned();
    let mut command = Command::new(program);
    command.args(["--by", way, "--starts", &starts.to_string(), "--runs", &most.to_string()]);
    command.args(["--jobs", &jobs.to_string()]).env(VARIABLE, mutant);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().map_err(|source| SearchError::Run { path: path(), source })?;
    if !output.status.success() && output.status.code() != Some(FOUND) {
        return Err(SearchError::Status { path: path(), way: way.to_owned(), status: output.status });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(serde_json::from_str::<Line>).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|source| SearchError::Output { path: path(), way: way.to_owned(), source })?;
    Ok(Runs::new(lines.into_iter().map(|line| line.found_after).collect()))
}

/// The head of the table.
pub fn head() -> String {
    format!("| mutant | {} |\n|---|{}", WAYS.join(" | "), "---|".repeat(WAYS.len()))
}

/// A row of it: the median, and the greatest number; `most` is where searches end.
pub fn row(mutant: &str, of_ways: &[Runs], most: u64) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| format!(">{most}"), |number| number.to_string());
    let cells: Vec<String> =
        of_ways.iter().map(|runs| format!("{} / {}", number(runs.median()), number(runs.most()))).collect();
    format!("| `{mutant}` | {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_and_the_most_runs_of_each_way_and_says_where_searches_end() {
        let found = Runs::new(vec![Some(9), Some(2), Some(4)]);
        let partly = Runs::new(vec![None, Some(7), Some(3)]);
        let never = Runs::new(vec![None; 4]);
        assert_eq!((found.median(), found.most()), (Some(4), Some(9)));
        assert_eq!((partly.median(), partly.most()), (Some(7), None));
        assert_eq!(row("m", &[found, partly, never], 50), "| `m` | 4 / 9 | 7 / >50 | >50 / >50 |");
        assert_eq!(Runs::new(Vec::new()).median(), None);
    }
}
