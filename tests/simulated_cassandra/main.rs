//! The program itself on three nodes of the simulated Cassandra, over sockets: nodes and workers are killed while it
//! works, and the tables are exact. Damaged rows are named.

#[path = "../common/damaged_rows.rs"]
mod damaged_rows;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;
mod world;

use std::time::Duration;

use random::Random;
use simulated_cassandra::cluster::Ending;
use world::World;

/// Records that are appended before each fault, so that there is always work.
const RECORDS: u64 = 400;

/// `SIMULATED_CASSANDRA_SEED` repeats a run's choices: the records, and what happens to whom.
#[test]
fn tables_are_exact_although_nodes_and_workers_are_killed() {
    let mut random = Random::from_env("SIMULATED_CASSANDRA_SEED");
    let world = World::start();
    world.fine("topic create");
    world.fine("schema apply");
    world.fine("init");
    let mut worker = world.worker("run");
    let (mut nodes_ended, mut paused, mut workers_killed) = (0, 0, 0);
    let mut down: Option<u8> = None;
    let mut made = 0;
    for part in 0..12 {
        world.fine(&format!(
            "generate --preset mixed --events {RECORDS} --sources 20 --rate 300 --malformed 5 --late 5 \
             --late-by-ms 30000 --start-ms {} --seed {}",
            part * 5_000,
            random.below(1 << 32)
        ));
        // In the middle of the work, and anywhere in a batch.
        world.until_stored(made + random.below(RECORDS / 2), &mut worker);
        std::thread::sleep(Duration::from_millis(random.below(30)));
        made += RECORDS;
        if let Some(node) = down.take() {
            world.start_node(node);
        }
        let node = 1 + random.below(3) as u8;
        match part {
            3 | 7 | 11 => {
                worker.kill();
                workers_killed += 1;
                worker = world.worker("run");
            }
            5 => {
                // Too short to be believed dead, or long enough.
                world.pause(node, Duration::from_millis(200 + random.below(2000)));
                paused += 1;
            }
            9 => {
                // Two of three: nothing can be stored until one is back.
                world.end_node(node, Ending::Kill);
                world.end_node(node % 3 + 1, Ending::Kill);
                nodes_ended += 2;
                std::thread::sleep(Duration::from_millis(1500));
                world.start_node(node % 3 + 1);
                down = Some(node);
            }
            _ => {
                world.end_node(node, Ending::Kill);
                nodes_ended += 1;
                down = Some(node);
            }
        }
    }
    if let Some(node) = down.take() {
        world.start_node(node);
    }
    worker.kill();
    world.finish(world.worker("run --until-end"));
    assert_eq!(world.stored(), Some(made), "every record is done");
    // It ends with another exit code if there is a single difference.
    let verdict = world.fine("verify");
    println!("{nodes_ended} nodes ended, {paused} paused, {workers_killed} workers killed\n{verdict}");
    assert!(nodes_ended >= 7 && paused == 1 && workers_killed == 3);
}

fn bound() -> World {
    let world = World::start();
    world.fine("topic create");
    world.fine("init");
    world
}

#[test]
fn damaged_rows_of_the_log_are_named_and_the_rest_is_judged() {
    damaged_rows::rows_of_the_log(&bound());
}

#[test]
fn damaged_rows_of_the_pipeline_are_named_and_the_rest_is_judged() {
    damaged_rows::rows_of_the_pipeline(&bound());
}
