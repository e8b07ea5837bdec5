//! Clients and suites that were not written for this, on three brokers that a process of its own serves: confluent-kafka,
//! franz-go's tests, librdkafka's tests, Apache's tools. Each set-up fetches what it needs by the ordinary tool of its
//! language and keeps it in the target directory. docs/clients.md has the results.

mod go;
mod java;
mod librdkafka;
mod python;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The program that serves the brokers.
struct Brokers {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
    /// Of the first broker.
    address: String,
}

impl Brokers {
    fn start() -> Brokers {
        Brokers::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Brokers {
        let mut process = Command::new(env!("CARGO_BIN_EXE_simulated-kafka"))
            .args(["--port", "0", "--set", "num.partitions=4"])
            .args(arguments)
            .env_remove("SIMULATED_KAFKA_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let commands = process.stdin.take().expect("a pipe");
        let mut responses = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut first = String::new();
        responses.read_line(&mut first).expect("a line");
        let address = first.trim().rsplit(' ').next().expect("an address").to_owned();
        Brokers { process, commands, responses, address }
    }

    /// Sends the brokers a command and returns the response.
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").and_then(|()| self.commands.flush()).expect("it reads");
        let mut response = String::new();
        self.responses.read_line(&mut response).expect("it responds");
        response.trim().to_owned()
    }

    /// Ends the program.
    fn end(mut self) {
        assert_eq!(self.ask("exit"), "ok");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Brokers {
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

/// A folder in the target directory that is kept between runs.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Runs a command to its end, within a time, and returns what it printed.
fn run(command: &mut Command, longest: Duration) -> String {
    let shown = format!("{command:?}");
    let output = folder("kafka-clients-output").join(format!("{}-{:?}", std::process::id(), Instant::now()));
    let file = File::create(&output).expect("a file");
    let errors = file.try_clone().expect("a file");
    let process = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
    let mut client = Client(process.unwrap_or_else(|error| panic!("{shown}: {error}")));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = client.0.try_wait().expect("it can be asked") {
            break Some(status);
        }
        if start.elapsed() > longest {
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    drop(client);
    let said = String::from_utf8_lossy(&fs::read(&output).expect("what it printed")).into_owned();
    let _ = fs::remove_file(&output);
    match status {
        Some(status) => assert!(status.success(), "{shown}: {status}\n{said}"),
        None => panic!("{shown}: not ended after {longest:?}\n{said}"),
    }
    said
}
