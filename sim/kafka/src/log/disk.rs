//! A broker's disk: what of its logs outlives its process, and what outlives its host's power.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::segment::Segment;
use crate::types::{Offset, PartitionId};

/// The files of one partition.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// By base offset, the last is the active one.
    pub(crate) segments: Vec<Segment>,
    /// What is below this offset is synced.
    pub(crate) synced: Offset,
    /// The log start at which the partition was last truncated as a whole; it is the name of a file, so it is synced.
    pub(crate) base: Offset,
}

impl Files {
    /// The offset after the last batch.
    fn end(&self) -> Offset {
        let base = self.segments.last().map_or(self.base, |segment| segment.base);
        let last = self.segments.iter().rev().find_map(|segment| segment.batches.last());
        last.map_or(base, |last| last.next_offset().max(base))
    }
}

#[derive(Debug, Default)]
struct Content {
    logs: BTreeMap<PartitionId, Arc<Mutex<Files>>>,
    checkpoints: Checkpoints,
    /// The epoch of the run that ended gracefully, in the file that says so.
    clean_shutdown: Option<i64>,
    wiped: u32,
}

/// The checkpoint files. Each is written as a whole and synced (`CheckpointFile`), so none of them is ever torn; they lag
/// behind what they describe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// `replication-offset-checkpoint`: high watermarks, by default every 5 s.
    pub high_watermarks: BTreeMap<PartitionId, Offset>,
    /// `log-start-offset-checkpoint`: log starts that are not the beginning of a segment, by default every 60 s.
    pub log_starts: BTreeMap<PartitionId, Offset>,
    /// `recovery-point-offset-checkpoint`: up to where logs were synced, by default every 60 s.
    pub recovery_points: BTreeMap<PartitionId, Offset>,
    /// `cleaner-offset-checkpoint`: up to where logs are compacted.
    pub cleaned: BTreeMap<PartitionId, Offset>,
}

/// A broker's disk. It outlives the broker: the caller that starts one provides it, and a clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Content>>);

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power failure: of each log, what was not synced is lost. Only for a broker that is not running. Returns the logs that
    /// have lost records, and where they ended before and end now.
    pub fn lose_unsynced(&self) -> Vec<(PartitionId, Offset, Offset)> {
        let content = self.lock();
        let mut cut = Vec::new();
        for (partition, files) in &content.logs {
            let mut files = lock(files);
            let (before, synced) = (files.end(), files.synced);
            for segment in &mut files.segments {
                segment.truncate(synced);
            }
            // The file of a segment that lost everything is there, and empty; the first one stays the active one.
            let kept = files.segments.iter().rposition(|segment| segment.base <= synced).unwrap_or(0);
            files.segments.truncate(kept + 1);
            let after = files.end();
            if after < before {
                cut.push((*partition, before, after));
            }
        }
        cut
    }

    /// Replaces the disk by an empty one. Only for a broker that is not running.
    pub fn wipe(&self) {
        let mut content = self.lock();
        let wiped = content.wiped + 1;
        *content = Content { wiped, ..Content::default() };
    }

    /// How many disks were there before this one.
    pub fn predecessors(&self) -> u32 {
        self.lock().wiped
    }

    /// How many bytes of batches it has, and how many of them a power failure would lose now.
    pub fn bytes(&self) -> (usize, usize) {
        let logs: Vec<_> = self.lock().logs.values().cloned().collect();
        let mut sum = (0, 0);
        for files in logs {
            let files = lock(&files);
            for batch in files.segments.iter().flat_map(|segment| &segment.batches) {
                sum.0 += batch.size();
                if batch.last_offset() >= files.synced {
                    sum.1 += batch.size();
                }
            }
        }
        sum
    }

    /// What the checkpoint files have.
    pub fn checkpoints(&self) -> Checkpoints {
        self.lock().checkpoints.clone()
    }

    pub(crate) fn write_checkpoints(&self, change: impl FnOnce(&mut Checkpoints)) {
        change(&mut self.lock().checkpoints);
    }

    /// The partitions that it has logs of.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.lock().logs.keys().copied().collect()
    }

    /// The files of a partition, created if there are none.
    pub(crate) fn files(&self, partition: PartitionId) -> Arc<Mutex<Files>> {
        self.lock().logs.entry(partition).or_default().clone()
    }

    /// Deletes the files of a partition.
    pub(crate) fn delete(&self, partition: PartitionId) {
        let mut content = self.lock();
        content.logs.remove(&partition);
        let checkpoints = &mut content.checkpoints;
        checkpoints.high_watermarks.remove(&partition);
        checkpoints.log_starts.remove(&partition);
        checkpoints.recovery_points.remove(&partition);
        checkpoints.cleaned.remove(&partition);
    }

    /// Notes that a run ended gracefully (`.kafka_cleanshutdown`).
    pub(crate) fn end_cleanly(&self, broker_epoch: i64) {
        self.lock().clean_shutdown = Some(broker_epoch);
    }

    /// Takes the note of the last run, if it ended gracefully.
    pub(crate) fn take_clean_shutdown(&self) -> Option<i64> {
        self.lock().clean_shutdown.take()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks the files of a partition. Only the log that has them open does so while a broker runs.
pub(crate) fn lock(files: &Arc<Mutex<Files>>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
