//! Runs a future in its own simulation.

use std::future::Future;

use madsim::Config;
use madsim::runtime::Runtime;
use tokio::network::Network;

/// Runs a future in a simulation with a network until it ends; a panic in it is the error. It gets its own thread: two
/// simulations on one thread would share the seeds of its hash maps.
///
/// # Errors
/// What the future panicked with.
pub fn simulate<T, F>(seed: u64, body: impl FnOnce() -> F + Send) -> std::thread::Result<T>
where
    T: Send,
    F: Future<Output = T>,
{
    std::thread::scope(|scope| {
        let run = || {
            let runtime = Runtime::with_seed_and_config(seed, Config::default());
            Network::install(&runtime);
            runtime.block_on(body())
        };
        scope.spawn(run).join()
    })
}
