//! A list of cargo-mutants: what becomes of its mutants, and what the program says about a list that it cannot use.

use std::fs;
use std::io;
use std::process::Command;

use mutants::combine::combine;
use mutants::listed;
use mutants::patch::Patch;

const SUM: &str = "/// A sum.\npub fn sum(values: &[u64]) -> u64 {\n    let mut sum = 0;\n    for value in values {\n        sum += value;\n    }\n    sum\n}\n";

/// Two mutants of [`SUM`] as cargo-mutants 27 lists them.
const LIST: &str = r#"[
  {
    "package": "small", "file": "src/sum.rs", "genre": "FnValue", "replacement": "0",
    "name": "src/sum.rs:3:5: replace sum -> u64 with 0",
    "function": {"function_name": "sum", "return_type": "-> u64", "span": {"start": {"line": 1, "column": 1}, "end": {"line": 8, "column": 2}}},
    "span": {"start": {"line": 3, "column": 5}, "end": {"line": 7, "column": 8}},
    "diff": "--- src/sum.rs\n+++ replace sum -> u64 with 0\n@@ -1,8 +1,4 @@\n /// A sum.\n pub fn sum(values: &[u64]) -> u64 {\n-    let mut sum = 0;\n-    for value in values {\n-        sum += value;\n-    }\n-    sum\n+    0 /* ~ changed by cargo-mutants ~ */\n }\n"
  },
  {
    "package": "small", "file": "src/sum.rs", "genre": "BinaryOperator", "replacement": "-=",
    "name": "src/sum.rs:5:13: replace += with -= in sum", "function": null,
    "span": {"start": {"line": 5, "column": 13}, "end": {"line": 5, "column": 15}},
    "diff": "--- src/sum.rs\n+++ replace += with -= in sum\n@@ -2,7 +2,7 @@\n pub fn sum(values: &[u64]) -> u64 {\n     let mut sum = 0;\n     for value in values {\n-        sum += value;\n+        sum -= /* ~ changed by cargo-mutants ~ */ value;\n     }\n     sum\n }\n"
  }
]"#;

#[test]
fn the_mutants_of_a_list_are_in_one_build() {
    let list = listed::parse(LIST).expect("a list");
    let patches: Vec<Patch> = list.iter().map(|mutant| mutant.patch.clone()).collect();
    let read = |file: &str| match file {
        "src/lib.rs" => Ok("mod sum;\n".to_owned()),
        "src/sum.rs" => Ok(SUM.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let combined = combine(&patches, read).expect("the files can be read");
    assert!(combined.refused.is_empty(), "{:?}", combined.refused);
    let text = &combined.files["src/sum.rs"].text;
    assert!(text.contains("// m1\n        1 => {\n    0 /*") && text.contains("sum -= /*"), "{text}");
    let lines: Vec<usize> = list.iter().map(|mutant| mutant.line).collect();
    assert_eq!(lines, [3, 5]);
}

/// The exit code and what is on stderr.
fn run(list: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("list.json");
    fs::write(&file, list).expect("it is written");
    let mut program = Command::new(env!("CARGO_BIN_EXE_mutants"));
    let output = program.arg("--list").arg(&file).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_list_that_cannot_be_used_is_wrong_usage() {
    let (code, text) = run(&LIST.replace("\"diff\"", "\"other\""), &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("mutant 1 of the list has no diff"), "{text}");
    let (code, text) = run(LIST, &["m3"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no mutant \"m3\""), "{text}");
    // What is for known-bad pipelines only.
    let (code, text) = run(LIST, &["--write"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("cannot be used with"), "{text}");
}
