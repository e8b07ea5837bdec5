//! A simulation for a test, and its machines.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use madsim::Config;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use simulated_threads::{Figures, Options, play};
use tokio::network::Network;

/// Runs a future in a simulation with a network and threads. A panic in it is the error. It gets a thread of its own: two
/// simulations on one thread would share the seeds of its hash maps.
pub fn simulate<T: Send, F: Future<Output = T>>(
    seed: u64,
    options: Options,
    body: impl FnOnce() -> F + Send,
) -> Result<(T, Figures), String> {
    let run = || {
        let runtime = Runtime::with_seed_and_config(seed, Config::default());
        Network::install(&runtime);
        play(runtime, options, body())
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    result.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
    })
}

/// The same, where nothing may panic.
pub fn run<T: Send, F: Future<Output = T>>(seed: u64, body: impl FnOnce() -> F + Send) -> (T, Figures) {
    simulate(seed, Options::default(), body).unwrap_or_else(|panic| panic!("{panic}"))
}

/// The address of the machine of this number.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A machine on the network.
pub fn machine(number: u8) -> NodeHandle {
    let node = Handle::current().create_node().name(format!("machine {number}")).build();
    Network::current().plug_in(node.id(), address(number).into());
    node
}

/// A machine on the network that starts a thread, again whenever it is restarted.
pub fn machine_with(number: u8, program: impl Fn() + Clone + Send + Sync + 'static) -> NodeHandle {
    let init = move || {
        let program = program.clone();
        async move {
            std::thread::spawn(program);
            std::future::pending::<()>().await;
        }
    };
    let node = Handle::current().create_node().name(format!("machine {number}")).init(init).build();
    Network::current().plug_in(node.id(), address(number).into());
    node
}

/// Runs something on a thread of a machine, and waits for its result.
pub async fn on<T: Send + 'static>(node: &NodeHandle, work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = async move { tokio::task::spawn_blocking(work).await.expect("it did not panic") };
    node.spawn(work).await.expect("the machine was not killed")
}

pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
