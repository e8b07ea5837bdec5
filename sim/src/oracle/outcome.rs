//! The outcome of a run with damage that no client can survive: a worker refuses to continue, or the production `verify`
//! names a difference, or the tables are right all the same. Never silence, and never a false report.

use exactlyonce::error::chain;
use exactlyonce::verify::{Report, VerifyError};

use crate::observed::Sometimes;
use crate::oracle::Violation;

/// What is known at the end of such a run.
pub(crate) struct Outcome {
    /// A worker refused to continue.
    pub is_refused: bool,
    /// The differences of the tables from the log, as the testbed sees them.
    pub differences: Vec<Violation>,
    /// What `verify` says.
    pub verified: Result<Report, VerifyError>,
}

/// The situation that the outcome is, or the violation.
pub(crate) fn judge(outcome: &Outcome) -> Result<Sometimes, Violation> {
    let Outcome { is_refused, differences, verified } = outcome;
    match verified {
        Err(error) if error.is_refusal() => Ok(Sometimes::DamageFoundByVerify),
        Err(error) => Err(Violation::VerifyWrong { found: chain(error) }),
        Ok(report) if !report.is_clean() && differences.is_empty() => {
            let found: Vec<&str> =
                report.counts.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect();
            Err(Violation::VerifyWrong { found: found.join(", ") })
        }
        Ok(report) if !report.is_clean() || !report.is_complete() => Ok(Sometimes::DamageFoundByVerify),
        Ok(_) => match differences.first() {
            None => Ok(Sometimes::DamageWithoutConsequence),
            Some(_) if *is_refused => Ok(Sometimes::WorkerRefused),
            Some(difference) => Err(Violation::NotRefused { difference: format!("{difference:?}") }),
        },
    }
}
