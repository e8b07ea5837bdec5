//! Flow control between the member's thread and the worker: the bytes of deliveries in between are bounded, and each
//! side sees when the other was last active.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::broker::Delivery;

/// Bytes of deliveries in between at which the thread stops taking messages.
const LIMIT: usize = 1 << 20;
/// What a record costs in memory in addition to its bytes.
const RECORD_BYTES: usize = 96;

#[derive(Debug)]
pub(super) struct FlowControl {
    bytes: AtomicUsize,
    full: AtomicBool,
    began: Instant,
    /// The worker's last poll and the thread's last iteration, in milliseconds after `began`.
    polled: AtomicU64,
    beaten: AtomicU64,
    thread: Mutex<Option<Thread>>,
}

impl FlowControl {
    pub(super) fn new() -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            began: Instant::now(),
            polled: AtomicU64::new(0),
            beaten: AtomicU64::new(0),
            thread: Mutex::new(None),
        }
    }

    /// A state in which the thread has been inactive for this time.
    #[cfg(test)]
    pub(super) fn silent(time: Duration) -> Self {
        Self {
            began: Instant::now().checked_sub(time).expect("the machine has been up for longer"),
            ..Self::new()
        }
    }

    /// Sets the thread to wake.
    pub(super) fn wakes(&self, thread: Thread) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    /// The thread has sent a delivery.
    pub(super) fn put(&self, delivery: &Delivery) {
        let bytes = size(delivery);
        if self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes >= LIMIT {
            self.full.store(true, Ordering::Release);
        }
    }

    /// The worker has received a delivery.
    pub(super) fn take(&self, delivery: &Delivery) {
        let bytes = size(delivery);
        let left = self.bytes.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        if left <= LIMIT / 2 && self.full.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// True if the thread must not take more messages.
    pub(super) fn is_full(&self) -> bool {
        if !self.full.load(Ordering::Acquire) {
            return false;
        }
        // The worker may have taken everything just before the flag was set.
        if self.bytes.load(Ordering::Acquire) <= LIMIT / 2 {
            self.full.store(false, Ordering::Release);
            return false;
        }
        true
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, stamp: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(stamp.load(Ordering::Relaxed)))
    }

    /// The worker polls.
    pub(super) fn poll(&self) {
        self.polled.store(self.now(), Ordering::Relaxed);
    }

    pub(super) fn polled_within(&self, time: Duration) -> bool {
        self.since(&self.polled) <= time
    }

    /// The thread is alive.
    pub(super) fn beat(&self) {
        self.beaten.store(self.now(), Ordering::Relaxed);
    }

    /// How long the thread has been inactive.
    pub(super) fn silent_for(&self) -> Duration {
        self.since(&self.beaten)
    }
}

fn size(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Records { records, .. } => records.iter().map(|r| r.len() + RECORD_BYTES).sum(),
        _ => RECORD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Assignment;
    use crate::event::Record;

    fn of(bytes: usize) -> Delivery {
        let value = Some(vec![0; bytes]);
        let record = Record { partition: 0, offset: 0, timestamp: 0, key: None, value };
        let assignment = Assignment { partition: 0, incarnation: 1 };
        Delivery::Records { assignment, records: vec![record], next_offset: 1 }
    }

    #[test]
    fn it_is_full_at_its_limit_and_accepts_more_at_half_of_it() {
        let flow = FlowControl::new();
        let delivery = of(LIMIT / 4);
        for _ in 0..3 {
            flow.put(&delivery);
            assert!(!flow.is_full());
        }
        flow.put(&delivery);
        assert!(flow.is_full());
        flow.take(&delivery);
        assert!(flow.is_full());
        for _ in 0..3 {
            flow.take(&delivery);
        }
        assert!(!flow.is_full());
        assert_eq!(flow.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_delivery_of_any_size_is_accepted() {
        let flow = FlowControl::new();
        let delivery = of(10 * LIMIT);
        for _ in 0..3 {
            assert!(!flow.is_full());
            flow.put(&delivery);
            assert!(flow.is_full());
            flow.take(&delivery);
        }
        assert!(!flow.is_full());
    }
}
