//! A store in memory, for tests and as a reference for the contract of [`crate::store`].
//!
//! It resolves writes as all stores do and responds immediately. It loses nothing because it never restarts; wrappers
//! inject faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{DeadLetter, Event, Row};
use crate::store::cell::{Cells, DeadLetterCells, Tie};
use crate::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Flaw, Layout, Outcome, Page, Progress, RowKey,
    Store, StoreError, Stored, StoredBinding, StoredCount, WindowKey, event_count, registration,
    row_timestamp,
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
    binding: Option<StoredBinding>,
    origins: BTreeMap<i32, Cells<i64>>,
    next_offsets: BTreeMap<i32, Cells<i64>>,
    counts: BTreeMap<i32, BTreeMap<WindowKey, Cells<Count>>>,
    /// The number of partitions; its write timestamp is the number itself.
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

fn letter(key: &(i32, i64), cells: &Cells<DeadLetterCells>) -> Stored<DeadLetter> {
    let key = RowKey::Position { partition: key.0.into(), offset: key.1 };
    DeadLetter::try_from(cells.values.clone())
        .map_err(|(column, what)| Flaw::new(column, what).of("dead_letters", key))
}

/// Rows from a cursor on; a cursor is the number of entries before it.
fn page<E, T>(
    all: impl Iterator<Item = E>,
    row: impl FnMut(E) -> T,
    after: Option<Cursor>,
    limit: usize,
) -> Outcome<Page<T>> {
    let skip = match after.map(|cursor| cursor.0.try_into()) {
        None => 0,
        Some(Ok(bytes)) => usize::from_be_bytes(bytes),
        Some(Err(_)) => return Outcome::Refused(StoreError::of("not a cursor of this store")),
    };
    let mut all = all.skip(skip);
    let rows: Vec<T> = all.by_ref().take(limit).map(row).collect();
    let read = skip + rows.len();
    let next = all.next().map(|_| Cursor(read.to_be_bytes().into()));
    Outcome::Acknowledged(Page { rows, next })
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

    /// An empty store that reports this layout of `events`. In memory the layout has no effect.
    pub fn with_layout(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }

    /// The same tables, for a client that reports this consistency. In memory the consistency has no effect.
    pub fn at(&self, consistency: BoundConsistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// Replaces the row of `pipeline`, as only a manual change of the tables does.
    pub fn replace_binding(&self, binding: Option<StoredBinding>) {
        self.tables().binding = binding;
    }

    /// The `event_count` of a window's alert.
    pub fn alert(&self, window: &WindowKey) -> Option<i32> {
        self.tables().alerts.get(window).map(|cells| cells.values)
    }

    /// True if the record at a position has a row in `dead_letters`, or else in `events`.
    pub fn has_row(&self, partition: i32, offset: i64, is_dead_letter: bool) -> bool {
        let (tables, position) = (self.tables(), (partition, offset));
        match is_dead_letter {
            true => tables.dead_letters.contains_key(&position),
            false => tables.events.contains_key(&position),
        }
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

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        Outcome::Acknowledged(self.tables().binding.clone())
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        let mut tables = self.tables();
        match tables.binding.clone().map(StoredBinding::undamaged).transpose() {
            Ok(Some(before)) => Outcome::Acknowledged(Bound::Before(before)),
            Ok(None) => {
                tables.binding = Some(binding.clone().into());
                Outcome::Acknowledged(Bound::Now)
            }
            Err(damaged) => Outcome::Refused(StoreError::new("write the binding", damaged)),
        }
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

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        let tables = self.tables();
        let all = tables.next_offsets.keys();
        Outcome::Acknowledged(all.filter_map(|p| Some((*p, Ok(tables.progress(*p)?)))).collect())
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
            match letter(key, cells) {
                Ok(letter) => rows.push((key.1, Row::DeadLetter(letter))),
                Err(damaged) => return Outcome::Refused(StoreError::new("read rows", damaged)),
            }
        }
        rows.sort_by_key(|row| row.0);
        Outcome::Acknowledged(rows.split_off(rows.len().saturating_sub(limit)))
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        let tables = self.tables();
        let rows = tables.events.range((partition, from)..(partition, to.max(from))).take(limit);
        Outcome::Acknowledged(rows.map(|(key, cells)| (key.1, Ok(cells.values.clone()))).collect())
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        let tables = self.tables();
        let rows = tables.dead_letters.range((partition, from)..(partition, to.max(from))).take(limit);
        Outcome::Acknowledged(rows.map(|(key, cells)| (key.1, letter(key, cells))).collect())
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        let tables = self.tables();
        let keys = tables.events.keys().chain(tables.dead_letters.keys());
        let mut partitions: Vec<i32> = keys.map(|key| key.0).collect();
        partitions.sort_unstable();
        partitions.dedup();
        Outcome::Acknowledged(partitions)
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        let tables = self.tables();
        let alert = |(window, cells): (&WindowKey, &Cells<i32>)| {
            let key = || RowKey::Window { source: window.source.clone(), window_end: window.end };
            let count = event_count(Some(cells.values.into())).map_err(|flaw| flaw.of("alerts", key()));
            (window.clone(), count)
        };
        page(tables.alerts.iter(), alert, after, limit)
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        let tables = self.tables();
        let all = tables.counts.iter().flat_map(|(partition, counts)| {
            counts.iter().map(move |(window, cells)| (*partition, window, cells))
        });
        let row = |(partition, window, cells): (i32, &WindowKey, &Cells<Count>)| StoredCount {
            partition,
            place: None,
            window: window.clone(),
            count: Ok(cells.values),
        };
        page(all, row, after, limit)
    }
}
