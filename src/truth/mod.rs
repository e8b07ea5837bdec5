//! The ground truth: what the tables must contain, computed in one pass over the log.
//!
//! Every record from its partition's origin on is an event or a dead letter. Events whose health counts are counted for
//! each window of their source, and a window with at least the threshold has an alert. That is all: no batches, no order
//! between partitions, no store.
//!
//! It is an independent reference implementation that the pipeline is checked against: the two share types (records,
//! rows, the binding) but no computation; it uses neither [`crate::decode`] nor [`crate::pipeline`] nor
//! [`WindowSpec::ends`].

mod decode;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::event::{Body, DeadLetter, Event, Reason, Record, Row};
use crate::store::{Binding, WindowKey};
use crate::window::WindowSpec;

pub use stored::stored;

/// What a partition has counted in one window: by partition and window, the number of counted events and the
/// offset of the last one.
pub type Counts = BTreeMap<(i32, WindowKey), (i64, i64)>;

/// The three result tables, and the counts that the alerts are summed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By partition and offset.
    pub events: BTreeMap<(i32, i64), Event>,
    /// By partition and offset.
    pub dead_letters: BTreeMap<(i32, i64), DeadLetter>,
    /// `event_count` by window.
    pub alerts: BTreeMap<WindowKey, i64>,
    /// What `window_counts` must contain.
    pub counts: Counts,
}

/// The record's row.
pub fn row(record: &Record, binding: &Binding) -> Row {
    let reason = if record.len() as i128 > i128::from(binding.max_mutation_bytes) {
        Reason::TooLarge
    } else {
        match decode::event(record.value.as_deref(), binding) {
            Ok(event) => return Row::Event(event),
            Err(reason) => reason,
        }
    };
    let body = if reason == Reason::TooLarge {
        let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().unwrap_or_default();
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| bytes.len() as i64);
        Body::Digest {
            key_length: length(&record.key),
            value_length: length(&record.value),
            sha256: Sha256::digest([bytes(&record.key), bytes(&record.value)].concat()).into(),
        }
    } else {
        Body::Whole { key: record.key.clone(), value: record.value.clone() }
    };
    Row::DeadLetter(DeadLetter { reason, timestamp: record.timestamp, body })
}

/// The ends of the windows that contain `ts`, ascending: the multiples of `slide_ms` that are greater
/// than `ts` and at most `ts + size_ms`. `None` if one of them lies outside i64.
pub fn window_ends(ts: i64, window: &WindowSpec) -> Option<Vec<i64>> {
    let (ts, size, slide) = (i128::from(ts), i128::from(window.size_ms), i128::from(window.slide_ms.max(1)));
    let last = (ts + size) - (ts + size).rem_euclid(slide);
    let mut ends = Vec::new();
    let mut end = last;
    while end > ts {
        ends.push(i64::try_from(end).ok()?);
        end -= slide;
    }
    ends.reverse();
    Some(ends)
}

/// The tables of a log. The records of a partition may be in any order and mixed with those of other partitions; those
/// below its origin are skipped.
pub fn tables<'a>(records: impl IntoIterator<Item = &'a Record>, binding: &Binding) -> Tables {
    let mut tables = Tables::default();
    let mut sources: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut alerts: BTreeMap<WindowKey, i64> = BTreeMap::new();
    for record in records {
        if record.offset < binding.origin(record.partition) {
            continue;
        }
        let position = (record.partition, record.offset);
        match row(record, binding) {
            Row::DeadLetter(letter) => {
                tables.dead_letters.insert(position, letter);
            }
            Row::Event(event) => {
                if binding.window.health.contains(event.health) {
                    let source = match sources.get(event.source.as_str()) {
                        Some(source) => source.clone(),
                        None => event.source.as_str().into(),
                    };
                    sources.insert(source.clone());
                    for end in window_ends(event.ts, &binding.window).unwrap_or_default() {
                        let window = WindowKey { end, source: source.clone() };
                        *alerts.entry(window.clone()).or_default() += 1;
                        let counted = tables.counts.entry((record.partition, window));
                        let (count, through) = counted.or_insert((0, record.offset));
                        *count += 1;
                        *through = record.offset.max(*through);
                    }
                }
                tables.events.insert(position, event);
            }
        }
    }
    alerts.retain(|_, count| *count >= i64::from(binding.window.threshold));
    tables.alerts = alerts;
    tables
}

#[cfg(test)]
mod tests;
