//! The program on three nodes of the simulated Cassandra, over sockets: the tables are exact although nodes and workers
//! are killed, and damaged rows are reported.

#[path = "../common/damaged_rows.rs"]
mod damaged_rows;
mod harness;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;

use std::time::Duration;

use harness::Harness;
use random::Random;
use simulated_cassandra::cluster::HostFault;

/// Records that are appended before each fault, so that the worker is always active.
const RECORDS: u64 = 400;

/// `SIMULATED_CASSANDRA_SEED` repeats the random choices of a run: records, faults and their targets.
#[test]
fn tables_are_exact_although_nodes_and_workers_are_killed() {
    let mut random = Random::from_env("SIMULATED_CASSANDRA_SEED");
    let harness = Harness::start();
    harness.succeed("topic create");
    harness.succeed("schema apply");
    harness.succeed("init");
    let mut worker = harness.worker("run");
    let (mut nodes_ended, mut paused, mut workers_killed) = (0, 0, 0);
    let mut down: Option<u8> = None;
    let mut appended = 0;
    for part in 0..12 {
        harness.succeed(&format!(
            "generate --preset mixed --events {RECORDS} --sources 20 --rate 300 --malformed 5 --late 5 \
             --late-by-ms 30000 --start-ms {} --seed {}",
            part * 5_000,
            random.below(1 << 32)
        ));
        // While records are being processed, at a random point of a batch.
        harness.until_stored(appended + random.below(RECORDS / 2), &mut worker);
        std::thread::sleep(Duration::from_millis(random.below(30)));
        appended += RECORDS;
        if let Some(node) = down.take() {
            harness.start_node(node);
        }
        let node = 1 + random.below(3) as u8;
        match part {
            3 | 7 | 11 => {
                worker.kill();
                workers_killed += 1;
                worker = harness.worker("run");
            }
            5 => {
                // Shorter or longer than the failure detection takes.
                harness.pause(node, Duration::from_millis(200 + random.below(2000)));
                paused += 1;
            }
            9 => {
                // Two of three nodes: no write is acknowledged until one is up again.
                harness.end_node(node, HostFault::Kill);
                harness.end_node(node % 3 + 1, HostFault::Kill);
                nodes_ended += 2;
                std::thread::sleep(Duration::from_millis(1500));
                harness.start_node(node % 3 + 1);
                down = Some(node);
            }
            _ => {
                harness.end_node(node, HostFault::Kill);
                nodes_ended += 1;
                down = Some(node);
            }
        }
    }
    if let Some(node) = down.take() {
        harness.start_node(node);
    }
    worker.kill();
    harness.finish(harness.worker("run --until-end"));
    assert_eq!(harness.stored(), Some(appended), "every record is durable");
    // It exits with 1 if there is any difference.
    let verdict = harness.succeed("verify");
    println!("{nodes_ended} nodes ended, {paused} paused, {workers_killed} workers killed\n{verdict}");
    assert!(nodes_ended >= 7 && paused == 1 && workers_killed == 3);
}

fn bound() -> Harness {
    let harness = Harness::start();
    harness.succeed("topic create");
    harness.succeed("init");
    harness
}

#[test]
fn damaged_rows_of_the_log_are_reported_and_all_other_rows_are_checked() {
    damaged_rows::rows_of_the_log(&bound());
}

#[test]
fn damaged_rows_of_the_pipeline_are_reported_and_all_other_rows_are_checked() {
    damaged_rows::rows_of_the_pipeline(&bound());
}
