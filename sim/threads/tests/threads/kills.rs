//! Machines that are killed, with their threads.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use madsim::runtime::Handle;
use simulated_threads::{Options, Threads};

use crate::counter::{Counter, server};
use crate::harness::{machine, machine_with, on, run, simulate, sleep_ms};

unsafe extern "C" {
    fn hold_shared_lock(ms: c_int);
}

#[test]
fn a_killed_client_connects_again_when_its_machine_is_restarted_and_its_threads_are_gone() {
    run(11, || async {
        server(1);
        let (seen, starts) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU32::new(0)));
        let client = {
            let (seen, starts) = (seen.clone(), starts.clone());
            machine_with(2, move || {
                starts.fetch_add(1, Ordering::Relaxed);
                let counter = Counter::open("10.0.0.1");
                loop {
                    seen.store(counter.add(1, 10_000).expect("a response"), Ordering::Relaxed);
                }
            })
        };
        for kills in 1..=20 {
            sleep_ms(200).await;
            Handle::current().kill(client.id());
            let killed = seen.load(Ordering::Relaxed);
            assert_eq!(Threads::current().expect("threads").figures().killed, 2 * kills);
            sleep_ms(200).await;
            assert_eq!(seen.load(Ordering::Relaxed), killed);
            Handle::current().restart(client.id());
        }
        sleep_ms(200).await;
        assert_eq!(starts.load(Ordering::Relaxed), 21);
    });
}

#[test]
fn the_sum_is_lost_with_the_server_and_its_clients_connect_to_the_next_one() {
    run(12, || async {
        let serving = server(1);
        let client = machine(2);
        let sums = client.spawn(async {
            let work = || {
                let counter = Counter::open("10.0.0.1");
                let mut sums = Vec::new();
                while counter.connections() < 2 || sums.len() < 100 {
                    sums.push(counter.add(1, 60_000).expect("a response"));
                }
                sums
            };
            tokio::task::spawn_blocking(work).await.expect("no panic")
        });
        sleep_ms(100).await;
        Handle::current().kill(serving.id());
        Handle::current().restart(serving.id());
        let sums = sums.await.expect("not killed");
        let lost = sums.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert_eq!(lost, 1, "{sums:?}");
    });
}

#[test]
fn a_lock_of_the_process_that_a_killed_thread_held_is_free_for_other_machines() {
    run(13, || async {
        // SAFETY: they have no preconditions.
        let holder = machine_with(1, || unsafe { hold_shared_lock(60_000) });
        sleep_ms(10).await;
        let other = machine(2);
        // SAFETY: it has no preconditions.
        let hold = || unsafe { hold_shared_lock(0) };
        let gets = other.spawn(async move { tokio::task::spawn_blocking(hold).await });
        sleep_ms(10).await;
        assert!(!gets.is_finished());
        let report = Threads::current().expect("threads").report();
        assert!(report.contains("waits for the lock 0x") && report.contains("held by thread 1"), "{report}");
        Handle::current().kill(holder.id());
        tokio::time::timeout(std::time::Duration::from_secs(1), gets)
            .await
            .expect("free")
            .expect("done")
            .expect("done");
    });
}

#[test]
fn killed_threads_whose_heap_is_larger_than_allowed_end_the_simulation() {
    let leave = |bytes: usize, bound: usize| {
        let mut options = Options::default();
        options.heap_growth = Some(bound);
        simulate(14, options, move || async move {
            let node = machine(1);
            on(&node, move || {
                // SAFETY: it is lost on purpose, and only written.
                let place = unsafe { libc::malloc(bytes) };
                assert!(!std::hint::black_box(place).is_null());
            })
            .await;
            Handle::current().kill(node.id());
        })
    };
    // Other tests allocate and free meanwhile, but less.
    let growth = leave(64 << 20, 1 << 30).expect("allowed").1.heap_growth;
    let error = leave(1 << 31, 1 << 30).expect_err("more than allowed");
    assert!(error.contains("seed 14") && error.contains("heap has grown by"), "{error}");
    assert!(growth > 32 << 20, "{growth}");
}
