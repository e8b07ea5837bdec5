//! What the demonstration reads from the tables.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{DemoError, Options, PARTITIONS, SourceSummary};
use crate::event::Health;
use crate::store::embedded::EmbeddedStore;
use crate::store::{Progress, Store};

/// Rows of one read.
const PAGE: usize = 5_000;

/// The tables of the demonstration, open.
pub(super) struct Tables {
    store: EmbeddedStore,
}

/// Statistics of their rows.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub events: u64,
    pub dead_letters: u64,
    pub alerts: u64,
    /// All sources, the busiest first.
    pub sources: Vec<SourceSummary>,
}

/// Number of durable records.
pub(super) fn durable(progress: &BTreeMap<i32, Progress>) -> u64 {
    progress.values().map(|progress| progress.next_offset.abs_diff(progress.origin)).sum()
}

impl Tables {
    pub fn open(options: &Options) -> Result<Self, DemoError> {
        Ok(Self { store: EmbeddedStore::open(&options.folder, &options.embedded, options.layout)? })
    }

    pub fn store(&self) -> &EmbeddedStore {
        &self.store
    }

    pub async fn progress(&self) -> Result<BTreeMap<i32, Progress>, DemoError> {
        self.store.progress_of_all().await.into_result().map_err(DemoError::store("read progress"))
    }

    /// Rows at and past progress: the next worker processes their records again.
    pub async fn rows_past(&self, progress: &BTreeMap<i32, Progress>) -> Result<u64, DemoError> {
        let mut rows = 0;
        for partition in 0..PARTITIONS {
            let from = progress.get(&partition).map_or(0, |progress| progress.next_offset);
            self.events(partition, from, |_| rows += 1).await?;
            rows += self.dead_letters(partition, from).await?;
        }
        Ok(rows)
    }

    /// Counts all rows. Keeps a summary of each source in memory.
    pub async fn count(&self) -> Result<Counted, DemoError> {
        let mut counted = Counted::default();
        let mut sources: BTreeMap<String, SourceSummary> = BTreeMap::new();
        let mut summary = |source: &str, change: &dyn Fn(&mut SourceSummary)| match sources.get_mut(source) {
            Some(summary) => change(summary),
            None => {
                let source = source.to_owned();
                let mut summary = SourceSummary { source: source.clone(), events: 0, critical: 0, alerts: 0 };
                change(&mut summary);
                if let Entry::Vacant(slot) = sources.entry(source) {
                    slot.insert(summary);
                }
            }
        };
        for partition in 0..PARTITIONS {
            let count = |event: &crate::event::Event| {
                counted.events += 1;
                summary(&event.source, &|summary| {
                    summary.events += 1;
                    summary.critical += u64::from(event.health == Health::Critical);
                });
            };
            self.events(partition, 0, count).await?;
            counted.dead_letters += self.dead_letters(partition, 0).await?;
        }
        let mut after = None;
        loop {
            let page = self.store.alerts(after, PAGE).await.into_result();
            let page = page.map_err(DemoError::store("read alerts"))?;
            for alert in &page.rows {
                counted.alerts += 1;
                summary(&alert.source, &|summary| summary.alerts += 1);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        counted.sources = sources.into_values().collect();
        // Stable, so that ties stay in the order of their names.
        counted.sources.sort_by_key(|summary| std::cmp::Reverse(summary.events));
        Ok(counted)
    }

    async fn events(
        &self,
        partition: i32,
        mut from: i64,
        mut each: impl FnMut(&crate::event::Event),
    ) -> Result<(), DemoError> {
        loop {
            let rows = self.store.events(partition, from, i64::MAX, PAGE).await.into_result();
            let rows = rows.map_err(DemoError::store(format!("read events of partition {partition}")))?;
            rows.iter().for_each(|(_, event)| each(event));
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE => from = last + 1,
                _ => return Ok(()),
            }
        }
    }

    async fn dead_letters(&self, partition: i32, mut from: i64) -> Result<u64, DemoError> {
        let mut count = 0;
        loop {
            let rows = self.store.dead_letters(partition, from, i64::MAX, PAGE).await.into_result();
            let rows =
                rows.map_err(DemoError::store(format!("read dead letters of partition {partition}")))?;
            count += rows.len() as u64;
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE => from = last + 1,
                _ => return Ok(count),
            }
        }
    }
}
