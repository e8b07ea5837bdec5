//! Statements and the responses of Cassandra 5.0.5, compared with the simulation.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::{CqlDecimal, CqlValue, MaybeUnset};

use crate::nodes::Nodes;

/// The text of an error as the server sent it, with its code.
fn message_of(error: &ExecutionError) -> String {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, message)) => {
            format!("{} {message}", code(error))
        }
        other => panic!("not an error of the server: {other}"),
    }
}

fn code(error: &DbError) -> &'static str {
    match error {
        DbError::SyntaxError => "syntax",
        DbError::Invalid => "invalid",
        DbError::AlreadyExists { .. } => "exists",
        DbError::Unauthorized => "unauthorized",
        DbError::ConfigError => "configuration",
        DbError::ServerError => "server",
        _ => "other",
    }
}

/// `tests/data/refusals.txt` was made by sending its statements to Cassandra 5.0.5, one after another: after `> `
/// comes the statement, in the next line `ok` or the kind and the text of the error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_accepted_and_refused_as_by_cassandra_with_the_same_messages() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    let script = include_str!("../data/refusals.txt");
    let mut lines = script.lines().filter(|line| !line.starts_with('#'));
    let mut different = Vec::new();
    let mut count = 0;
    while let (Some(statement), Some(expected)) = (lines.next(), lines.next()) {
        let statement = statement.strip_prefix("> ").expect("a statement");
        let found = match session.query_unpaged(statement, &[]).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => message_of(&error),
        };
        if found != expected {
            different.push(format!("{statement}\n  Cassandra:  {expected}\n  simulation: {found}"));
        }
        count += 1;
    }
    assert!(count > 150, "only {count} statements");
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n"));
}

/// Beside a whole key Cassandra 5.0.5 fails at them, with an error of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_null_or_unset_is_refused() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    session.query_unpaged("CREATE TABLE k.t (p int PRIMARY KEY, r int)", &[]).await.expect("a table");
    let null = "server java.lang.NullPointerException: Cannot invoke \"java.nio.ByteBuffer.position()\" because \"bytes\" \
                is null";
    let unset = "server java.lang.IndexOutOfBoundsException";
    for (relations, value, expected) in [
        ("token(p) > ?", MaybeUnset::Set(None), "invalid Invalid null token value"),
        ("token(p) > ?", MaybeUnset::Unset, unset),
        ("p = 1 AND token(p) > ?", MaybeUnset::Set(None), null),
        ("p = 1 AND token(p) < ?", MaybeUnset::Unset, unset),
        (
            "p = 1 AND token(p) = token(?)",
            MaybeUnset::Unset,
            "invalid Invalid unset value for argument in call to function token",
        ),
    ] {
        let text = format!("SELECT * FROM k.t WHERE {relations}");
        let prepared = session.prepare(text.as_str()).await.expect(&text);
        let values: Vec<MaybeUnset<Option<CqlValue>>> = vec![value];
        let found = session.execute_unpaged(&prepared, values).await.expect_err(&text);
        assert_eq!(message_of(&found), expected, "{text}");
    }
}

/// Both seen of Cassandra 5.0.5 by random statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decimals_that_are_equal_are_one_row_and_aggregates_are_always_paged() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    let run = async |statement: &str| session.query_unpaged(statement, &[]).await.expect(statement);
    run("CREATE TABLE k.d (p int, c decimal, PRIMARY KEY (p, c))").await;
    run("INSERT INTO k.d (p, c) VALUES (1, 1.50)").await;
    let applied = run("INSERT INTO k.d (p, c) VALUES (1, 1.5) IF NOT EXISTS").await;
    let applied = applied.into_rows_result().unwrap();
    let (applied, ..) = applied.first_row::<(bool, Option<i32>, Option<CqlDecimal>)>().unwrap();
    assert!(!applied, "1.5 is 1.50");

    // Nothing can be found; yet one is paged, and the other is not.
    let restrictions = "FROM k.d WHERE p IN (1, 2) AND c < 0 AND c >= 1 ORDER BY c ASC";
    let refused = session.query_iter(format!("SELECT max(c) {restrictions}"), &[]).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("Cannot page queries with both ORDER BY and a IN restriction"), "{refused:?}");
    session.query_iter(format!("SELECT c {restrictions}"), &[]).await.expect("it is not paged");
}

/// LIMIT is about rows of the result, and these are read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_of_ordered_partitions_is_of_all_their_rows() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    let run = async |statement: &str| session.query_unpaged(statement, &[]).await.expect(statement);
    run("CREATE TABLE k.t (p int, c int, PRIMARY KEY (p, c))").await;
    for values in ["(1, 1)", "(1, 3)", "(2, 2)"] {
        run(&format!("INSERT INTO k.t (p, c) VALUES {values}")).await;
    }
    let found = run("SELECT count(c), max(c) FROM k.t WHERE p IN (1, 2) ORDER BY c LIMIT 2").await;
    let found = found.into_rows_result().unwrap().first_row::<(i64, i32)>().unwrap();
    assert_eq!(found, (3, 3));
}
