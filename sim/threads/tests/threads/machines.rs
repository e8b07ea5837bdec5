//! C code on several machines: the network, pauses, cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use madsim::runtime::Handle;
use tokio::network::Network;

use crate::counter::{Counter, server};
use crate::harness::{address, machine, machine_with, on, run, sleep_ms};

#[test]
fn a_c_client_and_a_c_server_on_two_machines_exchange_bytes_over_the_simulated_network() {
    let began = Instant::now();
    let ((sums, took), figures) = run(1, || async {
        server(1);
        let client = machine(2);
        let began = tokio::time::Instant::now();
        let sums = on(&client, || {
            let counter = Counter::open("10.0.0.1");
            let sums: Vec<_> = (1..=100).map(|number| counter.add(number, 10_000)).collect();
            assert_eq!(counter.connections(), 1);
            sums
        });
        (sums.await, began.elapsed())
    });
    let expected: Vec<_> = (1..=100).map(|number| Some(number * (number + 1) / 2)).collect();
    assert_eq!(sums, expected);
    // A message takes from 0.1 to 2 ms.
    assert!(took > Duration::from_millis(100) && took < Duration::from_millis(500), "{took:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    // The server's, its connection's, the client's, and the one that opens it.
    assert_eq!((figures.threads, figures.killed), (4, 0));
}

#[test]
fn a_client_that_waits_for_an_hour_waits_only_in_simulated_time() {
    let began = Instant::now();
    let ((sum, took), _) = run(2, || async {
        let client = machine(2);
        let began = tokio::time::Instant::now();
        let sum = on(&client, || Counter::open("10.0.0.1").add(1, 3_600_000));
        (sum.await, began.elapsed())
    });
    assert_eq!(sum, None);
    assert!(took >= Duration::from_secs(3600) && took < Duration::from_secs(3610), "{took:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

/// Adds one to the sum until the machine ends.
fn adder(number: u8, seen: Arc<AtomicI64>) -> madsim::runtime::NodeHandle {
    machine_with(number, move || {
        let counter = Counter::open("10.0.0.1");
        loop {
            if let Some(sum) = counter.add(1, 30_000) {
                seen.store(sum, Ordering::Relaxed);
            }
        }
    })
}

#[test]
fn the_threads_of_a_paused_machine_stand_still_and_go_on_afterwards() {
    run(3, || async {
        server(1);
        let seen = Arc::new(AtomicI64::new(0));
        let client = adder(2, seen.clone());
        sleep_ms(500).await;
        assert!(seen.load(Ordering::Relaxed) > 20);
        Handle::current().pause(client.id());
        sleep_ms(10).await;
        let paused = seen.load(Ordering::Relaxed);
        sleep_ms(10_000).await;
        assert_eq!(seen.load(Ordering::Relaxed), paused);
        Handle::current().resume(client.id());
        sleep_ms(500).await;
        assert!(seen.load(Ordering::Relaxed) > paused + 20);
    });
}

#[test]
fn requests_through_a_link_that_is_cut_one_way_wait_until_it_is_restored() {
    for (from, to) in [(1, 2), (2, 1)] {
        run(4, move || async move {
            server(1);
            let seen = Arc::new(AtomicI64::new(0));
            adder(2, seen.clone());
            sleep_ms(500).await;
            Network::current().cut(address(from).into(), address(to).into());
            sleep_ms(10).await;
            let cut = seen.load(Ordering::Relaxed);
            assert!(cut > 20);
            sleep_ms(10_000).await;
            assert_eq!(seen.load(Ordering::Relaxed), cut, "cut from {from} to {to}");
            Network::current().restore(address(from).into(), address(to).into());
            sleep_ms(2_000).await;
            assert!(seen.load(Ordering::Relaxed) > cut + 20);
        });
    }
}
