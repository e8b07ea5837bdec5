//! The log of one replica: batches in segments, and what is derived from them.
//!
//! The batches are on the broker's [`Disk`], as in a page cache: a log that is opened again has all of them, unless the
//! power failed in between, see [`Disk::lose_unsynced`]. Everything else here is the broker's memory. Opening a log reads
//! its batches again, as Kafka does after an unclean shutdown, and starts with the high watermark and the log start
//! of the checkpoints.
//!
//! Not simulated: tiered storage, and sizes of indexes.

mod compaction;
mod config;
mod disk;
mod epochs;
mod lookup;
mod producers;
mod retention;
mod segment;
mod validate;

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub use config::LogConfig;
pub use disk::{Checkpoints, Disk};
pub use epochs::EpochCache;
pub use lookup::Found;
pub use producers::{Aborted, Claim, Guard, Origin, Producer, Producers, Proof};

use crate::error::{ErrorCode, Result};
use crate::protocol::batch::Batch;
use crate::protocol::records::{EndMarker, records};
use crate::types::{Offset, PartitionId, Timestamp};
use disk::Files;
use segment::Segment;

/// What a batch may decompress to: more than any batch that a producer may send by default.
pub(crate) const DECOMPRESSED: usize = 256 << 20;

/// What was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The broker's time, if it set the timestamps; else -1.
    pub append_time: Timestamp,
    /// Whether it had been appended before: nothing was.
    pub duplicate: bool,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct ReadBatches {
    /// Whole batches.
    pub batches: Vec<Batch>,
    /// The beginning of one more that the limit cut.
    pub partial: Bytes,
}

impl ReadBatches {
    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.batches.iter().map(Batch::size).sum::<usize>() + self.partial.len()
    }
}

/// The log of a replica.
#[derive(Debug)]
pub struct Log {
    partition: PartitionId,
    disk: Disk,
    files: Arc<Mutex<Files>>,
    config: Arc<LogConfig>,
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    epochs: EpochCache,
    producers: Producers,
    last_flush: Timestamp,
}

impl Log {
    /// Opens the log of a partition, empty if the disk has none.
    pub fn open(partition: PartitionId, disk: &Disk, config: Arc<LogConfig>, now: Timestamp) -> Self {
        let files = disk.files(partition);
        let checkpoints = disk.checkpoints();
        let mut log = Self {
            partition,
            disk: disk.clone(),
            files,
            config,
            start: 0,
            end: 0,
            high_watermark: 0,
            epochs: EpochCache::default(),
            producers: Producers::default(),
            last_flush: now,
        };
        {
            let mut files = log.files();
            if files.segments.is_empty() {
                let base = files.base;
                files.segments.push(Segment::new(base, now));
            }
        }
        log.derive();
        let first = log.files().segments.first().map_or(0, |segment| segment.base);
        let start = checkpoints.log_starts.get(&partition).copied().unwrap_or(0).max(first);
        log.start = start.min(log.end);
        log.epochs.truncate_start(log.start);
        log.producers.truncate_start(log.start);
        let high_watermark = checkpoints.high_watermarks.get(&partition).copied().unwrap_or(0);
        log.high_watermark = high_watermark.clamp(log.start, log.end);
        log.producers.replicated(log.high_watermark);
        log
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        disk::lock(&self.files)
    }

    /// The partition.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// How it is configured.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes how it is configured.
    pub fn configure(&mut self, config: Arc<LogConfig>) {
        self.config = config;
    }

    /// The first offset that may be read.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The offset of the next record.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The high watermark: what is below it is replicated.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The last stable offset: what is below it is replicated and belongs to no open transaction.
    pub fn last_stable(&self) -> Offset {
        let open = self.producers.first_unstable();
        // `UnifiedLog.maybeIncrementFirstUnstableOffset`
        open.map_or(self.high_watermark, |open| open.max(self.start).min(self.high_watermark))
    }

    /// The epochs of its leaders.
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    pub(crate) fn producers_mut(&mut self) -> &mut Producers {
        &mut self.producers
    }

    /// Its producers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets a producer; whether it was known.
    pub fn forget_producer(&mut self, producer_id: i64) -> bool {
        self.producers.forget(producer_id)
    }

    /// Forgets producers that have been silent for this long and have no open transaction.
    pub fn expire_producers(&mut self, now: Timestamp, after_ms: i64) {
        self.producers.expire(now.saturating_sub(after_ms));
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.files().segments.iter().map(|segment| segment.size).sum()
    }

    /// Up to where it is synced.
    pub fn synced(&self) -> Offset {
        self.files().synced.min(self.end)
    }

    /// A leader of this epoch takes over, and appends from here on.
    pub fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.assign(epoch, self.end);
    }

    /// Appends what a client or a coordinator sent, with the next offsets.
    ///
    /// # Errors
    /// If the batch is not valid or its producer may not append it; then nothing was appended.
    pub fn append(
        &mut self,
        batch: &Batch,
        leader_epoch: i32,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Appended> {
        self.append_with(batch, leader_epoch, origin, Proof::NotRequired, now)
    }

    /// In the same way, if a transactional batch comes with this proof.
    ///
    /// # Errors
    /// As [`Log::append`], and those of [`Producers::check_proof`].
    pub fn append_with(
        &mut self,
        batch: &Batch,
        leader_epoch: i32,
        origin: Origin,
        proof: Proof,
        now: Timestamp,
    ) -> Result<Appended> {
        let batch = validate::validated(batch, &self.config, origin, now)?;
        let end = end_marker(&batch);
        if let Some(duplicate) = self.producers.check(&batch, end, origin, proof)? {
            return Ok(Appended {
                base_offset: duplicate.base_offset,
                last_offset: duplicate.last_offset,
                // Whoever set it (`UnifiedLog.append`).
                append_time: duplicate.timestamp,
                duplicate: true,
            });
        }
        let stamped = batch.stamped(self.end, leader_epoch);
        let appended = Appended {
            base_offset: stamped.base_offset(),
            last_offset: stamped.last_offset(),
            append_time: if self.config.log_append_time { stamped.max_timestamp() } else { -1 },
            duplicate: false,
        };
        self.push(stamped, end, now);
        Ok(appended)
    }

    /// Appends batches as a leader has them. Those that are there already are skipped.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptMessage`] if one is damaged, [`ErrorCode::OffsetOutOfRange`] if one is before the end.
    pub fn append_replicated(&mut self, batches: &[Batch], now: Timestamp) -> Result<()> {
        for batch in batches {
            batch.check().map_err(|_| ErrorCode::CorruptMessage)?;
            if batch.last_offset() < self.end {
                continue;
            }
            if batch.base_offset() < self.end && self.start != self.end {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            self.push(batch.clone(), end_marker(batch), now);
        }
        Ok(())
    }

    fn push(&mut self, batch: Batch, end: Option<EndMarker>, now: Timestamp) {
        self.epochs.assign(batch.leader_epoch(), batch.base_offset());
        self.producers.append(&batch, end, self.high_watermark);
        self.end = batch.next_offset();
        let config = self.config.clone();
        let mut files = self.files();
        let full = files.segments.last().is_none_or(|active| active.is_full_for(&batch, &config, now));
        if full {
            roll(&mut files, batch.base_offset(), now);
        }
        if let Some(active) = files.segments.last_mut() {
            active.push(batch, now);
        }
        if config.flush_messages.is_some_and(|messages| self.end - files.synced >= messages) {
            files.synced = self.end;
        }
    }

    /// Syncs all of it.
    pub fn flush(&mut self, now: Timestamp) {
        self.files().synced = self.end;
        self.last_flush = now;
    }

    /// Syncs it if `flush.ms` have passed.
    pub fn flush_if_due(&mut self, now: Timestamp) {
        if self.config.flush_ms.is_some_and(|after| now.saturating_sub(self.last_flush) >= after) {
            self.flush(now);
        }
    }

    /// Raises the high watermark to this offset, or to the end; whether it was lower.
    pub fn advance_high_watermark(&mut self, to: Offset) -> bool {
        let to = to.min(self.end);
        if to <= self.high_watermark {
            return false;
        }
        self.high_watermark = to;
        self.producers.replicated(to);
        true
    }

    /// Sets the high watermark of a follower, which may also be lower than before.
    pub fn follow_high_watermark(&mut self, to: Offset) {
        self.high_watermark = to.clamp(self.start, self.end.max(self.start));
        self.producers.replicated(self.high_watermark);
    }

    /// Removes everything from this offset on.
    pub fn truncate(&mut self, to: Offset) {
        if to >= self.end {
            // There may be an epoch at the end in which nothing was appended, and which the leader does not know.
            self.epochs.truncate_end(to);
            return;
        }
        if to < self.start {
            self.restart_at(to);
            return;
        }
        {
            let mut files = self.files();
            for segment in &mut files.segments {
                segment.truncate(to);
            }
            let kept = files.segments.iter().rposition(|segment| segment.base <= to).unwrap_or(0);
            files.segments.truncate(kept + 1);
            files.synced = files.synced.min(to);
        }
        let (start, high_watermark) = (self.start, self.high_watermark);
        self.derive();
        // Compaction may have removed the last records before it.
        self.end = self.end.max(to);
        self.start = start.min(self.end);
        self.epochs.truncate_end(to);
        self.epochs.truncate_start(self.start);
        self.high_watermark = high_watermark.min(self.end);
        self.producers.replicated(self.high_watermark);
    }

    /// Removes everything; the log starts and ends at this offset.
    pub fn restart_at(&mut self, offset: Offset) {
        let now = self.files().segments.last().map_or(0, |active| active.modified);
        {
            let mut files = self.files();
            files.segments = vec![Segment::new(offset, now)];
            files.base = offset;
            files.synced = offset;
        }
        self.epochs.clear();
        let mut producers = Producers::default();
        producers.keep_verifying(&self.producers);
        self.producers = producers;
        (self.start, self.end, self.high_watermark) = (offset, offset, offset);
    }

    /// Moves the start of the log forward, at most to the high watermark; whether it moved.
    pub fn raise_start(&mut self, to: Offset) -> bool {
        let to = to.min(self.high_watermark);
        if to <= self.start {
            return false;
        }
        self.start = to;
        self.epochs.truncate_start(to);
        self.producers.truncate_start(to);
        true
    }

    /// Reads from an offset on what is below `upper`, up to `max_bytes`. With `at_least_one`, the first batch is read
    /// whatever its size.
    ///
    /// # Errors
    /// [`ErrorCode::OffsetOutOfRange`] below the start and above the end.
    pub fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadBatches> {
        if from < self.start || from > self.end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let mut read = ReadBatches::default();
        if from >= upper {
            return Ok(read);
        }
        let files = self.files();
        let first = files.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        for segment in files.segments.get(first..).unwrap_or_default() {
            let Some(place) = segment.find(from) else { continue };
            let mut left = max_bytes;
            for batch in segment.batches.get(place..).unwrap_or_default() {
                // The limit is an offset between two batches.
                if batch.last_offset() >= upper {
                    break;
                }
                let is_first = read.batches.is_empty();
                if batch.size() <= left || (is_first && at_least_one) {
                    left = left.saturating_sub(batch.size());
                    read.batches.push(batch.clone());
                    continue;
                }
                // A file is read up to a limit in bytes, which may cut a batch.
                read.partial = batch.bytes().slice(..left.min(batch.size()));
                break;
            }
            // One read is of one file.
            break;
        }
        Ok(read)
    }

    /// The aborted transactions that a reader of committed records needs for what it read.
    pub fn aborted_in(&self, from: Offset, read: &ReadBatches) -> Vec<Aborted> {
        let Some(last) = read.batches.last() else { return Vec::new() };
        self.producers.aborted(from, last.next_offset())
    }

    /// All batches from an offset on, for a coordinator that loads them, compaction and tests.
    pub fn batches_from(&self, from: Offset) -> Vec<Batch> {
        let from = from.max(self.start);
        let files = self.files();
        let first = files.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let segments = files.segments.get(first..).unwrap_or_default().iter();
        let wanted = segments.filter_map(|segment| segment.batches.get(segment.find(from)?..));
        wanted.flatten().cloned().collect()
    }

    /// Reads all batches again for what is derived from them.
    fn derive(&mut self) {
        let (mut epochs, mut producers) = (EpochCache::default(), Producers::default());
        producers.keep_verifying(&self.producers);
        let end = {
            let files = self.files();
            let mut end = files.segments.last().map_or(0, |segment| segment.base);
            for batch in files.segments.iter().flat_map(|segment| &segment.batches) {
                epochs.assign(batch.leader_epoch(), batch.base_offset());
                producers.append(batch, end_marker(batch), 0);
                end = end.max(batch.next_offset());
            }
            end
        };
        (self.epochs, self.producers, self.end) = (epochs, producers, end);
    }
}

/// Closes the active segment, which syncs it (`UnifiedLog.roll`), and begins one at an offset.
fn roll(files: &mut Files, base: Offset, now: Timestamp) {
    files.synced = files.synced.max(base);
    files.segments.push(Segment::new(base, now));
}

/// The end of a transaction, if the batch is that.
pub(crate) fn end_marker(batch: &Batch) -> Option<EndMarker> {
    if !batch.is_control() {
        return None;
    }
    let records = records(batch, 1 << 16).ok()?;
    records.first().and_then(EndMarker::of)
}
