//! The durable position, when batches are acknowledged in any order.

use std::collections::VecDeque;

/// The batches of one incarnation past the durable position, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    batches: VecDeque<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    batch: u64,
    next_offset: i64,
    done: bool,
}

impl Tracker {
    /// Adds a batch after all others; it covers the log up to `next_offset`.
    pub(super) fn begin(&mut self, batch: u64, next_offset: i64) {
        self.batches.push_back(Tracked { batch, next_offset, done: false });
    }

    /// Marks a batch as acknowledged. Returns the durable position if it moved: the end of the last batch that is
    /// acknowledged together with all before it.
    pub(super) fn finish(&mut self, batch: u64) -> Option<i64> {
        if let Some(tracked) = self.batches.iter_mut().find(|tracked| tracked.batch == batch) {
            tracked.done = true;
        }
        let mut durable = None;
        while self.batches.front().is_some_and(|tracked| tracked.done) {
            durable = self.batches.pop_front().map(|tracked| tracked.next_offset);
        }
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_durable_position_waits_for_every_earlier_batch() {
        let mut tracker = Tracker::default();
        tracker.begin(1, 10);
        tracker.begin(2, 20);
        tracker.begin(3, 35);
        assert_eq!(tracker.finish(2), None);
        assert_eq!(tracker.finish(1), Some(20));
        assert_eq!(tracker.finish(3), Some(35));
        assert_eq!(tracker.finish(3), None);
    }
}
