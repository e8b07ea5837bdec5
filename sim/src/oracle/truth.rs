//! What is true of the log while a run goes on: the row of each record, and what a partition has counted up to an offset.
//!
//! It is computed from the records as they are appended, with the ground truth's decoder ([`exactlyonce::truth`]), and
//! shares no code with the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlyonce::event::{Record, Row};
use exactlyonce::store::{Binding, Count, WindowKey};
use exactlyonce::truth;

/// The records of a partition, by offset, with their rows.
type Rows = BTreeMap<i64, (Record, Row)>;

/// Offset and event time of the counted events of a source, in a partition.
type Counted = BTreeMap<(i32, Arc<str>), Vec<(i64, i64)>>;

pub(crate) struct Truth {
    binding: Binding,
    rows: BTreeMap<i32, Rows>,
    counted: Counted,
}

impl Truth {
    /// An empty log.
    pub fn new(binding: Binding) -> Self {
        Self { binding, rows: BTreeMap::new(), counted: BTreeMap::new() }
    }

    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Appends a record. Those of a partition come in the order of their offsets.
    pub fn add(&mut self, record: Record) {
        let Record { partition, offset, .. } = record;
        if offset < self.binding.origin(partition) {
            return;
        }
        let row = truth::row(&record, &self.binding);
        if let Row::Event(event) = &row
            && self.binding.window.health.contains(event.health)
        {
            let source = Arc::from(event.source.as_str());
            self.counted.entry((partition, source)).or_default().push((offset, event.ts));
        }
        self.rows.entry(partition).or_default().insert(offset, (record, row));
    }

    /// Removes the records of a partition from an offset on, as a truncation does.
    pub fn truncate(&mut self, partition: i32, end: i64) {
        if let Some(rows) = self.rows.get_mut(&partition) {
            rows.split_off(&end);
        }
        for ((of, _), counted) in &mut self.counted {
            if *of == partition {
                counted.retain(|(offset, _)| *offset < end);
            }
        }
    }

    /// The record at an offset and its row.
    pub fn record(&self, partition: i32, offset: i64) -> Option<&(Record, Row)> {
        self.rows.get(&partition)?.get(&offset)
    }

    /// The offsets of a partition's records in a range, with their rows.
    pub fn rows(&self, partition: i32, from: i64, to: i64) -> impl Iterator<Item = (i64, &Row)> {
        let rows = self.rows.get(&partition).filter(|_| from < to);
        rows.into_iter().flat_map(move |rows| rows.range(from..to)).map(|(offset, (_, row))| (*offset, row))
    }

    /// The ends of the windows in which the pipeline counts an event, at most `most` of them, spread evenly.
    pub fn windows(&self, row: &Row, most: usize) -> Vec<WindowKey> {
        let Row::Event(event) = row else { return Vec::new() };
        if !self.binding.window.health.contains(event.health) {
            return Vec::new();
        }
        let ends = truth::window_ends(event.ts, &self.binding.window).unwrap_or_default();
        let step = ends.len().div_ceil(most.max(1)).max(1);
        let source: Arc<str> = event.source.as_str().into();
        ends.into_iter().step_by(step).map(|end| WindowKey { source: source.clone(), end }).collect()
    }

    /// What a partition has counted in a window below an offset; `None` if nothing.
    pub fn count_below(&self, partition: i32, window: &WindowKey, below: i64) -> Option<Count> {
        if window.end.rem_euclid(self.binding.window.slide_ms.max(1)) != 0 {
            return None;
        }
        let counted = self.counted.get(&(partition, window.source.clone()))?;
        let size = i128::from(self.binding.window.size_ms);
        let is_in = |(offset, ts): &&(i64, i64)| {
            *offset < below && *ts < window.end && i128::from(*ts) >= i128::from(window.end) - size
        };
        counted.iter().filter(is_in).fold(None, |count: Option<Count>, (offset, _)| {
            Some(Count { count: count.map_or(0, |count| count.count) + 1, through_offset: *offset })
        })
    }

    /// The counted events of a window over all partitions.
    pub fn total(&self, window: &WindowKey) -> i64 {
        let below = |partition: &i32| self.count_below(*partition, window, i64::MAX);
        self.rows.keys().filter_map(below).map(|count| count.count).sum()
    }

    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.rows.keys().copied()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use exactlyonce::binding::BindingSpec;
    use exactlyonce::store::{BoundConsistency, Layout};

    use super::*;

    /// A binding with windows of 10 ms each 5 ms, and a threshold of 3.
    pub(crate) fn binding() -> Binding {
        let mut window = BindingSpec::new("t").window;
        (window.size_ms, window.slide_ms, window.threshold) = (10, 5, 3);
        Binding {
            topic: "t".to_owned(),
            topic_id: "id".to_owned(),
            window,
            max_mutation_bytes: BindingSpec::MAX_MUTATION_BYTES as i64,
            decoder_version: 1,
            layout: Layout::default(),
            schema_version: 2,
            consistency: BoundConsistency::Single,
            origins: BTreeMap::from([(0, 2)]),
        }
    }

    /// A critical event of source "s".
    pub(crate) fn event(partition: i32, offset: i64, ts: i64) -> Record {
        let value = format!(r#"{{"id":{offset},"ts":{ts},"source":"s","client":"c","health":2}}"#);
        Record { partition, offset, timestamp: 0, key: None, value: Some(value.into_bytes()) }
    }

    pub(crate) fn window(end: i64) -> WindowKey {
        WindowKey { source: "s".into(), end }
    }

    #[test]
    fn counts_are_those_of_the_ground_truth_at_every_offset() {
        let mut truth = Truth::new(binding());
        let mut records = Vec::new();
        for (offset, ts) in [(0, 1), (1, 2), (2, 3), (4, -7), (5, 12), (9, 4), (10, 5)] {
            for partition in [0, 1] {
                records.push(event(partition, offset, ts));
                truth.add(event(partition, offset, ts));
            }
            let tables = exactlyonce::truth::tables(&records, &binding());
            for end in -20..30 {
                for partition in [0, 1] {
                    let expected = tables.counts.get(&(partition, window(end)));
                    let found = truth.count_below(partition, &window(end), i64::MAX);
                    assert_eq!(
                        found.map(|found| (found.count, found.through_offset)),
                        expected.copied(),
                        "{end}"
                    );
                }
                let total = tables.alerts.get(&window(end));
                assert_eq!(Some(truth.total(&window(end))).filter(|total| *total >= 3), total.copied());
            }
        }
        assert_eq!(truth.count_below(1, &window(10), 1), Some(Count { count: 1, through_offset: 0 }));
        truth.truncate(1, 1);
        assert_eq!(truth.count_below(1, &window(10), i64::MAX), Some(Count { count: 1, through_offset: 0 }));
    }
}
