//! The permissions that docs/guarantees.md lists for each command, on a real Kafka and a real Cassandra: with all of
//! them the command succeeds, and without any one of them it does not.

mod cassandra;
#[path = "../common/cluster.rs"]
mod cluster;
mod kafka;
#[path = "../common/program.rs"]
mod program;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cluster::Cluster;

/// A variable of `docker/local/cluster up --secure`.
fn variable(name: &str) -> String {
    let hint = "no secure services run: docker/local/cluster up --kafka 1 --cassandra 1 --secure starts them";
    Cluster::running().env.get(name).unwrap_or_else(|| panic!("{name}: {hint}")).clone()
}

/// A name of a topic, keyspace or role that nothing else has.
fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    format!("permissions_{now:x}_{}_{number}", std::process::id())
}
