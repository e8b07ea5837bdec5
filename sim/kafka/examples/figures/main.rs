//! Figures of this machine: `cargo build --release -p simulated-kafka && cargo run --release -p simulated-kafka --example figures`.
//!
//! The first are of the program, in a process of its own; the others of clusters in this process.

mod client;
mod groups;
mod program;
mod throughput;

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(program::start())?;
    runtime.block_on(program::memory())?;
    runtime.block_on(throughput::over_sockets())?;
    runtime.block_on(throughput::in_memory())?;
    groups::rebalance()
}
