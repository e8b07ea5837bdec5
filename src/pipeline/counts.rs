//! This partition's own window counts in memory, bounded.
//!
//! A count is either *pinned* or *released*. A pinned one is touched by a batch that is not yet acknowledged: its
//! newest value may exist nowhere else, so it is neither evicted nor read again. A released one is acknowledged in its
//! newest value; it may be evicted, least recently touched first, and is read again when it is touched again.
//! Releasing a count when an older write than its newest is acknowledged would lose counts, so each count records the
//! newest batch that touched it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::store::{Count, WindowKey};

/// What a count costs in addition to the bytes of its source: 57 bytes in a table that is between 7/16 and 7/8 full, the
/// source's allocation with 16 bytes of its own, and 40 to 48 bytes in the list of a batch.
const COUNT_BYTES: usize = 176;

/// The counts of one partition in one incarnation.
#[derive(Debug)]
pub struct Counts {
    entries: HashTable<(WindowKey, Entry)>,
    hasher: Hasher,
    /// Batches that touched counts and are not acknowledged yet. They pin the counts that no newer batch has touched.
    unacknowledged: BTreeSet<u64>,
    /// Batches that were folded and not released yet.
    in_flight: usize,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// Has no meaning until it is known.
    count: Count,
    /// The newest batch that touched it.
    batch: u64,
    /// Its position among the windows of that batch.
    index: u32,
    /// False until it is read from the store.
    known: bool,
}

/// One batch's windows and what it adds to them.
#[derive(Debug, Default)]
pub struct Touched {
    /// Each window once, with its count: `None` if it must be read from the store.
    windows: Vec<(WindowKey, Option<Count>)>,
    /// Indexes of windows that must be read and the offsets to count there, in the order of the log.
    additions: Vec<(u32, i64)>,
    /// What the windows cost in memory.
    bytes: usize,
}

/// Hashes a source once for all of its windows.
#[derive(Clone, Debug)]
struct Hasher(FixedState);

impl Hasher {
    fn source(&self, source: &str) -> u64 {
        self.0.hash_one(source)
    }

    fn window(&self, source: u64, end: i64) -> u64 {
        self.0.hash_one((source, end))
    }

    fn key(&self, key: &WindowKey) -> u64 {
        self.window(self.source(&key.source), key.end)
    }
}

fn cost(key: &WindowKey) -> usize {
    key.source.len() + COUNT_BYTES
}

impl Counts {
    /// An empty cache of at most `limit` bytes. `seed` keeps senders from causing hash collisions by their choice of sources.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            entries: HashTable::new(),
            hasher: Hasher(FixedState::with_seed(seed)),
            unacknowledged: BTreeSet::new(),
            in_flight: 0,
            bytes: 0,
            limit,
        }
    }

    /// Records that `batch` counts the event at `offset` in these windows of `source`, and pins them.
    pub fn touch(
        &mut self,
        batch: u64,
        touched: &mut Touched,
        source: &str,
        ends: impl Iterator<Item = i64>,
        offset: i64,
    ) {
        if touched.windows.is_empty() {
            self.unacknowledged.insert(batch);
        }
        let Self { entries, hasher, bytes, .. } = self;
        let source_hash = hasher.source(source);
        // The source as the windows share it: compared and allocated once for most of them.
        let mut shared: Option<Arc<str>> = None;
        for end in ends {
            let next = touched.windows.len() as u32;
            let hash = hasher.window(source_hash, end);
            let is_equal = |(key, _): &(WindowKey, Entry)| {
                key.end == end
                    && (shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &key.source))
                        || *key.source == *source)
            };
            let index = match entries.find_mut(hash, is_equal) {
                Some((key, entry)) => {
                    if !shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &key.source)) {
                        shared = Some(key.source.clone());
                    }
                    if entry.batch == batch {
                        entry.index
                    } else {
                        (entry.batch, entry.index) = (batch, next);
                        touched.push(key.clone(), entry.known.then_some(entry.count));
                        next
                    }
                }
                None => {
                    let source = shared.get_or_insert_with(|| Arc::from(source)).clone();
                    let key = WindowKey { source, end };
                    *bytes += cost(&key);
                    let entry = Entry { count: Count::NONE, batch, index: next, known: false };
                    entries.insert_unique(hash, (key.clone(), entry), |(key, _)| hasher.key(key));
                    touched.push(key, None);
                    next
                }
            };
            touched.add(index, offset);
        }
    }

    /// True if a batch with these windows and additions should close: the limit must hold several batches.
    pub fn is_full(&self, touched: &Touched) -> bool {
        touched.bytes + size_of_val(touched.additions.as_slice()) >= self.limit / 3
    }

    /// Evicts released counts if the limit does not hold; false if it does not hold then and other batches will release
    /// more. (The windows of one batch stay far below any sensible limit, see `is_full`.)
    pub fn shrink_to_limit(&mut self) -> bool {
        if self.bytes > self.limit {
            // Somewhat more than necessary, because each eviction visits all counts.
            self.evict(self.bytes - (self.limit - self.limit / 8));
        }
        self.bytes <= self.limit || self.in_flight == 0
    }

    /// Evicts released counts of at least this many bytes, if there are as many: those that were last touched by the
    /// oldest batches.
    fn evict(&mut self, excess: usize) {
        let mut of_batches: BTreeMap<u64, usize> = BTreeMap::new();
        for (key, entry) in &self.entries {
            if !self.unacknowledged.contains(&entry.batch) {
                *of_batches.entry(entry.batch).or_default() += cost(key);
            }
        }
        let mut evicted = 0;
        let enough = |(_, of_batch): &(&u64, &usize)| {
            evicted += **of_batch;
            evicted >= excess
        };
        let Some(newest) = of_batches.iter().find(enough).or(of_batches.last_key_value()) else { return };
        let newest = *newest.0;
        let Self { entries, unacknowledged, bytes, .. } = self;
        entries.retain(|(key, entry)| {
            let stays = entry.batch > newest || unacknowledged.contains(&entry.batch);
            *bytes -= if stays { 0 } else { cost(key) };
            stays
        });
    }

    /// Stores the newest values of a batch's windows. The batch pins them until it is released.
    pub fn store(&mut self, touched: &Touched) {
        self.in_flight += 1;
        // Of the window before, which usually has the same source.
        let mut source: Option<(&Arc<str>, u64)> = None;
        for (key, count) in &touched.windows {
            let hash = match source {
                Some((before, hash)) if Arc::ptr_eq(before, &key.source) => hash,
                _ => self.hasher.source(&key.source),
            };
            source = Some((&key.source, hash));
            let entry = self.entries.find_mut(self.hasher.window(hash, key.end), |(other, _)| other == key);
            if let (Some((_, entry)), Some(count)) = (entry, count) {
                (entry.count, entry.known) = (*count, true);
            }
        }
    }

    /// Releases the windows of a batch whose counts are acknowledged, except those that a newer batch has touched.
    pub fn release(&mut self, batch: u64) {
        self.in_flight -= 1;
        self.unacknowledged.remove(&batch);
    }
}

impl Touched {
    fn push(&mut self, key: WindowKey, count: Option<Count>) {
        self.bytes += cost(&key);
        self.windows.push((key, count));
    }

    /// Counts the event at this offset in the window at this index, as soon as its count is known.
    fn add(&mut self, index: u32, offset: i64) {
        match self.windows.get_mut(index as usize) {
            Some((_, Some(count))) => count.add(offset),
            _ => self.additions.push((index, offset)),
        }
    }

    /// The windows, each once, in the order in which they were first touched.
    pub fn windows(&self) -> &[(WindowKey, Option<Count>)] {
        &self.windows
    }

    /// Sets the stored count of the window at this index: `None` for no row.
    pub fn set(&mut self, index: usize, stored: Option<Count>) {
        if let Some((_, count)) = self.windows.get_mut(index) {
            *count = Some(stored.unwrap_or(Count::NONE));
        }
    }

    /// The indexes of the windows whose counts must be read from the store.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.windows.len()).filter(|index| self.windows[*index].1.is_none()).collect()
    }

    /// Applies the additions to windows that had to be read, in the order of the log. Every window must have its count.
    pub fn add_all(&mut self) {
        for (index, offset) in self.additions.drain(..) {
            if let Some((_, count)) = self.windows.get_mut(index as usize) {
                count.get_or_insert(Count::NONE).add(offset);
            }
        }
    }

    /// The counts to write: every window that was touched, changed or not.
    pub fn into_counts(self) -> Vec<(WindowKey, Count)> {
        self.windows.into_iter().filter_map(|(key, count)| Some((key, count?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds one event of each source as batch `number`; what the cache does not have has no stored row.
    fn fold(counts: &mut Counts, number: u64, sources: &[&str], offset: i64) {
        let mut touched = Touched::default();
        for source in sources {
            counts.touch(number, &mut touched, source, [10].into_iter(), offset);
        }
        for index in touched.missing() {
            touched.set(index, None);
        }
        touched.add_all();
        counts.store(&touched);
    }

    /// The count of a source, if it is in memory.
    fn count_of(counts: &mut Counts, source: &str) -> Option<Count> {
        let entry = counts.entries.iter().find(|(key, _)| (&*key.source, key.end) == (source, 10));
        entry.filter(|(_, entry)| entry.known).map(|(_, entry)| entry.count)
    }

    /// A limit for this many sources of one byte.
    fn limit(sources: usize) -> usize {
        sources * (COUNT_BYTES + 1)
    }

    #[test]
    fn a_count_costs_what_the_limit_assumes() {
        let in_table = size_of::<(WindowKey, Entry)>() + 1;
        assert_eq!(in_table, 57);
        let allocation = 16 + 16;
        let in_a_list = size_of::<(WindowKey, Option<Count>)>();
        let at_most = in_table * 16 / 7 + allocation + in_a_list;
        let at_least = in_table * 8 / 7 + allocation + size_of::<(WindowKey, Count)>();
        assert!((at_least..at_most).contains(&(COUNT_BYTES + 16)), "{at_least} to {at_most}");
    }

    #[test]
    fn the_windows_of_a_source_share_its_name() {
        let mut counts = Counts::new(1 << 20, 1);
        let mut touched = Touched::default();
        counts.touch(0, &mut touched, "a", [10, 20].into_iter(), 3);
        counts.touch(0, &mut touched, "b", [20, 30].into_iter(), 4);
        counts.touch(0, &mut touched, "a", [20, 30].into_iter(), 5);
        let names = |source: &str| {
            let keys = touched.windows().iter().map(|(key, _)| key).filter(move |key| &*key.source == source);
            keys.map(|key| (key.end, Arc::as_ptr(&key.source).addr())).collect::<Vec<_>>()
        };
        let (a, b) = (names("a"), names("b"));
        assert_eq!(a.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [10, 20, 30]);
        assert!(a.iter().all(|(_, name)| *name == a[0].1));
        assert_eq!(b.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [20, 30]);
        assert!(b[0].1 == b[1].1 && a[0].1 != b[0].1);
    }

    #[test]
    fn a_table_that_grows_finds_all_its_counts_again() {
        let mut counts = Counts::new(1 << 30, 1);
        let sources: Vec<String> = (0..500).map(|number| format!("source {number}")).collect();
        for number in [0, 1] {
            let mut touched = Touched::default();
            for source in &sources {
                counts.touch(number, &mut touched, source, [10, 20].into_iter(), number as i64);
            }
            assert_eq!(touched.missing().len(), if number == 0 { 1_000 } else { 0 });
            for index in touched.missing() {
                touched.set(index, None);
            }
            touched.add_all();
            counts.store(&touched);
        }
        assert_eq!(count_of(&mut counts, "source 77"), Some(Count { count: 2, through_offset: 1 }));
    }

    #[test]
    fn a_window_that_is_touched_twice_is_written_once_with_both() {
        let mut counts = Counts::new(1 << 20, 1);
        let mut touched = Touched::default();
        for (offset, source) in [(3, "a"), (4, "b"), (9, "a")] {
            counts.touch(0, &mut touched, source, [10].into_iter(), offset);
        }
        assert_eq!(touched.missing(), [0, 1]);
        touched.set(0, Some(Count { count: 7, through_offset: 3 }));
        touched.set(1, None);
        touched.add_all();
        let written: Vec<Count> = touched.into_counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(written, [Count { count: 8, through_offset: 9 }, Count { count: 1, through_offset: 4 },]);
    }

    #[test]
    fn a_count_in_memory_is_added_to_at_once_and_keeps_no_offsets() {
        let mut counts = Counts::new(1 << 20, 1);
        fold(&mut counts, 0, &["a"], 5);
        let mut touched = Touched::default();
        // The broker may deliver a record again.
        for offset in [5, 6, 6, 7] {
            counts.touch(1, &mut touched, "a", [10, 20].into_iter(), offset);
        }
        assert_eq!(touched.windows()[0].1, Some(Count { count: 3, through_offset: 7 }));
        assert_eq!(touched.missing(), [1]);
        assert_eq!(touched.additions.len(), 4, "of the window that must be read");
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }), "not yet folded");
    }

    #[test]
    fn a_batch_is_full_by_its_windows_and_by_what_it_adds_to_unknown_ones() {
        let counts = &mut Counts::new(limit(40), 1);
        let mut windows = Touched::default();
        let touched = (0..).take_while(|end| {
            counts.touch(0, &mut windows, "a", [*end].into_iter(), 1);
            !counts.is_full(&windows)
        });
        assert!((8..13).contains(&touched.count()));
        let mut additions = Touched::default();
        let touched = (0..).take_while(|offset| {
            counts.touch(1, &mut additions, "b", [10].into_iter(), *offset);
            !counts.is_full(&additions)
        });
        assert!((110..150).contains(&touched.count()));
    }

    #[test]
    fn a_released_count_stays_while_the_limit_holds() {
        let mut counts = Counts::new(1 << 20, 1);
        fold(&mut counts, 0, &["a"], 5);
        counts.release(0);
        assert!(counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }));
    }

    #[test]
    fn the_longest_untouched_counts_are_evicted_first() {
        let mut counts = Counts::new(limit(8), 1);
        for (number, source) in ["a", "b", "c", "d", "e", "f", "g", "a", "h", "i"].into_iter().enumerate() {
            fold(&mut counts, number as u64, &[source], number as i64);
            counts.release(number as u64);
            assert!(counts.shrink_to_limit());
        }
        let left: Vec<&str> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
            .into_iter()
            .filter(|source| count_of(&mut counts, source).is_some())
            .collect();
        assert_eq!(left, ["a", "d", "e", "f", "g", "h", "i"], "an eighth of the limit is free again");
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 2, through_offset: 7 }));
        assert_eq!(counts.bytes, limit(7));
    }

    #[test]
    fn a_count_that_is_not_acknowledged_is_never_evicted() {
        let mut counts = Counts::new(1, 1);
        fold(&mut counts, 0, &["a"], 5);
        assert!(!counts.shrink_to_limit(), "it waits for the acknowledgement");
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }));
        counts.release(0);
        assert!(counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "a"), None);
    }

    #[test]
    fn the_acknowledgement_of_an_older_write_releases_nothing() {
        let mut counts = Counts::new(1, 1);
        fold(&mut counts, 0, &["a", "b"], 5);
        fold(&mut counts, 1, &["a"], 6);
        counts.release(0);
        assert!(!counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "b"), None);
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 2, through_offset: 6 }));
        counts.release(1);
        assert!(counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "a"), None);
    }

    #[test]
    fn a_batch_that_is_still_open_pins_its_counts() {
        let mut counts = Counts::new(1, 1);
        fold(&mut counts, 0, &["a"], 5);
        let mut open = Touched::default();
        counts.touch(1, &mut open, "a", [10].into_iter(), 6);
        counts.release(0);
        assert!(counts.shrink_to_limit(), "no other batch will release anything");
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }));
    }

    #[test]
    fn the_windows_of_one_event_share_the_name_of_their_source() {
        let mut counts = Counts::new(1 << 20, 1);
        let mut touched = Touched::default();
        counts.touch(0, &mut touched, "a", (0..60).map(|end| end * 1_000), 5);
        let sources: Vec<_> = touched.windows().iter().map(|(key, _)| Arc::as_ptr(&key.source)).collect();
        assert_eq!(sources.len(), 60);
        assert!(sources.iter().all(|source| std::ptr::addr_eq(*source, sources[0])));
    }
}
