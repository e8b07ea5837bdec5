//! The program; see [`exactlyonce::cli`].

use std::process::ExitCode;

/// A record's bytes are allocated by one thread and freed by another, which costs the C library's allocator time and
/// memory (docs/performance.md). librdkafka uses it, too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Few arenas, and memory that is not used for a second goes back to the system: as fast as jemalloc's defaults (four
/// arenas for each CPU, and ten seconds), with 10 MiB less (docs/performance.md).
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 30] = b"narenas:4,dirty_decay_ms:1000\0";

fn main() -> ExitCode {
    exactlyonce::cli::main()
}
