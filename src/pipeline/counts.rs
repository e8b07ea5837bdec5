//! This partition's own window counts in memory, bounded.
//!
//! A count is either *pinned* or *released*. A pinned one is touched by a batch that is not yet acknowledged: its
//! newest value may exist nowhere else, so it is neither evicted nor read again. A released one is acknowledged in its
//! newest value; it may be evicted, least recently released first, and is read again when it is touched again.
//! Releasing a count when an older write than its newest is acknowledged would lose counts, so a pin names the newest
//! batch.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};

use crate::store::{Count, WindowKey};

/// What a count costs in addition to the bytes of its source: the entry in a table that is half full, the source's
/// allocation, and the entry in the queue.
const COUNT_BYTES: usize = 256;

/// The counts of one partition in one incarnation.
#[derive(Debug)]
pub struct Counts {
    entries: HashMap<WindowKey, Entry, FixedState>,
    /// Released counts in the order of their release, oldest first. An entry is outdated if its stamp differs from
    /// the count's.
    released: VecDeque<(u64, WindowKey)>,
    stamp: u64,
    /// Batches that were folded and not released yet.
    in_flight: usize,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` until it is read from the store.
    count: Option<Count>,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// By the newest batch that touched it; `index` is its position among the batch's windows.
    Pinned { batch: u64, index: usize },
    /// Since this stamp.
    Released(u64),
}

/// One batch's windows and what it adds to them.
#[derive(Debug, Default)]
pub struct Touched {
    /// Each window once, with its count: `None` if it must be read from the store.
    windows: Vec<(WindowKey, Option<Count>)>,
    /// Indexes into `windows` and the offsets to count there, in the order of the log.
    additions: Vec<(usize, i64)>,
    /// What the windows cost in memory.
    bytes: usize,
}

struct Borrowed<'a> {
    source: &'a str,
    end: i64,
}

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the derived Hash of WindowKey.
        self.source.hash(state);
        self.end.hash(state);
    }
}

impl Equivalent<WindowKey> for Borrowed<'_> {
    fn equivalent(&self, key: &WindowKey) -> bool {
        self.end == key.end && *self.source == *key.source
    }
}

fn cost(key: &WindowKey) -> usize {
    key.source.len() + COUNT_BYTES
}

impl Counts {
    /// An empty cache of at most `limit` bytes. `seed` keeps senders from causing hash collisions by their choice of sources.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(FixedState::with_seed(seed)),
            released: VecDeque::new(),
            stamp: 0,
            in_flight: 0,
            bytes: 0,
            limit,
        }
    }

    /// Records that `batch` counts the event at `offset` in a window of `source`, and pins that window.
    pub fn touch(&mut self, batch: u64, touched: &mut Touched, source: &str, end: i64, offset: i64) {
        let index = match self.entries.get_key_value_mut(&Borrowed { source, end }) {
            Some((_, Entry { hold: Hold::Pinned { batch: holder, index }, .. })) if *holder == batch => {
                *index
            }
            Some((key, entry)) => {
                let index = touched.windows.len();
                entry.hold = Hold::Pinned { batch, index };
                touched.bytes += cost(key);
                touched.windows.push((key.clone(), entry.count));
                index
            }
            None => {
                let index = touched.windows.len();
                let key = WindowKey { source: Arc::from(source), end };
                touched.bytes += cost(&key);
                self.bytes += cost(&key);
                let entry = Entry { count: None, hold: Hold::Pinned { batch, index } };
                self.entries.insert(key.clone(), entry);
                touched.windows.push((key, None));
                index
            }
        };
        touched.additions.push((index, offset));
    }

    /// True if a batch with these windows and additions should close: the limit must hold several batches.
    pub fn is_full(&self, touched: &Touched) -> bool {
        touched.bytes + size_of_val(touched.additions.as_slice()) >= self.limit / 4
    }

    /// Evicts released counts until the limit holds; false if it does not hold yet and other batches will release
    /// more. (The windows of one batch stay far below any sensible limit, see `is_full`.)
    pub fn shrink_to_limit(&mut self) -> bool {
        while self.bytes > self.limit {
            let Some((stamp, key)) = self.released.pop_front() else {
                return self.in_flight == 0;
            };
            if self.entries.get(&key).is_some_and(|entry| entry.hold == Hold::Released(stamp)) {
                self.bytes -= cost(&key);
                self.entries.remove(&key);
            }
        }
        true
    }

    /// Stores the newest values of a batch's windows. The batch pins them until it is released.
    pub fn store(&mut self, touched: &Touched) {
        self.in_flight += 1;
        for (key, count) in &touched.windows {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.count = *count;
            }
        }
    }

    /// Releases the windows of a batch whose counts are acknowledged, except those that a newer batch has pinned.
    pub fn release(&mut self, batch: u64, windows: Vec<(WindowKey, Count)>) {
        self.in_flight -= 1;
        for (key, _) in windows {
            if let Some(entry) = self.entries.get_mut(&key)
                && matches!(entry.hold, Hold::Pinned { batch: holder, .. } if holder == batch)
            {
                self.stamp += 1;
                entry.hold = Hold::Released(self.stamp);
                self.released.push_back((self.stamp, key));
            }
        }
        if self.released.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.released.retain(|(stamp, key)| {
                entries.get(key).is_some_and(|entry| entry.hold == Hold::Released(*stamp))
            });
        }
    }
}

impl Touched {
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

    /// Applies the additions, in the order of the log. Every window must have its count.
    pub fn add_all(&mut self) {
        for (index, offset) in self.additions.drain(..) {
            self.windows[index].1.get_or_insert(Count::NONE).add(offset);
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
    fn fold(counts: &mut Counts, number: u64, sources: &[&str], offset: i64) -> Vec<(WindowKey, Count)> {
        let mut touched = Touched::default();
        for source in sources {
            counts.touch(number, &mut touched, source, 10, offset);
        }
        for index in touched.missing() {
            touched.set(index, None);
        }
        touched.add_all();
        counts.store(&touched);
        touched.into_counts()
    }

    fn count_of(counts: &mut Counts, source: &str) -> Option<Count> {
        let mut touched = Touched::default();
        counts.touch(u64::MAX, &mut touched, source, 10, 1_000);
        touched.windows()[0].1
    }

    #[test]
    fn a_window_that_is_touched_twice_is_written_once_with_both() {
        let mut counts = Counts::new(1 << 20, 1);
        let mut touched = Touched::default();
        for (offset, source) in [(3, "a"), (4, "b"), (9, "a")] {
            counts.touch(0, &mut touched, source, 10, offset);
        }
        assert_eq!(touched.missing(), [0, 1]);
        touched.set(0, Some(Count { count: 7, through_offset: 3 }));
        touched.set(1, None);
        touched.add_all();
        let written: Vec<Count> = touched.into_counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(written, [Count { count: 8, through_offset: 9 }, Count { count: 1, through_offset: 4 },]);
    }

    #[test]
    fn a_batch_is_full_by_its_windows_and_by_what_it_adds_to_them() {
        let counts = &mut Counts::new(40 * (COUNT_BYTES + 1), 1);
        let mut windows = Touched::default();
        let touched = (0..).take_while(|end| {
            counts.touch(0, &mut windows, "a", *end, 1);
            !counts.is_full(&windows)
        });
        assert!((5..10).contains(&touched.count()));
        let mut additions = Touched::default();
        let touched = (0..).take_while(|offset| {
            counts.touch(1, &mut additions, "b", 10, *offset);
            !counts.is_full(&additions)
        });
        assert!((100..160).contains(&touched.count()));
    }

    #[test]
    fn a_released_count_stays_while_the_limit_holds() {
        let mut counts = Counts::new(1 << 20, 1);
        let written = fold(&mut counts, 0, &["a"], 5);
        counts.release(0, written);
        assert!(counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }));
    }

    #[test]
    fn the_longest_untouched_count_is_evicted_first() {
        let mut counts = Counts::new(2 * (COUNT_BYTES + 1), 1);
        for (number, source) in ["a", "b", "a", "c"].into_iter().enumerate() {
            let written = fold(&mut counts, number as u64, &[source], number as i64);
            counts.release(number as u64, written);
            assert!(counts.shrink_to_limit());
        }
        assert_eq!(count_of(&mut counts, "b"), None);
        assert_eq!(count_of(&mut counts, "c"), Some(Count { count: 1, through_offset: 3 }));
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 2, through_offset: 2 }));
    }

    #[test]
    fn a_count_that_is_not_acknowledged_is_never_evicted() {
        let mut counts = Counts::new(1, 1);
        let written = fold(&mut counts, 0, &["a"], 5);
        assert!(!counts.shrink_to_limit(), "it waits for the acknowledgement");
        counts.release(0, written);
        assert!(counts.shrink_to_limit());
        assert_eq!(count_of(&mut counts, "a"), None);
    }

    #[test]
    fn the_acknowledgement_of_an_older_write_releases_nothing() {
        let mut counts = Counts::new(1, 1);
        let older = fold(&mut counts, 0, &["a"], 5);
        let newer = fold(&mut counts, 1, &["a"], 6);
        counts.release(0, older);
        assert!(!counts.shrink_to_limit());
        counts.release(1, newer);
        assert!(counts.shrink_to_limit());
    }

    #[test]
    fn the_queue_of_released_counts_does_not_grow_with_the_log() {
        let mut counts = Counts::new(1 << 20, 1);
        for number in 0..10_000 {
            let written = fold(&mut counts, number, &["a"], number as i64);
            counts.release(number, written);
        }
        assert!(counts.released.len() < 100, "{}", counts.released.len());
    }
}
