//! Processes: the program that serves, and clients.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A program that serves a simulated cluster. It is killed when this is dropped.
pub struct Served {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
    /// Of the first broker or node.
    pub address: String,
}

impl Served {
    /// Starts it, and waits until it serves clients.
    pub fn start(program: &mut Command) -> Self {
        let mut process =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let commands = process.stdin.take().expect("a pipe");
        let mut responses = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut first = String::new();
        responses.read_line(&mut first).expect("a line");
        let address = first.trim().rsplit(' ').next().expect("an address").to_owned();
        Self { process, commands, responses, address }
    }

    /// Sends it a command and returns the response.
    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").and_then(|()| self.commands.flush()).expect("it reads");
        let mut response = String::new();
        self.responses.read_line(&mut response).expect("it responds");
        response.trim().to_owned()
    }

    /// Ends it.
    pub fn end(mut self) {
        assert_eq!(self.ask("exit"), "ok");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already, if all succeeded.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client's process, which does not outlive the test.
pub struct Client(pub Child);

impl Drop for Client {
    fn drop(&mut self) {
        // Gone already, if all succeeded.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder in the target directory that is kept between runs.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Runs a command to its end, within a time, and returns what it printed.
///
/// # Panics
/// If it fails or takes longer.
pub fn run(command: &mut Command, longest: Duration) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let shown = format!("{command:?}");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let output = folder("clients-output").join(format!("{}-{number}", std::process::id()));
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
