//! The cost of a simulated Cassandra cluster, on one core: `cargo run --profile sim --example figures`, in this folder.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use scylla::client::session_builder::SessionBuilder;
use simulation::service::cassandra::{Notes, SimulatedCassandra};
use tokio::network::Network;
use tokio::time::sleep;

const STATEMENTS: i32 = 20_000;
const AT_ONCE: usize = 64;
const CLUSTERS: u8 = 60;

/// Three nodes from nothing to the responses to so many statements, each an insert at QUORUM. Returns the time that it
/// took on this machine's clock, which the simulation does not have inside.
fn statements(count: i32) -> Duration {
    let began = Instant::now();
    let ran = simulation::simulate(1, async || {
        Network::current().plug_in(madsim::plugin::node(), [10, 0, 1, 1].into());
        let notes: Notes = Arc::new(|_: fmt::Arguments<'_>| {});
        let cluster = SimulatedCassandra::start(3, 1, notes.clone(), |_| {});
        cluster.cluster.settled().await;
        sleep(Duration::from_millis(100)).await;
        let session = SessionBuilder::new().known_node_addr(cluster.addresses()[0]).build().await;
        let session = session.expect("the nodes respond");
        let run = async |cql: &str| {
            session.query_unpaged(cql, ()).await.unwrap_or_else(|error| panic!("{cql}: {error}"))
        };
        run("SELECT key FROM system.local").await;
        if count > 0 {
            run("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
                .await;
            run("CREATE TABLE k.t (p int, c int, v text, PRIMARY KEY (p, c))").await;
            let insert = session.prepare("INSERT INTO k.t (p, c, v) VALUES (?, ?, 'some text')").await;
            let mut insert = insert.expect("the statement is good");
            insert.set_consistency(scylla::statement::Consistency::Quorum);
            let all = stream::iter(0..count).map(|n| session.execute_unpaged(&insert, (n % 100, n)));
            let done = all.buffer_unordered(AT_ONCE).filter(|result| std::future::ready(result.is_ok()));
            assert_eq!(done.count().await, count as usize, "every insert is acknowledged");
        }
        cluster.shut_down();
    });
    ran.expect("nothing panics");
    began.elapsed()
}

/// RSS of this process in bytes.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

/// What each node of clusters that hold nothing adds to it.
fn memory_of_a_node() -> u64 {
    simulation::simulate(1, async || {
        let before = memory();
        let mut clusters = Vec::new();
        for number in 0..CLUSTERS {
            let cluster = simulation::service::cassandra::without_machines(3, number.into());
            cluster.settled().await;
            clusters.push(cluster);
        }
        (memory() - before) / (3 * clusters.len() as u64)
    })
    .expect("nothing panics")
}

fn main() {
    // First, before others have freed memory that the allocator keeps.
    let empty = memory_of_a_node();
    statements(0); // once for what is made once
    let start = statements(0);
    let with_statements = statements(STATEMENTS);
    let per_second = f64::from(STATEMENTS) / (with_statements.saturating_sub(start)).as_secs_f64();
    println!("three nodes, from nothing to the first response to a driver: {} ms", start.as_millis());
    println!("inserts at QUORUM, {AT_ONCE} at once, in a second of one core: {per_second:.0}");
    println!("memory of an empty node: {} KiB", empty / 1_024);
}
