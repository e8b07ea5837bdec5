//! What a patch changes in a file: bodies of functions, and items that it adds. Nothing else can be chosen while a program
//! runs, so everything else is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use crate::source::{Container, Detail, Function, Key, Node, Returns};

/// The changes of a patch in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Functions with other bodies.
    pub bodies: Vec<Body>,
    /// Items that are added.
    pub additions: Vec<Addition>,
}

/// Another body of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The body in the original text, with the braces.
    pub range: Range<usize>,
    /// The other body, with the braces.
    pub text: String,
    /// What the bodies of the function return.
    pub returns: Returns,
}

/// An item that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Where, in the original text.
    pub at: usize,
    /// What it is, for messages.
    pub name: String,
    /// Two items with the same one at one place are a contradiction, unless they are the same.
    pub key: String,
    /// Its tokens.
    pub tokens: String,
    /// Its text.
    pub text: String,
}

/// A change that cannot be chosen while a program runs.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {item} {problem}")]
pub struct Refused {
    /// The line in the original file; of an item that is added, in the patched one.
    pub line: usize,
    /// The item.
    pub item: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Why a change cannot be chosen while a program runs.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its message")]
pub enum Problem {
    #[error("has another declaration; change the body of a function instead")]
    Declaration,
    #[error("has another signature, visibility or attribute; change the body of a function instead")]
    Signature,
    #[error("is a const fn, whose body cannot depend on a variable; change a function that uses it instead")]
    Const,
    #[error("is removed, which would hold for every mutant; change the body of a function instead")]
    Removed,
    #[error("is added, which would hold for every mutant; change the body of a function instead")]
    Added,
    #[error("exists in tests only; change production code instead")]
    Test,
    #[error("imports a name that means something else there; write the path in the body instead")]
    Import,
}

/// The changes between two versions of a file, given as text and as items.
///
/// # Errors
/// The first change that cannot be chosen while a program runs.
pub fn difference(original: &Container, patched: &Container, patched_text: &str) -> Result<Changes, Refused> {
    let mut comparison = Comparison { text: patched_text, changes: Changes::default() };
    if original.head != patched.head {
        return Err(Refused { line: 1, item: "the file".to_owned(), problem: Problem::Signature });
    }
    comparison.containers(original, patched, "")?;
    Ok(comparison.changes)
}

/// Items by key, and the how-manieth with that key.
fn by_key(container: &Container) -> BTreeMap<(&Key, usize), &Node> {
    let mut counts = BTreeMap::<&Key, usize>::new();
    let mut map = BTreeMap::new();
    for node in &container.items {
        let count = counts.entry(&node.key).or_default();
        map.insert((&node.key, *count), node);
        *count += 1;
    }
    map
}

struct Comparison<'a> {
    text: &'a str,
    changes: Changes,
}

impl Comparison<'_> {
    fn containers(&mut self, original: &Container, patched: &Container, path: &str) -> Result<(), Refused> {
        let (before, after) = (by_key(original), by_key(patched));
        for (key, node) in &before {
            match after.get(key) {
                Some(other) => self.nodes(node, other, path)?,
                None => check_removed(node, original, path)?,
            }
        }
        // In the order of the text.
        let mut added: Vec<&Node> =
            after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, node)| *node).collect();
        added.sort_by_key(|node| node.range.start);
        added.into_iter().try_for_each(|node| self.add(node, original, path))
    }

    fn nodes(&mut self, original: &Node, patched: &Node, path: &str) -> Result<(), Refused> {
        if original.tokens == patched.tokens {
            return Ok(());
        }
        if original.is_test {
            return Err(refused(original, path, Problem::Test));
        }
        match (&original.detail, &patched.detail) {
            (Detail::Function(before), Detail::Function(after)) => {
                self.functions(before, after).map_err(|problem| refused(original, path, problem))
            }
            (Detail::Container(before), Detail::Container(after)) => {
                if before.head != after.head {
                    return Err(refused(original, path, Problem::Signature));
                }
                self.containers(before, after, &format!("{path}{}: ", original.name))
            }
            _ => Err(refused(original, path, Problem::Declaration)),
        }
    }

    fn functions(&mut self, original: &Function, patched: &Function) -> Result<(), Problem> {
        if original.head != patched.head {
            return Err(Problem::Signature);
        }
        if original.body == patched.body {
            return Ok(());
        }
        if original.is_const {
            return Err(Problem::Const);
        }
        let (range, returns) = (original.range.clone(), original.returns);
        let text = self.text[patched.range.clone()].to_owned();
        self.changes.bodies.push(Body { range, text, returns });
        Ok(())
    }

    fn add(&mut self, node: &Node, to: &Container, path: &str) -> Result<(), Refused> {
        if node.is_test {
            return Err(refused(node, path, Problem::Test));
        }
        // A method would replace the trait's own, and a destructor would run always.
        let runs_unasked = |head: &str| head.starts_with("impl") && head.contains("Drop for ");
        let is_destructor = matches!(&node.key, Key::Implementation(head) if runs_unasked(head));
        if to.implements_trait || is_destructor {
            return Err(refused(node, path, Problem::Added));
        }
        let (key, text) = match &node.detail {
            Detail::Import(name) => {
                let same_name =
                    |other: &&Node| matches!(&other.detail, Detail::Import(other) if other == name);
                if name.is_some() && to.items.iter().any(|other| same_name(&other)) {
                    return Err(refused(node, path, Problem::Import));
                }
                (name.as_ref().map(|name| format!("import {name}")), node.tokens.clone())
            }
            _ => (None, self.text[node.range.clone()].to_owned()),
        };
        let key = key.unwrap_or_else(|| format!("{:?}", node.key));
        let name = format!("{path}{}", node.name);
        self.changes.additions.push(Addition { at: to.end, name, key, tokens: node.tokens.clone(), text });
        Ok(())
    }
}

/// What is not used any more does no harm, unless the compiler finds it by itself.
fn check_removed(node: &Node, from: &Container, path: &str) -> Result<(), Refused> {
    let is_found_without_a_name =
        from.implements_trait || matches!(&node.key, Key::Implementation(_) | Key::Other(_));
    match is_found_without_a_name {
        true => Err(refused(node, path, Problem::Removed)),
        false => Ok(()),
    }
}

fn refused(node: &Node, path: &str, problem: Problem) -> Refused {
    Refused { line: node.line, item: format!("{path}{}", node.name), problem }
}
