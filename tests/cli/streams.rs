//! Standard streams that cannot be written: without standard error, a command does its work and keeps its exit code; a
//! result that cannot be written is an error.

#![cfg(unix)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Folder, ProgramOutput, signal};

/// Maximum time of a worker to process a few records.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a stream cannot be written.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// The disk is full.
    Full,
    /// The reader of the pipe has ended.
    Unread,
    /// It was closed before the program started.
    Closed,
}

const ALL: [Broken; 3] = [Broken::Full, Broken::Unread, Broken::Closed];

impl Broken {
    fn stream(self) -> Stdio {
        match self {
            Broken::Full => File::options().write(true).open("/dev/full").expect("/dev/full is there").into(),
            Broken::Unread | Broken::Closed => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                writer.into()
            }
        }
    }

    /// The program with a broken standard error.
    fn stderr(self, folder: &Folder, arguments: &[&str]) -> Command {
        let program = folder.command(arguments);
        if let Broken::Closed = self {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" 2>&-"]).arg(program.get_program()).args(program.get_args());
            shell.current_dir(folder.path()).env_clear().stdin(Stdio::null());
            return shell;
        }
        let mut program = program;
        program.stderr(self.stream());
        program
    }
}

fn run(mut command: Command) -> ProgramOutput {
    command.output().expect("the program starts").into()
}

/// The program with a broken standard output.
fn without_stdout(broken: Broken, folder: &Folder, arguments: &str) -> ProgramOutput {
    let mut command = folder.command(arguments.split(' '));
    command.stdout(broken.stream()).stderr(Stdio::piped());
    command.spawn().expect("the program starts").wait_with_output().expect("it ends").into()
}

const GENERATE: &str = "generate --preset mixed --events 500 --sources 5 --start-ms 0 --seed 3";

#[test]
fn no_command_requires_standard_error() {
    for format in ["text", "json"] {
        for broken in ALL {
            let folder = Folder::new();
            let set = format!("log.format={format}");
            let ends = |arguments: &str, code: i32| {
                let arguments: Vec<&str> = ["--set", &set, "--set", "log.level=debug"]
                    .into_iter()
                    .chain(arguments.split(' '))
                    .collect();
                let output = run(broken.stderr(&folder, &arguments));
                assert_eq!(output.code, code, "{broken:?} {format} {arguments:?}: {output}");
                assert_eq!(output.stdout.is_empty(), code > 1, "{broken:?} {format} {arguments:?}: {output}");
                output.stdout
            };
            // Of refusals and usage errors, only the exit code remains.
            ends("run --until-end", 2);
            ends("--set window.size_ms=x config check", 2);
            ends("show evnts", 2);
            for command in ["topic create", "init", GENERATE, "topic describe", "run --until-end"] {
                ends(command, 0);
            }
            ends("topic create", 2);
            ends("--set window.threshold=5 run --until-end", 3);
            let commands = "verify|show records|show events|show alerts|show dead-letters|show progress|schema check|\
                            schema apply|schema print|config show|config check|config keys|completions bash|--help";
            for command in commands.split('|') {
                ends(command, 0);
            }
            assert!(ends("verify", 0).contains("differences   0"));
            // All records were processed.
            let lags = ends("show progress --json", 0);
            assert_eq!(lags.lines().filter(|line| line.contains("\"lag\":0")).count(), 3, "{lags}");
            let store =
                rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
            store.execute("DELETE FROM events", []).expect("rows are deleted");
            drop(store);
            ends("verify", 1);
        }
    }
}

#[test]
fn a_demonstration_does_not_require_standard_error() {
    for broken in ALL {
        let folder = Folder::new();
        let demo = "demo --events 600 --kills 1 --seed 5 --json --data data";
        let output = run(broken.stderr(&folder, &demo.split(' ').collect::<Vec<_>>()));
        assert_eq!(output.code, 0, "{broken:?}: {output}");
        assert!(output.stdout.contains("\"differences\":0"), "{broken:?}: {output}");
    }
}

/// Waits until this many records are durable.
fn wait_until_durable(folder: &Folder, records: i64) {
    let started = Instant::now();
    loop {
        let rows = folder.succeed("show progress --json");
        let rows = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let durable: i64 = rows.map(|row| row["next_offset"].as_i64().expect("an offset")).sum();
        if durable >= records {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "only {durable} records were processed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_worker_with_a_broken_standard_error_continues_and_stops_gracefully() {
    for format in ["text", "json"] {
        for broken in ALL {
            let folder = Folder::bound();
            let set = format!("log.format={format}");
            let mut command = broken.stderr(&folder, &["--set", &set, "run", "--json"]);
            let worker = command.stdout(Stdio::piped()).spawn().expect("the program starts");
            folder.append_events(0, &["{}"; 20]);
            wait_until_durable(&folder, 20);
            assert!(signal(&worker, "TERM"));
            let output = ProgramOutput::from(worker.wait_with_output().expect("it ends"));
            assert_eq!(output.code, 0, "{broken:?} {format}: {output}");
            assert!(output.stdout.contains("\"dead_letters\":20"), "{broken:?} {format}: {output}");
        }
    }
}

#[test]
fn a_worker_continues_when_the_reader_of_its_log_ends() {
    let folder = Folder::bound();
    let mut command = folder.command(["--set", "log.level=trace", "run", "--json"]);
    let mut worker =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut messages = BufReader::new(worker.stderr.take().expect("a pipe"));
    messages.read_line(&mut String::new()).expect("a message");
    drop(messages);
    folder.append_events(0, &["{}"; 20]);
    wait_until_durable(&folder, 20);
    assert!(signal(&worker, "INT"));
    let output = ProgramOutput::from(worker.wait_with_output().expect("it ends"));
    assert_eq!(output.code, 0, "{output}");
}

/// Commands that print a result, with their exit code if the reader of the result has ended.
const PRINTING: [(&str, i32); 15] = [
    ("topic describe", 0),
    ("init", 0),
    ("run --until-end", 0),
    ("verify", 0),
    ("show records", 0),
    ("show events --json", 0),
    ("show progress", 0),
    ("schema print", 0),
    ("schema check", 0),
    ("config show", 0),
    ("config keys", 0),
    ("completions bash", 0),
    ("--help", 0),
    ("--version", 0),
    ("generate --json --events-per-key 1", 141),
];

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let folder = Folder::bound();
    folder.succeed(GENERATE);
    for (command, _) in PRINTING {
        let output = without_stdout(Broken::Full, &folder, command);
        assert_eq!(output.code, 4, "{command}: {output}");
        let message = ["error: cannot write to stdout", "No space left on device"];
        assert!(message.iter().all(|message| output.stderr.contains(message)), "{command}: {output}");
    }
    // The work was done nevertheless, and standard error reports it.
    let output = without_stdout(Broken::Full, &folder, "generate --json --events-per-key 1");
    assert!(output.stderr.contains("stopped after 3 record(s) were appended"), "{output}");
    assert_eq!(folder.succeed("show records --json").lines().count(), 506);
}

#[test]
fn a_command_whose_reader_ends_is_silent_and_keeps_its_exit_code() {
    let folder = Folder::bound();
    folder.succeed(GENERATE);
    for (command, code) in PRINTING {
        let output = without_stdout(Broken::Unread, &folder, &format!("--set log.level=off {command}"));
        assert_eq!(output.code, code, "{command}: {output}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{command}: {output}");
    }
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    store.execute("DELETE FROM events", []).expect("rows are deleted");
    drop(store);
    assert_eq!(without_stdout(Broken::Unread, &folder, "verify").code, 1);
}

#[test]
fn generate_reports_how_many_records_it_appended_when_its_reader_ends() {
    for source in ["--preset mixed --events 50000", "--events-per-key 50000", "--stdin"] {
        let folder = Folder::new();
        let arguments = format!("generate --create-topic --json {source}");
        let mut command = folder.command(arguments.split(' '));
        if source == "--stdin" {
            let input = folder.path().join("input");
            std::fs::write(&input, "line\n".repeat(50_000)).expect("a file is written");
            command.stdin(File::open(input).expect("the file opens"));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        assert!(line.starts_with("{\"partition\":"), "{line}");
        let mut messages = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut messages).expect("messages");
        let output = ProgramOutput::from(child.wait_with_output().expect("it ends"));
        assert_eq!(output.code, 141, "{source}: {messages}");
        let records = folder.succeed("show records --json").lines().count();
        let message = format!("{records} record(s) were appended to topic exactlyonce.events");
        assert!(records < 50_000 && messages.contains(&message), "{source}: {records}: {messages}");
    }
}

#[test]
fn generate_without_json_appends_all_records_even_if_its_reader_ends() {
    let folder = Folder::new();
    let output =
        without_stdout(Broken::Unread, &folder, "generate --create-topic --preset mixed --events 5000");
    assert_eq!(output.code, 0, "{output}");
    assert_eq!(folder.succeed("show records --json").lines().count(), 5_000);
}
