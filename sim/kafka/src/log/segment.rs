//! A segment: the batches of one file of a log.

use super::LogConfig;
use crate::protocol::batch::Batch;
use crate::types::{Offset, Timestamp};

/// A segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// The offset in its name: none of its records has a lower one.
    pub(crate) base: Offset,
    /// In the order of their offsets.
    pub(crate) batches: Vec<Batch>,
    /// Bytes of its batches.
    pub(crate) size: usize,
    /// When the broker created it, by the broker's clock.
    pub(crate) created: Timestamp,
    /// When it was last written, which stands for the time of its records if they have none.
    pub(crate) modified: Timestamp,
}

impl Segment {
    pub(crate) fn new(base: Offset, now: Timestamp) -> Self {
        Self { base, batches: Vec::new(), size: 0, created: now, modified: now }
    }

    pub(crate) fn push(&mut self, batch: Batch, now: Timestamp) {
        self.size += batch.size();
        self.modified = now;
        self.batches.push(batch);
    }

    /// The greatest timestamp of its records, or when it was last written (`LogSegment.largestTimestamp`).
    pub(crate) fn largest_timestamp(&self) -> Timestamp {
        let greatest = self.batches.iter().map(Batch::max_timestamp).max().unwrap_or(-1);
        if greatest >= 0 { greatest } else { self.modified }
    }

    /// Whether a batch has to go into a new segment (`LogSegment.shouldRoll`).
    pub(crate) fn is_full_for(&self, batch: &Batch, config: &LogConfig, now: Timestamp) -> bool {
        let Some(first) = self.batches.first() else { return false };
        let first_time = first.max_timestamp();
        let waited = if first_time >= 0 {
            batch.max_timestamp().saturating_sub(first_time)
        } else {
            now.saturating_sub(self.created)
        };
        self.size > config.segment_bytes.saturating_sub(batch.size())
            || waited > config.segment_ms
            || batch.last_offset().saturating_sub(self.base) > i64::from(i32::MAX)
    }

    /// Removes the batches that have an offset from this one on.
    pub(crate) fn truncate(&mut self, from: Offset) {
        let kept = self.batches.partition_point(|batch| batch.last_offset() < from);
        self.batches.truncate(kept);
        self.size = self.batches.iter().map(Batch::size).sum();
    }

    /// The place of the first batch that has this offset or a greater one.
    pub(crate) fn find(&self, offset: Offset) -> Option<usize> {
        let place = self.batches.partition_point(|batch| batch.last_offset() < offset);
        (place < self.batches.len()).then_some(place)
    }
}
