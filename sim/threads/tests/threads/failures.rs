//! What ends a simulation, and how it says so.

use std::ffi::c_int;
use std::ptr::null_mut;

use simulated_threads::{Options, Threads};

use crate::harness::{machine, machine_with, on, simulate, sleep_ms};

unsafe extern "C" {
    fn locks_in_opposite_order();
    fn wait_for_nothing();
    fn fail_assertion(number: c_int);
    fn call_back(function: extern "C" fn());
}

/// Runs C code on a thread, which must end the simulation: how it says so.
fn failure(seed: u64, code: impl Fn() + Clone + Send + Sync + 'static) -> String {
    let result = simulate(seed, Options::default(), || async {
        machine_with(1, code);
        // Something else happens all the time.
        loop {
            sleep_ms(1_000).await;
            assert!(tokio::time::Instant::now().elapsed().as_secs() < 60);
        }
    });
    result.map(|((), _)| ()).expect_err("it cannot go on")
}

#[test]
fn threads_that_wait_for_locks_of_each_other_are_named_with_what_each_waits_for() {
    // SAFETY: it has no preconditions.
    let error = failure(41, || unsafe { locks_in_opposite_order() });
    assert!(error.starts_with("seed 41 at 0.01"), "{error}");
    assert!(error.contains("deadlock: thread"), "{error}");
    for (one, other) in [("forwards", "backwards"), ("backwards", "forwards")] {
        let name = format!("{one:?} of machine 1 waits for the lock 0x");
        let place = error.find(&name).unwrap_or_else(|| panic!("{name}: {error}"));
        let rest = error[place..].split(';').next().unwrap_or_default();
        assert!(
            rest.contains("held by thread") && rest.contains(other) && rest.contains(", holds 0x"),
            "{error}"
        );
    }
}

#[test]
fn a_simulation_in_which_nothing_can_happen_any_more_names_every_thread_and_what_it_waits_for() {
    let result = simulate(42, Options::default(), || async {
        // SAFETY: it has no preconditions.
        machine_with(1, || unsafe { wait_for_nothing() });
        machine_with(2, std::thread::park);
        std::future::pending::<()>().await;
    });
    let error = result.map(|((), _)| ()).expect_err("nothing can happen");
    assert!(error.contains("seed 42: deadlock: nothing can happen any more"), "{error}");
    assert!(error.contains("of machine 1 waits for the condition 0x"), "{error}");
    assert!(error.contains("of machine 2 waits for the futex 0x"), "{error}");
}

#[test]
fn a_failed_assertion_in_c_names_the_seed_and_the_thread_and_does_not_end_the_process() {
    // SAFETY: it has no preconditions.
    let error = failure(43, || unsafe { fail_assertion(2) });
    assert!(error.starts_with("seed 43 at 0."), "{error}");
    assert!(
        error.contains("thread 1 \"\" of machine 1: assertion failed: number == 1, in fail_assertion"),
        "{error}"
    );
}

#[test]
fn a_panic_below_c_code_names_the_seed_and_its_message_and_does_not_end_the_process() {
    extern "C" fn panics() {
        panic!("a callback has failed");
    }
    // SAFETY: it has no preconditions.
    let error = failure(44, || unsafe { call_back(panics) });
    assert!(error.starts_with("seed 44 at 0."), "{error}");
    assert!(error.contains("a panic reached C code, which cannot unwind: a callback has failed"), "{error}");
}

#[test]
fn functions_that_are_not_supported_say_so() {
    let error = failure(45, || {
        // SAFETY: the sets may be null.
        unsafe { libc::select(1, null_mut(), null_mut(), null_mut(), null_mut()) };
    });
    assert!(error.contains("select is not supported, poll is"), "{error}");
}

#[test]
fn a_report_says_what_the_threads_wait_for() {
    let (report, _) = simulate(46, Options::default(), || async {
        let node = machine(1);
        std::mem::drop(node.spawn(async {
            let listens = || std::net::TcpListener::bind("0.0.0.0:7").expect("free").accept().map(drop);
            let _ = tokio::task::spawn_blocking(listens).await;
        }));
        std::mem::drop(node.spawn(async {
            let _ =
                tokio::task::spawn_blocking(|| std::thread::sleep(std::time::Duration::from_secs(9))).await;
        }));
        on(&node, || std::thread::sleep(std::time::Duration::from_secs(1))).await;
        Threads::current().expect("threads").report()
    })
    .expect("it ends");
    assert!(
        report.contains("\"blocking\" of machine 1 waits for the listener at 10.0.0.1:7 (reads)"),
        "{report}"
    );
    assert!(report.contains("sleeps, until 9.0"), "{report}");
}
