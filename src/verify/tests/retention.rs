//! Verification of rows whose records the log no longer has.

use super::*;

/// A fixture with three windows: until 10 (four events, the first two of them deleted), until 20 (three, none deleted),
/// and until 30 (two, the first one deleted; below the threshold).
async fn with_deleted_records() -> (Fixture, Tables) {
    let fixture = Fixture::new().await;
    let times = [1, 2, 21, 3, 4, 11, 12, 13, 22];
    fixture.append(times.map(|ts| critical(0, ts))).await;
    let tables = fixture.truth().await;
    fixture.finish(&tables).await;
    fixture.broker.delete_below(TOPIC, 0, 3);
    (fixture, tables)
}

#[tokio::test]
async fn rows_below_the_logs_start_are_unverifiable() {
    let (fixture, _) = with_deleted_records().await;
    let report = fixture.verify().await;
    assert_eq!(lines(&report), "");
    assert!(report.is_clean() && !report.is_complete());
    assert_eq!(report.partitions[0].unverifiable, [OffsetRange { from: 0, to: 3 }]);
    assert_eq!(report.partitions[1].unverifiable, []);
    assert_eq!((report.events, report.rows_unverifiable, report.windows_not_judged), (6, 3, 2));
}

#[tokio::test]
async fn a_window_that_is_partly_gone_has_no_upper_bound() {
    // Until 10, the log still has two events; until 30, one.
    for (end, count, correct) in
        [(10, 2, false), (10, 3, true), (10, 900, true), (30, 2, false), (30, 3, true)]
    {
        let (_, mut tables) = with_deleted_records().await;
        let (fixture, _) = with_deleted_records().await;
        tables.alerts.insert(window("s", end), count);
        let fixture = Fixture { store: MemoryStore::new(), ..fixture };
        fixture.store.bind(&fixture.binding).await.into_result().expect("bound");
        fixture.write(&tables).await;
        fixture.write_progress(0, 9).await;
        assert_eq!(fixture.verify().await.is_clean(), correct, "window until {end} with {count}");
    }
}

#[tokio::test]
async fn an_alert_of_a_window_that_is_partly_gone_may_be_missing_only_if_the_remaining_events_do_not_reach_the_threshold()
 {
    let (fixture, tables) = with_deleted_records().await;
    let fixture = Fixture { store: MemoryStore::new(), ..fixture };
    fixture.store.bind(&fixture.binding).await.into_result().expect("bound");
    fixture.write(&Tables { alerts: BTreeMap::new(), ..tables }).await;
    fixture.write_progress(0, 9).await;
    // Of the window until 10, two of four events remain, so the alert cannot be judged.
    insta::assert_snapshot!(fixture.differences().await, @r#"missing_alert: source "s" window ending at 20: 3 events and no alert"#);
    fixture.append([critical(0, 5)]).await;
    let fifth = fixture.truth().await.events[&(0, 9)].clone();
    fixture.write_row(0, 9, Row::Event(fifth)).await;
    fixture.write_count(0, "s", 10, (5, 9)).await;
    fixture.write_progress(0, 10).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"
    missing_alert: source "s" window ending at 10: 3 events and no alert
    missing_alert: source "s" window ending at 20: 3 events and no alert
    "#);
}

#[tokio::test]
async fn a_complete_window_is_judged_exactly() {
    let (fixture, _) = with_deleted_records().await;
    fixture.write_alert("s", 20, 4).await;
    fixture.write_alert("s", 40, 3).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"
    wrong_alert_count: source "s" window ending at 20: event_count is 4, but the log has 3
    phantom_alert: source "s" window ending at 40: an alert with event_count 3, but the log has 0
    "#);
}

#[tokio::test]
async fn an_offset_in_both_tables_is_a_duplicate_even_if_the_records_are_gone() {
    let (fixture, tables) = with_deleted_records().await;
    let letter = truth::tables(
        &[Record { partition: 0, offset: 1, timestamp: 0, key: None, value: None }],
        &fixture.binding,
    );
    assert_eq!(tables.dead_letters.len(), 0);
    fixture.write(&letter).await;
    insta::assert_snapshot!(fixture.differences().await, @"duplicate: partition 0 offset 1: both events and dead_letters have a row, and the log no longer shows which one is wrong");
}

#[tokio::test]
async fn if_records_are_deleted_before_they_are_durable_no_window_has_an_upper_bound() {
    let fixture = Fixture::new().await;
    fixture.append([1, 2, 3, 11, 12, 13].map(|ts| critical(0, ts))).await;
    let tables = fixture.truth().await;
    fixture.write(&Tables { alerts: tables.alerts.clone(), ..Tables::default() }).await;
    fixture.write_progress(0, 0).await;
    fixture.broker.delete_below(TOPIC, 0, 4);
    let report = fixture.verify().await;
    // The worker had counted all six but written none of their rows.
    assert_eq!(lines(&report), "");
    assert_eq!((report.partitions[0].judged_to, report.partitions[0].log_start), (0, 4));
    assert_eq!(report.windows_not_judged, 2);
    assert!(!report.is_complete());
}

#[tokio::test]
async fn a_log_whose_start_moves_meanwhile_is_no_difference() {
    for deleted_at in 0..9 {
        for start in 0..=9 {
            let fixture = Fixture::new().await;
            fixture.append([1, 2, 21, 3, 4, 11, 12, 13, 22].map(|ts| critical(0, ts))).await;
            fixture.finish(&fixture.truth().await).await;
            let broker = HookedBroker::new(&fixture, 1, move |broker, _, offset| {
                if offset == deleted_at {
                    broker.delete_below(TOPIC, 0, start);
                }
                None
            });
            let report = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
                .await
                .expect("a report");
            assert_eq!(lines(&report), "", "start moves to {start} when {deleted_at} is read");
            let gone: Vec<_> = (start > deleted_at)
                .then_some(OffsetRange { from: deleted_at, to: start })
                .into_iter()
                .collect();
            assert_eq!(report.partitions[0].unverifiable, gone);
            assert_eq!(report.events + report.rows_unverifiable, 9);
        }
    }
}

#[tokio::test]
async fn records_after_the_judged_log_may_be_deleted_meanwhile() {
    for durable in [false, true] {
        let fixture = Fixture::new().await;
        fixture.append([1, 2, 3, 11, 12, 13].map(|ts| critical(0, ts))).await;
        let tables = fixture.truth().await;
        fixture.write(&tables).await;
        fixture.write_progress(0, 2).await;
        let store = fixture.store.clone();
        let broker = HookedBroker::new(&fixture, 1, move |broker, _, offset| {
            if offset == 3 {
                broker.delete_below(TOPIC, 0, 5);
                if durable {
                    let progress = Progress { origin: 0, next_offset: 6 };
                    let write = store.write_progress(0, progress);
                    futures_util::FutureExt::now_or_never(write)
                        .expect("it never waits")
                        .into_result()
                        .expect("written");
                }
            }
            None
        });
        let report = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
            .await
            .expect("a report");
        assert_eq!(lines(&report), "");
        // Offsets 3 and 4 are deleted: both of the window until 20. Unless progress shows that their rows are in the
        // tables, they may belong to any window.
        assert_eq!(report.windows_not_judged, if durable { 1 } else { 2 });
    }
}
