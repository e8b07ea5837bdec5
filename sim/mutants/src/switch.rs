//! The text of a file in which a variable chooses between the changes of several patches.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use crate::difference::{Addition, Body, Changes};
use crate::source::Returns;

/// A patch's changes of a file.
#[derive(Debug)]
pub struct Variant<'a> {
    /// The number that chooses it, from 1.
    pub number: u32,
    /// Its name.
    pub name: &'a str,
    /// Its changes.
    pub changes: Changes,
}

/// A file with all variants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Switched {
    /// Its text.
    pub text: String,
    /// The lines of each variant, from 1, for the places of the compiler's errors.
    pub lines: Vec<Lines>,
}

/// Lines of a file that come from one patch.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The patch's name.
    pub patch: String,
    /// The lines, from 1; the last one is excluded.
    pub range: Range<usize>,
}

/// Two patches that cannot be in one build.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{first} and {second} both add {item}, with other contents; give one of them another name")]
pub struct Conflict {
    /// The one that comes first.
    pub first: String,
    /// The other one.
    pub second: String,
    /// What both add.
    pub item: String,
}

/// What is inserted or replaced at a place.
enum Edit<'a> {
    Bodies(Range<usize>, Vec<(&'a Variant<'a>, &'a Body)>),
    Additions(Vec<(&'a str, &'a Addition)>),
}

/// The file with all variants.
///
/// # Errors
/// If two patches add an item of the same name with other contents.
pub fn switch(original: &str, variants: &[Variant]) -> Result<Switched, Conflict> {
    let mut edits = BTreeMap::<usize, Edit>::new();
    for variant in variants {
        for body in &variant.changes.bodies {
            let edit = edits.entry(body.range.start);
            let edit = edit.or_insert_with(|| Edit::Bodies(body.range.clone(), Vec::new()));
            if let Edit::Bodies(_, bodies) = edit {
                bodies.push((variant, body));
            }
        }
        for addition in &variant.changes.additions {
            let edit = edits.entry(addition.at).or_insert_with(|| Edit::Additions(Vec::new()));
            let Edit::Additions(additions) = edit else { continue };
            match additions.iter().find(|(_, other)| other.key == addition.key) {
                None => additions.push((variant.name, addition)),
                Some((_, other)) if other.tokens == addition.tokens => {}
                Some((first, _)) => {
                    let (first, second) = ((*first).to_owned(), variant.name.to_owned());
                    return Err(Conflict { first, second, item: addition.name.clone() });
                }
            }
        }
    }
    let mut writer = Writer::default();
    let mut copied = 0;
    for (at, edit) in edits {
        writer.push(&original[copied..at]);
        copied = at;
        match edit {
            Edit::Bodies(range, bodies) => {
                writer.bodies(&original[range.clone()], &bodies);
                copied = range.end;
            }
            Edit::Additions(additions) => {
                for (patch, addition) in additions {
                    writer.push("\n");
                    writer.push_of(patch, &addition.text);
                    writer.push("\n");
                }
            }
        }
    }
    writer.push(&original[copied..]);
    Ok(writer.switched)
}

#[derive(Default)]
struct Writer {
    switched: Switched,
    newlines: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.newlines += text.matches('\n').count();
        self.switched.text += text;
    }

    /// Text that comes from a patch.
    fn push_of(&mut self, patch: &str, text: &str) {
        let first = self.newlines + 1;
        self.push(text);
        let range = first..self.newlines + 2;
        self.switched.lines.push(Lines { patch: patch.to_owned(), range });
    }

    /// A body that chooses between several.
    fn bodies(&mut self, original: &str, others: &[(&Variant, &Body)]) {
        self.push("{\n    match crate::chosen_mutant() {\n");
        // Each may return a type of its own.
        let returns = others.first().map_or(Returns::Nameable, |(_, body)| body.returns);
        let sum = if returns == Returns::Future { FUTURE } else { ITERATOR };
        let mut before = String::new();
        for (Variant { number, name, .. }, body) in others {
            self.push(&format!("        // {name}\n        {number} => "));
            let (open, close) = around(returns, &format!("{before}{sum}Left("));
            self.push(&open);
            self.push_of(name, &body.text);
            self.push(&format!("{close}\n"));
            before += sum;
            before += "Right(";
        }
        let (open, close) = around(returns, &before);
        self.push(&format!("        _ => {open}{original}{close}\n    }}\n}}"));
    }
}

/// What is before and after a body, so that it returns the case of a sum whose constructors are open at the end of `sum`.
fn around(returns: Returns, sum: &str) -> (String, String) {
    let closed = ")".repeat(sum.matches('(').count());
    match returns {
        Returns::Nameable => (String::new(), String::new()),
        Returns::Future | Returns::Iterator => (sum.to_owned(), format!("{closed},")),
        // `?` and `return` end the closure.
        Returns::MappedIterator => ("(|| ".to_owned(), format!(")().map(|value| {sum}value{closed}),")),
    }
}

/// Sums of two types: one that is a future if both are, and one that is an iterator if both are.
const FUTURE: &str = "::futures_util::future::Either::";
const ITERATOR: &str = "crate::ChosenIterator::";

/// The second one, for the root of the library.
pub const ITERATOR_DECLARATION: &str = r"
/// An iterator of a mutant, or another one.
pub(crate) enum ChosenIterator<A, B> {
    Left(A),
    Right(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for ChosenIterator<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Left(iterator) => iterator.next(),
            Self::Right(iterator) => iterator.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Left(iterator) => iterator.size_hint(),
            Self::Right(iterator) => iterator.size_hint(),
        }
    }
}
";
