//! Three nodes and a driver that knows nothing of their being simulated: `cargo run --example driver`.

use std::error::Error;

use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = LocalOptions { port: 0, ..LocalOptions::new(1_767_225_600_000_000) };
    let nodes = LocalNodes::start(options, |_| {}).await?;
    let session = SessionBuilder::new().known_node_addr(nodes.address(1)).build().await?;
    for statement in [
        "CREATE KEYSPACE app WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
        "CREATE TABLE app.readings (sensor text, at timestamp, value double, PRIMARY KEY (sensor, at))",
        "INSERT INTO app.readings (sensor, at, value) VALUES ('hall', 1000, 21.5) USING TIMESTAMP 7",
    ] {
        session.query_unpaged(statement, &[]).await?;
    }
    let select = "SELECT value, writetime(value) FROM app.readings WHERE sensor = 'hall'";
    let rows = session.query_unpaged(select, &[]).await?.into_rows_result()?;
    for row in rows.rows::<(f64, i64)>()? {
        let (value, timestamp) = row?;
        println!("{value}, written at {timestamp}");
    }
    Ok(())
}
