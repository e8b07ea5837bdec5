//! The program on three brokers and three nodes of Cassandra, while workers, brokers and nodes are killed, paused and
//! restarted; then its own `verify` checks the tables, and the test checks that every acknowledged record is in them.
//!
//! The same run is made on services that are simulated in this process, over sockets, where brokers and nodes lose also their
//! power and their links to each other, and leaders move; and on real ones:
//!
//! ```text
//! EXACTLYONCE_SIMULATED_SECONDS=180 cargo test --test real simulated -- --nocapture
//!
//! docker/local/cluster up --kafka 3 --cassandra 3
//! EXACTLYONCE_REAL_SECONDS=180 cargo test --test real -- --ignored --nocapture
//! docker/local/cluster down
//! ```
//!
//! `..._SECONDS` is how long faults are injected (15 and 180). `EXACTLYONCE_SIMULATED_SEED` and `EXACTLYONCE_REAL_SEED`
//! repeat the random choices of a run: the records, and the faults with their order, targets and durations. What is in
//! flight at a fault depends on the machine. Every fault is printed when it starts; if the test fails, the ends of the
//! workers' logs are printed.

#![cfg(unix)]

#[path = "../common/cluster.rs"]
mod cluster;
mod faults;
mod inject;
mod pipeline;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;
mod services;
mod simulated;
#[path = "../common/simulated_kafka.rs"]
mod simulated_kafka;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use faults::FaultLog;
use inject::Pace;
use pipeline::{Pipeline, Producer, Workers};
use random::Random;
use services::{Host, RealServices, Services};
use simulated::SimulatedServices;
use simulated_hosts::HostFault;

/// How long faults are injected, in seconds.
fn seconds(variable: &str, default: u64) -> u64 {
    let seconds = match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, it must be a number")),
        Err(_) => default,
    };
    println!("{variable}={seconds}");
    seconds
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 3 --cassandra 3"]
fn the_tables_are_exact_after_faults_of_workers_brokers_and_nodes() {
    let seconds = seconds("EXACTLYONCE_REAL_SECONDS", 180);
    let random = Random::from_env("EXACTLYONCE_REAL_SEED");
    let services = RealServices::find();
    services.heal();
    let log = run(&services, seconds, Pace { speed: 1, session_ms: 6_000 }, random);
    for (host, fault) in [
        (Host::Worker, Some(HostFault::Kill)),
        (Host::Worker, Some(HostFault::Pause)),
        (Host::Node, None),
        (Host::Broker, None),
    ] {
        let fault_text = fault.map_or("any fault".to_owned(), |fault| fault.to_string());
        assert!(log.count(host, fault) > 0 || seconds < 120, "no {host} had {fault_text} in {seconds} s");
    }
}

#[test]
fn the_tables_are_exact_after_faults_of_workers_and_of_simulated_brokers_and_nodes() {
    let seconds = seconds("EXACTLYONCE_SIMULATED_SECONDS", 15);
    let random = Random::from_env("EXACTLYONCE_SIMULATED_SEED");
    let services = SimulatedServices::start();
    let log = run(&services, seconds, Pace { speed: 4, session_ms: simulated::SESSION_MS }, random);
    for host in [Host::Worker, Host::Node, Host::Broker] {
        assert!(log.count(host, None) > 0, "no {host} had a fault in {seconds} s");
    }
}

/// Runs two pipelines while faults are injected, and checks their tables. A run without faults proves nothing: which there
/// were is returned.
fn run(services: &dyn Services, seconds: u64, pace: Pace, mut random: Random) -> FaultLog {
    // Two pipelines on one topic, with different windows, layouts, group protocols and keyspaces.
    let name = format!("real_{}", std::process::id());
    let topic = format!("exactlyonce.{name}");
    let session = format!("kafka.session_timeout_ms={}", pace.session_ms);
    let first = Pipeline::new(services, &topic, &name, &["kafka.group_protocol=\"classic\"", &session]);
    let second = Pipeline::new(
        services,
        &topic,
        &format!("{name}_b"),
        &[
            "kafka.group_protocol=\"consumer\"",
            "window.size_ms=20000",
            "store.layout=\"bucketed\"",
            "store.bucket_rows=1000",
            "pipeline.batch_records=700",
            "pipeline.write_records=300",
            "pipeline.counts_cache_bytes=200000",
        ],
    );
    first.succeed(&["topic", "create", "--partitions", "3", "--replication-factor", "3"]);
    for pipeline in [&first, &second] {
        pipeline.succeed(&["init"]);
    }

    let log = FaultLog::new();
    let over = Arc::new(AtomicBool::new(false));
    let workers = [Workers::start(&first, 3), Workers::start(&second, 2)];
    let producer = Producer::start(first.clone(), random.fork(), Arc::clone(&over));
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        let (for_services, for_workers) = (random.fork(), random.fork());
        scope.spawn(|| inject::into_services(services, &topic, pace, for_services, until, &log));
        scope.spawn(|| inject::into_workers(&workers, pace, for_workers, until, &log));
    });
    println!("healing");
    services.heal();
    over.store(true, Ordering::Relaxed);
    let acknowledged = producer.finish();
    for workers in workers {
        workers.stop_gracefully();
    }
    for pipeline in [&first, &second] {
        pipeline.drain_and_verify(&acknowledged);
    }
    log.print();
    for pipeline in [&first, &second] {
        pipeline.drop_keyspace();
    }
    log
}
