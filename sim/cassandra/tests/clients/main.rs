//! Clients that were not written for this: cqlsh, the Python driver and gocql, on three nodes that a process of its own
//! serves.

mod go;
mod program;
mod python;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use python::Environment;

/// The longest that a client may take.
const TIMEOUT: Duration = Duration::from_secs(180);

/// One makes the environment, the others wait.
fn environment() -> Environment {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    Environment::prepare().unwrap_or_else(|reason| panic!("{reason}"))
}

/// The program that serves the nodes.
struct Nodes {
    process: Child,
    commands: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
    port: String,
}

impl Nodes {
    fn start(arguments: &[&str]) -> Nodes {
        let mut process = Command::new(env!("CARGO_BIN_EXE_simulated-cassandra"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let commands = process.stdin.take();
        let mut responses = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut first = String::new();
        responses.read_line(&mut first).expect("a line");
        let port = first.trim().rsplit(':').next().expect("an address").to_owned();
        Nodes { process, commands, responses, port }
    }

    /// Sends the nodes a command and returns the response.
    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("it runs");
        writeln!(commands, "{command}").and_then(|()| commands.flush()).expect("it reads");
        let mut response = String::new();
        self.responses.read_line(&mut response).expect("it responses");
        response.trim().to_owned()
    }

    /// Ends the program.
    fn end(mut self) {
        assert_eq!(self.ask("exit"), "ok");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // Gone already, if all succeeded.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client's process, which does not outlive the test.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs Python and the network"]
fn the_python_driver_reads_metadata_writes_batches_pages_and_survives_killed_nodes() {
    let environment = environment();
    let mut nodes = Nodes::start(&["--port", "0"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/driver.py");
    let process = environment
        .command("python")
        .arg(script)
        .args(["127.0.0.1", &nodes.port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut client = Client(process);
    let mut responses = client.0.stdin.take().expect("a pipe");
    let lines = BufReader::new(client.0.stdout.take().expect("a pipe")).lines();
    let mut checked = 0;
    for line in lines {
        let line = line.expect("text");
        println!("{line}");
        if let Some(command) = line.strip_prefix("DO ") {
            let response = nodes.ask(command);
            // A script that has failed reads no response; its exit status shows it.
            let _ = writeln!(responses, "{response}").and_then(|()| responses.flush());
        }
        checked += usize::from(line.starts_with("checked: "));
    }
    let status = client.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(checked, 8, "a part of the script was left out");
    nodes.end();
}

#[test]
#[ignore = "needs Python and the network"]
fn cqlsh_describes_reads_writes_and_copies() {
    let environment = environment();
    let nodes = Nodes::start(&["--port", "0"]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cqlsh-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/session.cql");
    let output = folder.join("output.txt");
    let process = environment
        .command("cqlsh")
        .args(["--no-color", "127.0.0.1", &nodes.port, "-f"])
        .arg(script)
        .current_dir(&folder)
        // Neither the user's settings nor a terminal decide what is printed.
        .env("HOME", &folder)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).expect("a file"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("cqlsh starts");
    let mut client = Client(process);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = client.0.try_wait().expect("it can be asked") {
            break status;
        }
        assert!(start.elapsed() < TIMEOUT, "cqlsh does not end");
        std::thread::sleep(Duration::from_millis(50));
    };
    let complaints = client.0.stderr.take().map(std::io::read_to_string).expect("a pipe").expect("text");
    let said = std::fs::read_to_string(&output).expect("what cqlsh said");
    assert!(status.success(), "{status}: {complaints}\n{said}");
    assert_eq!(complaints, "", "{said}");
    let mut rest = said.as_str();
    for expected in include_str!("session.txt").lines() {
        let Some(place) = rest.find(expected) else {
            panic!("'{expected}' is missing after the lines before it in\n{said}")
        };
        rest = &rest[place + expected.len()..];
    }
    let _ = std::fs::remove_dir_all(&folder);
    nodes.end();
}

#[test]
fn commands_on_standard_input_end_pause_and_start_nodes_and_wrong_ones_are_refused_by_name() {
    let mut nodes = Nodes::start(&["--port", "0", "--nodes", "2"]);
    assert_eq!(nodes.ask("status"), "ok: running 1 2");
    assert_eq!(nodes.ask("kill 2"), "ok");
    assert_eq!(nodes.ask("kill 2"), "error: node 2 does not run");
    assert_eq!(nodes.ask("status"), "ok: running 1");
    assert_eq!(nodes.ask("start 2"), "ok");
    assert_eq!(nodes.ask("start 2"), "error: node 2 runs already");
    assert_eq!(nodes.ask("power-loss 1"), "ok");
    assert_eq!(nodes.ask("start 1"), "ok");
    assert_eq!(nodes.ask("pause 1"), "ok");
    assert_eq!(nodes.ask("resume 1"), "ok");
    assert_eq!(nodes.ask("stop 1"), "ok");
    assert_eq!(nodes.ask("kill 3"), "error: no node 3");
    assert_eq!(nodes.ask("kill 0"), "error: no node 0");
    assert_eq!(nodes.ask("kill x"), "error: 'x' is not a node: nodes are numbered from 1");
    assert_eq!(nodes.ask("kill"), "error: kill requires one node");
    let unknown = nodes.ask("destroy 1");
    let known = "kill, power-loss, stop, pause, start, resume, status and exit";
    assert_eq!(unknown, format!("error: unknown command 'destroy'; the commands are {known}"));
    assert_eq!(nodes.ask("exit 1"), "error: exit has no arguments");
    assert_eq!(nodes.ask("status 1"), "error: status has no arguments");
    assert_eq!(nodes.ask(&"x".repeat(5000)), "error: a command of more than 1024 bytes");
    assert_eq!(nodes.ask("status"), "ok: running 2");
    nodes.end();
}

#[test]
fn the_help_has_every_command_with_what_it_does() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_simulated-cassandra")).arg("--help").output().expect("it starts");
    let help = String::from_utf8_lossy(&output.stdout);
    let commands: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("Commands on")).collect();
    assert_eq!(
        commands,
        [
            "Commands on standard input, which may be closed or empty:",
            "  kill NODE        end its process: the commit log reaches the disk, hints in memory do not",
            "  power-loss NODE  end its process, and lose what was not synced",
            "  stop NODE        end its process gracefully",
            "  pause NODE       stop it as SIGSTOP does",
            "  start NODE       start it again on its disk, and wait until the others see it",
            "  resume NODE      let it continue",
            "  status           the nodes that run",
            "  exit             end the program",
        ]
    );
}

#[test]
fn wrong_options_end_the_program_with_code_2_and_name_the_option() {
    for (arguments, expected) in [
        (vec!["--nodes", "many"], "invalid value 'many' for '--nodes <N>'"),
        (vec!["--port"], "a value is required for '--port <PORT>'"),
        (vec!["--fast"], "unexpected argument '--fast' found"),
        (
            vec!["--log", "loud"],
            "invalid value 'loud' for '--log <LEVEL>': it must be off, error, warn, info, debug or trace",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_simulated-cassandra"))
            .args(&arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
}
