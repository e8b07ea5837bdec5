//! What becomes of patches of small source texts: the text that chooses between them, and what is refused.

use std::collections::BTreeMap;
use std::io;

use mutants::combine::{CombineError, Combined, combine};
use mutants::patch::Patch;

const LIBRARY: &str = "//! A library.\n\nmod counts;\n";

const COUNTS: &str = r#"//! Counts.

use std::collections::BTreeMap;

use crate::store::Store;

/// Counts.
pub struct Counts {
    /// By name.
    map: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds one.
    pub fn add(&mut self, name: &str) -> u64 {
        let count = self.map.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    const fn limit() -> u64 {
        10
    }
}

impl Store for Counts {
    async fn write(&self, value: u64) -> Result<(), String> {
        if value > Self::limit() {
            return Err("too many".to_owned());
        }
        Ok(())
    }
}

trait Named {
    fn name(&self) -> String {
        "none".to_owned()
    }

    fn later(&self) -> impl Future<Output = u64> + Send {
        async move { 1 }
    }
}

mod inner {
    pub fn double(value: u64) -> u64 {
        value * 2
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn doubles() {
        assert_eq!(super::inner::double(1), 2);
    }
}

fn below(end: u64) -> impl Iterator<Item = u64> {
    0..end
}

fn from(start: u64) -> Option<impl Iterator<Item = u64>> {
    let end = start.checked_add(10)?;
    Some(start..end)
}
"#;

fn read(file: &str) -> io::Result<String> {
    match file {
        "src/lib.rs" => Ok(LIBRARY.to_owned()),
        "src/counts.rs" => Ok(COUNTS.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A patch that replaces texts in `src/counts.rs`.
fn patch(name: &str, replacements: &[(&str, &str)]) -> Patch {
    let mut text = COUNTS.to_owned();
    for (from, to) in replacements {
        assert_eq!(text.matches(from).count(), 1, "{from:?}");
        text = text.replace(from, to);
    }
    let diff = diffy::create_patch(COUNTS, &text).to_string();
    let diff = diff.replacen("--- original", "--- a/src/counts.rs", 1);
    let diff = diff.replacen("+++ modified", "+++ b/src/counts.rs", 1);
    Patch::parse(name, &format!("It seemed right.\n\n{diff}")).expect("a patch")
}

fn combined(patches: &[Patch]) -> Combined {
    combine(patches, read).expect("the files can be read")
}

/// The text of `src/counts.rs` with these patches, which are all accepted.
#[track_caller]
fn counts(patches: &[Patch]) -> String {
    let combined = combined(patches);
    assert!(combined.refused.is_empty(), "{:?}", combined.refused);
    let text = combined.files["src/counts.rs"].text.clone();
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    text
}

/// The reason for which a patch is refused.
#[track_caller]
fn refusal(patch: Patch) -> String {
    let combined = combined(&[patch]);
    let [(name, error)] = &combined.refused[..] else {
        panic!("{:?}\n{:?}", combined.refused, combined.files)
    };
    assert_eq!(name, "wrong");
    assert!(!combined.files.contains_key("src/counts.rs"));
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain(text).contains(&plain(part)), "{part}\nis missing in\n{text}");
}

#[test]
fn a_variable_chooses_the_body_of_a_method() {
    let text = counts(&[patch("adds_two", &[("*count += 1", "*count += 2")])]);
    assert_contains(
        &text,
        "pub fn add(&mut self, name: &str) -> u64 {
            match crate::chosen_mutant() {
                // adds_two
                1 => {
                    let count = self.map.entry(name.to_owned()).or_default();
                    *count += 2;
                    *count
                }
                _ => {
                    let count = self.map.entry(name.to_owned()).or_default();
                    *count += 1;
                    *count
                }
            }
        }",
    );
    assert_eq!(text.matches("chosen_mutant").count(), 1, "no other function changes:\n{text}");
}

#[test]
fn async_methods_of_implementations_and_functions_of_modules_and_traits_have_bodies_too() {
    let text = counts(&[
        patch(
            "writes_all",
            &[(
                "        if value > Self::limit() {\n            return Err(\"too many\".to_owned());\n        }\n",
                "",
            )],
        ),
        patch("triples", &[("value * 2", "value * 3")]),
        patch("unnamed", &[("\"none\"", "\"\"")]),
    ]);
    // By name: triples, unnamed, writes_all.
    assert_contains(
        &text,
        "async fn write(&self, value: u64) -> Result<(), String> { match crate::chosen_mutant() { // writes_all\n 3 => { Ok(()) } _ =>",
    );
    assert_contains(
        &text,
        "pub fn double(value: u64) -> u64 { match crate::chosen_mutant() { // triples\n 1 => { value * 3 } _ => { value * 2 } } }",
    );
    assert_contains(&text, "fn name(&self) -> String { match crate::chosen_mutant() { // unnamed\n 2 =>");
}

#[test]
fn two_patches_of_one_function_are_two_arms() {
    let text = counts(&[
        patch("b_three", &[("*count += 1", "*count += 3")]),
        patch("a_two", &[("*count += 1", "*count += 2")]),
    ]);
    assert_contains(
        &text,
        "// a_two\n 1 => { let count = self.map.entry(name.to_owned()).or_default(); *count += 2;",
    );
    assert_contains(
        &text,
        "// b_three\n 2 => { let count = self.map.entry(name.to_owned()).or_default(); *count += 3;",
    );
    assert_eq!(text.matches("match crate::chosen_mutant()").count(), 1);
}

#[test]
fn bodies_that_return_a_future_are_a_sum_of_types() {
    let text = counts(&[
        patch("a_two", &[("async move { 1 }", "async move { 2 }")]),
        patch("b_three", &[("async move { 1 }", "async move { 3 }")]),
    ]);
    let either = "::futures_util::future::Either::";
    assert_contains(&text, &format!("1 => {either}Left({{ async move {{ 2 }} }}),"));
    assert_contains(&text, &format!("2 => {either}Right({either}Left({{ async move {{ 3 }} }})),"));
    assert_contains(&text, &format!("_ => {either}Right({either}Right({{ async move {{ 1 }} }}))"));
}

#[test]
fn bodies_that_return_an_iterator_are_a_sum_of_types_too() {
    let text = counts(&[
        patch("a_empty", &[("0..end", "std::iter::empty()")]),
        patch("b_once", &[("0..end", "std::iter::once(1)"), ("Some(start..end)", "Some(end..start)")]),
    ]);
    let sum = "crate::ChosenIterator::";
    assert_contains(&text, &format!("1 => {sum}Left({{ std::iter::empty() }}),"));
    assert_contains(&text, &format!("2 => {sum}Right({sum}Left({{ std::iter::once(1) }})),"));
    assert_contains(&text, &format!("_ => {sum}Right({sum}Right({{ 0..end }}))"));
    // A question mark must not return from the function, which returns another type.
    let body = |range: &str| format!("{{ let end = start.checked_add(10)?; Some({range}) }}");
    assert_contains(&text, &format!("2 => (|| {})().map(|value| {sum}Left(value)),", body("end..start")));
    assert_contains(&text, &format!("_ => (|| {})().map(|value| {sum}Right(value)),", body("start..end")));
    let library = combined(&[patch("a_empty", &[("0..end", "std::iter::empty()")])]).files;
    assert_contains(&library["src/lib.rs"].text, "pub(crate) enum ChosenIterator<A, B> {");
}

#[test]
fn imports_functions_and_methods_are_added_once() {
    let helper = "/// Two.\nfn two() -> u64 {\n    2\n}\n\nmod inner";
    let add = |name: &str| {
        let body = format!("*count += two(); let _ = HashMap::<u8, {name}>::new(); Self::method()");
        patch(
            name,
            &[
                ("use std::collections::BTreeMap;", "use std::collections::{BTreeMap, HashMap};"),
                ("mod inner", helper),
                ("*count += 1;", &body),
                ("    const fn limit()", "    fn method() {}\n\n    const fn limit()"),
            ],
        )
    };
    let text = counts(&[add("u16"), add("u32")]);
    assert_eq!(text.matches("fn two()").count(), 1, "{text}");
    assert_eq!(text.matches("fn method()").count(), 1, "{text}");
    assert_eq!(text.matches("use std::collections::HashMap;").count(), 1, "{text}");
    assert_eq!(text.matches("use std::collections::BTreeMap;").count(), 1, "{text}");
    assert_contains(&text, "1 => { let count");
    assert_contains(&text, "2 => { let count");
}

#[test]
fn two_patches_that_add_different_functions_of_one_name_are_a_conflict() {
    let add = |name: &str, value: &str| {
        let helper = format!("fn helper() -> u64 {{ {value} }}\nmod inner");
        patch(name, &[("mod inner", &helper), ("*count += 1", "*count += helper()")])
    };
    let combined = combined(&[add("first", "1"), add("second", "2"), add("third", "1")]);
    let [(name, CombineError::Conflict(conflict))] = &combined.refused[..] else {
        panic!("{:?}", combined.refused)
    };
    assert_eq!(name, "second");
    assert_eq!(
        conflict.to_string(),
        "first and second both add fn helper, with other contents; give one of them another name"
    );
    // The others stay, with numbers of their own.
    let text = &combined.files["src/counts.rs"].text;
    assert_contains(text, "// first\n 1 =>");
    assert_contains(text, "// third\n 2 =>");
}

#[test]
fn the_library_gets_the_function_that_reads_the_variable() {
    let combined = combined(&[patch("b", &[("value * 2", "2")]), patch("a", &[("value * 2", "3")])]);
    let text = &combined.files["src/lib.rs"].text;
    assert!(text.starts_with("#![allow(warnings)] //! A library.\n"), "{text}");
    assert_contains(text, r#"Some("a") => 1, Some("b") => 2,"#);
    assert_contains(text, r#"std::env::var_os("EXACTLYONCE_MUTANT")"#);
    syn::parse_file(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
}

#[test]
fn the_lines_of_each_patch_are_known() {
    let combined = combined(&[patch("adds_two", &[("*count += 1", "*count += 2")])]);
    let switched = &combined.files["src/counts.rs"];
    let [lines] = &switched.lines[..] else { panic!("{:?}", switched.lines) };
    let text: Vec<&str> = switched.text.lines().skip(lines.range.start - 1).take(lines.range.len()).collect();
    assert_eq!(lines.patch, "adds_two");
    assert!(text[0].ends_with("1 => {") && text[4] == "    }" && text.len() == 5, "{text:?}");
}

#[test]
fn comments_and_documentation_may_change_but_not_alone() {
    let comments = [("/// Adds one.", "/// Adds two."), ("/// By name.", "/// Of each name.")];
    let text = counts(&[patch("documented", &[comments[0], comments[1], ("*count += 1", "*count += 2")])]);
    assert_contains(&text, "/// Adds one.");
    assert_eq!(refusal(patch("wrong", &comments)), "it changes nothing but comments");
}

#[test]
fn a_change_outside_a_body_is_refused_with_its_place() {
    for (replacements, expected) in [
        (
            [("map: BTreeMap<String, u64>", "map: BTreeMap<String, u32>")],
            "src/counts.rs: line 7: struct Counts has another declaration; change the body of a function instead",
        ),
        (
            [("name: &str) -> u64", "name: &str) -> u128")],
            "line 14: impl Counts: fn add has another signature, visibility or attribute",
        ),
        ([("        10\n", "        11\n")], "line 21: impl Counts: fn limit is a const fn"),
        ([("impl Store for", "impl Stores for")], "line 26: impl Store for Counts is removed"),
        (
            [("    async fn write", "    fn read(&self) {}\n\n    async fn write")],
            "impl Store for Counts: fn read is added, which would hold for every mutant",
        ),
        ([("double(1), 2", "double(1), 3")], "line 51: mod tests exists in tests only"),
        (
            [("use std::collections::BTreeMap;", "use std::collections::HashMap as BTreeMap;")],
            "imports a name that means something else there",
        ),
        (
            [("mod inner", "impl Drop for Counts {\n    fn drop(&mut self) {}\n}\n\nmod inner")],
            "impl Drop for Counts is added, which would hold for every mutant",
        ),
    ] {
        let text = refusal(patch("wrong", &replacements));
        assert!(text.contains(expected), "{expected}\nis missing in\n{text}");
    }
}

#[test]
fn a_patch_that_does_not_apply_is_refused_with_its_hunk() {
    let good = patch("wrong", &[("*count += 1", "*count += 2"), ("value * 2", "value * 3")]);
    // Lines may move.
    let moved =
        |file: &str| read(file).map(|text| text.replace("//! Counts.", "//! Counts.\n//!\n//! Many."));
    let combined = combine(std::slice::from_ref(&good), moved).expect("the files can be read");
    assert!(combined.refused.is_empty(), "{:?}", combined.refused);
    // They may not change, the context included.
    for (from, to) in [("value * 2", "value + value"), ("mod inner {", "mod within {")] {
        let changed = |file: &str| read(file).map(|text| text.replace(from, to));
        let combined = combine(std::slice::from_ref(&good), changed).expect("the files can be read");
        let [(name, error)] = &combined.refused[..] else { panic!("{:?}", combined.refused) };
        assert_eq!(name, "wrong");
        let text = error.to_string();
        assert!(
            text.starts_with("it no longer applies: hunk 2 (@@ -")
                && text.ends_with(" does not fit src/counts.rs"),
            "{text}"
        );
    }
}

#[test]
fn a_patch_file_has_a_reasoning_worlds_and_a_diff_of_the_library() {
    let diff =
        "--- a/src/counts.rs\n+++ b/src/counts.rs\n@@ -49 +49 @@\n-        value * 2\n+        value * 3\n";
    let text = format!(
        "Once\nis enough.\n\nMore.\nWorlds: simple cassandra\n\ndiff --git a/src/counts.rs b/src/counts.rs\n{diff}"
    );
    let patch = Patch::parse("name", &text).expect("a patch");
    assert_eq!(patch.summary(), "Once is enough.");
    assert_eq!(patch.worlds, Some(vec!["simple".to_owned(), "cassandra".to_owned()]));
    let error = |name: &str, text: &str| match Patch::parse(name, text) {
        Ok(patch) => patch.apply(read).map(BTreeMap::into_keys).expect_err("refused").to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(error("Name", &text), "its name may have only lower-case letters, digits and underscores");
    assert_eq!(error("name", diff), "it must begin with what a person would have been thinking");
    assert_eq!(error("name", "Why not.\n"), "it has no diff");
    let moved = format!("Why not.\n\n{}", diff.replace("src/counts.rs", "sim/src/run.rs"));
    assert_eq!(
        error("name", &moved),
        "it changes sim/src/run.rs; a mutant changes files below src/ that the library consists of"
    );
    let created = "Why not.\n\n--- /dev/null\n+++ b/src/new.rs\n@@ -0,0 +1 @@\n+fn new() {}\n";
    assert_eq!(error("name", created), "it creates, deletes or renames src/new.rs; a mutant changes files");
    let missing = format!("Why not.\n\n{}", diff.replace("counts.rs", "gone.rs"));
    assert_eq!(error("name", &missing), "src/gone.rs cannot be read");
}
