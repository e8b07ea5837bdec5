//! Creating the schema, and detecting differences.

use exactlyonce::store::cassandra::{
    CassandraOptions, CassandraStore, ConnectError, Difference, apply_schema, check_schema,
};
use exactlyonce::store::{Layout, Store, cql};
use scylla::client::session::Session;

use super::BUCKETED;
use super::services::{self, TestKeyspace};

crate::cassandra::on_real_and_simulated_nodes!([
    each_kind_of_difference_is_reported,
    a_keyspace_of_an_older_version_is_refused_with_instructions,
    missing_tables_are_created_and_the_layout_is_never_changed,
    invalid_options_are_refused_and_an_unavailable_cluster_is_transient,
]);

/// The result of `check_schema`, without the name of the keyspace. Connecting must have the same result.
async fn checked(options: &CassandraOptions, layout: Layout) -> String {
    let connected = CassandraStore::connect(options, layout).await.map(drop);
    match check_schema(options, layout).await {
        Ok(()) => {
            connected.expect("a valid schema can be used");
            "valid".to_owned()
        }
        Err(ConnectError::Schema(difference)) => {
            match connected {
                Err(ConnectError::Schema(other)) => assert_eq!(other, difference),
                other => panic!("{difference}, but connecting gave {other:?}"),
            }
            difference.to_string().replace(options.keyspace.as_str(), "K")
        }
        Err(other) => panic!("{other:?}"),
    }
}

async fn run(session: &Session, cql: String) {
    session.query_unpaged(cql.clone(), ()).await.unwrap_or_else(|error| panic!("{cql}: {error}"));
}

/// The statement that creates a table.
pub(crate) fn create_statement(options: &CassandraOptions, table: &str) -> String {
    let all = cql::statements(&options.keyspace, &services::replication(options), Layout::ORIGINAL);
    let named = format!("{}.{table} (", options.keyspace);
    all.into_iter().find(|statement| statement.contains(&named)).expect("such a table")
}

async fn each_kind_of_difference_is_reported(options: CassandraOptions) {
    let test = TestKeyspace::with(options, Layout::ORIGINAL).await;
    let options = &test.options;
    let session = services::session(options).await;
    let keyspace = &options.keyspace;
    assert_eq!(checked(options, Layout::ORIGINAL).await, "valid");
    assert_eq!(
        checked(options, BUCKETED).await,
        "table K.events does not have a column bucket, so its layout is not bucketed:4"
    );
    let descending = "WITH CLUSTERING ORDER BY (offset DESC)";
    let and = |option: &str| format!("{descending} AND {option}");
    let window = and("compaction = {'class': 'TimeWindowCompactionStrategy'}");
    let vanishing = and("default_time_to_live = 10");
    // In the statement of `table`, `from` is replaced by `to`.
    for (table, from, to, expected) in [
        (
            "events",
            "id bigint",
            "id int",
            "table K.events column id: expected bigint, not in the key, found int, not in the key",
        ),
        (
            "events",
            "client text,",
            "",
            "table K.events column client: expected text, not in the key, found no such column",
        ),
        (
            "events",
            "client text,",
            "client text, colour text,",
            "table K.events column colour: expected no such column, found text, not in the key",
        ),
        (
            "events",
            "(offset DESC)",
            "(offset ASC)",
            "table K.events column offset: expected bigint, number 1 of the clustering key, desc, found bigint, \
             number 1 of the clustering key, asc",
        ),
        (
            "alerts",
            "PRIMARY KEY (source, ts)",
            "PRIMARY KEY (ts, source)",
            "table K.alerts column source: expected text, number 1 of the partition key, found text, number 1 of the \
             clustering key, asc",
        ),
        (
            "alerts",
            "PRIMARY KEY (source, ts)",
            "PRIMARY KEY ((source, ts))",
            "table K.alerts column ts: expected timestamp, number 1 of the clustering key, asc, found timestamp, \
             number 2 of the partition key",
        ),
        (
            "alerts",
            "event_count int",
            "event_count int static",
            "table K.alerts column event_count: expected int, not in the key, found int, static",
        ),
        (
            "pipeline",
            "frozen<set<int>>",
            "frozen<list<int>>",
            "table K.pipeline column health: expected frozen<set<int>>, not in the key, found frozen<list<int>>, not in \
             the key",
        ),
        (
            "events",
            descending,
            &window,
            "table K.events has TimeWindowCompactionStrategy: it sorts rows by write timestamp, but here timestamps \
             are positions in the log",
        ),
        (
            "dead_letters",
            descending,
            &vanishing,
            "table K.dead_letters has default_time_to_live = 10: rows would expire, and counts would start again from 0",
        ),
    ] {
        let valid = create_statement(options, table);
        let wrong = valid.replacen(from, to, 1);
        assert_ne!(valid, wrong, "{from}");
        run(&session, format!("DROP TABLE {keyspace}.{table}")).await;
        run(&session, wrong).await;
        assert_eq!(checked(options, Layout::ORIGINAL).await, expected);
        // Applying the schema does not change existing tables.
        let applied = apply_schema(options, &services::replication(options), Layout::ORIGINAL).await;
        assert!(matches!(applied, Err(ConnectError::Schema(_))), "{applied:?}");
        run(&session, format!("DROP TABLE {keyspace}.{table}")).await;
        assert_eq!(
            checked(options, Layout::ORIGINAL).await,
            format!("table K.{table} does not exist: `exactlyonce schema apply` creates it")
        );
        run(&session, valid).await;
    }
    assert_eq!(checked(options, Layout::ORIGINAL).await, "valid");
    run(&session, format!("ALTER TABLE {keyspace}.events DROP client")).await;
    run(&session, format!("ALTER TABLE {keyspace}.events ADD client text")).await;
    assert_eq!(
        checked(options, Layout::ORIGINAL).await,
        "table K.events column client was dropped and added again: everything written at a timestamp before that \
         time is hidden, and so is everything that this program writes. use a different keyspace"
    );
    run(&session, format!("ALTER KEYSPACE {keyspace} WITH durable_writes = false")).await;
    assert_eq!(
        checked(options, Layout::ORIGINAL).await,
        "keyspace K has durable_writes = false: a node that is killed loses what it acknowledged"
    );
    test.drop().await;
}

/// Simulated nodes have no such collections.
#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn a_collection_that_is_not_frozen_is_reported() {
    let test = TestKeyspace::new(Layout::ORIGINAL).await;
    let session = services::session(&test.options).await;
    let create = create_statement(&test.options, "pipeline").replacen("frozen<set<int>>", "set<int>", 1);
    run(&session, format!("DROP TABLE {}.pipeline", test.options.keyspace)).await;
    run(&session, create).await;
    assert_eq!(
        checked(&test.options, Layout::ORIGINAL).await,
        "table K.pipeline column health: expected frozen<set<int>>, not in the key, found set<int>, not in the key"
    );
    test.drop().await;
}

/// The test creates the table of counts of schema version 1, with the source in its partition key.
async fn a_keyspace_of_an_older_version_is_refused_with_instructions(options: CassandraOptions) {
    let test = TestKeyspace::with(options, Layout::ORIGINAL).await;
    let (options, keyspace) = (&test.options, &test.options.keyspace);
    let session = services::session(options).await;
    run(&session, format!("DROP TABLE {keyspace}.window_counts")).await;
    run(
        &session,
        format!(
            "CREATE TABLE {keyspace}.window_counts (source text, window_end timestamp, partition int, count bigint, \
             through_offset bigint, PRIMARY KEY ((source, window_end), partition))"
        ),
    )
    .await;
    let checked = checked(options, Layout::ORIGINAL).await;
    assert_eq!(
        checked,
        "table K.window_counts is keyed as in schema version 1, and this program requires version 2: start over in a new \
         keyspace (`store.keyspace`), from the log's start or with `init --from`, and keep the old one until the new \
         one has caught up"
    );
    // An older keyspace also lacks tables and columns; the version is reported first.
    run(&session, format!("DROP TABLE {keyspace}.registry")).await;
    run(&session, format!("ALTER TABLE {keyspace}.pipeline DROP consistency")).await;
    let applied = apply_schema(options, &services::replication(options), Layout::ORIGINAL).await;
    assert!(matches!(applied, Err(ConnectError::Schema(Difference::OlderVersion { .. }))), "{applied:?}");
    test.drop().await;
}

async fn missing_tables_are_created_and_the_layout_is_never_changed(options: CassandraOptions) {
    let replication = services::replication(&options);
    assert_eq!(
        checked(&options, BUCKETED).await,
        "keyspace K does not exist: `exactlyonce schema apply` creates it"
    );
    apply_schema(&options, &replication, BUCKETED).await.unwrap();
    assert_eq!(checked(&options, BUCKETED).await, "valid");
    assert_eq!(CassandraStore::connect(&options, BUCKETED).await.unwrap().layout(), BUCKETED);
    let expected = "table K.events has a column bucket, so its layout is not original";
    assert_eq!(checked(&options, Layout::ORIGINAL).await, expected);
    let applied = apply_schema(&options, &replication, Layout::ORIGINAL).await;
    assert!(matches!(applied, Err(ConnectError::Schema(_))), "{applied:?}");
    let session = services::session(&options).await;
    run(&session, format!("DROP TABLE {}.progress", options.keyspace)).await;
    apply_schema(&options, &replication, BUCKETED).await.unwrap();
    assert_eq!(checked(&options, BUCKETED).await, "valid");
    run(&session, format!("DROP KEYSPACE {}", options.keyspace)).await;
}

async fn invalid_options_are_refused_and_an_unavailable_cluster_is_transient(options: CassandraOptions) {
    use exactlyonce::store::cassandra::Consistency;
    let refused = |options: CassandraOptions| async move {
        match check_schema(&options, Layout::ORIGINAL).await {
            Err(ConnectError::Refused { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let local = CassandraOptions { consistency: Consistency::LocalQuorum, ..options.clone() };
    assert_eq!(refused(local).await, "consistency local_quorum requires the name of the datacenter");
    let nowhere = CassandraOptions { datacenter: Some("nowhere".to_owned()), ..options.clone() };
    assert_eq!(refused(nowhere).await, "datacenter nowhere does not exist; the cluster has dc1");
    let without_nodes = CassandraOptions { contact_points: Vec::new(), ..options.clone() };
    assert_eq!(refused(without_nodes).await, "there are no contact points");
    // Nothing listens on port 1.
    let unavailable = CassandraOptions { contact_points: vec!["127.0.0.1:1".to_owned()], ..options };
    let unavailable = check_schema(&unavailable, Layout::ORIGINAL).await;
    assert!(matches!(&unavailable, Err(error) if error.is_transient()), "{unavailable:?}");
}
