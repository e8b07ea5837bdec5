//! The program as a process: its command, what it printed, and its signals.

// Each binary of tests uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fmt;
use std::process::{Child, Command, Output, Stdio};

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
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        #[cfg(not(unix))]
        let signal = None;
        let code = output.status.code().or(signal.map(|signal: i32| 128 + signal));
        Said {
            code: code.expect("the process ended"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
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
