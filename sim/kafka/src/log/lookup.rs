//! Offsets by time.

use super::{DECOMPRESSED, Log, disk};
use crate::protocol::records;
use crate::types::{Offset, Timestamp};

/// A record that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The epoch of the leader that appended it; -1 if that is not known.
    pub epoch: i32,
}

impl Log {
    /// The first record from the log's start on whose timestamp is at least this (`UnifiedLog.fetchOffsetByTimestamp`).
    pub fn first_since(&self, timestamp: Timestamp) -> Option<Found> {
        let files = disk::lock(&self.files);
        let batches = files.segments.iter().flat_map(|segment| &segment.batches);
        let mut candidates =
            batches.filter(|batch| batch.max_timestamp() >= timestamp && batch.last_offset() >= self.start);
        candidates.find_map(|batch| {
            let mut records = records::each(batch, DECOMPRESSED).ok()?.flatten();
            let found =
                records.find(|record| record.timestamp >= timestamp && record.offset >= self.start)?;
            Some(Found { offset: found.offset, timestamp: found.timestamp, epoch: batch.leader_epoch() })
        })
    }

    /// The first record that has the greatest timestamp of all that are stored, also if it is below the start of the log: Kafka
    /// looks at the segments, and not at the start (`UnifiedLog.fetchOffsetByTimestamp` of 4.1.0).
    pub fn greatest_timestamp(&self) -> Option<Found> {
        let files = disk::lock(&self.files);
        let batches = files.segments.iter().flat_map(|segment| &segment.batches);
        let greatest = batches.filter(|batch| batch.count() > 0).max_by(|one, other| {
            // The first of several.
            one.max_timestamp().cmp(&other.max_timestamp()).then(other.base_offset().cmp(&one.base_offset()))
        })?;
        let mut records = records::each(greatest, DECOMPRESSED).ok()?.flatten();
        let found = records.find(|record| record.timestamp == greatest.max_timestamp())?;
        Some(Found { offset: found.offset, timestamp: found.timestamp, epoch: greatest.leader_epoch() })
    }
}
