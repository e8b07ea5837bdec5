//! The rows that the store writes, read by another client.

use exactlyonce::event::{Body, DeadLetter, Reason, Row};
use exactlyonce::store::cassandra::CassandraOptions;
use exactlyonce::store::{Alert, Count, Layout, Outcome, Progress, Store, WindowKey};

use super::BUCKETED;
use super::services::{self, TestKeyspace};
use crate::store::{event, known};

crate::cassandra::on_real_and_simulated_nodes!([
    every_cell_has_the_timestamp_that_the_protocol_gives_it,
    a_row_of_a_mebibyte_is_written_among_small_ones_and_one_beyond_the_limit_of_the_nodes_is_refused,
]);

fn letter(bytes: usize) -> Row {
    let body = Body::Whole { key: None, value: Some(vec![7; bytes]) };
    Row::DeadLetter(DeadLetter { reason: Reason::NotJson, timestamp: 3, body })
}

async fn every_cell_has_the_timestamp_that_the_protocol_gives_it(options: CassandraOptions) {
    let test = TestKeyspace::with(options, Layout::ORIGINAL).await;
    let (store, keyspace) = (&test.store, &test.options.keyspace);
    known(store.write_rows(0, &[(0, Row::Event(event(1, "a"))), (41, letter(3))]).await);
    known(store.write_progress(0, Progress { origin: 17, next_offset: 42 }).await);
    let window = WindowKey { source: "a".into(), end: 5 };
    known(store.write_counts(0, &[(window, Count { count: 12, through_offset: 40 })]).await);
    known(store.write_alerts(&[Alert { source: "a".into(), ts: 5, event_count: 12 }]).await);
    known(store.register(2).await);
    let session = services::session(&test.options).await;
    for (table, columns, expected) in [
        ("events", vec!["id", "ts", "source", "client", "health"], vec![Some(1); 5]),
        (
            "dead_letters",
            vec!["reason", "timestamp", "key", "value", "key_length", "value_length", "sha256"],
            vec![Some(42), Some(42), None, Some(42), None, None, None],
        ),
        ("progress", vec!["origin", "next_offset"], vec![Some(1), Some(43)]),
        ("window_counts", vec!["count", "through_offset"], vec![Some(41), Some(41)]),
        ("alerts", vec!["event_count"], vec![Some(12)]),
        ("registry", vec!["partitions"], vec![Some(3)]),
    ] {
        for (column, expected) in columns.into_iter().zip(expected) {
            let cql = format!("SELECT writetime({column}) FROM {keyspace}.{table}");
            let rows = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
            let (found,) = rows.single_row::<(Option<i64>,)>().unwrap();
            assert_eq!(found, expected, "{table}.{column}");
        }
    }
    test.drop().await;
}

async fn a_row_of_a_mebibyte_is_written_among_small_ones_and_one_beyond_the_limit_of_the_nodes_is_refused(
    options: CassandraOptions,
) {
    for layout in [Layout::ORIGINAL, BUCKETED] {
        let test = TestKeyspace::with(options.clone(), layout).await;
        let store = &test.store;
        let rows: Vec<(i64, Row)> = (0..200)
            .map(|offset| match offset {
                77 | 78 => (offset, letter(1 << 20)),
                offset => (offset, Row::Event(event(offset, "a"))),
            })
            .collect();
        known(store.write_rows(1, &rows).await);
        assert_eq!(known(store.rows_below(1, 0, 200, 200).await), rows);
        // The maximum mutation size of the nodes is 4 MiB.
        let outcome =
            store.write_rows(1, &[(300, letter(5 << 20)), (301, Row::Event(event(301, "a")))]).await;
        let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
        println!("{error}: {}", error.cause.as_ref().unwrap());
        assert_eq!(known(store.dead_letters(1, 300, 400, 9).await), []);
        test.drop().await;
    }
}
