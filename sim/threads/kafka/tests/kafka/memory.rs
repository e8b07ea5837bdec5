//! What killed clients leave in the process.

use std::sync::{Arc, Mutex};

use madsim::runtime::Handle;
use simulated_threads::{Options, Threads};

use crate::clients::{TOPIC, consume, produce};
use crate::harness::{machine, machine_with, on, simulate, sleep_ms};
use simulated_threads_kafka::Kafka;

/// Kills that are looked at, after as many before.
const KILLS: u64 = 20;

/// What a client may leave.
const BOUND: u64 = 2 << 20;

#[test]
fn a_killed_client_leaves_less_than_two_mebibytes() {
    let mut options = Options::default();
    // Bounds the whole process, other tests included.
    options.heap_growth = Some(1 << 30);
    let (left, _) = simulate(7, options, || async {
        let kafka = Kafka::start(1, 7, |_| {}).await;
        let read = Arc::new(Mutex::default());
        let servers = kafka.bootstrap();
        on(&machine(10), move || produce(&servers, 100)).await;
        let (servers, seen) = (kafka.bootstrap(), read.clone());
        let consumer = machine_with(20, move || consume(&servers, &seen));
        let mut before = 0;
        for kill in 0..2 * KILLS {
            sleep_ms(10_000).await;
            Handle::current().kill(consumer.id());
            let growth = Threads::current().expect("threads").figures().heap_growth;
            if kill + 1 == KILLS {
                before = growth;
            }
            Handle::current().restart(consumer.id());
        }
        let growth = Threads::current().expect("threads").figures().heap_growth;
        assert_eq!(read.lock().expect("no panic").len(), 100, "the records of {TOPIC}");
        growth.saturating_sub(before) / KILLS
    })
    .unwrap_or_else(|panic| panic!("{panic}"));
    println!("a killed client leaves {} KiB", left >> 10);
    assert!(left < BOUND, "{left} bytes");
}
