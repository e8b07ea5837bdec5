//! A patch file: what a person would have been thinking, the worlds in which it can occur, and a unified diff.

use std::collections::BTreeMap;
use std::io;

use diffy::patch_set::{FileOperation, ParseOptions, PatchKind, PatchSet};
use thiserror::Error;

/// What precedes the names of the worlds.
const WORLDS: &str = "Worlds:";

/// A mutant: a small change of the pipeline that makes it wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its name, that of its file.
    pub name: String,
    /// What a person would have been thinking: the text before the diff.
    pub reasoning: String,
    /// The worlds in which it can occur; `None` for all.
    pub worlds: Option<Vec<String>>,
    /// The diff.
    diff: String,
}

/// Why a patch cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum PatchError {
    #[error("its name may have only lower-case letters, digits and underscores")]
    Name,
    #[error("it must begin with what a person would have been thinking")]
    NoReasoning,
    #[error("it has no diff")]
    NoDiff,
    #[error("its diff cannot be read")]
    Syntax(#[from] diffy::patch_set::PatchSetParseError),
    #[error("it creates, deletes or renames {0}; a mutant changes files")]
    Operation(String),
    #[error("it changes {0}; a mutant changes files below src/ that the library consists of")]
    Place(String),
    #[error("{file} cannot be read")]
    File { file: String, source: io::Error },
    #[error("it no longer applies: hunk {hunk} ({header}) does not fit {file}")]
    Hunk { file: String, hunk: usize, header: String },
}

impl Patch {
    /// Reads the text of a patch file.
    ///
    /// # Errors
    /// If a part is missing.
    pub fn parse(name: &str, text: &str) -> Result<Self, PatchError> {
        let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_valid) {
            return Err(PatchError::Name);
        }
        let begins_diff = |line: &str| line.starts_with("diff --git ") || line.starts_with("--- ");
        let mut at = 0;
        for line in text.split_inclusive('\n').take_while(|line| !begins_diff(line)) {
            at += line.len();
        }
        let (before, diff) = text.split_at(at);
        let mut worlds = None;
        let mut reasoning = String::new();
        for line in before.lines() {
            match line.strip_prefix(WORLDS) {
                Some(names) => worlds = Some(names.split_whitespace().map(str::to_owned).collect()),
                None => reasoning += &format!("{line}\n"),
            }
        }
        let (name, reasoning, diff) = (name.to_owned(), reasoning.trim().to_owned(), diff.to_owned());
        if reasoning.is_empty() {
            return Err(PatchError::NoReasoning);
        }
        if diff.is_empty() {
            return Err(PatchError::NoDiff);
        }
        Ok(Self { name, reasoning, worlds, diff })
    }

    /// The first paragraph of what a person would have been thinking, as one line.
    pub fn summary(&self) -> String {
        let lines = self.reasoning.lines().map(str::trim).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// The files that it changes, with their new text. `read` returns a file by its path in the repository.
    ///
    /// # Errors
    /// If it does not apply exactly; it may be moved to other lines.
    pub fn apply(
        &self,
        read: impl Fn(&str) -> io::Result<String>,
    ) -> Result<BTreeMap<String, String>, PatchError> {
        let mut files = BTreeMap::new();
        for part in PatchSet::parse(&self.diff, ParseOptions::unidiff()) {
            let part = part?;
            let file = match part.operation().strip_prefix(1) {
                FileOperation::Modify { original, modified } if original == modified => original.into_owned(),
                FileOperation::Modify { modified: file, .. }
                | FileOperation::Create(file)
                | FileOperation::Delete(file)
                | FileOperation::Rename { from: file, .. }
                | FileOperation::Copy { from: file, .. } => {
                    return Err(PatchError::Operation(file.into_owned()));
                }
            };
            let is_of_library = file.starts_with("src/")
                && file.ends_with(".rs")
                && file != "src/main.rs"
                && !file.contains("..");
            if !is_of_library {
                return Err(PatchError::Place(file));
            }
            let PatchKind::Text(diff) = part.patch() else { return Err(PatchError::Place(file)) };
            let original = match files.remove(&file) {
                Some(text) => text,
                None => read(&file).map_err(|source| PatchError::File { file: file.clone(), source })?,
            };
            let text = apply(&original, diff).map_err(|hunk| {
                let range = |range: diffy::HunkRange| format!("{},{}", range.start(), range.len());
                let found = diff.hunks().get(hunk - 1);
                let header = found
                    .map(|hunk| format!("@@ -{} +{} @@", range(hunk.old_range()), range(hunk.new_range())));
                PatchError::Hunk { file: file.clone(), hunk, header: header.unwrap_or_default() }
            })?;
            files.insert(file, text);
        }
        if files.is_empty() {
            return Err(PatchError::NoDiff);
        }
        Ok(files)
    }
}

/// Applies a diff of one file; or the number of the first hunk that does not fit, from 1.
fn apply(original: &str, diff: &diffy::Patch<str>) -> Result<String, usize> {
    diffy::apply(original, diff).map_err(|error| {
        // The number is in the message only.
        let text = error.to_string();
        text.rsplit('#').next().and_then(|number| number.parse().ok()).unwrap_or(1)
    })
}
