//! The target `event`: the decoder of the pipeline against that of the ground truth.

use std::collections::BTreeMap;

use exactlyonce::decode::{DECODER_VERSION, Decoder};
use exactlyonce::event::{Event, Health, Record, Row};
use exactlyonce::store::{Binding, BoundConsistency, Layout, SCHEMA_VERSION};
use exactlyonce::truth;
use exactlyonce::window::{HealthSet, WindowSpec};

use crate::allocations::peak;

/// Sizes and slides of windows: common ones, and those at whose borders numbers end.
const WINDOWS: [(i64, i64); 8] = [
    (300_000, 300_000),
    (5_000, 1_000),
    (7, 3),
    (1, 1),
    (1_000, 1),
    (i64::MAX, i64::MAX),
    (i64::MAX, i64::MAX / 500),
    (i64::MAX - 1, i64::MAX / 2),
];

/// Most bytes of a record.
const MOST_BYTES: [usize; 4] = [1 << 20, 1_500, 100, 0];

/// Timestamps of records, to which an offset is added.
const TIMESTAMPS: [i64; 4] = [0, 1_700_000_000_000, i64::MAX - 255, i64::MIN];

/// The record of an input, and the window and the maximum size that it is decoded with. Four bytes come first: bits that
/// choose (a key, a value, window, maximum size), the length of the key, the timestamp, the offset; then the key, then the
/// value.
fn record(data: &[u8]) -> Option<(Record, WindowSpec, usize)> {
    let ([choices, key_bytes, time, offset], rest) = data.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at(usize::from(*key_bytes).min(rest.len()));
    let choose = |shift: u8, of: usize| usize::from(choices >> shift) % of;
    let (size_ms, slide_ms) = WINDOWS[choose(2, WINDOWS.len())];
    let window = WindowSpec {
        size_ms,
        slide_ms,
        threshold: 1,
        health: HealthSet::of(&[Health::Warning, Health::Critical]),
    };
    let timestamp = TIMESTAMPS[usize::from(time % 4)].saturating_add(i64::from(*time));
    let record = Record {
        partition: i32::from(offset % 4),
        offset: i64::from(*offset),
        timestamp,
        key: (choices & 1 == 0).then(|| key.to_vec()),
        value: (choices & 2 == 0).then(|| value.to_vec()),
    };
    Some((record, window, MOST_BYTES[choose(5, MOST_BYTES.len())]))
}

/// Decodes a record. Both decoders return the same row, in memory in proportion to the record, and an event that is written
/// as JSON is read as the same event, with the same windows.
///
/// # Panics
/// If it is not so.
pub fn event(data: &[u8]) {
    let Some((record, window, max_mutation_bytes)) = record(data) else { return };
    let binding = Binding {
        topic: "t".to_owned(),
        topic_id: "id".to_owned(),
        window,
        max_mutation_bytes: max_mutation_bytes as i64,
        decoder_version: DECODER_VERSION,
        layout: Layout::ORIGINAL,
        schema_version: SCHEMA_VERSION,
        consistency: BoundConsistency::Single,
        origins: BTreeMap::new(),
    };
    let decoder = Decoder { window, max_mutation_bytes };
    let (length, copy) = (record.len(), record.clone());
    let (row, bytes) = peak(|| decoder.row(copy));
    assert!(bytes <= 4 * length + 1_024, "the pipeline's decoder takes {bytes} bytes for {length}");
    let (truth, bytes) = peak(|| truth::row(&record, &binding));
    // It lists the windows, which may be a thousand, to see whether all of them exist.
    assert!(bytes <= 8 * length + (32 << 10), "the truth's decoder takes {bytes} bytes for {length}");
    assert_eq!(row, truth, "pipeline (left) and truth (right) of {record:?}");

    let Row::Event(event) = row else { return };
    let ends = window.ends(event.ts).map(|ends| ends.collect::<Vec<_>>());
    assert_eq!(ends, truth::window_ends(event.ts, &window), "windows of {}", event.ts);
    let again = Record { key: None, value: Some(json(&event).into_bytes()), ..record };
    let decoder = Decoder { max_mutation_bytes: usize::MAX, ..decoder };
    assert_eq!(decoder.event(&again), Ok(event));
}

fn json(event: &Event) -> String {
    let Event { id, ts, source, client, health } = event;
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let (source, client, health) = (text(source), text(client), health.code());
    format!(r#"{{"client":{client},"health":{health},"id":{id},"source":{source},"ts":{ts}}}"#)
}
