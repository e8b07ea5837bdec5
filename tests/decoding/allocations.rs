//! Counts the bytes that a thread has allocated. Each thread has its own counter, so tests may run concurrently.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator with a counter.
pub struct CountingAllocator;

fn count(bytes: isize) {
    let now = NOW.get() + bytes;
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
}

// SAFETY: all calls are forwarded to the system allocator; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new block may exist concurrently while one is copied.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// The result of `work`, and the peak of the bytes that this thread had allocated during it, in addition to those
/// allocated before.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

#[test]
fn the_peak_is_counted_and_not_the_sum() {
    let (_, bytes) = peak(|| {
        for _ in 0..10 {
            std::hint::black_box(Vec::<u8>::with_capacity(1_000));
        }
    });
    assert_eq!(bytes, 1_000);
    let (kept, bytes) = peak(|| (Vec::<u8>::with_capacity(500), Vec::<u8>::with_capacity(700)));
    assert_eq!(bytes, 1_200);
    drop(kept);
}
