//! Clients that were not written for this: cqlsh, the Python driver and gocql, on three nodes that a process of its own
//! serves.

#[path = "../../../../tests/common/clients/mod.rs"]
mod clients;
mod go;
mod program;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clients::python::Environment;
use clients::{Client, Served, folder};

/// The longest that a client may take.
const TIMEOUT: Duration = Duration::from_secs(180);

fn environment() -> Environment {
    Environment::prepare("cassandra-clients", include_str!("requirements.txt"))
}

/// Three nodes, or what the arguments say.
fn nodes(arguments: &[&str]) -> Served {
    Served::start(
        Command::new(env!("CARGO_BIN_EXE_simulated-cassandra")).args(["--port", "0"]).args(arguments),
    )
}

/// The port of all nodes.
fn port(nodes: &Served) -> String {
    nodes.address.rsplit(':').next().expect("a port").to_owned()
}

#[test]
#[ignore = "needs Python and the network"]
fn the_python_driver_reads_metadata_writes_batches_pages_and_survives_killed_nodes() {
    let environment = environment();
    let mut nodes = nodes(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/driver.py");
    let port = port(&nodes);
    let checked = environment.run_script(&script, &["127.0.0.1", &port], |command| nodes.ask(command));
    assert_eq!(checked, 8, "a part of the script was left out");
    nodes.end();
}

#[test]
#[ignore = "needs Python and the network"]
fn cqlsh_describes_reads_writes_and_copies() {
    let environment = environment();
    let nodes = nodes(&[]);
    let folder = folder(&format!("cqlsh-{}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/session.cql");
    let output = folder.join("output.txt");
    let process = environment
        .command("cqlsh")
        .args(["--no-color", "127.0.0.1", &port(&nodes), "-f"])
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
    let mut nodes = nodes(&["--nodes", "2"]);
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
