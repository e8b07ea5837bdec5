//! Which thread runs next.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use simulated_threads::{Options, Strategy, Threads};

use crate::harness::{machine, on, run, simulate};

unsafe extern "C" {
    fn elect(candidates: c_int) -> c_int;
    fn belt_of_three() -> c_int;
}

/// How often each number of leaders was elected in this many seeds.
fn elections(strategy: Strategy, candidates: c_int, seeds: u64) -> Vec<c_int> {
    let mut options = Options::default();
    options.strategy = strategy;
    let each = |seed| {
        let elect = || async {
            // SAFETY: there is space for so many.
            on(&machine(1), move || unsafe { elect(candidates) }).await
        };
        simulate(seed, options.clone(), elect).expect("it ends").0
    };
    (0..seeds).map(each).collect()
}

#[test]
fn random_turns_lead_to_one_leader_and_to_several() {
    let leaders: BTreeSet<_> = elections(Strategy::Random, 3, 60).into_iter().collect();
    assert!(leaders.contains(&1) && leaders.len() > 1, "{leaders:?}");
}

#[test]
fn without_a_change_of_priorities_threads_that_never_wait_do_not_preempt_each_other() {
    let leaders = elections(Strategy::Priorities { changes: 0, calls: 100 }, 2, 40);
    assert!(leaders.iter().all(|leaders| *leaders == 1), "{leaders:?}");
}

#[test]
fn one_change_of_priorities_leads_to_a_second_leader_in_some_seeds() {
    let leaders = elections(Strategy::Priorities { changes: 1, calls: 30 }, 2, 60);
    let several = leaders.iter().filter(|leaders| **leaders > 1).count();
    // A schedule that one preemption makes has at least the probability 1 / (threads * calls).
    assert!(several > 0 && several < 40, "{several} of {}", leaders.len());
}

#[test]
fn a_thread_that_spins_does_not_keep_others_from_running() {
    for seed in 0..10 {
        let mut options = Options::default();
        options.strategy = Strategy::Priorities { changes: 3, calls: 1_000 };
        let spins = || async {
            on(&machine(1), || {
                let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
                let setter = {
                    let flag = flag.clone();
                    std::thread::spawn(move || flag.store(true, std::sync::atomic::Ordering::Relaxed))
                };
                while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                setter.join().expect("no panic");
            })
            .await;
        };
        simulate(seed, options, spins).expect("it ends");
    }
}

/// The options of threads with random priorities that never change.
fn priorities() -> Options {
    let mut options = Options::default();
    options.strategy = Strategy::Priorities { changes: 0, calls: 1_000 };
    options
}

/// A call of the C library.
fn look_at_the_clock() {
    std::hint::black_box(Instant::now());
}

/// Repeats something, as long as it says so, until another thread has made a few calls. How often.
fn repeats_while_another_works(mut again: impl FnMut() -> bool) -> u32 {
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let done = done.clone();
        std::thread::spawn(move || {
            for _ in 0..20 {
                look_at_the_clock();
            }
            done.store(true, Ordering::Relaxed);
        })
    };
    let mut times = 0;
    while !done.load(Ordering::Relaxed) && again() {
        times += 1;
    }
    other.join().expect("no panic");
    times
}

/// How often something is repeated on a thread, at most so often, until another one has made a few calls.
fn repeats(seed: u64, most: u32, mut what: impl FnMut() + Send + 'static) -> u32 {
    let repeat = move || {
        let mut left = most;
        repeats_while_another_works(|| {
            what();
            left -= 1;
            left > 0
        })
    };
    let body = || async { on(&machine(1), repeat).await };
    simulate(seed, priorities(), body).expect("it ends").0
}

#[test]
fn a_thread_that_only_looks_whether_it_should_wait_does_not_hold_others_off() {
    let mut held_off = 0;
    for (seed, calls_before) in (0..10).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let mut left = calls_before;
        let times = repeats(seed, 50_000, move || {
            // Each round has two calls, and other threads may run before the first only.
            (0..std::mem::take(&mut left)).for_each(|_| look_at_the_clock());
            // SAFETY: it looks at no descriptor.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 0) };
        });
        assert!(times < 5_000, "seed {seed}, {calls_before} calls before: {times}");
        held_off += u32::from(times > 500);
    }
    assert!(held_off > 4, "{held_off} of 20 had the higher priority");
}

#[test]
fn a_thread_whose_waits_are_over_at_once_spins_and_does_not_hold_others_off() {
    let mut held_off = 0;
    for seed in 0..10 {
        let (mutex, condition) = (Mutex::new(()), Condvar::new());
        let times = repeats(seed, 50_000, move || {
            let guard = mutex.lock().expect("no panic");
            let waited = condition.wait_timeout(guard, Duration::ZERO).expect("no panic");
            assert!(waited.1.timed_out());
        });
        assert!(times < 5_000, "seed {seed}: {times}");
        held_off += u32::from(times > 200);
    }
    assert!(held_off > 2, "{held_off} of 10 had the higher priority");
}

#[test]
fn a_semaphore_wakes_a_thread_which_may_end_in_the_middle() {
    let (result, figures) = run(53, || async {
        // SAFETY: it has no preconditions.
        on(&machine(1), || unsafe { belt_of_three() }).await
    });
    assert_eq!(result, 42);
    assert_eq!(figures.killed, 0);
}

#[test]
fn every_call_is_observed_with_its_thread_name_and_time() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let mut options = Options::default();
    options.observer = {
        let events = events.clone();
        Some(Arc::new(move |event| {
            events.lock().expect("no panic").push((
                event.name.to_owned(),
                event.call.to_owned(),
                event.to_string(),
            ));
        }))
    };
    let ((), figures) = simulate(54, options, || async {
        on(&machine(1), || {
            let thread = std::thread::Builder::new().name("sleeper".to_owned());
            let sleeper = thread.spawn(|| std::thread::sleep(std::time::Duration::from_secs(1)));
            sleeper.expect("a thread").join().expect("no panic");
        })
        .await;
    })
    .expect("it ends");
    let events = events.lock().expect("no panic");
    assert_eq!(events.len() as u64, figures.calls);
    let slept = events.iter().find(|(name, call, _)| name == "sleeper" && call.contains("nanosleep"));
    let line = &slept.expect("it slept").2;
    assert!(
        line.contains("machine 1 thread 2 \"sleeper\": ") && line.contains("nanosleep 1000000000"),
        "{line}"
    );
}

#[test]
fn the_busiest_thread_is_one_that_spins_until_it_ends() {
    let spins = || async {
        on(&machine(1), || {
            let busiest = || Threads::current().and_then(|threads| threads.busiest()).expect("there is one");
            let (done, wait) = mpsc::channel::<()>();
            let (spun, has_spun) = mpsc::channel();
            let spinner = std::thread::Builder::new().name("spinner".to_owned()).spawn(move || {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(1) {}
                spun.send(()).expect("the test waits");
                wait.recv().expect("the test ends it");
            });
            has_spun.recv().expect("it ends to spin");
            let spinning = busiest();
            done.send(()).expect("it waits");
            spinner.expect("it starts").join().expect("it ends");
            (spinning, busiest())
        })
        .await
    };
    let ((spinning, afterwards), _) = simulate(1, Options::default(), spins).expect("it ends");
    assert_eq!(spinning.name, "spinner");
    // A second of pauses: few calls for each millisecond.
    assert!((1_000..100_000).contains(&spinning.calls), "{spinning:?}");
    assert!(afterwards.name != "spinner" && afterwards.calls < 1_000, "{afterwards:?}");
}
