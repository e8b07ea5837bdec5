//! The real program on the embedded services, killed repeatedly, and judged by its own `verify`.
//!
//! `KILLS_SEED` repeats a run's choices: records, sizes of batches and moments. Where in the work a moment
//! falls is up to the machine.

#![cfg(unix)]

mod demo;
mod harness;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;

use std::time::Duration;

use harness::{Folder, How, KILLED};
use random::Random;

const SEED: &str = "KILLS_SEED";

/// Kills of one folder.
const KILLS: u32 = 10;

/// Records that a folder starts with, and that are added whenever a worker was done before its kill.
const RECORDS: u64 = 3_000;

#[test]
fn fifty_kills_at_any_moment_leave_exact_tables() {
    let mut random = Random::from_env(SEED);
    let (mut killed, mut applied_again, mut at_work) = (0, 0, 0);
    for number in 0..5 {
        let folder = Folder::new();
        folder.generate(RECORDS, &mut random);
        let mut kills = 0;
        while kills < KILLS {
            let how = match random.below(4) {
                // Anywhere in starting, resuming and the first batches.
                0 => How::After(Duration::from_micros(random.below(80_000))),
                _ => How::Stored(1 + random.below(200), Duration::from_micros(random.below(15_000))),
            };
            let ended = folder.run_and_kill(how, &mut random);
            if ended == KILLED && folder.left() > 0 {
                kills += 1;
                let rows = folder.rows_past_progress();
                applied_again += rows;
                at_work += u32::from(rows > 0);
            } else {
                assert!(matches!(ended, 0 | KILLED), "the worker of folder {number} ended with {ended}");
                folder.generate(RECORDS, &mut random);
            }
        }
        killed += kills;
        folder.finish_and_verify();
    }
    println!("{killed} kills, {at_work} of them with rows past progress, {applied_again} rows in all");
    assert_eq!(killed, 50);
    assert!(at_work > 0, "no kill found work under way");
}

#[test]
fn a_kill_while_the_worker_stops_in_order_leaves_exact_tables() {
    let mut random = Random::from_env(SEED);
    let folder = Folder::new();
    let (mut killed, mut stopped) = (0, 0);
    for _ in 0..8 {
        folder.generate(RECORDS / 3, &mut random);
        let grace = Duration::from_micros(random.below(12_000));
        match folder.run_and_kill(How::Stopping(1 + random.below(200), grace), &mut random) {
            KILLED => killed += 1,
            0 => stopped += 1,
            other => panic!("the worker ended with {other}"),
        }
    }
    println!("{killed} killed while they stopped, {stopped} stopped before that");
    folder.finish_and_verify();
}

#[test]
fn verify_names_a_lost_row_and_a_wrong_count_and_exits_with_1() {
    let mut random = Random::from_env(SEED);
    let folder = Folder::new();
    folder.generate(RECORDS, &mut random);
    folder.finish_and_verify();
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    let damages = [
        "DELETE FROM events WHERE partition = 2 AND offset = (SELECT max(offset) FROM events WHERE partition = 2)",
        "UPDATE alerts SET event_count = event_count + 1 WHERE source = 'My Router' AND ts = \
         (SELECT max(ts) FROM alerts WHERE source = 'My Router')",
    ];
    for damage in damages {
        assert_eq!(store.execute(damage, []).expect("the store is damaged"), 1, "{damage}");
    }
    drop(store);
    let said = folder.run("verify");
    assert_eq!(said.code, 1, "{said}");
    for message in ["lost: partition 2 offset ", "wrong_alert_count: source \"My Router\"", "differences   2"]
    {
        assert!(said.stdout.contains(message), "{message}: {said}");
    }
}
