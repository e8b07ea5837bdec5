//! Where a run takes place: in a thread of this process, or in a process of its own.
//!
//! What a run leaves behind in its process, and what ends its process, then concerns no other run. The process is this
//! program, started again with the command [`PLAY`]. It reads a scenario as JSON from its standard input, writes the
//! [`Report`] as JSON to its standard output, and ends with exit code 0, whatever the result is. Any other end is the
//! run's violation [`Violation::Crashed`]. A report does not depend on where the run took place.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exactlyonce::error::chain;

use super::child::{self, ChildError};
use crate::observed::Observed;
use crate::oracle::Violation;
use crate::run::{Report, run};
use crate::scenario::Scenario;
use crate::trace;

/// The command of this program that runs one scenario for a campaign.
pub const PLAY: &str = "play";

/// How long a run may take in a process of its own; the slowest takes some seconds.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The file that this process executes, also after it was replaced.
const EXECUTED: &str = "/proc/self/exe";

/// Where runs take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In threads of this process.
    Threads,
    /// Each in a process of its own.
    Processes {
        /// The executable file of this program.
        program: PathBuf,
        /// A process that takes longer is killed. It is a time of the wall clock.
        time_limit: Duration,
    },
}

impl Isolation {
    /// Processes of this program, which may take 10 minutes each. On Linux they execute what this process executes, even if
    /// its file was replaced.
    ///
    /// # Errors
    /// If the system does not say where the file of this program is.
    pub fn processes() -> io::Result<Self> {
        let executed = Path::new(EXECUTED);
        let program = if executed.exists() { executed.to_owned() } else { std::env::current_exe()? };
        Ok(Self::Processes { program, time_limit: TIME_LIMIT })
    }
}

/// Runs a scenario, without the lines of its trace.
pub fn play(scenario: Scenario, isolation: &Isolation) -> Report {
    match isolation {
        Isolation::Threads => run(scenario, false),
        Isolation::Processes { program, time_limit } => {
            let played = play_in_process(&scenario, program, *time_limit);
            played.unwrap_or_else(|how| crashed(scenario, how))
        }
    }
}

/// Runs a scenario in a process; the error says how it crashed.
fn play_in_process(scenario: &Scenario, program: &Path, time_limit: Duration) -> Result<Report, String> {
    let input = serde_json::to_vec(scenario).map_err(ChildError::Input);
    let ended = input.and_then(|input| child::run(program, PLAY, input, time_limit));
    let ended = ended.map_err(|error| chain(&error))?;
    let report = ended.output.and_then(|json| serde_json::from_slice(&json).map_err(ChildError::Report));
    match report {
        Ok(report) => {
            // As if the run had taken place here. Nobody reads it if that fails.
            let _ = io::stderr().write_all(&ended.stderr);
            Ok(report)
        }
        Err(error) => {
            let stderr = String::from_utf8_lossy(&ended.stderr);
            Err(match stderr.trim_end() {
                "" => chain(&error),
                stderr => format!("{}; its standard error ends with: {stderr}", chain(&error)),
            })
        }
    }
}

/// The report of a run of which nothing else is known.
fn crashed(scenario: Scenario, how: String) -> Report {
    let violation = Violation::Crashed { how };
    Report {
        scenario,
        observed: Observed::default(),
        trace: trace::Record::default(),
        violation: Some(violation.clone()),
        violations: vec![violation],
        simulated_ms: 0,
    }
}
