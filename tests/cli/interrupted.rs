//! Signals that end a demonstration leave neither files nor processes behind.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Folder, signal};

/// Starts a demonstration in a new process group, and waits until its worker runs.
fn started(
    folder: &Folder,
    temporary: &TempDir,
) -> (Child, std::io::Lines<BufReader<std::process::ChildStderr>>) {
    let mut command = folder.command(["demo", "--events", "100000", "--kills", "10", "--seed", "5"]);
    command.env("TMPDIR", temporary.path()).stderr(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut demo = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("text").starts_with("working:")), "no worker was started");
    (demo, lines)
}

/// Processes whose command line names this folder.
fn processes(temporary: &TempDir) -> usize {
    let folder = temporary.path().to_str().expect("UTF-8");
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    let lines = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
}

#[test]
fn every_signal_that_ends_a_demonstration_also_ends_its_worker_and_removes_its_folder() {
    for (name, code) in [("HUP", 129), ("INT", 130), ("QUIT", 131), ("TERM", 143)] {
        for to_group in [false, true] {
            let (folder, temporary) = (Folder::new(), TempDir::new().expect("a folder"));
            let (mut demo, lines) = started(&folder, &temporary);
            assert_eq!(processes(&temporary), 1, "the worker");
            // A terminal sends a signal to the whole group.
            match to_group {
                false => assert!(signal(&demo, name)),
                true => {
                    let group = format!("-{}", demo.id());
                    let sent = Command::new("kill").args([&format!("-{name}"), "--", &group]).status();
                    assert!(sent.expect("kill runs").success());
                }
            }
            let messages: Vec<String> = lines.map(|line| line.expect("text")).collect();
            let ended = demo.wait().expect("it ends");
            assert_eq!(ended.code(), Some(code), "{name}: {messages:?}");
            assert_eq!(
                messages.last().map(String::as_str),
                Some(format!("error: ended by SIG{name}").as_str())
            );
            assert_eq!(
                std::fs::read_dir(temporary.path()).expect("a folder").count(),
                0,
                "{name}: a file is left"
            );
            assert_eq!(processes(&temporary), 0, "{name}: a process is left");
        }
    }
}

#[test]
fn a_hangup_that_is_ignored_does_not_end_a_demonstration() {
    let (folder, temporary) = (Folder::new(), TempDir::new().expect("a folder"));
    let demo = folder.command(["demo", "--events", "20000", "--kills", "1", "--seed", "5"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(demo.get_program()).args(demo.get_args());
    shell.env_clear().env("TMPDIR", temporary.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut demo = shell.spawn().expect("the program starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("text").starts_with("working:")), "no worker was started");
    assert!(signal(&demo, "HUP"));
    lines.for_each(drop);
    assert_eq!(demo.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_demonstration_whose_reader_ended_leaves_nothing_behind() {
    let (folder, temporary) = (Folder::new(), TempDir::new().expect("a folder"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = folder.command(["demo", "--events", "600", "--kills", "1", "--seed", "5"]);
    command.env("TMPDIR", temporary.path()).stdout(writer).stderr(Stdio::null());
    let status = command.status().expect("the program starts");
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).expect("a folder").count(), 0);
}
