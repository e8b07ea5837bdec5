//! The JSON document of a campaign: `campaign` prints it, and `results` reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use simulation::observed::FaultCounts;
use simulation::{Report, Seed};

use super::{Repeat, write};

/// The results of a campaign. Names are text, so that documents of other versions of this program can be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub world: String,
    pub profile: String,
    /// The commit of the build.
    pub commit: String,
    /// As `FROM..TO`.
    pub seeds: String,
    pub runs: u64,
    /// Of the wall clock.
    pub seconds: f64,
    pub seeds_per_second: f64,
    pub simulated_seconds: u64,
    /// Of each kind that a scenario had.
    pub faults: BTreeMap<String, FaultCounts>,
    /// How often each situation occurred.
    pub situations: BTreeMap<String, u64>,
    /// What the campaign had to reach, and did not.
    pub missed: Vec<String>,
    /// The first failure, in a campaign that stops there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
    pub failures: Vec<Failure>,
}

/// The first failure of a campaign that stops there.
#[derive(Debug, Serialize, Deserialize)]
pub struct First {
    pub seed: Seed,
    pub violation: String,
    /// Number of seeds from the start of the range up to this one.
    pub seeds: u64,
}

/// A failed run, whose file is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    pub seed: Seed,
    /// The name of the first violation.
    pub violation: String,
    pub evidence: String,
    pub simulated_ms: u64,
    /// The file of its scenario.
    pub file: PathBuf,
    /// The command that repeats it.
    pub repeat: String,
    /// Why the file could not be written.
    #[serde(skip)]
    pub error: Option<io::Error>,
}

impl Failure {
    /// Writes the scenario of a run that failed.
    pub fn of(report: &Report, folder: &Path) -> Option<Self> {
        let Report { scenario, simulated_ms, .. } = report;
        let violation = report.violation.as_ref()?;
        let (file, error) = match write(scenario, folder) {
            Ok(file) => (file, None),
            Err(error) => (PathBuf::new(), Some(error)),
        };
        Some(Self {
            seed: scenario.seed,
            violation: violation.name().to_owned(),
            evidence: format!("{violation:?}"),
            simulated_ms: *simulated_ms,
            file,
            repeat: Repeat(scenario).to_string(),
            error,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, violation, evidence, simulated_ms, file, .. } = self;
        write!(
            f,
            "seed {seed} after {simulated_ms} ms: {violation}: {evidence}; scenario in {}",
            file.display()
        )
    }
}
