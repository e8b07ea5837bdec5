//! The mutants that cargo-mutants lists: `cargo mutants --list --json --diff`. Nobody had an idea for any of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::patch::{Patch, PatchError};

/// A mutant of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its file, change and function, and which one it is if there are several of those: the same while other code changes.
    pub name: String,
    /// Its line in its file, from 1.
    pub line: usize,
    /// Its diff, under a short name that chooses it in a program.
    pub patch: Patch,
}

/// A list cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum ListError {
    #[error("it is not a list as `cargo mutants --list --json --diff` prints it")]
    Json(#[from] serde_json::Error),
    #[error("mutant {number} of the list has no diff with a description; the list needs `--diff`")]
    NoDiff { number: usize },
    #[error("mutant {number} of the list cannot be used")]
    Patch { number: usize, source: PatchError },
}

/// What is used of a mutant in the list.
#[derive(Deserialize)]
struct Entry {
    file: String,
    span: Span,
    #[serde(default)]
    diff: String,
}

#[derive(Deserialize)]
struct Span {
    start: Start,
}

#[derive(Deserialize)]
struct Start {
    line: usize,
}

/// Reads a list. The short names are `m1`, `m2`, and so on.
///
/// # Errors
/// If the text is something else, or has no diffs.
pub fn parse(text: &str) -> Result<Vec<Listed>, ListError> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let mut counts = BTreeMap::<String, usize>::new();
    let mut mutants = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        let Entry { file, span, diff } = entry;
        let (change, hunks) = split(&diff).ok_or(ListError::NoDiff { number })?;
        let mut name = format!("{file}: {change}");
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name += &format!(" (#{count})");
        }
        let text = format!("{change}\n\n--- a/{file}\n+++ b/{file}\n{hunks}");
        let patch = Patch::parse(&format!("m{number}"), &text)
            .map_err(|source| ListError::Patch { number, source })?;
        mutants.push(Listed { name, line: span.start.line, patch });
    }
    Ok(mutants)
}

/// The description, which stands in the place of the new file's name, and the hunks.
fn split(diff: &str) -> Option<(&str, &str)> {
    let (_, rest) = diff.split_once("+++ ")?;
    let (change, hunks) = rest.split_once('\n')?;
    (!change.trim().is_empty() && hunks.starts_with("@@ ")).then_some((change.trim(), hunks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[
        {"package": "small", "file": "src/sum.rs", "span": {"start": {"line": 3, "column": 7}, "end": {"line": 3, "column": 8}},
         "replacement": "-", "genre": "BinaryOperator",
         "diff": "--- src/sum.rs\n+++ replace + with - in sum\n@@ -2,3 +2,3 @@\n fn sum() {\n-    1 + 2 + 3\n+    1 - 2 + 3\n }\n"},
        {"package": "small", "file": "src/sum.rs", "span": {"start": {"line": 3, "column": 11}, "end": {"line": 3, "column": 12}},
         "diff": "--- src/sum.rs\n+++ replace + with - in sum\n@@ -2,3 +2,3 @@\n fn sum() {\n-    1 + 2 + 3\n+    1 + 2 - 3\n }\n"}
    ]"#;

    #[test]
    fn mutants_have_names_without_lines_and_patches_that_apply() {
        let list = parse(LIST).expect("a list");
        let names: Vec<&str> = list.iter().map(|mutant| mutant.name.as_str()).collect();
        assert_eq!(
            names,
            ["src/sum.rs: replace + with - in sum", "src/sum.rs: replace + with - in sum (#2)"]
        );
        assert_eq!((list[1].line, list[1].patch.name.as_str()), (3, "m2"));
        let read = |_: &str| Ok("//! Sums.\nfn sum() {\n    1 + 2 + 3\n}\n".to_owned());
        let applied = list[1].patch.apply(read).expect("it applies");
        assert_eq!(applied["src/sum.rs"], "//! Sums.\nfn sum() {\n    1 + 2 - 3\n}\n");
    }

    #[test]
    fn a_list_without_diffs_is_refused_with_the_option_that_it_needs() {
        let error = parse(&LIST.replace("\"diff\"", "\"other\"")).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "mutant 1 of the list has no diff with a description; the list needs `--diff`"
        );
        assert!(matches!(parse("{}"), Err(ListError::Json(_))));
        let outside = LIST.replace("src/sum.rs", "sim/src/sum.rs");
        let list = parse(&outside).expect("a list");
        assert!(list[0].patch.apply(|_| Ok(String::new())).is_err(), "only the library can be changed");
    }
}
