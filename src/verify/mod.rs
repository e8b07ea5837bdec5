//! Verification: compares log and tables, and reports every difference by name.
//!
//! For each partition of the topic, the *judged log* starts at the partition's origin and ends at its durable
//! progress or at the end of its log, whichever is lower, both as of the start of the verification. It is read once,
//! in chunks, together with the rows of the same offsets, and compared with the [ground truth](crate::truth); then
//! the alerts are compared with the counts of its windows. Memory is bounded: chunks have a limited size, and what
//! grows with the number of windows spills into a temporary file ([`VerifyOptions`]). Nothing is written to log or
//! tables.
//!
//! # Rows
//! An offset of the judged log must have the row of the ground truth, in the right table, and no other row. Rows are
//! foreign if they are below an origin, at offsets without a record, at or past the log's end, or in a partition that
//! the topic does not have. Rows between the judged log and the log's end come from a worker that is ahead of its
//! progress, and are not judged.
//!
//! # Alerts, while workers run
//! Progress is read first, and everything below it is durable in every table: so an alert counts at least the judged
//! log. It may count more, because workers continue. The log limits how much more: after the last alert was read, the
//! ends are read again, and events between the judged log and those ends count as *possible*. With the judged count
//! `low`, an alert is
//! - required if `low` reaches the threshold;
//! - allowed if `low + possible` reaches it;
//! - correct if `event_count` reaches the threshold and is between `low` and `low + possible`.
//!
//! If there is nothing after the judged log, `event_count` must equal `low`.
//!
//! # Counts, progress, registry
//! A partition's row of `window_counts` must have the number of its counted events of the window and the offset of
//! the last one. While workers run, events after the judged log may be included: then `count` and `through_offset`
//! must be between those of the judged log and those of the whole log, and both must be at the same end or both in
//! between. A row in a block and shard where no reader finds it is misplaced and is not counted. `progress` must have
//! the binding's origin and a `next_offset` between it and the log's end, in a row for each partition that other
//! tables have rows of. `registry` must have at least the partitions that have counts, and at most those of the
//! topic.
//!
//! # Damaged rows
//! A row with a value that this program does not write is reported as damaged. Nothing else about it is judged, not
//! even whether it is missing, except whether the log has a record for it.
//!
//! # The binding
//! The tables are checked against the row of `pipeline`. A damaged column of it is a difference, and so is a missing
//! row if other tables have rows. The other tables are then checked against what else is known of the parameter: the
//! configuration, the topic's id as the broker reports it, the origins in `progress`. The difference names the
//! assumed value. An intact parameter that differs from the configuration is an error, as for every other command:
//! only the operator can decide whether the table or the configuration is wrong.
//!
//! # Records that the log no longer has
//! Records that retention deleted, before or during the verification, cannot be judged. Their offsets are reported as
//! unverifiable, never as correct. Their windows have no upper bound: an alert there must reach `low` and the
//! threshold, and must exist if `low` reaches the threshold, but it may count more, and it may exist if `low` does
//! not reach the threshold. Which windows those are is derived from the stored events of these offsets (with a health
//! that counts), so it depends on those rows being correct: if one of them was lost, foreign or altered, a correct
//! alert may be reported as wrong or phantom, or an alert that could be judged is not. The tables are damaged in all
//! of these cases, but a difference of such a window does not say where. An offset with rows in both tables is
//! reported there, too.
//!
//! Records after the judged log may be deleted as well. If progress, read again, has passed them, their rows are in the
//! tables. If not, a worker may have counted records that have no row; then no window has an upper bound.
//!
//! # Assumptions
//! The topic's id does not change (checked at the start, after the alerts and at the end), the log's records do not
//! change and its end only grows, and the store behaves as [`crate::store`] specifies. A broker may temporarily
//! report an end that is too low, so if rows or progress are past it, it is requested again for some seconds.

mod difference;
mod error;
mod expected_binding;
mod partition;
mod report;
mod requests;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::binding::{self, BindingError, BindingSpec};
use crate::broker::{Broker, Topic};
use crate::store::{Binding, Progress, Store, Stored, StoredCount};

pub use difference::{AlteredField, Difference, Evidence, ForeignReason, Table, WrongProgress};
pub use error::VerifyError;
pub use report::{OffsetRange, PartitionReport, Report};
use windows::Windows;

/// Rows of one request for alerts or counts.
const PAGE: usize = 1_000;

/// Options of a verification. They affect only its memory, its disk usage and the length of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Maximum number of differences in the report. All are counted.
    pub listed: usize,
    /// The folder of the temporary file; `None` for the system's temporary folder.
    pub spill_folder: Option<PathBuf>,
    /// Maximum number of windows whose counts are kept in memory, at least 1. Each takes about 100 bytes and its
    /// source.
    pub windows_in_memory: usize,
}

impl Default for VerifyOptions {
    /// 100 differences, the system's folder, 100,000 windows.
    fn default() -> Self {
        Self { listed: 100, spill_folder: None, windows_in_memory: 100_000 }
    }
}

/// Compares the tables with the log. The stored binding must have the parameters of `binding_spec`. Safe while workers
/// run.
///
/// # Errors
/// [`VerifyError`]. Differences are not errors; they are in the report.
pub async fn verify<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    binding_spec: &BindingSpec,
    options: &VerifyOptions,
) -> Result<Report, VerifyError> {
    binding_spec.window.check().map_err(BindingError::Window)?;
    let (binding, differences) = expected_binding::expected_binding(broker, store, binding_spec).await?;
    let mut report = Report::new(binding.topic.clone(), binding.topic_id.clone(), options.listed);
    differences.into_iter().for_each(|difference| report.add(difference));
    let mut verification = Verification {
        broker,
        store,
        binding_spec,
        windows: Windows::new(options.spill_folder.as_deref(), options.windows_in_memory)?,
        report,
        any_gone: false,
        binding,
    };
    let result = verification.run().await;
    // Differences from the log of a different topic would be meaningless.
    verification.topic().await?;
    result?;
    verification.judge_windows()
}

/// A verification in progress.
struct Verification<'a, B, S> {
    broker: &'a B,
    store: &'a S,
    binding_spec: &'a BindingSpec,
    binding: Binding,
    windows: Windows,
    report: Report,
    /// True if records are gone that may have been counted in any window.
    any_gone: bool,
}

impl<B: Broker, S: Store> Verification<'_, B, S> {
    /// Everything except judging the windows.
    async fn run(&mut self) -> Result<(), VerifyError> {
        let store = self.store;
        // The order matters. Records below this progress were in the log before the log is read, and partitions that
        // have rows now were in the topic before the topic is described.
        let progress = requests::store(|| "read progress".to_owned(), || store.stored_progress()).await?;
        let stored = requests::store(|| "list partitions".to_owned(), || store.partitions());
        let stored = stored.await?;
        let invalid = || "list invalid partitions".to_owned();
        for damaged in requests::store(invalid, || store.invalid_partitions()).await? {
            self.report.add(Difference::Damaged(damaged));
        }
        let topic = self.topic().await?;

        let mut judged = Vec::new();
        for partition in 0..topic.partitions {
            let progress = progress.get(&partition).and_then(|row| row.as_ref().ok());
            judged.push(self.judge_partition(partition, progress.map(|row| row.next_offset)).await?);
        }
        for partition in stored.iter().copied().filter(|p| !(0..topic.partitions).contains(p)) {
            self.foreign(partition, i64::MIN, i64::MAX, ForeignReason::NoPartition).await?;
        }
        self.read_alerts().await?;
        let counted = self.read_counts().await?;
        // A partition is registered before its first count is written.
        let registered = requests::store(|| "read the registry".to_owned(), || store.registered()).await;

        // Only now, so that every record that the alerts and counts include is in the log.
        let topic = self.topic().await?;
        for partition in 0..topic.partitions {
            let judged_to = judged.get(partition as usize).copied();
            let from = judged_to.unwrap_or_else(|| self.binding.origin(partition));
            self.count_after(partition, from).await?;
        }
        self.judge_registry(registered, counted.last().copied(), topic.partitions)?;
        let with_rows: BTreeSet<i32> = counted.into_iter().chain(stored).collect();
        self.judge_progress(progress, with_rows, topic.partitions).await
    }

    async fn read_alerts(&mut self) -> Result<(), VerifyError> {
        let (store, mut cursor) = (self.store, None);
        loop {
            let after = &cursor;
            let page =
                requests::store(|| "read alerts".to_owned(), || store.stored_alerts(after.clone(), PAGE));
            let page = page.await?;
            let mut alerts = Vec::with_capacity(page.rows.len());
            for (window, count) in page.rows {
                alerts.push((window, self.undamaged(count)));
            }
            self.windows.add_alerts(&alerts)?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads the counts, and returns the partitions that have any.
    async fn read_counts(&mut self) -> Result<BTreeSet<i32>, VerifyError> {
        let (store, layout, mut cursor) = (self.store, self.binding.layout.counts, None);
        let mut partitions = BTreeSet::new();
        loop {
            let after = &cursor;
            let page = requests::store(|| "read counts".to_owned(), || store.all_counts(after.clone(), PAGE));
            let page = page.await?;
            let mut counts = Vec::with_capacity(page.rows.len());
            for StoredCount { partition, place, window, count } in page.rows {
                let expected = layout.place(&window);
                if let Some(place) = place.filter(|place| *place != expected) {
                    self.report.add(Difference::MisplacedCount {
                        partition,
                        source: window.source.as_ref().to_owned(),
                        window_end: window.end,
                        block: place.block,
                        shard: place.shard,
                        expected_block: expected.block,
                        expected_shard: expected.shard,
                    });
                    // No reader finds the row there, so it is not counted.
                    continue;
                }
                partitions.insert(partition);
                counts.push((partition, window, self.undamaged(count)));
            }
            self.windows.add_counts(&counts)?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(partitions);
            }
        }
    }

    /// The value of a row; a damaged one is reported.
    fn undamaged<T>(&mut self, row: Stored<T>) -> Option<T> {
        row.map_err(|damaged| self.report.add(Difference::Damaged(damaged))).ok()
    }

    fn judge_registry(
        &mut self,
        registered: Result<i32, VerifyError>,
        last: Option<i32>,
        most: i32,
    ) -> Result<(), VerifyError> {
        let stored = match registered {
            Ok(stored) => stored,
            Err(VerifyError::Store { request, source }) => match source.damaged() {
                Some(damaged) => {
                    self.report.add(Difference::Damaged(damaged.clone()));
                    return Ok(());
                }
                None => return Err(VerifyError::Store { request, source }),
            },
            Err(error) => return Err(error),
        };
        let least = last.map_or(0, |last| last.saturating_add(1));
        if !(least..=most).contains(&stored) {
            self.report.add(Difference::WrongRegistry { stored, least, most });
        }
        Ok(())
    }

    /// Judges the rows of `progress` as they were read at the start. A worker writes such a row before any other row of
    /// the partition, so a partition that has other rows must have it.
    async fn judge_progress(
        &mut self,
        progress: BTreeMap<i32, Stored<Progress>>,
        with_rows: BTreeSet<i32>,
        partitions: i32,
    ) -> Result<(), VerifyError> {
        let store = self.store;
        for partition in with_rows.iter().filter(|partition| !progress.contains_key(partition)) {
            let (partition, why) = (*partition, WrongProgress::Missing);
            // It may have been written meanwhile, before the other rows.
            let request = || format!("read progress of partition {partition}");
            let now = requests::store(request, || store.progress(partition)).await?;
            if now.is_none() && (0..partitions).contains(&partition) {
                let (origin, next_offset) = (None, None);
                self.report.add(Difference::WrongProgress { partition, origin, next_offset, why });
            }
        }
        for (partition, row) in progress {
            let Some(Progress { origin, next_offset }) = self.undamaged(row) else { continue };
            let bound = self.binding.origin(partition);
            let judged = self.report.partitions.iter().find(|report| report.partition == partition);
            let log_end = judged.map(|report| report.log_end);
            let why = if !(0..partitions).contains(&partition) {
                WrongProgress::NoPartition
            } else if origin != bound {
                WrongProgress::Origin
            } else if next_offset < bound {
                WrongProgress::BelowOrigin
            } else if log_end.is_some_and(|end| next_offset > end) {
                WrongProgress::PastLogEnd
            } else {
                continue;
            };
            let (origin, next_offset) = (Some(origin), Some(next_offset));
            self.report.add(Difference::WrongProgress { partition, origin, next_offset, why });
        }
        Ok(())
    }

    /// The topic as it is now, if it is still the one of the binding and can be judged.
    async fn topic(&self) -> Result<Topic, VerifyError> {
        let topic = requests::topic(self.broker, &self.binding_spec.topic).await?;
        if topic.compacted {
            return Err(BindingError::Compacted { topic: topic.name }.into());
        }
        let found = self.binding_spec.bound_to(&topic, self.store, BTreeMap::new());
        match binding::compare(&self.binding, &found) {
            Ok(()) => Ok(topic),
            Err(BindingError::Recreated { topic, bound, found }) => {
                Err(VerifyError::Recreated { topic, bound, found })
            }
            Err(other) => Err(other.into()),
        }
    }

    fn judge_windows(self) -> Result<Report, VerifyError> {
        let Self { windows, mut report, binding, any_gone, .. } = self;
        let judged =
            windows.judge(binding.window.threshold, any_gone, |difference| report.add(difference))?;
        report.alerts = judged.alerts;
        report.window_counts = judged.counts;
        report.windows_not_judged = judged.windows_not_judged;
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
