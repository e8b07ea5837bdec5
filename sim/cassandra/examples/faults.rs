//! A write whose outcome the client does not learn, and the outcome of it: `cargo run --example faults`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use simulated_cassandra::cluster::{HostFault, Recovery, Verb};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = LocalOptions { port: 0, ..LocalOptions::new(1_767_225_600_000_000) };
    let nodes =
        LocalNodes::start(options, |options| options.write_timeout = Duration::from_millis(300)).await?;
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let session = SessionBuilder::new()
        .known_node_addr(nodes.address(1))
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await?;
    for statement in [
        "CREATE KEYSPACE app WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
        "CREATE TABLE app.t (id int PRIMARY KEY, value text)",
    ] {
        session.query_unpaged(statement, &[]).await?;
    }

    // The replicas get the write. The network loses their responses.
    let lost = nodes.links().rule(|envelope| (envelope.response_to == Some(Verb::Write)).then(Vec::new));
    let insert = "INSERT INTO app.t (id, value) VALUES (1, 'maybe')";
    match session.query_unpaged(insert, &[]).await {
        Ok(_) => println!("written"),
        Err(error) => println!("not known: {error}"),
    }
    nodes.links().remove(lost);

    // One node dies with its power: what it had not synced is gone, and the others still have it.
    nodes.apply(3, HostFault::PowerLoss)?;
    // The driver may still ask that node, so a read may go to another.
    let mut select = Statement::new("SELECT value FROM app.t WHERE id = 1");
    select.set_is_idempotent(true);
    select.set_retry_policy(Some(Arc::new(DefaultRetryPolicy::new())));
    let rows = session.query_unpaged(select, &[]).await?.into_rows_result()?;
    println!("found: {:?}", rows.maybe_first_row::<(String,)>()?);
    nodes.recover(3, Recovery::Start).await?;
    Ok(())
}
