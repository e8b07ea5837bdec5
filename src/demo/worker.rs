//! The worker: a process that is started, watched by the progress it stores, and killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::tables::{Tables, durable};
use super::{DemoError, KillPoint, Options};
use crate::config::keys::PREFIX;

/// Interval between two reads of progress.
const READ_INTERVAL: Duration = Duration::from_millis(3);

/// The file in the folder with the workers' messages.
const MESSAGES: &str = "worker.log";

/// Number of bytes at the end of that file that an error shows.
const SHOWN: u64 = 2_000;

/// How to start a worker. Its messages go to `worker.log` in the folder. It does not inherit the
/// environment variables of the configuration: everything must be set by arguments.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ended with success: it reached the log's end.
    ByItself,
    /// This process killed it.
    Killed,
}

/// Runs a worker until it ends or is killed at `kill_point`, but not before it has stored more than `stored_before`
/// records. While it runs it is in `slot`, so that the caller can kill it after dropping this future.
pub(super) async fn run(
    options: &Options,
    slot: &mut Option<Child>,
    stored_before: u64,
    kill_point: Option<KillPoint>,
    mut stored_now: impl FnMut(u64),
) -> Result<Ended, DemoError> {
    let messages = options.folder.join(MESSAGES);
    let child = slot.insert(start(&options.worker, &messages)?);
    let until_kill = async {
        let tables = Tables::open(options)?;
        loop {
            let stored = durable(&tables.progress().await?);
            stored_now(stored);
            if kill_point.is_some_and(|kill_point| kill_point.stored.max(stored_before + 1) <= stored) {
                break;
            }
            sleep(READ_INTERVAL).await;
        }
        // Closed before the kill, so that the killed worker is the last process that had the file open, and the next
        // one has to recover it.
        drop(tables);
        sleep(kill_point.map_or(Duration::ZERO, |kill_point| kill_point.delay)).await;
        Ok::<_, DemoError>(())
    };
    let (status, killed) = tokio::select! {
        biased;
        status = child.wait() => (status, false),
        watched = until_kill => {
            watched?;
            child.start_kill().map_err(|source| DemoError::Worker { what: "kill", source })?;
            (child.wait().await, true)
        }
    };
    *slot = None;
    let status = status.map_err(|source| DemoError::Worker { what: "wait for", source })?;
    match status {
        // It may have ended successfully just before the kill.
        status if status.success() => Ok(Ended::ByItself),
        status if killed && was_killed(status) => Ok(Ended::Killed),
        status => Err(DemoError::WorkerFailed { status, messages: tail(&messages) }),
    }
}

fn start(worker: &Worker, messages: &Path) -> Result<Child, DemoError> {
    let failed = |source| DemoError::Worker { what: "start", source };
    let messages = File::options().create(true).append(true).open(messages).map_err(failed)?;
    let mut command = Command::new(&worker.program);
    command.args(&worker.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(PREFIX) {
            command.env_remove(name);
        }
    }
    // A signal of the terminal goes to its whole process group; only this process may end the worker.
    #[cfg(unix)]
    command.process_group(0);
    command.kill_on_drop(true).spawn().map_err(failed)
}

#[cfg(unix)]
fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGKILL)
}

#[cfg(not(unix))]
fn was_killed(status: ExitStatus) -> bool {
    // The exit code of a terminated process; one that failed has 2 or more.
    status.code() == Some(1)
}

/// The last messages, or why they cannot be read.
fn tail(messages: &Path) -> String {
    let read = || {
        let length = fs::metadata(messages)?.len();
        let mut file = File::open(messages)?;
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        std::io::Result::Ok(String::from_utf8_lossy(&end).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("({}: {error})", messages.display()))
}
