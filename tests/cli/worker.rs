//! A worker as a process: its lock, its signals, its deadline.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use rusqlite::Connection;

use crate::harness::{Folder, ProgramOutput, assert_output, signal};

/// A worker that runs until it is stopped.
struct Worker {
    child: Option<Child>,
    messages: BufReader<ChildStderr>,
}

impl Worker {
    fn start(folder: &Folder, arguments: &str) -> Self {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut command = folder.command(&arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let messages = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        Self { child: Some(child), messages }
    }

    fn id(&self) -> u32 {
        self.child.as_ref().expect("the worker runs").id()
    }

    /// Reads messages up to one that contains this text.
    fn wait_for(&mut self, message: &str) {
        let mut read = String::new();
        loop {
            let before = read.len();
            self.messages.read_line(&mut read).expect("messages are UTF-8");
            assert!(read.len() > before, "the worker ended without {message:?}: {read}");
            if read[before..].contains(message) {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        assert!(signal(self.child.as_ref().expect("the worker runs"), name));
    }

    /// Waits for its end: exit code and stdout.
    fn end(mut self) -> (Option<i32>, String) {
        // Reads the remaining messages, so that a full pipe does not block the worker.
        std::io::copy(&mut self.messages, &mut std::io::sink()).expect("messages can be read");
        let output = self.child.take().expect("the worker runs").wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_second_worker_is_refused_with_the_process_id_of_the_first_one() {
    let folder = Folder::bound();
    let mut first = Worker::start(&folder, "run");
    first.wait_for("assigned");
    let second = folder.run("run --until-end");
    assert!(second.stderr.contains(&format!("process {}", first.id())), "{second}");
    assert_output!(&folder, "run-locked", second);
    // Reading is allowed.
    folder.succeed("show progress");
    first.signal("KILL");
    first.end();
    // The lock of a killed worker is released.
    folder.succeed("--set log.level=off run --until-end");
}

/// Sends a signal to a worker that has processed no records; it exits with code 0 and prints its summary.
fn assert_stops_gracefully(worker: Worker, name: &str) {
    worker.signal(name);
    let (code, stdout) = worker.end();
    assert_eq!(code, Some(0), "{name}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(summary["records"], 0, "{name}");
}

#[test]
fn a_signal_stops_a_worker_gracefully() {
    for name in ["INT", "TERM"] {
        let folder = Folder::bound();
        let mut worker = Worker::start(&folder, "run --json");
        worker.wait_for("assigned");
        assert_stops_gracefully(worker, name);
    }
}

#[cfg(feature = "kafka")]
#[test]
fn a_signal_stops_a_worker_gracefully_while_it_waits_for_services() {
    for name in ["INT", "TERM"] {
        let folder = Folder::bound();
        // Port 1 of the loopback interface, on which nothing listens.
        let mut worker = Worker::start(
            &folder,
            "--set broker.kind=kafka --set kafka.bootstrap_servers=127.0.0.1:1 run --json",
        );
        worker.wait_for("service unavailable; retrying");
        assert_stops_gracefully(worker, name);
    }
}

/// Begins a transaction that blocks all other writes to the store.
fn blocked(folder: &Folder) -> Connection {
    let connection = Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    connection.execute_batch("BEGIN IMMEDIATE").expect("the store is free");
    connection
}

#[test]
fn a_second_sigterm_ends_a_worker_immediately() {
    second_signal("TERM", 143);
}

#[test]
fn a_second_sigint_ends_a_worker_immediately() {
    second_signal("INT", 130);
}

fn second_signal(name: &str, code: i32) {
    let folder = Folder::bound();
    let mut worker = Worker::start(&folder, "--set pipeline.stop_deadline_ms=30000 run");
    worker.wait_for("assigned");
    // A write in flight that does not end keeps the worker from stopping gracefully.
    let blocked = blocked(&folder);
    folder.append_events(0, &["{}"]);
    worker.wait_for("WARN");
    worker.signal(name);
    worker.wait_for("stopping gracefully");
    worker.signal(name);
    assert_eq!(worker.end(), (Some(code), String::new()), "{name}");
    drop(blocked);
    let summary = folder.succeed("--set log.level=off run --until-end");
    assert!(summary.starts_with("records       1\n"), "{summary}");
}

#[test]
fn a_worker_gives_up_when_the_store_does_not_respond_before_the_deadline() {
    let folder = Folder::bound();
    folder.append_events(0, &["{}"]);
    let blocked = blocked(&folder);
    let output = folder.run("--set pipeline.retry_deadline_ms=1 --set log.level=off run --until-end");
    assert_eq!(output.code, 4, "{output}");
    assert!(output.stderr.starts_with("error: could not "), "{output}");
    drop(blocked);
    let summary = folder.succeed("--set log.level=off run --until-end");
    assert!(summary.starts_with("records       1\n"), "{summary}");
}

#[test]
fn messages_are_json_if_configured() {
    let folder = Folder::bound();
    let output: ProgramOutput = folder.run("--set log.format=json run --until-end");
    assert!(!output.stderr.is_empty());
    for line in output.stderr.lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(message["message"].is_string(), "{line}");
    }
}
