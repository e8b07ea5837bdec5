//! Verification: log and tables side by side, every difference by name.
//!
//! For each partition of the topic, the log from the partition's origin up to the lesser of its durable
//! progress and its end, both as of the start, is the *judged log*. It is read once, in pieces, next to the
//! rows of the same offsets, and held against the [ground truth](crate::truth); then the alerts are held
//! against the counts of its windows. Memory is bounded: pieces are, and what grows with the number of
//! windows spills into a temporary file ([`VerifyOptions`]). Nothing is written to log or tables.
//!
//! # Rows
//! An offset of the judged log must have the row that the ground truth says, in the table it says, and no
//! other. Rows below an origin, at offsets without a record, at or past the log's end, or in a partition that
//! the topic does not have are foreign. Rows between the judged log and the log's end are a worker's that is
//! ahead of its progress, and are left alone.
//!
//! # Alerts, while workers run
//! Progress is read before anything else, and whatever lies below it is durable in every table: an alert
//! counts at least the judged log. It may count more, for workers go on. What they can have counted is
//! bounded by the log: after the last alert was read the ends are asked for again, and what lies between the
//! judged log and them is counted as *maybe*. With the judged count `low`, an alert is
//! - required if `low` reaches the threshold;
//! - allowed if `low + maybe` reaches it;
//! - right if `event_count` reaches the threshold and lies between `low` and `low + maybe`.
//!
//! Where nothing lies behind the judged log that is plain equality.
//!
//! # Counts, progress, registry
//! A partition's row of `window_counts` must have the number of its counted events of the window and the offset of the
//! last one. While workers run, events behind the judged log may be included: then `count` and `through_offset` must lie
//! between those of the judged log and those of the whole log, both at the same end or both in between. A row that is
//! stored in a block and shard where no reader looks is misplaced and no count. `progress` must have the binding's
//! origin and lie between it and the log's end, in a row for each partition that other tables have rows of. `registry`
//! must have at least the partitions that have counts, and at most the topic's.
//!
//! # Damaged rows
//! A row with a value that this program does not write is reported as damaged. Nothing else is judged of it, not even
//! that it is missing, except whether the log has a record for it at all.
//!
//! # The binding
//! The tables are judged by the row of `pipeline`. A column of it that is damaged is a difference, and so is a row that
//! is missing where other tables have rows. The rest is then judged by what else is known of the parameter: the
//! configuration, the topic's id as the broker has it, the origins in `progress`. The difference names what was so
//! assumed. A parameter that is intact, but not that of the configuration, is an error, as for every other command: whether
//! the table or the configuration is wrong, only the operator can say.
//!
//! # What the log no longer has
//! Records that retention deleted, before the verification or while it runs, cannot be judged. Their offsets
//! are reported as unverifiable, never as fine. Their windows are not judged from above: an alert there must
//! reach `low` and the threshold, and must exist if `low` reaches the threshold, but may count more and may
//! exist without. Which windows those are follows from the stored events of these offsets (with a health that
//! counts). This rests on these rows being right, as far as it can be known: where one of them was lost,
//! foreign or altered, an alert may be reported wrong or phantom that was right, or not judged that could
//! have been. The tables are damaged in all of these cases, but a difference of such a window does not say
//! where. That an offset has rows in both tables is reported there, too.
//!
//! Offsets behind the judged log may be gone as well. Their rows are in the tables if progress, read again,
//! has passed them. If it has not, a worker may have counted records that left no row: then no window is
//! judged from above.
//!
//! # What it rests on
//! The topic's id (checked at the start, after the alerts and at the end), a log whose records do not change
//! and whose end only grows, and a store that answers as [`crate::store`] says. A broker may for a moment say
//! an end that lies too low, so where rows or progress lie past it, it is asked again for some seconds.

mod ask;
mod difference;
mod error;
mod judged_by;
mod partition;
mod report;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::binding::{self, BindingError, BindingSpec};
use crate::broker::{Broker, Topic};
use crate::store::{Binding, Progress, Store, Stored, StoredCount};

pub use difference::{AlteredField, Difference, Evidence, Foreignness, Table, WrongProgress};
pub use error::VerifyError;
pub use report::{OffsetRange, PartitionReport, Report};
use windows::Windows;

/// Alerts, and counts, of one request.
const PAGE: usize = 1_000;

/// How to verify. Only memory, disk and the length of the report depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// The most differences that the report lists. All are counted.
    pub listed: usize,
    /// Where the temporary file goes; `None` is the system's folder for such files.
    pub spill_folder: Option<PathBuf>,
    /// The most windows whose counts are kept in memory, at least 1. One takes some 100 bytes and its source.
    pub windows_in_memory: usize,
}

impl Default for VerifyOptions {
    /// 100 differences, the system's folder, 100,000 windows.
    fn default() -> Self {
        Self { listed: 100, spill_folder: None, windows_in_memory: 100_000 }
    }
}

/// Compares the tables with the log, by the binding that the store has, which must have the parameters of
/// `binding_spec`. Safe while workers run.
///
/// # Errors
/// [`VerifyError`]; differences are no error, they are in the report.
pub async fn verify<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    binding_spec: &BindingSpec,
    options: &VerifyOptions,
) -> Result<Report, VerifyError> {
    binding_spec.window.check().map_err(BindingError::Window)?;
    let (binding, differences) = judged_by::judged_by(broker, store, binding_spec).await?;
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
    // Whatever was found, in another topic's log it means nothing.
    verification.topic().await?;
    result?;
    verification.judge_windows()
}

/// A verification under way.
struct Verification<'a, B, S> {
    broker: &'a B,
    store: &'a S,
    binding_spec: &'a BindingSpec,
    binding: Binding,
    windows: Windows,
    report: Report,
    /// Records are gone that may have been counted in any window.
    any_gone: bool,
}

impl<B: Broker, S: Store> Verification<'_, B, S> {
    /// Everything but the judgement of the windows.
    async fn run(&mut self) -> Result<(), VerifyError> {
        let store = self.store;
        // The order matters. What is below this progress was in the log before the log is looked at, and
        // what has rows now was in the topic before the topic is looked at.
        let progress = ask::store(|| "give the progress".to_owned(), || store.stored_progress()).await?;
        let stored = ask::store(|| "list the partitions that have rows".to_owned(), || store.partitions());
        let stored = stored.await?;
        let topic = self.topic().await?;

        let mut judged = Vec::new();
        for partition in 0..topic.partitions {
            let progress = progress.get(&partition).and_then(|row| row.as_ref().ok());
            judged.push(self.judge_partition(partition, progress.map(|row| row.next_offset)).await?);
        }
        for partition in stored.iter().copied().filter(|p| !(0..topic.partitions).contains(p)) {
            self.foreign(partition, i64::MIN, i64::MAX, Foreignness::NoPartition).await?;
        }
        self.read_alerts().await?;
        let counted = self.read_counts().await?;
        // Whoever writes a count has registered its partition before.
        let registered = ask::store(|| "give the registry".to_owned(), || store.registered()).await;

        // Only now: no alert or count that was read can include a record that is not in the log by now.
        let topic = self.topic().await?;
        for partition in 0..topic.partitions {
            let judged_to = judged.get(partition as usize).copied();
            let from = judged_to.unwrap_or_else(|| self.binding.origin(partition));
            self.count_behind(partition, from).await?;
        }
        self.judge_registry(registered, counted.last().copied(), topic.partitions)?;
        let with_rows: BTreeSet<i32> = counted.into_iter().chain(stored).collect();
        self.judge_progress(progress, with_rows, topic.partitions).await
    }

    async fn read_alerts(&mut self) -> Result<(), VerifyError> {
        let (store, mut cursor) = (self.store, None);
        loop {
            let after = &cursor;
            let page = ask::store(|| "list alerts".to_owned(), || store.stored_alerts(after.clone(), PAGE));
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

    /// Reads the counts, and gives the partitions that have any.
    async fn read_counts(&mut self) -> Result<BTreeSet<i32>, VerifyError> {
        let (store, layout, mut cursor) = (self.store, self.binding.layout.counts, None);
        let mut partitions = BTreeSet::new();
        loop {
            let after = &cursor;
            let page = ask::store(|| "list counts".to_owned(), || store.all_counts(after.clone(), PAGE));
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
                    // No reader finds it there, so it is no count of the window.
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

    /// Judges the rows of `progress` as they were read at the start. A worker writes one before any other row of its
    /// partition, so where others are there, it must be.
    async fn judge_progress(
        &mut self,
        progress: BTreeMap<i32, Stored<Progress>>,
        with_rows: BTreeSet<i32>,
        partitions: i32,
    ) -> Result<(), VerifyError> {
        let store = self.store;
        for partition in with_rows.iter().filter(|partition| !progress.contains_key(partition)) {
            let (partition, why) = (*partition, WrongProgress::Missing);
            // It may have come meanwhile, with the rows.
            let request = || format!("give the progress of partition {partition}");
            let now = ask::store(request, || store.progress(partition)).await?;
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
        let topic = ask::topic(self.broker, &self.binding_spec.topic).await?;
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
