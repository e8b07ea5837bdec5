//! A store in memory, for tests and as a reference for the contract of [`crate::store`].
//!
//! It resolves writes as all stores do and answers at once. It loses nothing, for it never restarts: faults
//! are for those who wrap it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{DeadLetter, Event, Row};
use crate::store::cell::{Cells, DeadLetterCells, Tie};
use crate::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Layout, Outcome, Page, Progress, Store,
    StoreError, WindowKey, registration, row_timestamp,
};

/// The tables.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    layout: Layout,
    consistency: BoundConsistency,
}

#[derive(Debug, Default)]
struct Tables {
    binding: Option<Binding>,
    origins: BTreeMap<i32, Cells<i64>>,
    next_offsets: BTreeMap<i32, Cells<i64>>,
    counts: BTreeMap<i32, BTreeMap<WindowKey, Cells<Count>>>,
    /// Its write timestamp is the number itself.
    registered: i32,
    alerts: BTreeMap<WindowKey, Cells<i32>>,
    events: BTreeMap<(i32, i64), Cells<Event>>,
    dead_letters: BTreeMap<(i32, i64), Cells<DeadLetterCells>>,
}

fn upsert<K: Ord, T: Tie>(table: &mut BTreeMap<K, Cells<T>>, key: K, cells: Cells<T>) {
    use std::collections::btree_map::Entry;
    match table.entry(key) {
        Entry::Vacant(slot) => {
            slot.insert(cells);
        }
        Entry::Occupied(mut slot) => slot.get_mut().merge(cells),
    }
}

impl Tables {
    fn progress(&self, partition: i32) -> Option<Progress> {
        let next_offset = self.next_offsets.get(&partition)?.values;
        let origin = self.origins.get(&partition).map_or(0, |cells| cells.values);
        Some(Progress { origin, next_offset })
    }
}

fn letter(cells: &Cells<DeadLetterCells>) -> Result<DeadLetter, StoreError> {
    DeadLetter::try_from(cells.values.clone()).map_err(StoreError::of)
}

fn outcome<T>(result: Result<T, StoreError>) -> Outcome<T> {
    match result {
        Ok(answer) => Outcome::Acknowledged(answer),
        Err(error) => Outcome::Refused(error),
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        let (layout, consistency) = (Layout::default(), BoundConsistency::Single);
        Self { tables: Arc::default(), layout, consistency }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that says that it keeps `events` in this layout. In memory every layout is the same.
    pub fn with_layout(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }

    /// The same tables, opened by a client that says that it uses this consistency. In memory all are the same.
    pub fn at(&self, consistency: BoundConsistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn consistency(&self) -> BoundConsistency {
        self.consistency.clone()
    }

    async fn binding(&self) -> Outcome<Option<Binding>> {
        Outcome::Acknowledged(self.tables().binding.clone())
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        let mut tables = self.tables();
        Outcome::Acknowledged(match &tables.binding {
            Some(before) => Bound::Before(before.clone()),
            None => {
                tables.binding = Some(binding.clone());
                Bound::Now
            }
        })
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        let tables = self.tables();
        let empty = tables.next_offsets.is_empty()
            && tables.counts.is_empty()
            && tables.registered == 0
            && tables.alerts.is_empty()
            && tables.events.is_empty()
            && tables.dead_letters.is_empty();
        Outcome::Acknowledged(!empty)
    }

    async fn progress_of_all(&self) -> Outcome<BTreeMap<i32, Progress>> {
        let tables = self.tables();
        let all = tables.next_offsets.keys();
        Outcome::Acknowledged(all.filter_map(|p| Some((*p, tables.progress(*p)?))).collect())
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        Outcome::Acknowledged(self.tables().progress(partition))
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let mut tables = self.tables();
        let origin = Cells { timestamp: 1, values: progress.origin };
        let next = Cells { timestamp: progress.write_timestamp(), values: progress.next_offset };
        upsert(&mut tables.origins, partition, origin);
        upsert(&mut tables.next_offsets, partition, next);
        Outcome::Acknowledged(())
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let mut tables = self.tables();
        tables.registered = tables.registered.max(registration(partition));
        Outcome::Acknowledged(())
    }

    async fn registered(&self) -> Outcome<i32> {
        Outcome::Acknowledged(self.tables().registered)
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let tables = self.tables();
        let counts = tables.counts.get(&partition);
        let count = |key| Some(counts?.get(key)?.values);
        Outcome::Acknowledged(windows.iter().map(count).collect())
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        let mut tables = self.tables();
        for (key, count) in counts {
            let cells = Cells { timestamp: count.write_timestamp(), values: *count };
            upsert(tables.counts.entry(partition).or_default(), key.clone(), cells);
        }
        Outcome::Acknowledged(())
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        let mut tables = self.tables();
        for alert in alerts {
            let key = WindowKey { source: alert.source.clone(), end: alert.ts };
            let cells = Cells { timestamp: i64::from(alert.event_count), values: alert.event_count };
            upsert(&mut tables.alerts, key, cells);
        }
        Outcome::Acknowledged(())
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        let mut tables = self.tables();
        for (offset, row) in rows {
            let (key, timestamp) = ((partition, *offset), row_timestamp(*offset));
            match row.clone() {
                Row::Event(values) => upsert(&mut tables.events, key, Cells { timestamp, values }),
                Row::DeadLetter(letter) => {
                    upsert(&mut tables.dead_letters, key, Cells { timestamp, values: letter.into() });
                }
            }
        }
        Outcome::Acknowledged(())
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        let tables = self.tables();
        let range = (partition, from)..(partition, below.max(from));
        let events = tables.events.range(range.clone()).rev().take(limit);
        let mut rows: Vec<(i64, Row)> =
            events.map(|(key, cells)| (key.1, Row::Event(cells.values.clone()))).collect();
        for (key, cells) in tables.dead_letters.range(range).rev().take(limit) {
            match letter(cells) {
                Ok(letter) => rows.push((key.1, Row::DeadLetter(letter))),
                Err(error) => return Outcome::Refused(error),
            }
        }
        rows.sort_by_key(|row| row.0);
        Outcome::Acknowledged(rows.split_off(rows.len().saturating_sub(limit)))
    }

    async fn events(&self, partition: i32, from: i64, to: i64, limit: usize) -> Outcome<Vec<(i64, Event)>> {
        let tables = self.tables();
        let rows = tables.events.range((partition, from)..(partition, to.max(from))).take(limit);
        Outcome::Acknowledged(rows.map(|(key, cells)| (key.1, cells.values.clone())).collect())
    }

    async fn dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, DeadLetter)>> {
        let tables = self.tables();
        let rows = tables.dead_letters.range((partition, from)..(partition, to.max(from))).take(limit);
        outcome(rows.map(|(key, cells)| Ok((key.1, letter(cells)?))).collect())
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        let tables = self.tables();
        let keys = tables.events.keys().chain(tables.dead_letters.keys());
        let mut partitions: Vec<i32> = keys.map(|key| key.0).collect();
        partitions.sort_unstable();
        partitions.dedup();
        Outcome::Acknowledged(partitions)
    }

    async fn alerts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<Alert>> {
        let tables = self.tables();
        let skip = match after.map(|cursor| cursor.0.try_into()) {
            None => 0,
            Some(Ok(bytes)) => usize::from_be_bytes(bytes),
            Some(Err(_)) => return Outcome::Refused(StoreError::of("alerts: not a cursor of this store")),
        };
        let rows: Vec<Alert> = tables
            .alerts
            .iter()
            .skip(skip)
            .take(limit)
            .map(|(key, cells)| Alert { source: key.source.clone(), ts: key.end, event_count: cells.values })
            .collect();
        let read = skip + rows.len();
        let next = (read < tables.alerts.len()).then(|| Cursor(read.to_be_bytes().into()));
        Outcome::Acknowledged(Page { rows, next })
    }
}
