//! The report of the demonstration.

use std::time::Duration;

use serde::Serialize;

use super::Options;
use super::tables::Counted;
use crate::verify::{self, Difference};

/// Length of [`Report::busiest`].
const BUSIEST: usize = 5;

/// A kill of an active worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kill {
    /// Number of the kill, from 1.
    pub number: u32,
    /// Records that were durable then, according to progress.
    pub stored: u64,
    /// Rows past progress: the next worker processed their records again.
    pub applied_again: u64,
}

/// Summary of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceSummary {
    /// The source.
    pub source: String,
    /// Number of its events.
    pub events: u64,
    /// Number of its critical events.
    pub critical: u64,
    /// Number of its windows with an alert.
    pub alerts: u64,
}

/// The result of a demonstration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Seed of records and kills.
    pub seed: u64,
    /// Records of the log.
    pub records: u64,
    /// Rows of `events`.
    pub events: u64,
    /// Rows of `dead_letters`.
    pub dead_letters: u64,
    /// Rows of `alerts`.
    pub alerts: u64,
    /// The number of kills requested. There are fewer if a worker reached the log's end before them.
    pub kills_requested: u32,
    /// The kills.
    pub kills: Vec<Kill>,
    /// Sum of [`Kill::applied_again`].
    pub applied_again: u64,
    /// Differences between the tables and the ground truth.
    pub differences: u64,
    /// The first differences.
    pub first_differences: Vec<Difference>,
    /// How long workers were running, their starts included, in milliseconds.
    pub working_ms: u64,
    /// Records of the log per second of that.
    pub records_per_second: u64,
    /// The busiest sources, by events.
    pub busiest: Vec<SourceSummary>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        kills: Vec<Kill>,
        working: Duration,
        counted: Counted,
        verified: verify::Report,
    ) -> Self {
        let Counted { events, dead_letters, alerts, mut sources } = counted;
        sources.truncate(BUSIEST);
        let working_ms = u64::try_from(working.as_millis()).unwrap_or(u64::MAX);
        Self {
            seed: options.seed,
            records: options.records,
            events,
            dead_letters,
            alerts,
            kills_requested: options.kills,
            applied_again: kills.iter().map(|kill| kill.applied_again).sum(),
            kills,
            differences: verified.total(),
            first_differences: verified.differences,
            working_ms,
            records_per_second: options.records.saturating_mul(1_000) / working_ms.max(1),
            busiest: sources,
        }
    }
}
