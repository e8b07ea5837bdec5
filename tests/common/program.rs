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
pub struct Said {
    /// The exit code, or as shells have it 128 and the number of the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Said { code: code(output.status), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The exit code as [`Said`] has it.
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

/// Sends a signal (`TERM`) to a child; true if it was still there to get it.
pub fn signal(child: &Child, name: &str) -> bool {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    sent.expect("kill runs").success()
}

/// The most lines of a log that a failed test prints.
const LINES: usize = 40;

/// A working folder of its own, removed at the end, and the program in it. If the test fails, the ends of the logs of
/// its processes are printed.
pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// With this configuration.
    pub fn configured(configuration: &str) -> Self {
        let workplace = Self::new();
        fs::write(workplace.path().join("exactlyonce.toml"), configuration).expect("a file is written");
        workplace
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

    /// Runs the program with arguments that have no spaces in them.
    pub fn run(&self, arguments: &str) -> Said {
        self.command(arguments.split(' ')).output().expect("the program starts").into()
    }

    /// Runs the program, which must end with exit code 0.
    pub fn fine(&self, arguments: &str) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments}: {said}");
        said.stdout
    }

    /// Starts the program. What it prints is appended to the log of this name: a pipe that nobody reads would fill up
    /// and stop it.
    pub fn start<A: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let log = self.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log is opened");
        let mut command = self.command(arguments);
        command.stdout(file.try_clone().expect("a handle is duplicated")).stderr(file);
        Process { child: command.spawn().expect("the program starts"), log }
    }

    /// Records that are done, over all partitions, as `show progress` with these options has them; none if it fails.
    pub fn done(&self, options: &str) -> Option<i64> {
        let said = self.run(format!("{options} show progress --json").trim_start());
        let rows = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let done = rows.map(|row: serde_json::Value| row["next_offset"].as_i64().expect("an offset")).sum();
        (said.code == 0).then_some(done)
    }
}

impl Drop for Workplace {
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

/// The program at work. It does not outlive the test.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The exit code, as [`Said`] has it, of a process that has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child can be waited for").map(code)
    }

    /// The same, if it ends in time.
    pub fn ends_within(&mut self, most: Duration) -> Option<i32> {
        let deadline = Instant::now() + most;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, whenever that is; answers the exit code.
    pub fn wait(&mut self) -> i32 {
        code(self.child.wait().expect("a child can be waited for"))
    }

    /// SIGKILL, if it has not ended before; answers the exit code.
    pub fn kill(&mut self) -> i32 {
        self.child.kill().expect("a child can be killed");
        self.wait()
    }

    /// Sends a signal (`TERM`); true if it was still there to get it.
    pub fn signal(&self, name: &str) -> bool {
        signal(&self.child, name)
    }

    /// All of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Removes its log, which is of no use any more.
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
        // Gone already, if it was killed or has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
