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
    std::thread::scope(|scope| scope.spawn(|| runtime(seed).block_on(body())).join())
}

fn runtime(seed: u64) -> Runtime {
    let runtime = Runtime::with_seed_and_config(seed, Config::default());
    Network::install(&runtime);
    runtime
}

/// The same in a simulation that runs C code, and threads.
///
/// # Errors
/// What the future panicked with, and why the simulation could not go on.
#[cfg(feature = "full")]
pub fn simulate_with_threads<T, F>(
    seed: u64,
    options: simulated_threads::Options,
    body: impl FnOnce() -> F + Send,
) -> std::thread::Result<(T, simulated_threads::Figures)>
where
    T: Send,
    F: Future<Output = T>,
{
    std::thread::scope(|scope| {
        // The future is made within the simulation, as the one above.
        let run = || simulated_threads::play(runtime(seed), options, async { body().await });
        scope.spawn(run).join()
    })
}
