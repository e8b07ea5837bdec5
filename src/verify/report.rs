//! The report of a verification.

use std::collections::BTreeMap;

use serde::Serialize;

use super::difference::Difference;

/// The offsets from `from` (inclusive) to `to` (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OffsetRange {
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
}

/// The verified range of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: i32,
    /// Where the pipeline started; records from here on are judged.
    pub origin: i64,
    /// Durable progress as of the verification's start; `None` if there was none.
    pub progress: Option<i64>,
    /// Records from `origin` up to here were judged: the minimum of progress and the log's end, but at least `origin`.
    pub judged_to: i64,
    /// The log's start as of the verification's start.
    pub log_start: i64,
    /// The log's end as of the verification's start. If it is below `progress`, the log was truncated.
    pub log_end: i64,
    /// Parts of the judged range whose records the log no longer has: their rows cannot be judged.
    pub unverifiable: Vec<OffsetRange>,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub topic_id: String,
    /// Every partition of the topic, in order.
    pub partitions: Vec<PartitionReport>,
    /// Records of the judged log that are events.
    pub events: u64,
    /// Records of the judged log that are dead letters.
    pub dead_letters: u64,
    /// Stored alerts.
    pub alerts: u64,
    /// Stored rows of `window_counts`.
    pub window_counts: u64,
    /// Stored rows whose records the log no longer has.
    pub rows_unverifiable: u64,
    /// Windows with events whose records are gone: they were judged only by the remaining records.
    pub windows_not_judged: u64,
    /// The number of differences, by name; contains every name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first differences, at most [`VerifyOptions::listed`](super::VerifyOptions::listed).
    pub differences: Vec<Difference>,
    #[serde(skip)]
    listed: usize,
}

impl Report {
    pub(super) fn new(topic: String, topic_id: String, listed: usize) -> Self {
        Self {
            topic,
            topic_id,
            partitions: Vec::new(),
            events: 0,
            dead_letters: 0,
            alerts: 0,
            window_counts: 0,
            rows_unverifiable: 0,
            windows_not_judged: 0,
            counts: Difference::NAMES.into_iter().map(|name| (name, 0)).collect(),
            differences: Vec::new(),
            listed,
        }
    }

    pub(super) fn add(&mut self, difference: Difference) {
        *self.counts.entry(difference.name()).or_default() += 1;
        if self.differences.len() < self.listed {
            self.differences.push(difference);
        }
    }

    /// All differences, listed or not.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// True if no difference was found (exit code 0, else 1). Some rows may not have been verifiable: see
    /// [`Report::is_complete`].
    pub fn is_clean(&self) -> bool {
        self.total() == 0
    }

    /// True if the log still had all records that were to be judged.
    pub fn is_complete(&self) -> bool {
        self.windows_not_judged == 0 && self.partitions.iter().all(|p| p.unverifiable.is_empty())
    }
}
