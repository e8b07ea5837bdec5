//! A small C client, as it is, on three machines: a server that is killed and restarted, and a client that finds it by name.
//!
//! `cargo run --profile sim -p simulated-threads --example counter -- SEED`. With `SIMULATED_THREADS_TRACE=1` it prints every
//! call.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::net::Ipv4Addr;
use std::time::Duration;

use madsim::Config;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use simulated_threads::{Options, Threads, play};
use tokio::network::Network;
use tokio::time::sleep;

// tests/clients/counter.h
unsafe extern "C" {
    fn counter_serve(port: c_int) -> c_int;
    fn counter_open(host: *const c_char, port: c_int) -> *mut c_void;
    fn counter_add(counter: *mut c_void, number: c_int, timeout_ms: c_int) -> c_long;
    fn counter_close(counter: *mut c_void);
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A machine that runs this on a thread, again whenever it is restarted.
fn machine(ip: Ipv4Addr, program: impl Fn() + Clone + Send + Sync + 'static) -> NodeHandle {
    let init = move || {
        let program = program.clone();
        async move {
            std::thread::spawn(program);
            std::future::pending::<()>().await;
        }
    };
    let node = Handle::current().create_node().init(init).build();
    Network::current().plug_in(node.id(), ip.into());
    node
}

fn count() {
    // SAFETY: the string is one; the client is used until it is closed, and not afterwards.
    unsafe {
        let counter = counter_open(c"counter.example".as_ptr(), 4000);
        for number in 1..=10 {
            let sum = counter_add(counter, number, 5_000);
            println!(
                "added {number} at {:?}: {sum}",
                Threads::current().map(|threads| threads.figures().calls)
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        counter_close(counter);
    }
}

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let runtime = Runtime::with_seed_and_config(seed, Config::default());
    Network::install(&runtime);
    let ((), figures) = play(runtime, Options::default(), async {
        if let Some(threads) = Threads::current() {
            threads.set_name("counter.example", &[SERVER]);
        }
        // SAFETY: it has no preconditions.
        let server = machine(SERVER, || println!("the server ended: {}", unsafe { counter_serve(4000) }));
        machine(CLIENT, count);
        sleep(Duration::from_millis(4_500)).await;
        Handle::current().kill(server.id());
        Handle::current().restart(server.id());
        sleep(Duration::from_secs(20)).await;
    });
    println!("seed {seed}: {figures:?}");
}
