//! The shim that replaces tokio for production code.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

fn simulate<T: Send, F: Future<Output = T>>(seed: u64, body: impl FnOnce() -> F + Send) -> T {
    simulation::simulate(seed, body).expect("the body does not panic")
}

#[test]
fn an_unbiased_select_starts_at_a_branch_from_the_seed() {
    let branches = |seed| {
        simulate(seed, || async {
            let mut chosen = Vec::new();
            for _ in 0..64 {
                tokio::select! {
                    () = async {} => chosen.push(0),
                    () = async {} => chosen.push(1),
                }
            }
            chosen
        })
    };
    assert_eq!(branches(7), branches(7));
    assert_ne!(branches(7), branches(8));
    assert!(branches(7).contains(&0) && branches(7).contains(&1));
}

#[test]
fn a_biased_select_starts_at_its_first_branch() {
    let chosen = simulate(7, || async {
        for _ in 0..64 {
            tokio::select! {
                biased;
                () = async {} => {}
                () = async {} => return 1,
            }
        }
        0
    });
    assert_eq!(chosen, 0);
}

#[test]
fn timeout_at_waits_until_its_deadline_and_no_longer() {
    let (early, late, waited) = simulate(7, || async {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(10);
        let early = timeout_at(deadline, sleep(Duration::from_secs(9))).await.is_ok();
        let late = timeout_at(deadline, sleep(Duration::from_secs(9))).await.is_ok();
        (early, late, began.elapsed())
    });
    assert!(early && !late);
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
}

#[test]
fn waits_that_are_over_wake_nobody() {
    let polls = simulate(7, || async {
        for _ in 0..100 {
            let ended = timeout(Duration::from_secs(10), sleep(Duration::from_millis(5))).await;
            ended.expect("it ends in time");
        }
        let (mut polls, mut wait) = (0, Box::pin(sleep(Duration::from_secs(60))));
        poll_fn(|context| {
            polls += 1;
            wait.as_mut().poll(context)
        })
        .await;
        polls
    });
    assert_eq!(polls, 2, "once to begin with, and once when it is over");
}

#[test]
fn random_numbers_come_from_the_seed_even_for_crates_that_use_the_system_s() {
    // The driver's generator, and that of the store's and the driver's UUIDs.
    let drawn = |seed| simulate(seed, || async { (rand::random::<u64>(), uuid::Uuid::new_v4()) });
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}

#[test]
fn all_receivers_of_a_watch_channel_wake_up_at_a_change_and_when_the_sender_is_dropped() {
    let woken = simulate(7, || async {
        let (sender, receiver) = tokio::sync::watch::channel(0);
        let (note, mut notes) = tokio::sync::mpsc::unbounded_channel();
        let mut watching = Vec::new();
        for number in 0..64 {
            let (mut receiver, note) = (receiver.clone(), note.clone());
            watching.push(tokio::spawn(async move {
                receiver.wait_for(|value| *value > 0).await.expect("the sender exists");
                note.send(number).expect("the receiver exists");
                receiver.changed().await.expect_err("the sender is gone");
            }));
            sleep(Duration::from_millis(1)).await;
        }
        drop((note, receiver));
        sender.send_replace(1);
        sleep(Duration::from_millis(1)).await;
        drop(sender);
        for watching in watching {
            watching.await.expect("no panic");
        }
        let mut woken = Vec::new();
        while let Some(number) = notes.recv().await {
            woken.push(number);
        }
        woken
    });
    assert_eq!(woken.len(), 64);
}
