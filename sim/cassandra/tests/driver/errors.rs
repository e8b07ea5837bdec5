//! Errors of the cluster, with all fields of the protocol.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError, WriteType};
use scylla::policies::host_filter::AllowListHostFilter;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::unprepared::Statement;
use simulated_cassandra::cluster::{HostFault, Misbehaviour, NodeId, Verb};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

/// Three nodes that do not wait long, and a session that asks once.
async fn three() -> (LocalNodes, Session) {
    let options = LocalOptions { port: 0, ..LocalOptions::new(1_600_000_000_000_000) };
    let change = |options: &mut simulated_cassandra::cluster::Options| {
        options.write_timeout = Duration::from_millis(300);
        options.read_timeout = Duration::from_millis(300);
        options.truncate_timeout = Duration::from_millis(500);
    };
    let nodes = LocalNodes::start(options, change).await.expect("nodes start");
    let profile = ExecutionProfile::builder().retry_policy(Arc::new(FallthroughRetryPolicy::new())).build();
    let session = SessionBuilder::new()
        .known_node_addr(nodes.address(1))
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .expect("the driver connects");
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
        "CREATE TABLE k.t (a int PRIMARY KEY, b int) WITH speculative_retry = 'NEVER'",
    ] {
        session.query_unpaged(text, &[]).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    session.await_schema_agreement().await.expect("the schema is agreed on");
    (nodes, session)
}

fn db_error(error: ExecutionError) -> DbError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => error,
        other => panic!("not an error of the server: {other}"),
    }
}

async fn error_of(session: &Session, text: &str, consistency: Consistency) -> DbError {
    let mut statement = Statement::new(text);
    statement.set_consistency(consistency);
    let mut response = session.query_unpaged(statement.clone(), &[]).await;
    for _ in 0..50 {
        // A broken connection to a node that has just ended is no response.
        if !matches!(
            response,
            Err(ExecutionError::LastAttemptError(RequestAttemptError::BrokenConnectionError(_)))
        ) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        response = session.query_unpaged(statement.clone(), &[]).await;
    }
    db_error(response.err().unwrap_or_else(|| panic!("{text} went well")))
}

const INSERT: &str = "INSERT INTO k.t (a, b) VALUES (1, 1)";
const SELECT: &str = "SELECT b FROM k.t WHERE a = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_tells_how_many_replicas_are_needed_and_alive() {
    let (nodes, session) = three().await;
    nodes.apply(2, HostFault::Kill).unwrap();
    nodes.apply(3, HostFault::Kill).unwrap();
    while nodes.cluster().believes_alive(NodeId(0), NodeId(1))
        || nodes.cluster().believes_alive(NodeId(0), NodeId(2))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (consistency, required) in [(Consistency::Quorum, 2), (Consistency::All, 3)] {
        let error = error_of(&session, INSERT, consistency).await;
        assert_eq!(error, DbError::Unavailable { consistency, required, alive: 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeouts_contain_how_many_replicas_responded_and_the_kind_of_write() {
    let (nodes, session) = three().await;
    let lost = nodes.links().rule(|envelope| (envelope.response_to == Some(Verb::Write)).then(Vec::new));
    let error = error_of(&session, INSERT, Consistency::Quorum).await;
    let expected = DbError::WriteTimeout {
        consistency: Consistency::Quorum,
        received: 1,
        required: 2,
        write_type: WriteType::Simple,
    };
    assert_eq!(error, expected);
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.append_statement(INSERT);
    batch.append_statement("INSERT INTO k.t (a, b) VALUES (2, 1)");
    batch.set_consistency(Consistency::All);
    let error = db_error(session.batch(&batch, ((), ())).await.unwrap_err());
    let expected = DbError::WriteTimeout {
        consistency: Consistency::All,
        received: 1,
        required: 3,
        write_type: WriteType::UnloggedBatch,
    };
    assert_eq!(error, expected);
    nodes.links().remove(lost);
    // The data comes, and the digests of the others do not.
    let lost = nodes.links().rule(|envelope| (envelope.response_to == Some(Verb::ReadDigest)).then(Vec::new));
    let error = error_of(&session, SELECT, Consistency::All).await;
    let DbError::ReadTimeout { consistency: Consistency::All, received, required: 3, data_present: true } =
        error
    else {
        panic!("{error}")
    };
    // A digest of the coordinator's own is not lost.
    assert!((1..=2).contains(&received), "{received}");
    nodes.links().remove(lost);
    let reads = [Some(Verb::Read), Some(Verb::ReadDigest)];
    nodes.links().rule(move |envelope| reads.contains(&envelope.response_to).then(Vec::new));
    let error = error_of(&session, SELECT, Consistency::Quorum).await;
    let DbError::ReadTimeout { consistency: Consistency::Quorum, received, required: 2, data_present } =
        error
    else {
        panic!("{error}")
    };
    // The coordinator is a replica itself, and maybe the one that was to send the data.
    assert!(received <= 1 && (!data_present || received == 1), "{received}, {data_present}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_tell_how_many_replicas_refused() {
    let (nodes, session) = three().await;
    let all = |misbehaviour: Misbehaviour| {
        (0..3).for_each(|node| nodes.cluster().misbehave(NodeId(node), misbehaviour));
    };
    all(Misbehaviour { refuse_writes: true, ..Misbehaviour::default() });
    let error = error_of(&session, INSERT, Consistency::Quorum).await;
    let DbError::WriteFailure { consistency, received: 0, required: 2, numfailures, write_type } = error
    else {
        panic!("{error}")
    };
    assert_eq!((consistency, write_type), (Consistency::Quorum, WriteType::Simple));
    assert!((2..=3).contains(&numfailures), "{numfailures}");
    all(Misbehaviour { refuse_reads: true, ..Misbehaviour::default() });
    let error = error_of(&session, SELECT, Consistency::Quorum).await;
    let DbError::ReadFailure { received: 0, required: 2, numfailures, data_present: false, .. } = error
    else {
        panic!("{error}")
    };
    assert!((1..=3).contains(&numfailures), "{numfailures}");
    all(Misbehaviour { overloaded: true, ..Misbehaviour::default() });
    assert_eq!(error_of(&session, INSERT, Consistency::One).await, DbError::Overloaded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn already_exists_names_what_exists() {
    let (_nodes, session) = three().await;
    let exists = |keyspace: &str, table: &str| DbError::AlreadyExists {
        keyspace: keyspace.to_owned(),
        table: table.to_owned(),
    };
    let text = "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    assert_eq!(error_of(&session, text, Consistency::One).await, exists("k", ""));
    let text = "CREATE TABLE k.t (a int PRIMARY KEY)";
    assert_eq!(error_of(&session, text, Consistency::One).await, exists("k", "t"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serial_read_is_of_one_partition() {
    let (_nodes, session) = three().await;
    let error = error_of(&session, "SELECT b FROM k.t WHERE a IN (1, 2)", Consistency::Serial).await;
    assert_eq!(error, DbError::Invalid);
    error_free(&session, "SELECT b FROM k.t WHERE a IN (1)", Consistency::Serial).await;
}

async fn error_free(session: &Session, text: &str, consistency: Consistency) {
    let mut statement = Statement::new(text);
    statement.set_consistency(consistency);
    session.query_unpaged(statement, &[]).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_tells_a_client_that_reads_from_it() {
    let (nodes, session) = three().await;
    session.query_unpaged(INSERT, &[]).await.expect("written");
    nodes.apply(2, HostFault::Kill).unwrap();
    while nodes.cluster().believes_alive(NodeId(0), NodeId(1)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes.cluster().disk(NodeId(1)).expect("a disk").wipe();
    let lost = nodes.links().rule(|envelope| (envelope.verb == Verb::RepairRead).then(Vec::new));
    nodes.replace(2).await.unwrap();
    let profile = ExecutionProfile::builder().retry_policy(Arc::new(FallthroughRetryPolicy::new())).build();
    // A client that knows no other node, and discovers none.
    let only = SessionBuilder::new()
        .known_node_addr(nodes.address(2))
        .host_filter(Arc::new(AllowListHostFilter::new([nodes.address(2)]).expect("an address")))
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .expect("the driver connects");
    assert_eq!(error_of(&only, SELECT, Consistency::One).await, DbError::IsBootstrapping);
    error_free(&only, "INSERT INTO k.t (a, b) VALUES (1, 2)", Consistency::One).await;
    nodes.links().remove(lost);
    let mut statement = Statement::new(SELECT);
    statement.set_consistency(Consistency::One);
    while let Err(error) = only.query_unpaged(statement.clone(), &[]).await {
        assert_eq!(db_error(error), DbError::IsBootstrapping);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
