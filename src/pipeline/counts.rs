//! This partition's own window counts in memory, bounded.
//!
//! Two kinds of counts are here. *Pinned* ones are touched by a batch that is not yet acknowledged: their
//! newest value may exist nowhere else, so they are neither evicted nor read again. *Released* ones are
//! acknowledged in their newest value and leave the memory when it is needed, the longest untouched first;
//! they are read again when they are touched again. Releasing a count on the acknowledgement of an older
//! write than its newest is how counts get lost, so a pin names the newest batch.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};

use crate::store::{Count, WindowKey};

/// What a count costs beside the bytes of its source: the entry in a table that is half full, the source's
/// allocation, and the place in the queue.
const COUNT_BYTES: usize = 256;

/// The counts of one partition in one incarnation.
#[derive(Debug)]
pub struct Counts {
    entries: HashMap<WindowKey, Entry, FixedState>,
    /// Released counts by when that was, oldest first. Entries may be outdated: the stamp tells.
    released: VecDeque<(u64, WindowKey)>,
    stamp: u64,
    /// Batches that were folded and not released.
    in_flight: usize,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` while it has yet to be read from the store.
    count: Option<Count>,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// By the newest batch that touched it, at this place among the batch's windows.
    Pinned { batch: u64, place: usize },
    /// Since this stamp.
    Released(u64),
}

/// One batch's windows and what it adds to them.
#[derive(Debug, Default)]
pub struct Touched {
    /// Each window once, with its count: `None` if the store has to be asked.
    windows: Vec<(WindowKey, Option<Count>)>,
    /// Places in `windows` and the offsets to count there, in the order of the log.
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
    /// An empty cache of at most `limit` bytes. `seed` keeps sources from choosing their place in the table.
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

    /// Notes that `batch` counts the event at `offset` in a window of `source`, and pins that window.
    pub fn touch(&mut self, batch: u64, touched: &mut Touched, source: &str, end: i64, offset: i64) {
        let place = match self.entries.get_key_value_mut(&Borrowed { source, end }) {
            Some((_, Entry { hold: Hold::Pinned { batch: holder, place }, .. })) if *holder == batch => {
                *place
            }
            Some((key, entry)) => {
                let place = touched.windows.len();
                entry.hold = Hold::Pinned { batch, place };
                touched.bytes += cost(key);
                touched.windows.push((key.clone(), entry.count));
                place
            }
            None => {
                let place = touched.windows.len();
                let key = WindowKey { source: Arc::from(source), end };
                touched.bytes += cost(&key);
                self.bytes += cost(&key);
                let entry = Entry { count: None, hold: Hold::Pinned { batch, place } };
                self.entries.insert(key.clone(), entry);
                touched.windows.push((key, None));
                place
            }
        };
        touched.additions.push((place, offset));
    }

    /// True if a batch with these windows, and with so much to add to them, should close: several batches have to
    /// fit.
    pub fn is_full(&self, touched: &Touched) -> bool {
        touched.bytes + size_of_val(touched.additions.as_slice()) >= self.limit / 4
    }

    /// Evicts what may be evicted until the limit holds; false if it does not hold yet and other batches
    /// will release more. (The windows of one batch stay far below any sensible limit, see `is_full`.)
    pub fn make_room(&mut self) -> bool {
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

    /// Takes the newest values of a batch's windows. The batch holds them until it is released.
    pub fn store(&mut self, touched: &Touched) {
        self.in_flight += 1;
        for (key, count) in &touched.windows {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.count = *count;
            }
        }
    }

    /// Releases the windows of a batch whose counts are acknowledged, but for those that a newer batch
    /// holds.
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

    /// Sets the count that the store has of the window at this place: `None` for no row.
    pub fn set(&mut self, place: usize, stored: Option<Count>) {
        if let Some((_, count)) = self.windows.get_mut(place) {
            *count = Some(stored.unwrap_or(Count::NONE));
        }
    }

    /// The places of the windows that the store has to be asked for.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.windows.len()).filter(|place| self.windows[*place].1.is_none()).collect()
    }

    /// Counts, in the order of the log. Every window must have its count.
    pub fn add_all(&mut self) {
        for (place, offset) in self.additions.drain(..) {
            self.windows[place].1.get_or_insert(Count::NONE).add(offset);
        }
    }

    /// What has to be written: every window that was touched, changed or not.
    pub fn into_counts(self) -> Vec<(WindowKey, Count)> {
        self.windows.into_iter().filter_map(|(key, count)| Some((key, count?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds one event of each source as batch `number`; what the cache does not have counts `stored`.
    fn fold(counts: &mut Counts, number: u64, sources: &[&str], offset: i64) -> Vec<(WindowKey, Count)> {
        let mut touched = Touched::default();
        for source in sources {
            counts.touch(number, &mut touched, source, 10, offset);
        }
        for place in touched.missing() {
            touched.set(place, None);
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
    fn a_released_count_stays_while_there_is_room() {
        let mut counts = Counts::new(1 << 20, 1);
        let written = fold(&mut counts, 0, &["a"], 5);
        counts.release(0, written);
        assert!(counts.make_room());
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 1, through_offset: 5 }));
    }

    #[test]
    fn the_longest_untouched_count_is_evicted_first() {
        let mut counts = Counts::new(2 * (COUNT_BYTES + 1), 1);
        for (number, source) in ["a", "b", "a", "c"].into_iter().enumerate() {
            let written = fold(&mut counts, number as u64, &[source], number as i64);
            counts.release(number as u64, written);
            assert!(counts.make_room());
        }
        assert_eq!(count_of(&mut counts, "b"), None);
        assert_eq!(count_of(&mut counts, "c"), Some(Count { count: 1, through_offset: 3 }));
        assert_eq!(count_of(&mut counts, "a"), Some(Count { count: 2, through_offset: 2 }));
    }

    #[test]
    fn a_count_that_is_not_acknowledged_is_never_evicted() {
        let mut counts = Counts::new(1, 1);
        let written = fold(&mut counts, 0, &["a"], 5);
        assert!(!counts.make_room(), "it waits for the acknowledgement");
        counts.release(0, written);
        assert!(counts.make_room());
        assert_eq!(count_of(&mut counts, "a"), None);
    }

    #[test]
    fn the_acknowledgement_of_an_older_write_releases_nothing() {
        let mut counts = Counts::new(1, 1);
        let older = fold(&mut counts, 0, &["a"], 5);
        let newer = fold(&mut counts, 1, &["a"], 6);
        counts.release(0, older);
        assert!(!counts.make_room());
        counts.release(1, newer);
        assert!(counts.make_room());
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
