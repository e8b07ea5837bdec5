//! Services that are unavailable when a worker starts, or fail later. These tests have exclusive use of them.

use std::time::Duration;

use simulated_hosts::{HostFault::Kill, Recovery::Start};

use crate::harness::{Harness, apply, exclusive, finish, stop};

/// Kills a node; a worker retries up to its deadline, and starts when the node is up again.
fn unavailable_at_the_start(node: &str, service: &str) {
    let _exclusive = exclusive();
    let harness = Harness::bound();
    harness.succeed("generate --events-per-key 20 --seed 1");
    let address = if service == "kafka" { harness.kafka.clone() } else { harness.cassandra.clone() };
    apply(Kill, node);
    let output = harness.run("--set services.start_deadline_ms=3000 run --until-end");
    assert_eq!((output.code, output.stdout.as_str()), (4, ""), "{output}");
    let message = format!("error: {service} at {address} is unavailable: no response within 3 s");
    assert!(output.stderr.contains(&message), "{output}");
    let waiting = harness.worker("--set services.start_deadline_ms=120000 run --until-end");
    std::thread::sleep(Duration::from_secs(3));
    apply(Start, node);
    let output = finish(waiting);
    assert_eq!(output.code, 0, "{output}");
    assert!(
        output.stderr.contains("service unavailable; retrying") && output.stderr.contains(&address),
        "{output}"
    );
    assert_eq!(harness.verified("").0, 60);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_retries_while_cassandra_is_unavailable_at_the_start() {
    unavailable_at_the_start("cassandra-1", "cassandra");
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_retries_while_kafka_is_unavailable_at_the_start() {
    unavailable_at_the_start("kafka-1", "kafka");
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_worker_resumes_by_itself_when_a_lost_service_is_up_again() {
    let _exclusive = exclusive();
    let harness = Harness::bound();
    let worker = harness.worker("run");
    harness.succeed("generate --preset mixed --events 300 --sources 3 --seed 1");
    harness.wait_until_durable(300);
    // Records are appended while the tables are unavailable.
    apply(Kill, "cassandra-1");
    harness.succeed("generate --preset mixed --events 300 --sources 3 --seed 2");
    std::thread::sleep(Duration::from_secs(5));
    apply(Start, "cassandra-1");
    harness.wait_until_durable(600);
    apply(Kill, "kafka-1");
    std::thread::sleep(Duration::from_secs(5));
    apply(Start, "kafka-1");
    harness.succeed("generate --preset mixed --events 300 --sources 3 --seed 3");
    harness.wait_until_durable(900);
    let output = stop(worker);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stderr.contains("request failed; retrying"), "{output}");
    harness.verified("");
    harness.end();
}
