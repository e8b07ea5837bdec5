//! Statements in a second over sockets, client included: `cargo run --release --example throughput`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

/// How many statements are under way at once.
const AT_ONCE: i32 = 64;

/// How long each kind is measured.
const DURATION: Duration = Duration::from_secs(3);

async fn measure(session: &Arc<Session>, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let statement = session.prepare(text).await?;
    let columns = statement.get_variable_col_specs().len();
    let start = Instant::now();
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| {
            let (session, statement) = (session.clone(), statement.clone());
            tokio::spawn(async move {
                let mut done = 0_u64;
                while start.elapsed() < DURATION {
                    let number = worker * 1000 + (done % 1000) as i32;
                    let values = vec![number; columns];
                    session.execute_unpaged(&statement, values).await.map_err(|error| error.to_string())?;
                    done += 1;
                }
                Ok::<_, String>(done)
            })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await??;
    }
    println!("{name}: {:.0} statements/s", done as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for count in [1, 3] {
        let start = Instant::now();
        let options = LocalOptions { nodes: count, port: 0, ..LocalOptions::new(1_767_225_600_000_000) };
        let nodes = LocalNodes::start(options, |_| {}).await?;
        let session = SessionBuilder::new().known_node_addr(nodes.address(1)).build().await?;
        println!("{count} nodes, a session {} ms after their start", start.elapsed().as_millis());
        for statement in [
            format!(
                "CREATE KEYSPACE k WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {count}}}"
            ),
            "CREATE TABLE k.t (a int, b int, c int, PRIMARY KEY (a, b))".to_owned(),
        ] {
            session.query_unpaged(statement, &[]).await?;
        }
        let session = Arc::new(session);
        measure(&session, "INSERT", "INSERT INTO k.t (a, b, c) VALUES (?, ?, ?)").await?;
        measure(&session, "SELECT of a row", "SELECT c FROM k.t WHERE a = ? AND b = ?").await?;
        let batch = "BEGIN UNLOGGED BATCH INSERT INTO k.t (a, b, c) VALUES (?, 1, 1); \
                     INSERT INTO k.t (a, b, c) VALUES (?, 2, 2); APPLY BATCH";
        measure(&session, "batch of two", batch).await?;
    }
    Ok(())
}
