//! Each difference by name, and tables without differences.

use super::*;
use crate::event::{Body, DeadLetter, Reason};

/// A fixture with [`some`] records whose tables were changed.
async fn altered(alter: impl FnOnce(&mut Tables)) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    let mut tables = fixture.truth().await;
    alter(&mut tables);
    fixture.finish(&tables).await;
    fixture
}

fn letter() -> DeadLetter {
    let body = Body::Whole { key: None, value: Some(b"\x00\xff".to_vec()) };
    DeadLetter { reason: Reason::NotJson, timestamp: 0, body }
}

fn other_event() -> Event {
    Event { id: 7, ts: 7, source: "x".to_owned(), client: "y".to_owned(), health: Health::Nominal }
}

#[tokio::test]
async fn correct_tables_have_no_differences() {
    let fixture = altered(|_| ()).await;
    let report = fixture.verify().await;
    assert!(report.is_clean() && report.is_complete());
    assert_eq!((report.events, report.dead_letters, report.alerts), (5, 1, 1));
    insta::assert_json_snapshot!(report, @r#"
    {
      "topic": "t",
      "topic_id": "memory-1",
      "partitions": [
        {
          "partition": 0,
          "origin": 0,
          "progress": 3,
          "judged_to": 3,
          "log_start": 0,
          "log_end": 3,
          "unverifiable": []
        },
        {
          "partition": 1,
          "origin": 0,
          "progress": 3,
          "judged_to": 3,
          "log_start": 0,
          "log_end": 3,
          "unverifiable": []
        }
      ],
      "events": 5,
      "dead_letters": 1,
      "alerts": 1,
      "window_counts": 2,
      "rows_unverifiable": 0,
      "windows_not_judged": 0,
      "counts": {
        "altered": 0,
        "damaged": 0,
        "damaged_binding": 0,
        "duplicate": 0,
        "foreign": 0,
        "foreign_count": 0,
        "lost": 0,
        "misplaced_count": 0,
        "missing_alert": 0,
        "missing_binding": 0,
        "missing_count": 0,
        "missing_dead_letter": 0,
        "phantom_alert": 0,
        "wrong_alert_count": 0,
        "wrong_count": 0,
        "wrong_progress": 0,
        "wrong_registry": 0
      },
      "differences": []
    }
    "#);
}

#[tokio::test]
async fn an_empty_log_and_empty_tables_have_no_differences() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.differences().await, "");
}

#[tokio::test]
async fn an_event_without_a_row_is_lost() {
    let fixture = altered(|tables| drop(tables.events.remove(&(0, 1)))).await;
    insta::assert_snapshot!(fixture.differences().await, @"lost: partition 0 offset 1: the event is not in events");
}

#[tokio::test]
async fn an_event_in_the_wrong_table_is_lost() {
    let fixture = altered(|tables| {
        tables.events.remove(&(0, 1));
        tables.dead_letters.insert((0, 1), letter());
    });
    insta::assert_snapshot!(fixture.await.differences().await, @"lost: partition 0 offset 1: the event is not in events, but in dead_letters as not_json");
}

#[tokio::test]
async fn an_offset_in_both_tables_is_a_duplicate() {
    let fixture = altered(|tables| {
        tables.dead_letters.insert((0, 1), letter());
        tables.events.insert((1, 2), other_event());
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r"
    duplicate: partition 0 offset 1: both events and dead_letters have a row, but dead_letters should not
    duplicate: partition 1 offset 2: both events and dead_letters have a row, but events should not
    ");
}

#[tokio::test]
async fn a_row_with_different_content_is_altered_and_the_columns_are_reported() {
    let fixture = altered(|tables| {
        let event = tables.events.get_mut(&(0, 0)).expect("a row");
        event.source = "s\n".to_owned();
        event.health = Health::Nominal;
        let letter = tables.dead_letters.get_mut(&(1, 2)).expect("a row");
        letter.reason = Reason::Empty;
        letter.body = Body::Whole { key: Some(Vec::new()), value: Some(b"nonsens\xff".to_vec()) };
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r#"
    altered: partition 0 offset 0: in events source is "s\n", but the log has "s", health is 0, but the log has 2
    altered: partition 1 offset 2: in dead_letters reason is empty, but the log has not_json, key is "", but the log has unset, value is "nonsens\xff", but the log has "nonsense"
    "#);
}

#[tokio::test]
async fn long_values_are_shortened_around_the_difference() {
    let fixture = Fixture::new().await;
    fixture.append([value(0, &"a".repeat(500))]).await;
    let mut tables = fixture.truth().await;
    let stored = ["a".repeat(400), "b".repeat(400)].concat().into_bytes();
    let letter = tables.dead_letters.get_mut(&(0, 0)).expect("a row");
    letter.body = Body::Whole { key: None, value: Some(stored) };
    fixture.finish(&tables).await;
    insta::assert_snapshot!(fixture.differences().await, @"altered: partition 0 offset 0: in dead_letters value is ...aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb..., but the log has ...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...");
}

#[tokio::test]
async fn a_digest_in_place_of_the_bytes_is_altered() {
    let fixture = Fixture::new().await;
    fixture.append([value(0, "x"), value(0, &"y".repeat(2_000))]).await;
    let mut tables = fixture.truth().await;
    let digest = tables.dead_letters[&(0, 1)].body.clone();
    tables.dead_letters.get_mut(&(0, 0)).expect("a row").body = digest;
    fixture.finish(&tables).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"altered: partition 0 offset 0: in dead_letters value is unset, but the log has "x", value_length is 2000, but the log has unset, sha256 is 087172687d8d958e6c4f809c140da4e8a7506c3feec441e8ab06a87e6f625acb, but the log has unset"#);
}

#[tokio::test]
async fn rows_in_gaps_are_foreign() {
    let fixture = Fixture::new().await;
    fixture.append([critical(0, 1)]).await;
    fixture.broker.skip(TOPIC, 0, 5);
    fixture.append([critical(0, 2)]).await;
    fixture.broker.skip(TOPIC, 0, 5);
    let mut tables = fixture.truth().await;
    fixture.finish(&tables).await;
    assert_eq!(fixture.differences().await, "", "gaps are no difference");
    tables.events.insert((0, 3), other_event());
    tables.dead_letters.insert((0, 3), letter());
    tables.dead_letters.insert((0, 8), letter());
    fixture.finish(&tables).await;
    insta::assert_snapshot!(fixture.differences().await, @r"
    foreign: partition 0 offset 3: events has a row, but the log has no record there
    foreign: partition 0 offset 3: dead_letters has a row, but the log has no record there
    foreign: partition 0 offset 8: dead_letters has a row, but the log has no record there
    ");
}

#[tokio::test]
async fn rows_below_the_origin_are_foreign() {
    let fixture = Fixture::with(Origin::End, some(), 10).await;
    fixture.append(some()).await;
    let mut tables = fixture.truth().await;
    assert_eq!(tables.events.len(), 5);
    fixture.finish(&tables).await;
    assert_eq!(fixture.differences().await, "");
    tables.events.insert((0, 2), other_event());
    tables.dead_letters.insert((1, -1), letter());
    fixture.write(&tables).await;
    insta::assert_snapshot!(fixture.differences().await, @r"
    foreign: partition 0 offset 2: events has a row, but it is below the origin
    foreign: partition 1 offset -1: dead_letters has a row, but it is below the origin
    ");
}

#[tokio::test]
async fn rows_of_a_partition_that_the_topic_does_not_have_are_foreign() {
    let fixture = altered(|tables| {
        tables.events.insert((2, 0), other_event());
        tables.dead_letters.insert((-1, 5), letter());
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r"
    foreign: partition -1 offset 5: dead_letters has a row, but the topic has no such partition
    foreign: partition 2 offset 0: events has a row, but the topic has no such partition
    ");
}

#[tokio::test]
async fn a_dead_letter_without_a_row_is_missing() {
    let fixture = altered(|tables| drop(tables.dead_letters.remove(&(1, 2)))).await;
    insta::assert_snapshot!(fixture.differences().await, @"missing_dead_letter: partition 1 offset 2: not_json is not in dead_letters");
    let fixture = altered(|tables| {
        tables.dead_letters.remove(&(1, 2));
        tables.events.insert((1, 2), other_event());
    });
    insta::assert_snapshot!(fixture.await.differences().await, @"missing_dead_letter: partition 1 offset 2: not_json is not in dead_letters, but in events");
}

#[tokio::test]
async fn a_missing_alert_of_a_window_at_the_threshold_is_reported() {
    let fixture = altered(|tables| tables.alerts.clear()).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"missing_alert: source "s" window ending at 10: 4 events and no alert"#);
}

#[tokio::test]
async fn an_alert_with_a_different_count_is_wrong() {
    for count in [1, 2, 3, 5, i64::from(i32::MAX)] {
        let fixture = altered(|tables| tables.alerts.values_mut().for_each(|stored| *stored = count)).await;
        let line = format!(
            "wrong_alert_count: source \"s\" window ending at 10: event_count is {count}, but the log has 4\n"
        );
        assert_eq!(fixture.differences().await, line);
    }
}

#[tokio::test]
async fn an_alert_of_a_window_below_the_threshold_is_a_phantom() {
    let fixture = altered(|tables| {
        tables.alerts.insert(window("nobody\u{1b}", 10), 3);
        tables.alerts.insert(window("s", 20), 3);
        tables.alerts.insert(window("s", 11), 1);
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r#"
    phantom_alert: source "nobody\u{1b}" window ending at 10: an alert with event_count 3, but the log has 0
    phantom_alert: source "s" window ending at 11: an alert with event_count 1, but the log has 0
    phantom_alert: source "s" window ending at 20: an alert with event_count 3, but the log has 0
    "#);
}

#[tokio::test]
async fn the_list_of_differences_is_limited_but_all_are_counted() {
    let fixture = Fixture::new().await;
    fixture.append((0..50).map(|i| critical(0, i * 100))).await;
    fixture.append((0..7).map(|_| value(1, ""))).await;
    fixture.finish(&Tables::default()).await;
    let options = VerifyOptions { listed: 3, ..VerifyOptions::default() };
    let report =
        verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &options).await.expect("a report");
    assert_eq!(report.differences.len(), 3);
    assert_eq!((report.counts["lost"], report.counts["missing_dead_letter"]), (50, 7));
    assert_eq!((report.counts["missing_count"], report.total()), (50, 107));
    assert!(!report.is_clean());
}

#[tokio::test]
async fn many_rows_are_read_in_chunks() {
    let fixture = Fixture::new().await;
    let records = (0..2_500).map(|i| if i % 5 == 0 { value(0, "x") } else { critical(0, i) });
    fixture.append(records).await;
    let mut tables = fixture.truth().await;
    fixture.finish(&tables).await;
    let report = fixture.verify().await;
    assert!(report.is_clean());
    assert_eq!((report.events, report.dead_letters, report.alerts), (2_000, 500, 250));
    // More rows than records, in both tables.
    for offset in 0..2_500 {
        tables.events.entry((0, offset)).or_insert_with(other_event);
        tables.dead_letters.entry((0, offset)).or_insert_with(letter);
    }
    fixture.write(&tables).await;
    assert_eq!(fixture.verify().await.counts["duplicate"], 2_500);
}

#[tokio::test]
async fn the_name_of_each_difference_is_that_in_the_json() {
    let of = |alter: fn(&mut Tables)| async move {
        let report = altered(alter).await.verify().await;
        let json = serde_json::to_value(&report.differences[0]).expect("JSON");
        assert_eq!(json["difference"], report.differences[0].name());
        assert_eq!(report.total(), 1);
        report.differences[0].name()
    };
    let names = [
        of(|tables| drop(tables.events.remove(&(0, 0)))).await,
        of(|tables| drop(tables.dead_letters.insert((0, 0), letter()))).await,
        of(|tables| tables.events.get_mut(&(0, 0)).expect("a row").id = 9).await,
        of(|tables| drop(tables.events.insert((5, 0), other_event()))).await,
        of(|tables| tables.dead_letters.clear()).await,
        of(|tables| tables.alerts.clear()).await,
        of(|tables| tables.alerts.values_mut().for_each(|count| *count += 1)).await,
        of(|tables| tables.alerts.extend([(window("s", 70), 3)])).await,
    ];
    assert_eq!(names, Difference::NAMES[..names.len()]);
}

#[tokio::test]
async fn an_alert_whose_count_is_not_positive_is_damaged_and_other_rows_are_judged() {
    for count in [0, -1, i64::from(i32::MIN)] {
        let fixture = altered(|tables| {
            tables.alerts.values_mut().for_each(|stored| *stored = count);
            tables.events.remove(&(0, 1));
        });
        let lines = format!(
            "lost: partition 0 offset 1: the event is not in events\n\
             damaged: alerts source \"s\" window ending at 10: column event_count: {count} is not a count\n"
        );
        assert_eq!(fixture.await.differences().await, lines);
    }
}

#[tokio::test]
async fn missing_wrong_and_foreign_counts_are_reported() {
    let key = || (0, window("s", 10));
    let fixture = altered(|tables| {
        tables.counts.remove(&key());
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r#"missing_count: partition 0 source "s" window ending at 10: 2 events and no row in window_counts"#);
    for (count, through) in [(1, 1), (3, 1), (2, 0), (2, 2), (-1, -1), (3, 2), (0, 1)] {
        let fixture = altered(|tables| {
            tables.counts.insert(key(), (count, through));
        });
        let line = format!(
            "wrong_count: partition 0 source \"s\" window ending at 10: count {count} through offset {through}, but \
             the log has 2 through 1\n"
        );
        assert_eq!(fixture.await.differences().await, line);
    }
    let fixture = altered(|tables| {
        tables.counts.insert((1, window("x", 10)), (1, 0));
    });
    insta::assert_snapshot!(fixture.await.differences().await, @r#"foreign_count: partition 1 source "x" window ending at 10: count 1 through offset 0, but the log has no counted event"#);
}

#[tokio::test]
async fn counts_may_be_ahead_of_progress_but_not_of_the_log() {
    for (count, through, correct) in
        [(2, 1, true), (3, 2, true), (4, 3, true), (1, 0, false), (2, 2, false), (3, 1, false), (5, 4, false)]
    {
        let fixture = Fixture::new().await;
        fixture.append([1, 2, 3, 4].map(|ts| critical(0, ts))).await;
        let mut tables = fixture.truth().await;
        tables.counts.insert((0, window("s", 10)), (count, through));
        fixture.write(&tables).await;
        fixture.write_progress(0, 2).await;
        assert_eq!(fixture.differences().await.is_empty(), correct, "{count} through {through}");
    }
}

#[tokio::test]
async fn progress_that_contradicts_the_binding_is_reported() {
    let of = |origin, next_offset| async move {
        let fixture = altered(|_| ()).await;
        let store = MemoryStore::new();
        store.bind(&fixture.binding).await.into_result().expect("bound");
        let fixture = Fixture { store, ..fixture };
        fixture.write(&fixture.truth().await).await;
        fixture.write_progress(1, 3).await;
        let progress = Progress { origin, next_offset };
        fixture.store.write_progress(0, progress).await.into_result().expect("written");
        fixture.differences().await
    };
    insta::assert_snapshot!(of(1, 3).await, @"wrong_progress: partition 0: origin 1, next_offset 3: origin differs from the binding");
    insta::assert_snapshot!(of(0, -1).await, @"wrong_progress: partition 0: origin 0, next_offset -1: next_offset is below the origin");
}

#[tokio::test(start_paused = true)]
async fn progress_that_contradicts_the_topic_or_is_missing_is_reported() {
    let fixture = altered(|_| ()).await;
    fixture.write_progress(0, 4).await;
    fixture.write_progress(7, 0).await;
    insta::assert_snapshot!(fixture.differences().await, @r"
    wrong_progress: partition 0: origin 0, next_offset 4: next_offset is past the log's end
    wrong_progress: partition 7: origin 0, next_offset 0: the topic has no such partition
    ");
    let store = MemoryStore::new();
    store.bind(&fixture.binding).await.into_result().expect("bound");
    let fixture = Fixture { store, ..fixture };
    fixture.write(&fixture.truth().await).await;
    fixture.write_progress(1, 3).await;
    insta::assert_snapshot!(fixture.differences().await, @"wrong_progress: partition 0: there is no row, but other tables have rows of the partition");
}

#[tokio::test]
async fn a_registry_with_too_few_or_too_many_partitions_is_reported() {
    let fixture = altered(|_| ()).await;
    fixture.store.register(4).await.into_result().expect("registered");
    insta::assert_snapshot!(fixture.differences().await, @"wrong_registry: partitions is 5, but the topic has 2");
    let fixture = Fixture { store: MemoryStore::new(), ..fixture };
    fixture.store.bind(&fixture.binding).await.into_result().expect("bound");
    let tables = fixture.truth().await;
    fixture.finish(&Tables { counts: BTreeMap::new(), ..tables.clone() }).await;
    for ((partition, window), (count, through_offset)) in &tables.counts {
        let count = [(window.clone(), Count { count: *count, through_offset: *through_offset })];
        fixture.store.write_counts(*partition, &count).await.into_result().expect("written");
    }
    insta::assert_snapshot!(fixture.differences().await, @"wrong_registry: partitions is 0, but window_counts has rows that need 2");
}

async fn refused(fixture: &Fixture) -> String {
    let error = verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
        .await
        .expect_err("no report");
    assert!(error.is_refusal(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_recreated_topic_is_reported_and_nothing_is_judged() {
    let fixture = altered(|_| ()).await;
    fixture.broker.recreate(TOPIC);
    fixture.append(some()).await;
    insta::assert_snapshot!(refused(&fixture).await, @"topic t was recreated: the tables contain data of the topic with id memory-1, the broker has id memory-2. the log to compare the tables with no longer exists, so nothing was verified. a recreated topic needs a different keyspace");
}

#[tokio::test]
async fn a_compacted_topic_is_refused() {
    let fixture = altered(|_| ()).await;
    fixture.broker.set_compacted(TOPIC, true);
    insta::assert_snapshot!(refused(&fixture).await, @"topic t is compacted (cleanup.policy): its records change, so nothing could be verified");
}

#[tokio::test]
async fn a_store_with_a_different_layout_than_the_bound_one_is_refused() {
    let fixture = altered(|_| ()).await;
    let mut bound = fixture.store.binding().await.into_result().expect("a result").expect("a binding");
    bound.layout.events = "bucketed:9".parse().expect("a layout");
    let fixture = Fixture { store: MemoryStore::new(), ..fixture };
    fixture.store.bind(&bound).await.into_result().expect("a result");
    insta::assert_snapshot!(refused(&fixture).await, @r#"the keyspace is bound with layout = "bucketed:9", not "original": use the bound value, or a different keyspace"#);
}

#[tokio::test]
async fn an_unbound_keyspace_and_an_unknown_topic_are_errors() {
    let fixture = altered(|_| ()).await;
    let options = VerifyOptions::default();
    let error = verify(&fixture.broker, &MemoryStore::new(), &fixture.binding_spec, &options)
        .await
        .expect_err("no report");
    assert!(matches!(error, VerifyError::Unbound));
    let error = verify(&MemoryBroker::default(), &fixture.store, &fixture.binding_spec, &options)
        .await
        .expect_err("no report");
    assert_eq!(error.to_string(), "could not describe topic t");
    let options = VerifyOptions { spill_folder: Some("/no/such/folder".into()), ..options };
    let error = verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &options)
        .await
        .expect_err("no report");
    assert_eq!(error.to_string(), "cannot create a temporary file in /no/such/folder");
}
