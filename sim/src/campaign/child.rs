//! A child process with an input and an output, and a limited time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Bytes of standard error that are kept: the last ones.
const STDERR: usize = 64 << 10;

/// Bytes of standard output that are read: the first ones. A report has some ten thousands.
const STDOUT: u64 = 256 << 20;

/// Time between two looks whether a process has ended that has closed its standard output.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// How long pipes may stay open after their process has ended: another process may have inherited them.
const PIPES_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no report of a child process.
#[derive(Debug, Error)]
pub(super) enum ChildError {
    #[error("the scenario cannot be written as JSON")]
    Input(#[source] serde_json::Error),
    #[error("{program} cannot be run")]
    Run { program: PathBuf, source: io::Error },
    /// `signal: 11 (SIGSEGV)` or `exit status: 1`.
    #[error("{0}")]
    Ended(ExitStatus),
    #[error("killed, because it has not ended within {0:?}")]
    Late(Duration),
    #[error("the output is not a report")]
    Report(#[source] serde_json::Error),
}

/// A child process that has ended.
pub(super) struct Ended {
    /// What it wrote to its standard output, if it ended with exit code 0 in time.
    pub output: Result<Vec<u8>, ChildError>,
    /// The end of what it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Runs a program with one argument until it ends, or until its time is over. Then it is killed.
///
/// # Errors
/// If it cannot be started, or the system does not say how it ended.
pub(super) fn run(
    program: &Path,
    argument: &str,
    input: Vec<u8>,
    time_limit: Duration,
) -> Result<Ended, ChildError> {
    let of = |source| ChildError::Run { program: program.to_owned(), source };
    let deadline = Instant::now() + time_limit;
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(of)?);
    if let Some(mut stdin) = child.0.stdin.take() {
        // How a process ends that does not read all of it is judged below.
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = received(child.0.stdout.take(), |pipe| {
        let mut output = Vec::new();
        pipe.take(STDOUT).read_to_end(&mut output).map(|_| output)
    });
    let stderr = received(child.0.stderr.take(), |mut pipe| {
        let mut tail = Tail::default();
        io::copy(&mut pipe, &mut tail).map(|_| tail.0.into())
    });
    // A process that ends closes its output, so this does not poll for as long as the run takes.
    let output = stdout.recv_timeout(time_limit);
    let status = child.status(deadline).map_err(of)?;
    let stderr = stderr.recv_timeout(PIPES_LIMIT).unwrap_or_default();
    let output = match status {
        None => Err(ChildError::Late(time_limit)),
        Some(status) if !status.success() => Err(ChildError::Ended(status)),
        Some(_) => Ok(output.unwrap_or_default()),
    };
    Ok(Ended { output, stderr })
}

/// Reads a pipe in a thread, which ends when the pipe is closed. What cannot be read counts as empty.
fn received<P: Read + Send + 'static>(
    pipe: Option<P>,
    read: impl FnOnce(P) -> io::Result<Vec<u8>> + Send + 'static,
) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = pipe {
        // Nobody receives it any more if the process has been ended for long.
        thread::spawn(move || sender.send(read(pipe).unwrap_or_default()));
    }
    receiver
}

/// A process that does not outlive this value.
struct Running(Child);

impl Running {
    /// How it ended; `None` if it had not by the deadline, and was killed.
    fn status(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                self.0.kill()?;
                self.0.wait()?;
                return Ok(None);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last bytes that are written to it.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend(bytes);
        self.0.drain(..self.0.len().saturating_sub(STDERR));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_the_last_bytes() {
        let mut tail = Tail::default();
        for number in 0..=STDERR {
            tail.write_all(&[(number % 251) as u8]).expect("it takes everything");
        }
        assert_eq!((tail.0.len(), tail.0.front()), (STDERR, Some(&1)));
        tail.write_all(&[7; STDERR + 9]).expect("it takes everything");
        assert!(tail.0.len() == STDERR && tail.0.iter().all(|byte| *byte == 7));
    }
}
