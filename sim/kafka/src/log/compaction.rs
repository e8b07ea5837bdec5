//! Compaction: of records with the same key the last one stays (`LogCleaner`, `Cleaner`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{DECOMPRESSED, Log, disk};
use crate::protocol::batch::Batch;
use crate::protocol::builder;
use crate::protocol::records::{EndMarker, Marker, records};
use crate::types::{Offset, Timestamp};

impl Log {
    /// Compacts the log if enough of it is dirty or has been for long enough; whether it did.
    pub fn compact_if_due(&mut self, now: Timestamp) -> bool {
        if !self.config.compact {
            return false;
        }
        let cleaned = self.cleaned();
        let upper = self.first_uncleanable(now);
        let (mut clean, mut dirty, mut oldest_dirty) = (0u64, 0u64, None);
        {
            let files = disk::lock(&self.files);
            for batch in files.segments.iter().flat_map(|segment| &segment.batches) {
                if batch.last_offset() < cleaned {
                    clean += batch.size() as u64;
                } else if batch.last_offset() < upper {
                    dirty += batch.size() as u64;
                    oldest_dirty.get_or_insert(batch.max_timestamp());
                }
            }
        }
        let waits_too_long = self.config.max_compaction_lag_ms < i64::MAX
            && oldest_dirty
                .is_some_and(|oldest| now.saturating_sub(oldest) > self.config.max_compaction_lag_ms);
        let is_dirty = dirty > 0 && dirty * 1000 >= self.config.min_dirty_per_mille * (clean + dirty);
        if !(waits_too_long && dirty > 0) && !is_dirty {
            return false;
        }
        self.compact_below(upper, now);
        true
    }

    /// Compacts all closed segments now, whatever is configured.
    pub fn compact(&mut self, now: Timestamp) {
        self.roll(now);
        let upper = self.last_stable();
        self.compact_below(upper, now);
    }

    /// Up to where it is compacted.
    fn cleaned(&self) -> Offset {
        let cleaned = self.disk.checkpoints().cleaned.get(&self.partition).copied().unwrap_or(0);
        // A log that was truncated below has to be compacted from there again.
        cleaned.clamp(self.start, self.end)
    }

    /// The first offset that may not be compacted: the active segment, what is not decided, what is too young
    /// (`LogCleanerManager.cleanableOffsets`).
    fn first_uncleanable(&self, now: Timestamp) -> Offset {
        let files = disk::lock(&self.files);
        let active = files.segments.last().map_or(0, |active| active.base);
        let lag = self.config.min_compaction_lag_ms;
        let young = files
            .segments
            .iter()
            .find(|segment| lag > 0 && segment.largest_timestamp() > now.saturating_sub(lag))
            .map_or(Offset::MAX, |segment| segment.base);
        active.min(young).min(self.last_stable())
    }

    fn compact_below(&mut self, upper: Offset, now: Timestamp) {
        let from = self.cleaned();
        let mut files = disk::lock(&self.files);
        let below: Vec<Batch> = files
            .segments
            .iter()
            .flat_map(|segment| &segment.batches)
            .filter(|batch| batch.last_offset() < upper)
            .cloned()
            .collect();
        let aborted = aborted_batches(&below);
        let latest = latest_offsets(&below, &aborted, from);
        let last_of_producers = last_batches(&self.producers_of(&files));
        let producers_with_data = producers_with_data(&below, &aborted, &latest);
        for segment in &mut files.segments {
            let mut kept = Vec::with_capacity(segment.batches.len());
            for batch in std::mem::take(&mut segment.batches) {
                if batch.last_offset() >= upper {
                    kept.push(batch);
                    continue;
                }
                let is_aborted = aborted.contains(&batch.base_offset());
                let has_data = producers_with_data.contains(&batch.producer_id());
                let is_last = last_of_producers.contains(&batch.base_offset());
                let left = self.clean(&batch, is_aborted, has_data, &latest, now);
                // The last batch of a producer stays, even if empty, for its sequence number.
                if left.count() > 0 || is_last {
                    kept.push(left);
                }
            }
            segment.size = kept.iter().map(Batch::size).sum();
            segment.batches = kept;
        }
        // Segments that became empty are merged into the one before.
        let count = files.segments.len();
        let mut place = 0;
        files.segments.retain(|segment| {
            place += 1;
            place == 1 || place == count || !segment.batches.is_empty()
        });
        drop(files);
        let partition = self.partition;
        self.disk.write_checkpoints(|checkpoints| {
            checkpoints.cleaned.insert(partition, upper);
        });
    }

    fn producers_of(&self, files: &disk::Files) -> Vec<Batch> {
        files.segments.iter().flat_map(|segment| &segment.batches).cloned().collect()
    }

    /// What is left of a batch.
    fn clean(
        &self,
        batch: &Batch,
        is_aborted: bool,
        has_data: bool,
        latest: &BTreeMap<Bytes, Offset>,
        now: Timestamp,
    ) -> Batch {
        let Ok(content) = records(batch, DECOMPRESSED) else { return batch.clone() };
        let horizon_passed = batch.delete_horizon().is_some_and(|horizon| horizon <= now);
        if batch.is_control() {
            // A marker goes when no record of its transactions is left, after delete.retention.ms.
            if has_data {
                return batch.clone();
            }
            if horizon_passed {
                return builder::retain(batch, &[], None);
            }
            let horizon = now.saturating_add(self.config.delete_retention_ms);
            return match batch.delete_horizon() {
                Some(_) => batch.clone(),
                None => builder::retain(batch, &content, Some(horizon)),
            };
        }
        let mut kept = Vec::new();
        let mut has_tombstone = false;
        for record in &content {
            let Some(key) = &record.key else { continue };
            let is_latest = latest.get(key).is_none_or(|last| *last <= record.offset);
            let is_tombstone = record.value.is_none();
            if is_aborted || !is_latest || (is_tombstone && horizon_passed) {
                continue;
            }
            has_tombstone |= is_tombstone;
            kept.push(record.clone());
        }
        let sets_horizon = has_tombstone && batch.delete_horizon().is_none();
        if kept.len() == content.len() && !sets_horizon {
            return batch.clone();
        }
        let horizon = now.saturating_add(self.config.delete_retention_ms);
        builder::retain(batch, &kept, sets_horizon.then_some(horizon))
    }
}

/// The base offsets of batches whose transactions were aborted.
fn aborted_batches(batches: &[Batch]) -> BTreeSet<Offset> {
    let mut open: BTreeMap<i64, Vec<Offset>> = BTreeMap::new();
    let mut aborted = BTreeSet::new();
    for batch in batches {
        if batch.is_control() {
            let end =
                records(batch, 1 << 16).ok().and_then(|records| records.first().and_then(EndMarker::of));
            let of_transaction = open.remove(&batch.producer_id()).unwrap_or_default();
            if end.is_some_and(|end| end.marker == Marker::Abort) {
                aborted.extend(of_transaction);
            }
        } else if batch.is_transactional() {
            open.entry(batch.producer_id()).or_default().push(batch.base_offset());
        }
    }
    aborted
}

/// The greatest offset of each key among dirty records.
fn latest_offsets(batches: &[Batch], aborted: &BTreeSet<Offset>, from: Offset) -> BTreeMap<Bytes, Offset> {
    let mut latest = BTreeMap::new();
    for batch in batches {
        if batch.last_offset() < from || batch.is_control() || aborted.contains(&batch.base_offset()) {
            continue;
        }
        for record in records(batch, DECOMPRESSED).unwrap_or_default() {
            if let Some(key) = record.key {
                latest.insert(key, record.offset);
            }
        }
    }
    latest
}

/// The base offset of the last batch of each producer.
fn last_batches(batches: &[Batch]) -> BTreeSet<Offset> {
    let mut last = BTreeMap::new();
    for batch in batches.iter().filter(|batch| batch.producer_id() >= 0 && !batch.is_control()) {
        last.insert(batch.producer_id(), batch.base_offset());
    }
    last.into_values().collect()
}

/// The producers of transactional records that stay.
fn producers_with_data(
    batches: &[Batch],
    aborted: &BTreeSet<Offset>,
    latest: &BTreeMap<Bytes, Offset>,
) -> BTreeSet<i64> {
    let mut producers = BTreeSet::new();
    for batch in batches {
        if !batch.is_transactional() || batch.is_control() || aborted.contains(&batch.base_offset()) {
            continue;
        }
        let stays = |record: &crate::protocol::records::Record| {
            record.key.as_ref().is_some_and(|key| latest.get(key).is_none_or(|last| *last <= record.offset))
        };
        if records(batch, DECOMPRESSED).is_ok_and(|records| records.iter().any(stays)) {
            producers.insert(batch.producer_id());
        }
    }
    producers
}
