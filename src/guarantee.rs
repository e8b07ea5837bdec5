//! What the guarantee requires of the services, as far as a client can check it.
//!
//! Exactly-once depends on properties of the services that the pipeline cannot ensure itself: a record that was read
//! never changes, an acknowledged write is not lost. The check of one such requirement is a [`Finding`]. Broker and
//! store each return a list of them; `init` prints both lists and refuses to continue if one of them is
//! [`Verdict::Refused`]. What could not be checked is a finding, too: [`Verdict::Unchecked`], with the reason.

use std::fmt;

/// The result of the check of one requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The requirement is met.
    Fine,
    /// The guarantee holds only as long as something does not happen that the configuration of the service allows (the
    /// reason says what). Suitable for testing.
    Warning(String),
    /// The guarantee does not hold (the reason says why, and what to change). Nothing may be bound.
    Refused(String),
    /// It could not be checked (the reason says why, for example a missing permission). The operator of the service has
    /// to check it.
    Unchecked(String),
}

impl Verdict {
    /// The label in a list: `ok`, `warning`, `refused` or `unchecked`.
    pub fn label(&self) -> &'static str {
        match self {
            Verdict::Fine => "ok",
            Verdict::Warning(_) => "warning",
            Verdict::Refused(_) => "refused",
            Verdict::Unchecked(_) => "unchecked",
        }
    }

    /// The reason; every verdict except [`Verdict::Fine`] has one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Fine => None,
            Verdict::Warning(reason) | Verdict::Refused(reason) | Verdict::Unchecked(reason) => Some(reason),
        }
    }

    /// True if nothing may be bound.
    pub fn is_refused(&self) -> bool {
        matches!(self, Verdict::Refused(_))
    }
}

/// One requirement of a service, and the result of its check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked, with the name that the service's documentation uses: `kafka topic t
    /// min.insync.replicas`, `cassandra commitlog_sync`.
    pub what: String,
    /// The value that was found, as the service writes it; `None` where there is none to show.
    pub value: Option<String>,
    /// The result.
    pub verdict: Verdict,
}

impl Finding {
    /// A finding with a value.
    pub fn new(what: impl Into<String>, value: impl Into<String>, verdict: Verdict) -> Self {
        Self { what: what.into(), value: Some(value.into()), verdict }
    }

    /// A requirement that could not be checked, and why.
    pub fn unchecked(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), value: None, verdict: Verdict::Unchecked(reason.into()) }
    }
}

/// `what is value: reason`, without missing parts and without the label.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(value) = &self.value {
            write!(f, " is {value}")?;
        }
        match self.verdict.reason() {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_one_line_with_its_value_and_its_reason() {
        let what = "kafka topic t min.insync.replicas";
        let shown = |finding: Finding| (finding.verdict.label(), finding.to_string());
        assert_eq!(shown(Finding::new(what, "2", Verdict::Fine)), ("ok", format!("{what} is 2")));
        let warning = Verdict::Warning("one copy".into());
        assert_eq!(shown(Finding::new(what, "1", warning)), ("warning", format!("{what} is 1: one copy")));
        let refused = Finding::new(what, "0", Verdict::Refused("none".into()));
        assert!(refused.verdict.is_refused());
        assert_eq!(shown(refused), ("refused", format!("{what} is 0: none")));
        assert_eq!(shown(Finding::unchecked(what, "no right")), ("unchecked", format!("{what}: no right")));
    }
}
