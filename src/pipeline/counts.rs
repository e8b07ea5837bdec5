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

/// What a count costs beside the bytes of its source: entry, key and queue.
const COUNT_BYTES: usize = 160;

/// The counts of one partition in one incarnation.
#[derive(Debug)]
pub(super) struct Counts {
    entries: HashMap<WindowKey, Entry, FixedState>,
    /// Released counts by when that was, oldest first. Entries may be outdated: the stamp tells.
    released: VecDeque<(u64, WindowKey)>,
    stamp: u64,
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
pub(super) struct Touched {
    /// Each window once, with its count: `None` if the store has to be asked.
    pub(super) windows: Vec<(WindowKey, Option<Count>)>,
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
    pub(super) fn new(limit: usize, seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(FixedState::with_seed(seed)),
            released: VecDeque::new(),
            stamp: 0,
            bytes: 0,
            limit,
        }
    }

    /// Notes that `batch` counts the event at `offset` in a window of `source`, and pins that window.
    pub(super) fn touch(&mut self, batch: u64, touched: &mut Touched, source: &str, end: i64, offset: i64) {
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

    /// True if a batch with these windows should close: several batches have to fit.
    pub(super) fn is_full(&self, touched: &Touched) -> bool {
        touched.bytes >= self.limit / 4
    }

    /// Evicts what may be evicted until the limit holds; false if it does not hold yet.
    pub(super) fn make_room(&mut self) -> bool {
        while self.bytes > self.limit {
            let Some((stamp, key)) = self.released.pop_front() else {
                return false;
            };
            if self.entries.get(&key).is_some_and(|entry| entry.hold == Hold::Released(stamp)) {
                self.bytes -= cost(&key);
                self.entries.remove(&key);
            }
        }
        true
    }

    /// Takes the newest values of a batch's windows.
    pub(super) fn store(&mut self, touched: &Touched) {
        for (key, count) in &touched.windows {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.count = *count;
            }
        }
    }

    /// Releases the windows of a batch whose counts are acknowledged, but for those that a newer batch
    /// holds.
    pub(super) fn release(&mut self, batch: u64, windows: Vec<(WindowKey, Count)>) {
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
    /// The places of the windows that the store has to be asked for.
    pub(super) fn missing(&self) -> Vec<usize> {
        (0..self.windows.len()).filter(|place| self.windows[*place].1.is_none()).collect()
    }

    /// Counts, in the order of the log. Every window must have its count.
    pub(super) fn add_all(&mut self) {
        for (place, offset) in self.additions.drain(..) {
            self.windows[place].1.get_or_insert(Count::NONE).add(offset);
        }
    }

    /// What has to be written: every window that was touched, changed or not.
    pub(super) fn into_counts(self) -> Vec<(WindowKey, Count)> {
        self.windows.into_iter().filter_map(|(key, count)| Some((key, count?))).collect()
    }
}
