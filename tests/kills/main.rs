//! The real program on the embedded services, killed repeatedly; its own `verify` checks the tables.
//!
//! `KILLS_SEED` repeats the random choices of a run: records, sizes of batches and times of kills. What a worker does at
//! that time depends on the machine.

#![cfg(unix)]

mod demo;
mod harness;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;

use std::time::Duration;

use harness::{Folder, KILLED, KillTime};
use random::Random;

const SEED: &str = "KILLS_SEED";

/// Kills per folder.
const KILLS: u32 = 10;

/// Records that a folder starts with, and that are added whenever a worker ended before its kill.
const RECORDS: u64 = 3_000;

#[test]
fn fifty_kills_at_random_times_leave_exact_tables() {
    let mut random = Random::from_env(SEED);
    let (mut killed, mut applied_again, mut with_rows) = (0, 0, 0);
    for number in 0..5 {
        let folder = Folder::new();
        folder.generate(RECORDS, &mut random);
        let mut kills = 0;
        while kills < KILLS {
            let when = match random.below(4) {
                // While the worker starts, resumes, or processes its first batches.
                0 => KillTime::AfterStart(Duration::from_micros(random.below(80_000))),
                _ => {
                    KillTime::AfterRecords(1 + random.below(200), Duration::from_micros(random.below(15_000)))
                }
            };
            let ended = folder.run_and_kill(when, &mut random);
            if ended == KILLED && folder.lag() > 0 {
                kills += 1;
                let rows = folder.rows_past_progress();
                applied_again += rows;
                with_rows += u32::from(rows > 0);
            } else {
                assert!(matches!(ended, 0 | KILLED), "the worker of folder {number} ended with {ended}");
                folder.generate(RECORDS, &mut random);
            }
        }
        killed += kills;
        folder.finish_and_verify();
    }
    println!("{killed} kills, {with_rows} of them with rows past progress, {applied_again} rows in all");
    assert_eq!(killed, 50);
    assert!(with_rows > 0, "no kill interrupted a batch");
}

#[test]
fn a_kill_of_a_worker_that_stops_gracefully_leaves_exact_tables() {
    let mut random = Random::from_env(SEED);
    let folder = Folder::new();
    let (mut killed, mut stopped) = (0, 0);
    for _ in 0..8 {
        folder.generate(RECORDS / 3, &mut random);
        let grace = Duration::from_micros(random.below(12_000));
        match folder.run_and_kill(KillTime::WhileStopping(1 + random.below(200), grace), &mut random) {
            KILLED => killed += 1,
            0 => stopped += 1,
            other => panic!("the worker ended with {other}"),
        }
    }
    println!("{killed} killed while they stopped, {stopped} stopped before that");
    folder.finish_and_verify();
}

#[test]
fn verify_reports_a_lost_row_and_a_wrong_count_and_exits_with_1() {
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
    let output = folder.run("verify");
    assert_eq!(output.code, 1, "{output}");
    for message in ["lost: partition 2 offset ", "wrong_alert_count: source \"My Router\"", "differences   2"]
    {
        assert!(output.stdout.contains(message), "{message}: {output}");
    }
}
