//! The row of `pipeline`: damaged, missing, or different from the configuration.

use super::*;
use crate::store::{Damaged, RowKey};

fn damaged(column: &'static str) -> Damaged {
    Damaged { table: "pipeline", key: RowKey::Only {}, column, what: "null".to_owned() }
}

/// A fixture with [`some`] records, one of which is lost, and a changed binding.
async fn changed(change: impl FnOnce(&mut StoredBinding)) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    let mut tables = fixture.truth().await;
    tables.events.remove(&(0, 1));
    fixture.finish(&tables).await;
    let mut stored = fixture.binding.clone().into();
    change(&mut stored);
    fixture.store.replace_binding(Some(stored));
    fixture
}

#[tokio::test]
async fn a_damaged_column_of_the_binding_is_reported_with_the_assumed_value_and_the_tables_are_judged() {
    type Change = fn(&mut StoredBinding);
    let cases: [(Change, &str); 14] = [
        (|b| b.topic = Err(damaged("topic")), r#"topic: null; the configuration has "t""#),
        (|b| b.topic_id = Err(damaged("topic_id")), r#"topic_id: null; the topic has "memory-1""#),
        (
            |b| b.window_size_ms = Err(damaged("window_size_ms")),
            "window_size_ms: null; the configuration has 10",
        ),
        (
            |b| b.window_slide_ms = Err(damaged("window_slide_ms")),
            "window_slide_ms: null; the configuration has 10",
        ),
        (|b| b.threshold = Err(damaged("threshold")), "threshold: null; the configuration has 3"),
        (|b| b.health = Err(damaged("health")), "health: null; the configuration has [Critical]"),
        (
            |b| b.max_mutation_bytes = Err(damaged("max_mutation_bytes")),
            "max_mutation_bytes: null; the configuration has 1000",
        ),
        (
            |b| b.decoder_version = Err(damaged("decoder_version")),
            "decoder_version: null; this program has 1",
        ),
        (|b| b.layout = Err(damaged("layout")), "layout: null; the configuration has original"),
        (
            |b| b.count_block_ms = Err(damaged("count_block_ms")),
            "count_block_ms: null; the configuration has 15000",
        ),
        (|b| b.count_shards = Err(damaged("count_shards")), "count_shards: null; the configuration has 4"),
        (|b| b.schema_version = Err(damaged("schema_version")), "schema_version: null; this program has 2"),
        (|b| b.consistency = Err(damaged("consistency")), "consistency: null; the configuration has single"),
        (|b| b.origins = Err(damaged("origins")), "origins: null; progress has {0: 0, 1: 0}"),
    ];
    for (change, expected) in cases {
        let fixture = changed(change).await;
        let lines = format!(
            "damaged_binding: pipeline: column {expected}, which all other checks assume\n\
             lost: partition 0 offset 1: the event is not in events\n"
        );
        assert_eq!(fixture.differences().await, lines);
    }
}

#[tokio::test]
async fn every_damaged_column_is_reported_and_the_tables_are_checked_against_the_intact_ones() {
    let fixture = changed(|binding| {
        binding.threshold = Err(damaged("threshold"));
        binding.health = Err(damaged("health"));
    });
    let report = fixture.await.verify().await;
    assert_eq!((report.counts["damaged_binding"], report.total()), (2, 3));
    let json = serde_json::to_value(&report.differences[0]).expect("JSON");
    insta::assert_json_snapshot!(json, @r#"
    {
      "by": "configuration",
      "column": "threshold",
      "difference": "damaged_binding",
      "expected": "3",
      "table": "pipeline",
      "what": "null"
    }
    "#);
}

#[tokio::test]
async fn damaged_origins_are_replaced_by_those_in_progress() {
    let fixture = Fixture::with(Origin::End, some(), 10).await;
    fixture.append(some()).await;
    fixture.finish(&fixture.truth().await).await;
    let origins = Err(damaged("origins"));
    fixture.store.replace_binding(Some(StoredBinding { origins, ..fixture.binding.clone().into() }));
    // If the origins were assumed to be 0, the rows below them would be lost.
    insta::assert_snapshot!(fixture.differences().await, @"damaged_binding: pipeline: column origins: null; progress has {0: 3, 1: 3}, which all other checks assume");
}

#[tokio::test]
async fn a_missing_binding_is_reported_if_other_tables_have_rows() {
    let fixture = changed(|_| ()).await;
    fixture.store.replace_binding(None);
    insta::assert_snapshot!(fixture.differences().await, @r"
    missing_binding: pipeline has no row, but other tables have rows: they are checked against the configuration, topic t with id memory-1 and the origins in progress
    lost: partition 0 offset 1: the event is not in events
    ");
    let report = fixture.verify().await;
    let json = serde_json::to_value(&report.differences[0]).expect("JSON");
    let expected = &json["expected"];
    assert_eq!((&json["table"], &expected["window"]["threshold"]), (&"pipeline".into(), &3.into()));
    assert_eq!(expected["origins"], serde_json::json!({"0": 0, "1": 0}));
}

#[tokio::test]
async fn rows_in_an_unbound_keyspace_are_reported_one_by_one() {
    let fixture = Fixture::new().await;
    fixture.append([value(0, "nonsense")]).await;
    let fixture = Fixture { store: MemoryStore::new(), ..fixture };
    fixture.write_alert("s", 10, 3).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"
    missing_binding: pipeline has no row, but other tables have rows: they are checked against the configuration, topic t with id memory-1 and the origins in progress
    phantom_alert: source "s" window ending at 10: an alert with event_count 3, but the log has 0
    "#);
}

async fn refused(fixture: &Fixture) -> String {
    let error =
        verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default()).await;
    let error = error.expect_err("no report");
    assert!(error.is_refusal(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn an_intact_binding_that_differs_from_the_configuration_is_refused_with_both_values() {
    type Change = fn(&mut StoredBinding);
    let cases: [(Change, &str); 5] = [
        (|b| b.topic = Ok("other".to_owned()), r#"topic = "other", not "t""#),
        (|b| b.threshold = Ok(4), "window.threshold = 4, not 3"),
        (|b| b.window_size_ms = Ok(20), "window.size_ms = 20, not 10"),
        (|b| b.max_mutation_bytes = Ok(9), "max_mutation_bytes = 9, not 1000"),
        (|b| b.decoder_version = Ok(7), "decoder_version = 7, not 1"),
    ];
    for (change, expected) in cases {
        let mut fixture = changed(change).await;
        assert!(refused(&fixture).await.contains(&format!("is bound with {expected}")), "{expected}");
        // It is also refused if another column is damaged, which alone would only be a difference.
        let mut stored =
            fixture.store.stored_binding().await.into_result().expect("a result").expect("a binding");
        stored.health = Err(damaged("health"));
        fixture.store.replace_binding(Some(stored));
        assert!(refused(&fixture).await.contains(&format!("is bound with {expected}")), "{expected}");
        fixture.binding_spec.topic = "nowhere".to_owned();
        let verified =
            verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default()).await;
        assert!(matches!(verified, Err(VerifyError::Broker { .. })), "{verified:?}");
    }
}
