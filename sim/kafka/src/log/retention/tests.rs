//! When segments begin and end.

use std::sync::Arc;

use super::*;
use crate::log::{Disk, LogConfig, Origin};
use crate::protocol::batch::Batch;
use crate::protocol::builder::BatchBuilder;
use crate::types::{Offset, PartitionId, TopicId};

fn log(config: LogConfig) -> Log {
    let partition = PartitionId { topic: TopicId(uuid::Uuid::from_u128(1)), index: 0 };
    Log::open(partition, &Disk::new(), Arc::new(config), 0)
}

/// A batch of a record of this time; all of them have the same size.
fn batch(time: i64) -> Batch {
    BatchBuilder::new(time).record(time, Some(b"key"), Some(b"value")).build()
}

/// Appends a record of this time, which is replicated at once.
fn append(log: &mut Log, time: i64, now: i64) {
    log.append(&batch(time), 0, Origin::Client, now).unwrap();
    log.advance_high_watermark(log.end());
}

/// The base offsets of its segments.
fn bases(log: &Log) -> Vec<Offset> {
    disk::lock(&log.files).segments.iter().map(|segment| segment.base).collect()
}

/// A log whose segments have a record each.
fn single(config: LogConfig, times: &[i64]) -> Log {
    let mut log = log(LogConfig { segment_bytes: batch(0).size(), ..config });
    times.iter().for_each(|time| append(&mut log, *time, 0));
    assert_eq!(bases(&log), (0..times.len() as i64).collect::<Vec<_>>());
    log
}

#[test]
fn a_segment_is_as_old_as_its_greatest_timestamp() {
    let mut log = log(LogConfig { retention_ms: Some(1_000), ..LogConfig::default() });
    append(&mut log, 9_000, 9_000);
    append(&mut log, 0, 9_000);
    assert!(!log.retain(10_000));
    assert!(log.retain(10_001));
    assert_eq!((log.start(), log.end(), bases(&log)), (2, 2, vec![2]));
}

#[test]
fn a_segment_without_timestamps_is_as_old_as_its_last_write() {
    let mut log = log(LogConfig { retention_ms: Some(1_000), ..LogConfig::default() });
    append(&mut log, -1, 4_000);
    append(&mut log, -1, 5_000);
    assert!(!log.retain(6_000));
    assert!(log.retain(6_001));
}

#[test]
fn the_first_segments_are_deleted_as_long_as_enough_remains() {
    let size = batch(0).size();
    let config =
        LogConfig { retention_ms: None, retention_bytes: Some(2 * size + 1), ..LogConfig::default() };
    let mut log = single(config, &[0; 4]);
    assert!(log.retain(0));
    assert_eq!((log.start(), bases(&log)), (1, vec![1, 2, 3]));
}

#[test]
fn what_is_not_replicated_is_kept() {
    let mut log = log(LogConfig { segment_bytes: batch(0).size(), ..LogConfig::default() });
    for _ in 0..3 {
        log.append(&batch(0), 0, Origin::Client, 0).unwrap();
    }
    log.advance_high_watermark(1);
    assert!(log.retain(i64::MAX));
    assert_eq!((log.start(), bases(&log)), (1, vec![1, 2]));
}

#[test]
fn a_log_that_is_only_compacted_loses_what_is_below_its_start_and_nothing_by_age_or_size() {
    let config = LogConfig { delete: false, compact: true, retention_bytes: Some(1), ..LogConfig::default() };
    let mut log = single(config, &[0; 3]);
    assert!(!log.retain(i64::MAX));
    assert!(log.raise_start(2));
    log.retain(i64::MAX);
    assert_eq!((log.start(), bases(&log)), (2, vec![2]));
}

#[test]
fn a_batch_that_does_not_fit_begins_a_segment() {
    let size = batch(0).size();
    let mut log = log(LogConfig { segment_bytes: size * 5 / 2, ..LogConfig::default() });
    (0..5).for_each(|_| append(&mut log, 0, 0));
    assert_eq!(bases(&log), [0, 2, 4]);
}

#[test]
fn a_batch_begins_a_segment_if_it_is_too_much_later_than_the_first_one() {
    let config = || LogConfig { segment_ms: 100, ..LogConfig::default() };
    // By their own times, whatever the clock shows.
    let mut by_time = log(config());
    [0, 100, 101, 150].into_iter().for_each(|time| append(&mut by_time, time, 50));
    assert_eq!(bases(&by_time), [0, 2]);
    // By the clock, if they have none.
    let mut by_clock = log(config());
    [0, 100, 101].into_iter().for_each(|now| append(&mut by_clock, -1, now));
    assert_eq!(bases(&by_clock), [0, 2]);
}

#[test]
fn an_offset_that_is_too_far_from_the_first_one_begins_a_segment() {
    let mut log = log(LogConfig::default());
    let far = i64::from(i32::MAX) + 1;
    let at = |offset: Offset| batch(0).stamped(offset, 0);
    log.append_replicated(&[at(0), at(far - 1), at(far)], 0).unwrap();
    assert_eq!(bases(&log), [0, far]);
}

#[test]
fn a_segment_that_ends_is_synced_and_an_empty_one_does_not_end() {
    let mut log = log(LogConfig::default());
    log.roll(0);
    assert_eq!(bases(&log), [0]);
    (0..2).for_each(|_| append(&mut log, 0, 0));
    assert_eq!(log.synced(), 0);
    log.roll(0);
    append(&mut log, 0, 0);
    log.roll(0);
    log.roll(0);
    append(&mut log, 0, 0);
    assert_eq!((bases(&log), log.synced()), (vec![0, 2, 3], 3));
}
