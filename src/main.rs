//! The program; see [`exactlyonce::cli`].

use std::process::ExitCode;

/// A record's bytes are taken by one thread and given back by another, which the C library's allocator pays for in
/// time and in memory (docs/performance.md). It also serves librdkafka.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    exactlyonce::cli::main()
}
