//! Statements and values, and what Cassandra 5.0.5 made of each, held against the simulation byte by byte.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::nodes::Nodes;
use crate::raw::{Body, Client, Parameters};

/// Bytes of a file's line.
fn bytes(text: &str) -> Bytes {
    if text == "empty" {
        return Bytes::new();
    }
    hex::decode(text).expect("hex").into()
}

fn shown_value(value: &Option<Bytes>) -> String {
    match value {
        None => "null".to_owned(),
        Some(bytes) if bytes.is_empty() => "empty".to_owned(),
        Some(bytes) => hex::encode(bytes),
    }
}

/// A response as the files have it.
fn shown(body: &Body) -> String {
    match body {
        Body::Error(0x2000, _) => "syntax".to_owned(),
        Body::Error(0x2200, text) => format!("invalid {text}"),
        Body::Error(0x0000, text) => format!("server {text}"),
        Body::Rows(columns, rows, _) => {
            let rows: Vec<String> =
                rows.iter().map(|row| row.iter().map(shown_value).collect::<Vec<_>>().join(", ")).collect();
            format!("rows {} = {}", columns.join(", "), rows.join("; "))
        }
        Body::Void | Body::Done => "ok".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `tests/data/responses.txt` was made by sending its statements to Cassandra 5.0.5, one after another: functions of all
/// kinds of values, and batches with conditions on the same rows and on others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_and_conditional_batches_come_to_what_they_come_to_in_cassandra() {
    let nodes = Nodes::start(1).await;
    let mut client = Client::connect(nodes.address()).await;
    client
        .done("CREATE KEYSPACE m WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .await;
    client.done("USE m").await;
    let mut lines = include_str!("../data/responses.txt").lines().filter(|line| !line.starts_with('#'));
    let (mut different, mut count) = (Vec::new(), 0);
    while let (Some(statement), Some(expected)) = (lines.next(), lines.next()) {
        let statement = statement.strip_prefix("> ").expect("a statement");
        let found = shown(&client.query(statement).await);
        if found != expected {
            different.push(format!("{statement}\n  Cassandra:  {expected}\n  simulation: {found}"));
        }
        count += 1;
    }
    assert!(count > 1000, "only {count} statements");
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n"));
}

/// `tests/data/values.txt` was made by sending each of its values to Cassandra 5.0.5, for a column of each type: literals
/// and bound bytes, good and bad.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn literals_and_bound_bytes_are_taken_and_refused_as_by_cassandra_and_stored_as_the_same_bytes() {
    let nodes = Nodes::start(1).await;
    let mut client = Client::connect(nodes.address()).await;
    client
        .done("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .await;
    let lines = include_str!("../data/values.txt").lines().filter(|line| !line.starts_with('#'));
    let mut tables: BTreeMap<&str, (String, Bytes)> = BTreeMap::new();
    let (mut different, mut count) = (Vec::new(), 0);
    for line in lines {
        let (given, expected) = line.rsplit_once(" -> ").expect("a value and what became of it");
        let (data_type, bound, value) = match (given.split_once(" = "), given.split_once(" ? ")) {
            (Some((data_type, value)), _) if !data_type.contains(' ') => (data_type, false, value),
            (_, Some((data_type, value))) => (data_type, true, value),
            _ => panic!("no value: {line}"),
        };
        if !tables.contains_key(data_type) {
            let table = format!("k.t{}", tables.len());
            client.done(&format!("CREATE TABLE {table} (k int PRIMARY KEY, v {data_type})")).await;
            let insert = format!("INSERT INTO {table} (k, v) VALUES (1, ?)");
            let Body::Prepared(id, _) = client.prepare(&insert).await else { panic!("{insert}") };
            tables.insert(data_type, (table, id));
        }
        let (table, id) = &tables[data_type];
        let body = if bound {
            let values = vec![bytes(value)];
            client.execute(id, &Parameters { values, ..Parameters::default() }).await
        } else {
            client.query(&format!("INSERT INTO {table} (k, v) VALUES (1, {value})")).await
        };
        let found = match body {
            Body::Void => match client.query(&format!("SELECT v FROM {table} WHERE k = 1")).await {
                Body::Rows(_, rows, _) => shown_value(&rows[0][0]),
                other => shown(&other),
            },
            // Its text is Java's.
            Body::Error(0x0000, _) => "server".to_owned(),
            refused => shown(&refused),
        };
        // Where Cassandra's message is not in the file, the kind is compared.
        let same = if expected == "invalid" { found.starts_with("invalid ") } else { found == expected };
        if !same {
            different.push(format!("{given}\n  Cassandra:  {expected}\n  simulation: {found}"));
        }
        count += 1;
    }
    assert!(count > 3000, "only {count} values");
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n"));
}
