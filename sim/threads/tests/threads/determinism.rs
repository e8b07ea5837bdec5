//! A seed determines everything that threads do.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use madsim::runtime::Handle;
use simulated_threads::{Figures, Options, Strategy, Threads};

use crate::counter::{Counter, server};
use crate::harness::{address, machine, machine_with, on, simulate, sleep_ms};

/// Set in a process that plays one seed for another.
const SEED: &str = "SIMULATED_THREADS_TEST_SEED";

/// Clients in C and in Rust, names, kills and randomness.
fn play(seed: u64, strategy: Strategy) -> Figures {
    let mut options = Options::default();
    options.strategy = strategy;
    let body = || async {
        server(1);
        Threads::current().expect("threads").set_name("service", &[address(1)]);
        let client = machine_with(2, || {
            let counter = Counter::open("service");
            loop {
                counter.add(1, 1_000);
            }
        });
        let third = machine(3);
        let drawn = on(&third, || {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    std::thread::spawn(|| {
                        let keys =
                            std::collections::HashMap::<u32, u32>::from_iter((0..20).map(|key| (key, key)));
                        let first = keys.keys().next().copied().unwrap_or_default();
                        std::thread::sleep(Duration::from_millis(first.into()));
                        Counter::open("service").add(first as i32, 10_000)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(drawn.await.iter().all(Option::is_some));
        Handle::current().kill(client.id());
        Handle::current().restart(client.id());
        sleep_ms(300).await;
    };
    simulate(seed, options, body).expect("it ends").1
}

const PRIORITIES: Strategy = Strategy::Priorities { changes: 5, calls: 5_000 };

fn line(seed: u64) -> String {
    let figures = [Strategy::Random, PRIORITIES].map(|strategy| play(seed, strategy));
    figures.map(|figures| format!("{:016x} {} {} ", figures.trace, figures.calls, figures.turns)).concat()
}

/// The line of a seed, played by another process.
fn elsewhere(seed: u64) -> String {
    let this = std::env::current_exe().expect("a path");
    let name = "determinism::a_seed_gives_the_same_trace_in_two_processes_and_each_seed_another";
    let output = Command::new(this)
        .args([name, "--exact", "--nocapture"])
        .env(SEED, seed.to_string())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("trace: "));
    line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).1.to_owned()
}

#[test]
fn a_seed_gives_the_same_trace_in_two_processes_and_each_seed_another() {
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        println!("\ntrace: {}", line(seed));
        return;
    }
    let mut lines = BTreeSet::new();
    for seed in 0..6 {
        let here = line(seed);
        assert_eq!(here, elsewhere(seed), "seed {seed}");
        lines.insert(here);
    }
    assert_eq!(lines.len(), 6);
}
