//! The demonstration with its default settings, but fewer records.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use exactlyonce::sqlite::WorkerLock;
use tempfile::TempDir;

use crate::program::{program, signal};

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().expect("the program starts")
}

#[test]
fn it_kills_workers_finds_no_difference_and_leaves_no_files() {
    let temporary = TempDir::new().expect("a folder");
    let mut command = program(["demo", "--events", "6000", "--kills", "3", "--seed", "5", "--json"]);
    let output = command.env("TMPDIR", temporary.path()).output().expect("the program starts");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        (&report["seed"], &report["records"], &report["differences"]),
        (&5.into(), &6000.into(), &0.into())
    );
    let number = |name: &str| report[name].as_u64().expect("a number");
    assert_eq!(number("events") + number("dead_letters"), 6_000);
    assert!(number("dead_letters") > 0 && number("alerts") > 0, "{report}");
    assert_eq!(report["kills"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["busiest"][0]["source"], "My Router");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("a folder").count(), 0, "a file is left");
}

#[test]
fn it_supports_the_bucketed_layout() {
    let temporary = TempDir::new().expect("a folder");
    let data = temporary.path().join("data").display().to_string();
    let layout = ["--set", "store.layout=bucketed", "--set", "store.bucket_rows=300", "--data", &data];
    let output = run(&[&["demo", "--events", "6000", "--kills", "3", "--seed", "6"][..], &layout].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("differences    0"), "{text}");
    assert!(run(&[&["verify"][..], &layout].concat()).status.success());
    let shown = run(&[&["show", "events", "--json"][..], &layout].concat());
    let rows = shown.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert!(text.contains(&format!("events         {rows}\n")), "{rows}: {text}");
    let original = run(&["verify", "--data", &data]);
    assert_eq!(original.status.code(), Some(3));
}

#[test]
fn a_given_folder_is_kept_and_cannot_be_used_twice() {
    let temporary = TempDir::new().expect("a folder");
    let data = temporary.path().join("new/data").display().to_string();
    let demo = ["demo", "--events", "600", "--kills", "1", "--data", &data];
    let output = run(&demo);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for line in ["records        600", "differences    0", "busiest source"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(run(&["verify", "--data", &data]).status.success());
    let again = run(&demo);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    assert!(run(&["verify", "--data", &data]).status.success());
}

#[test]
fn a_signal_ends_it_and_its_worker() {
    let temporary = TempDir::new().expect("a folder");
    let data = temporary.path().join("data");
    let mut demo = program(["demo", "--events", "100000", "--kills", "10", "--seed", "5", "--data"])
        .arg(&data)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("text").starts_with("kill 1 ")), "there was no kill");
    // The next worker runs already, or starts now.
    assert!(signal(&demo, "INT"));
    lines.for_each(drop);
    assert_eq!(demo.wait().expect("it ends").code(), Some(130));
    WorkerLock::acquire(&data).expect("no worker has the folder");
}
