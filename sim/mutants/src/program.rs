//! The simulation's program, as this one runs it: with a mutant or without.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use thiserror::Error;

use crate::combine::VARIABLE;
use crate::processor::Usage;
use crate::statistics::{Found, Search};

/// A program that finishes no seed within this time of a processor runs for ever; the slowest seed takes some seconds.
pub const BUSY: Duration = Duration::from_secs(120);

/// One that uses none waits for ever, after this many times that time.
const WAITING: u32 = 10;

/// What it is called when a run does not end, or ends the whole program.
const ENDLESS: &str = "does not end";
const CRASHED: &str = "crashed";

/// The simulation cannot be run, or prints what it must not.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum ProgramError {
    #[error("{path} cannot be run")]
    Run { path: PathBuf, source: io::Error },
    #[error("{arguments} ended with {status}: {stderr}")]
    Status { arguments: String, status: ExitStatus, stderr: String },
    #[error("{arguments} printed something else than a campaign")]
    Output { arguments: String, source: serde_json::Error },
    #[error("{path} is not a scenario")]
    Scenario { path: PathBuf, source: toml::de::Error },
    #[error("seed {seed} of {world} has no violation when it is reduced")]
    NoViolation { world: String, seed: u64 },
}

/// The program, of one mutant or unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its executable.
    pub path: &'a Path,
    /// The mutant; `None` for the unchanged pipeline.
    pub mutant: Option<&'a str>,
    /// The profile that scenarios are drawn with.
    pub profile: &'a str,
    /// Where it leaves the scenarios of failures.
    pub failures: &'a Path,
    /// A run that uses this much of a processor and finishes no seed is endless.
    pub busy: Duration,
}

/// What a campaign prints as JSON.
#[derive(Debug, Deserialize)]
pub struct Campaign {
    /// Number of seeds that were run.
    pub runs: u64,
    /// The first failure, in a campaign that ends there.
    pub first: Option<Failure>,
    /// All failures.
    pub failures: Vec<Failure>,
}

/// A failed run.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The name of the violation.
    pub violation: String,
}

/// The smallest scenario that was found.
#[derive(Debug, Deserialize)]
struct Scenario {
    #[serde(default)]
    fault: Vec<toml::Value>,
    #[serde(default)]
    record: Vec<toml::Value>,
}

/// The size of a reduced scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of records.
    pub records: usize,
    /// Number of faults.
    pub faults: usize,
}

impl Program<'_> {
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(self.path);
        command.args(arguments).env(VARIABLE, self.mutant.unwrap_or_default()).stdin(Stdio::null());
        command
    }

    /// Plays seeds from `start` on until one fails.
    ///
    /// # Errors
    /// If the program does something else.
    pub fn search(&self, world: &str, start: u64, limit: u64, jobs: usize) -> Result<Search, ProgramError> {
        let Ran { seconds, result } = self.campaign(world, start..start + limit, jobs, true)?;
        let found = match result {
            Ok(campaign) => campaign.first.map(|first| Found {
                seed: first.seed,
                violation: first.violation,
                seeds: first.seed - start + 1,
            }),
            Err(Broken { runs, violation }) => {
                Some(Found { seed: start + runs, violation: violation.to_owned(), seeds: runs + 1 })
            }
        };
        Ok(Search { start, found, seconds })
    }

    /// Plays seeds; until one fails, or all of them.
    ///
    /// # Errors
    /// If the program does something else.
    pub fn campaign(
        &self,
        world: &str,
        seeds: std::ops::Range<u64>,
        jobs: usize,
        until_first: bool,
    ) -> Result<Ran, ProgramError> {
        let mut arguments: Vec<String> =
            ["campaign", "--json", "--world", world, "--profile", self.profile].map(str::to_owned).into();
        arguments.extend(["--seeds".to_owned(), format!("{}..{}", seeds.start, seeds.end)]);
        arguments.extend(["--jobs".to_owned(), jobs.to_string()]);
        arguments.extend(["--failures".to_owned(), self.failures.to_string_lossy().into_owned()]);
        arguments.extend(until_first.then(|| "--first".to_owned()));
        let mut command = self.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let of = |source| ProgramError::Run { path: self.path.to_owned(), source };
        let mut child = command.spawn().map_err(of)?;
        let usage = Usage::new(child.id());
        let watched = Watched::new(&mut child, usage);
        let mut stdout = Vec::new();
        let pipe = child.stdout.take();
        let watch = watched.clone();
        let (output, is_over) = (&mut stdout, &AtomicBool::new(false));
        let status = thread::scope(|scope| {
            let reader = scope.spawn(move || pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(output)));
            while !reader.is_finished() {
                if watch.is_still(self.busy) {
                    is_over.store(true, Ordering::Relaxed);
                    child.kill()?;
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            let used = usage.time();
            let status = child.wait()?;
            reader.join().unwrap_or(Ok(0))?;
            Ok((status, used.as_secs_f64()))
        });
        let (status, seconds) = status.map_err(of)?;
        let arguments = || format!("{:?}", arguments.join(" "));
        let broken = |violation| Ok(Err(Broken { runs: watched.runs(), violation }));
        let result = match status.code() {
            _ if is_over.load(Ordering::Relaxed) => broken(ENDLESS),
            // By a signal: its stack was too small, for example.
            None => broken(CRASHED),
            // Wrong usage, also of the variable.
            Some(2) => {
                let stderr = watched.last_lines();
                Err(ProgramError::Status { arguments: arguments(), status, stderr })
            }
            Some(_) => serde_json::from_slice(&stdout)
                .map(Ok)
                .map_err(|source| ProgramError::Output { arguments: arguments(), source }),
        };
        Ok(Ran { seconds, result: result? })
    }

    /// Reduces the scenario of a seed; the size of the result, which is in `output`.
    ///
    /// # Errors
    /// If the program does something else.
    pub fn shrink(
        &self,
        world: &str,
        seed: u64,
        minutes: f64,
        reason: &str,
        output: &Path,
    ) -> Result<Size, ProgramError> {
        let mut arguments: Vec<String> =
            ["shrink", "--world", world, "--profile", self.profile].map(str::to_owned).into();
        arguments.extend([
            "--seed".to_owned(),
            seed.to_string(),
            "--minutes".to_owned(),
            minutes.to_string(),
        ]);
        arguments.extend(["--reason".to_owned(), reason.to_owned()]);
        arguments.extend(["--output".to_owned(), output.to_string_lossy().into_owned()]);
        let ran = self.command(&arguments).output();
        let ran = ran.map_err(|source| ProgramError::Run { path: self.path.to_owned(), source })?;
        match ran.status.code() {
            Some(0) => return Err(ProgramError::NoViolation { world: world.to_owned(), seed }),
            Some(1 | 3 | 5) => {}
            _ => {
                let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
                let arguments = format!("{:?}", arguments.join(" "));
                return Err(ProgramError::Status { arguments, status: ran.status, stderr });
            }
        }
        let path = output.to_owned();
        let text = std::fs::read_to_string(output)
            .map_err(|source| ProgramError::Run { path: path.clone(), source })?;
        let scenario: Scenario =
            toml::from_str(&text).map_err(|source| ProgramError::Scenario { path, source })?;
        Ok(Size { records: scenario.record.len(), faults: scenario.fault.len() })
    }
}

/// A campaign that was run.
#[derive(Debug)]
pub struct Ran {
    /// Seconds of a processor.
    pub seconds: f64,
    /// What it printed.
    pub result: Result<Campaign, Broken>,
}

/// A campaign in which a run does not end, or ends the program.
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    /// Number of seeds that were reported before it: with one job, that of the run is the next one, or one of the next few.
    pub runs: u64,
    /// What is wrong.
    pub violation: &'static str,
}

/// What a campaign reports on stderr.
#[derive(Clone)]
struct Watched(Arc<Mutex<Progress>>);

struct Progress {
    usage: Usage,
    runs: u64,
    at: Instant,
    used: Duration,
    lines: Vec<String>,
}

impl Watched {
    /// Watches a child until its stderr ends.
    fn new(child: &mut Child, usage: Usage) -> Self {
        let (at, used) = (Instant::now(), Duration::ZERO);
        let watched = Self(Arc::new(Mutex::new(Progress { usage, runs: 0, at, used, lines: Vec::new() })));
        let (progress, stderr) = (watched.clone(), child.stderr.take());
        thread::spawn(move || {
            for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
                let Ok(line) = line else { return };
                progress.add(line);
            }
        });
        watched
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        let mut progress = self.lock();
        if let Some(runs) = runs_of(&line).filter(|runs| *runs > progress.runs) {
            (progress.runs, progress.at, progress.used) = (runs, Instant::now(), progress.usage.time());
        }
        if progress.lines.len() > 20 {
            progress.lines.remove(0);
        }
        progress.lines.push(line);
    }

    /// True if no seed was finished for so long that none will be.
    fn is_still(&self, busy: Duration) -> bool {
        let progress = self.lock();
        progress.usage.time().saturating_sub(progress.used) > busy || progress.at.elapsed() > busy * WAITING
    }

    fn runs(&self) -> u64 {
        self.lock().runs
    }

    fn last_lines(&self) -> String {
        self.lock().lines.join("\n")
    }
}

/// The number of seeds in a line of progress: `simple, standard: 8 of 20 seeds, ...`.
fn runs_of(line: &str) -> Option<u64> {
    let (_, numbers) = line.split_once(": ")?;
    let (runs, _) = numbers.split_once(" of ")?;
    runs.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_has_the_number_of_seeds() {
        assert_eq!(runs_of("simple, standard: 8 of 20 seeds, 3.0 seeds/s, 0 failed, 4 s left"), Some(8));
        assert_eq!(runs_of("failed: seed 3 after 7 ms: not_durable: one of two"), None);
    }
}
