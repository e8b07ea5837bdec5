//! The program; see [`exactlyonce::cli`].

use std::process::ExitCode;

/// A record's bytes are allocated by one thread and freed by another, which costs the C library's allocator time and
/// memory (docs/performance.md). librdkafka uses it, too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    exactlyonce::cli::main()
}
