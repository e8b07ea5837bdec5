//! The unmodified driver, and the production store, against a simulated cluster.

use std::fmt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::event::{Event, Health, Row};
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication};
use exactlyonce::store::{Layout, Outcome, Progress, Store};
use madsim::runtime::Handle;
use simulated_cassandra::cluster::CommitLogSync;
use simulated_hosts::HostFault;
use simulation::service::cassandra::SimulatedCassandra;
use simulation::trace::{Record, Trace};
use tokio::network::Network;
use tokio::time::sleep;

fn options(cluster: &SimulatedCassandra) -> CassandraOptions {
    let nodes = cluster.addresses().iter().map(ToString::to_string).collect();
    CassandraOptions {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(4),
        ..CassandraOptions::new(nodes, Keyspace::try_from("k".to_owned()).unwrap())
    }
}

fn event(id: i64) -> Row {
    let (source, client) = (format!("source {}", id % 3), "c".to_owned());
    Row::Event(Event { id, ts: id * 1_000, source, client, health: Health::Warning })
}

async fn until_known<T, F: Future<Output = Outcome<T>>>(mut request: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        match request().await {
            Outcome::Acknowledged(answer) => return answer,
            Outcome::Unknown(_) => sleep(Duration::from_millis(100)).await,
            Outcome::Refused(error) => panic!("refused: {error}"),
        }
    }
    panic!("the outcome is unknown after 200 attempts")
}

/// Creates the tables, and writes and reads rows while one node after another is killed, loses power, is paused.
async fn rows_under_faults(cluster: &SimulatedCassandra) -> Vec<i64> {
    let options = options(cluster);
    apply_schema(&options, &Replication::anywhere(3).unwrap(), Layout::ORIGINAL).await.unwrap();
    let store = CassandraStore::connect(&options, Layout::ORIGINAL).await.unwrap();
    let faults = {
        let cluster = cluster.clone();
        madsim::task::spawn(async move {
            for round in 0..2 {
                for node in 0..3 {
                    sleep(Duration::from_millis(700)).await;
                    let fault = match (round + node) % 3 {
                        0 => HostFault::Kill,
                        1 => HostFault::PowerLoss,
                        _ => HostFault::Pause,
                    };
                    cluster.apply(node, fault);
                    sleep(Duration::from_millis(5_000)).await;
                    cluster.recover(node, fault.recovery());
                    cluster.cluster.settled().await;
                }
            }
        })
    };
    let mut offset = 0;
    while !faults.is_finished() {
        let rows: Vec<(i64, Row)> = (offset..offset + 5).map(|offset| (offset, event(offset))).collect();
        until_known(|| store.write_rows(0, &rows)).await;
        offset += 5;
        let progress = Progress { origin: 0, next_offset: offset };
        until_known(|| store.write_progress(0, progress)).await;
        sleep(Duration::from_millis(50)).await;
    }
    let rows = until_known(|| store.events(0, 0, i64::MAX, 100_000)).await;
    assert_eq!(until_known(|| store.progress(0)).await, Some(Progress { origin: 0, next_offset: offset }));
    let lost: Vec<i64> =
        (0..offset).filter(|offset| rows.binary_search_by_key(offset, |row| row.0).is_err()).collect();
    assert!(
        lost.is_empty() && rows.len() as i64 == offset,
        "{} of {offset} rows, without {lost:?}",
        rows.len()
    );
    rows.into_iter().map(|row| row.0).collect()
}

/// The same, from a seed to its trace.
fn trace(seed: u64) -> Record {
    let trace = Arc::new(Trace::new(true));
    let notes = trace.clone();
    let rows = simulation::simulate(seed, move || async move {
        let notes: simulation::service::cassandra::Notes =
            Arc::new(move |note: fmt::Arguments<'_>| notes.note(note));
        let cluster = SimulatedCassandra::start(3, seed, notes.clone(), |options| {
            options.failure_timeout = Duration::from_secs(3);
            // With periodic sync, a replica that loses power would lose what it has acknowledged.
            options.commit_log_sync = CommitLogSync::Batch(Duration::from_millis(1));
        });
        let client = Handle::current().create_node().name("client").ip([10, 0, 1, 1].into()).build();
        Network::current().plug_in(client.id(), [10, 0, 1, 1].into());
        let on = cluster.clone();
        let rows = client.spawn(async move {
            on.cluster.settled().await;
            sleep(Duration::from_millis(100)).await;
            rows_under_faults(&on).await
        });
        let rows = rows.await.unwrap();
        cluster.shut_down();
        Handle::current().kill(client.id());
        sleep(Duration::from_secs(5)).await;
        rows.len()
    });
    let rows = rows.expect("the rows come back");
    assert!(rows > 100, "{rows} rows are few");
    trace.record()
}

#[test]
fn the_production_store_keeps_its_rows_while_nodes_are_killed_paused_and_lose_power() {
    let trace = trace(11);
    let of = |text: &str| trace.lines.iter().filter(|line| line.contains(text)).count();
    assert!(of("BATCH") > 20 && of("EXECUTE") > 20 && of("PREPARE") > 3, "{} events", trace.events);
    assert!(of(" serves clients") == 3 + 4, "{}", of(" serves clients"));
}

/// Makes a process of this program print the trace of a seed.
const PRINT: &str = "EXACTLYONCE_SIM_PRINT_CASSANDRA";

#[test]
fn a_cluster_s_trace_is_the_same_in_two_processes() {
    const NAME: &str = "cassandra::a_cluster_s_trace_is_the_same_in_two_processes";
    if let Ok(seed) = std::env::var(PRINT) {
        trace(seed.parse().expect("a seed")).lines.iter().for_each(|line| println!("{line}"));
        return;
    }
    let of_a_process = |seed: u64| {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program);
        let output = process.args(["--exact", NAME, "--nocapture"]).env(PRINT, seed.to_string()).output();
        let output = output.expect("this program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("a trace is text");
        text.lines().filter(|line| line.contains(" ms  ")).map(str::to_owned).collect::<Vec<_>>()
    };
    for seed in [1, 2] {
        let (one, other) = (of_a_process(seed), of_a_process(seed));
        assert!(one.len() > 1_000, "a trace of {} lines compares nothing", one.len());
        assert_equal(&one, &other);
    }
}

/// Fails at the first line where two traces differ.
fn assert_equal(one: &[String], other: &[String]) {
    for (number, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one, other, "they differ from line {number} on");
    }
    assert_eq!(one.len(), other.len());
}

#[test]
fn a_cluster_s_trace_is_the_same_beside_another_in_one_process() {
    let twice = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| twice.lock().expect("no panic").push(trace(3)));
        }
    });
    let twice = twice.into_inner().expect("no panic");
    assert_equal(&twice[0].lines, &twice[1].lines);
    assert_ne!(twice[0].hash, trace(4).hash);
}
