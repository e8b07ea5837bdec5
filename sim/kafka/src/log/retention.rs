//! Deletion of whole segments, by age, size and the log's start (`UnifiedLog.deleteOldSegments`).

use super::segment::Segment;
use super::{Log, disk, roll};
use crate::types::Timestamp;

impl Log {
    /// Deletes what retention allows to delete; whether the start of the log moved. The log must be replicated up to the
    /// end of a segment before it can go.
    pub fn retain(&mut self, now: Timestamp) -> bool {
        let mut moved = false;
        if self.config.delete {
            if let Some(retention) = self.config.retention_ms {
                moved |= self.delete_oldest(now, |segment, _| {
                    now.saturating_sub(segment.largest_timestamp()) > retention
                });
            }
            if let Some(retention) = self.config.retention_bytes {
                let mut excess = self.size().saturating_sub(retention);
                moved |= self.delete_oldest(now, |segment, _| {
                    let delete = segment.size > 0 && segment.size <= excess;
                    excess = excess.saturating_sub(segment.size);
                    delete
                });
            }
        }
        let start = self.start;
        moved |= self.delete_oldest(now, |_, next| next.is_some_and(|next| next <= start));
        moved
    }

    /// Deletes segments from the first on while a condition holds, which is given the base offset of the next one.
    fn delete_oldest(
        &mut self,
        now: Timestamp,
        mut condition: impl FnMut(&Segment, Option<i64>) -> bool,
    ) -> bool {
        let (end, high_watermark) = (self.end, self.high_watermark);
        let mut files = disk::lock(&self.files);
        let mut deletable = 0;
        for (place, segment) in files.segments.iter().enumerate() {
            let next = files.segments.get(place + 1).map(|next| next.base);
            let is_empty_and_active = next.is_none() && segment.batches.is_empty();
            if high_watermark < next.unwrap_or(end) || is_empty_and_active || !condition(segment, next) {
                break;
            }
            deletable += 1;
        }
        if deletable == 0 {
            return false;
        }
        // A log has always a segment, so the active one is closed before it goes.
        if deletable == files.segments.len() {
            roll(&mut files, end, now);
        }
        files.segments.drain(..deletable);
        let first = files.segments.first().map_or(end, |segment| segment.base);
        files.base = files.base.max(first);
        drop(files);
        self.raise_start(first)
    }

    /// Closes the active segment if it has any record.
    pub fn roll(&mut self, now: Timestamp) {
        let end = self.end;
        let mut files = disk::lock(&self.files);
        if files.segments.last().is_some_and(|active| !active.batches.is_empty()) {
            roll(&mut files, end, now);
        }
    }
}

#[cfg(test)]
mod tests;
