//! The program on three real brokers and three real nodes of Cassandra, while workers, brokers and nodes are killed,
//! paused and restarted; then its own `verify` checks the tables.
//!
//! ```text
//! docker/local/cluster up --kafka 3 --cassandra 3
//! EXACTLYONCE_REAL_SECONDS=180 cargo test --test real -- --ignored --nocapture
//! docker/local/cluster down
//! ```
//!
//! `EXACTLYONCE_REAL_SECONDS` is how long faults are injected (180). `EXACTLYONCE_REAL_SEED` repeats the random choices
//! of a run: the records, and the faults with their order, targets and durations. What is in flight at a fault depends
//! on the machine. Every fault is printed when it starts; if the test fails, the ends of the workers' logs are printed.

#![cfg(unix)]

#[path = "../common/cluster.rs"]
mod cluster;
mod faults;
mod pipeline;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;
mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use faults::{FaultLog, Host};
use pipeline::{Pipeline, Producer, Workers};
use random::Random;
use services::Services;
use simulated_hosts::HostFault;

/// How long faults are injected, in seconds.
fn seconds() -> u64 {
    match std::env::var("EXACTLYONCE_REAL_SECONDS") {
        Ok(text) => text.parse().expect("EXACTLYONCE_REAL_SECONDS is a number"),
        Err(_) => 180,
    }
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 3 --cassandra 3"]
fn the_tables_are_exact_after_faults_of_workers_brokers_and_nodes() {
    let seconds = seconds();
    println!("EXACTLYONCE_REAL_SECONDS={seconds}");
    let mut random = Random::from_env("EXACTLYONCE_REAL_SEED");
    let services = Arc::new(Services::find());
    services.heal();

    // Two pipelines on one topic, with different windows, layouts, group protocols and keyspaces.
    let name = format!("real_{}", std::process::id());
    let topic = format!("exactlyonce.{name}");
    let first = Pipeline::new(
        &services,
        &topic,
        &name,
        &["kafka.group_protocol=\"classic\"", "kafka.session_timeout_ms=6000"],
    );
    let second = Pipeline::new(
        &services,
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
        scope.spawn(|| faults::into_services(&services, &topic, for_services, until, &log));
        scope.spawn(|| faults::into_workers(&workers, for_workers, until, &log));
    });
    println!("healing");
    services.heal();
    over.store(true, Ordering::Relaxed);
    let records = producer.finish();
    for workers in workers {
        workers.stop_gracefully();
    }
    for pipeline in [&first, &second] {
        pipeline.drain_and_verify(records);
    }
    log.print();
    // A run without faults proves nothing.
    let required = [
        (Host::Worker, Some(HostFault::Kill)),
        (Host::Worker, Some(HostFault::Pause)),
        (Host::Node, None),
        (Host::Broker, None),
    ];
    for (host, fault) in required {
        let fault_text = fault.map_or("any fault".to_owned(), |fault| fault.to_string());
        assert!(log.count(host, fault) > 0 || seconds < 120, "no {host} had {fault_text} in {seconds} s");
    }
    for pipeline in [&first, &second] {
        pipeline.drop_keyspace();
    }
}
