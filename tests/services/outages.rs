//! Services that are unavailable when a worker starts, or fail later. No other test may use them meanwhile.

use std::time::Duration;

use crate::harness::{Harness, alone, cluster, finish, stop};

/// A node is killed; the worker waits for it, up to the deadline, and begins when it is back.
fn away_at_the_start(node: &str, service: &str) {
    let _alone = alone();
    let harness = Harness::bound();
    harness.fine("generate --events-per-key 20 --seed 1");
    let address = if service == "kafka" { harness.kafka.clone() } else { harness.cassandra.clone() };
    cluster(&["kill", node]);
    let said = harness.run("--set services.start_deadline_ms=3000 run --until-end");
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said}");
    let message = format!("error: {service} at {address} is unavailable: no response within 3 s");
    assert!(said.stderr.contains(&message), "{said}");
    let waiting = harness.worker("--set services.start_deadline_ms=120000 run --until-end");
    std::thread::sleep(Duration::from_secs(3));
    cluster(&["start", node]);
    let said = finish(waiting);
    assert_eq!(said.code, 0, "{said}");
    assert!(
        said.stderr.contains("service unavailable; retrying") && said.stderr.contains(&address),
        "{said}"
    );
    assert_eq!(harness.verified("").0, 60);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_waits_for_a_cassandra_that_is_away_at_the_start() {
    away_at_the_start("cassandra-1", "cassandra");
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_waits_for_a_kafka_that_is_away_at_the_start() {
    away_at_the_start("kafka-1", "kafka");
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_goes_on_by_itself_when_a_lost_service_is_back() {
    let _alone = alone();
    let harness = Harness::bound();
    let worker = harness.worker("run");
    harness.fine("generate --preset mixed --events 300 --sources 3 --seed 1");
    harness.wait_until_done(300);
    // Records come while the tables are unavailable.
    cluster(&["kill", "cassandra-1"]);
    harness.fine("generate --preset mixed --events 300 --sources 3 --seed 2");
    std::thread::sleep(Duration::from_secs(5));
    cluster(&["start", "cassandra-1"]);
    harness.wait_until_done(600);
    cluster(&["kill", "kafka-1"]);
    std::thread::sleep(Duration::from_secs(5));
    cluster(&["start", "kafka-1"]);
    harness.fine("generate --preset mixed --events 300 --sources 3 --seed 3");
    harness.wait_until_done(900);
    let said = stop(worker);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stderr.contains("request failed; retrying"), "{said}");
    harness.verified("");
    harness.end();
}
