//! The heap of the C library.

/// Bytes that are allocated in it. What Rust allocates is part of it unless the program has another allocator.
#[cfg(target_env = "gnu")]
pub(crate) fn in_use() -> u64 {
    // SAFETY: it only reads the allocator's own counters, under their locks.
    let heap = unsafe { libc::mallinfo2() };
    heap.uordblks as u64 + heap.hblkhd as u64
}
