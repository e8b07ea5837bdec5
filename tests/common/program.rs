//! The program as a process: its command, what it printed, its signals, and a folder to run it in.

// Each binary of tests uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The exit code and the output of the program.
pub struct ProgramOutput {
    /// The exit code; if a signal ended the program, 128 plus its number, as in shells.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for ProgramOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl From<Output> for ProgramOutput {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        ProgramOutput { code: code(output.status), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The exit code as in [`ProgramOutput::code`].
fn code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    status.code().or(signal.map(|signal: i32| 128 + signal)).expect("the process ended")
}

/// The program, with arguments, nothing from the environment, and no input.
pub fn program<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exactlyonce"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Sends a signal (such as `TERM`) to a child; true if the child was still running.
pub fn signal(child: &Child, name: &str) -> bool {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    sent.expect("kill runs").success()
}

/// Maximum number of lines of a log that a failed test prints.
const LINES: usize = 40;

/// A temporary working folder in which the program runs, removed at the end. If the test fails, the ends of the logs of
/// its processes are printed.
pub struct WorkFolder(TempDir);

impl WorkFolder {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// A folder with this configuration file.
    pub fn configured(configuration: &str) -> Self {
        let folder = Self::new();
        fs::write(folder.path().join("exactlyonce.toml"), configuration).expect("a file is written");
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The folder of the embedded services.
    pub fn data(&self) -> PathBuf {
        self.path().join("exactlyonce-data")
    }

    /// The program, with arguments.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = program(arguments);
        command.current_dir(self.path());
        command
    }

    /// Runs the program with these arguments, separated by spaces.
    pub fn run(&self, arguments: &str) -> ProgramOutput {
        self.command(arguments.split(' ')).output().expect("the program starts").into()
    }

    /// Runs the program, which must exit with code 0.
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, 0, "{arguments}: {output}");
        output.stdout
    }

    /// Starts the program. Its output is appended to the log of this name, because a pipe that is not read would fill
    /// up and block it.
    pub fn start<A: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let log = self.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log is opened");
        let mut command = self.command(arguments);
        command.stdout(file.try_clone().expect("a handle is duplicated")).stderr(file);
        Process { child: command.spawn().expect("the program starts"), log }
    }

    /// The number of durable records over all partitions, from `show progress` with these options; `None` if it fails.
    pub fn durable_records(&self, options: &str) -> Option<i64> {
        let output = self.run(format!("{options} show progress --json").trim_start());
        let rows = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let records =
            rows.map(|row: serde_json::Value| row["next_offset"].as_i64().expect("an offset")).sum();
        (output.code == 0).then_some(records)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let files = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = files.map(|file| file.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for log in logs {
            eprintln!("\n---- the end of {}:\n{}", log.display(), tail(&log));
        }
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A running process of the program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The exit code, as in [`ProgramOutput::code`], if the process has ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child can be waited for").map(code)
    }

    /// The exit code, if the process ends in time.
    pub fn exit_code_within(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.exit_code();
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it ends; returns the exit code.
    pub fn wait(&mut self) -> i32 {
        code(self.child.wait().expect("a child can be waited for"))
    }

    /// Kills it, unless it has ended before; returns the exit code.
    pub fn kill(&mut self) -> i32 {
        self.child.kill().expect("a child can be killed");
        self.wait()
    }

    /// Sends a signal (such as `TERM`); true if the process was still running.
    pub fn signal(&self, name: &str) -> bool {
        signal(&self.child, name)
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Removes its log.
    pub fn remove_log(&self) {
        fs::remove_file(&self.log).expect("a log is removed");
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
