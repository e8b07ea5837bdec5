//! Verification while workers run, logs are truncated, topics are recreated, or requests fail.

use super::*;
use crate::broker::BrokerError;

#[tokio::test]
async fn alerts_and_rows_may_be_ahead_of_progress() {
    let fixture = Fixture::new().await;
    fixture.append([1, 2, 3, 4, 5].map(|ts| critical(0, ts))).await;
    let mut tables = fixture.truth().await;
    fixture.write(&tables).await;
    // With any progress, and without progress.
    for progress in 0..=5 {
        fixture.write_progress(0, progress).await;
        let report = fixture.verify().await;
        assert_eq!(lines(&report), "", "progress {progress}");
        assert_eq!(report.partitions[0].judged_to, progress);
        assert_eq!(report.events, progress as u64);
        assert!(report.is_complete());
    }
    // Rows and an alert that a worker has not written yet.
    for (progress, count) in [(3, 3), (3, 4), (3, 5), (4, 4), (2, 3)] {
        let fixture = Fixture { store: MemoryStore::new(), ..Fixture::new().await };
        fixture.store.bind(&fixture.binding).await.into_result().expect("bound");
        fixture.append([1, 2, 3, 4, 5].map(|ts| critical(0, ts))).await;
        tables.alerts = BTreeMap::from([(window("s", 10), count)]);
        let mut partly = tables.clone();
        partly.events.retain(|place, _| place.1 < progress || place.1 == 4);
        fixture.write(&partly).await;
        fixture.write_progress(0, progress).await;
        assert_eq!(fixture.differences().await, "", "progress {progress} count {count}");
    }
}

#[tokio::test]
async fn an_alert_outside_the_range_that_workers_may_have_counted_is_wrong() {
    for (progress, count, line) in [
        (3, 2, "event_count is 2, but the log has 3 to 5"),
        (4, 3, "event_count is 3, but the log has 4 to 5"),
        (4, 6, "event_count is 6, but the log has 4 to 5"),
        (1, 2, "event_count is 2, but the log has 3 to 5"),
        (5, 4, "event_count is 4, but the log has 5"),
    ] {
        let fixture = Fixture::new().await;
        fixture.append([1, 2, 3, 4, 5].map(|ts| critical(0, ts))).await;
        fixture.write(&Tables { alerts: BTreeMap::new(), ..fixture.truth().await }).await;
        fixture.write_progress(0, progress).await;
        fixture.write_alert("s", 10, count).await;
        let expected = format!("wrong_alert_count: source \"s\" window ending at 10: {line}\n");
        assert_eq!(fixture.differences().await, expected);
    }
}

#[tokio::test]
async fn an_alert_that_the_whole_log_does_not_justify_is_a_phantom_and_a_required_one_is_missing() {
    let fixture = Fixture::new().await;
    fixture.append([1, 2, 11, 12, 13, 14].map(|ts| critical(0, ts))).await;
    fixture.write(&Tables { alerts: BTreeMap::new(), ..fixture.truth().await }).await;
    fixture.write_progress(0, 1).await;
    fixture.write_alert("s", 10, 3).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"phantom_alert: source "s" window ending at 10: an alert with event_count 3, but the log has 2"#);
    fixture.write_progress(0, 5).await;
    insta::assert_snapshot!(fixture.differences().await, @r#"
    phantom_alert: source "s" window ending at 10: an alert with event_count 3, but the log has 2
    missing_alert: source "s" window ending at 20: 3 events and no alert
    "#);
}

#[tokio::test]
async fn a_partition_without_progress_is_judged_to_its_origin() {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    fixture.broker.grow(TOPIC, 3);
    fixture.append([critical(2, 6)]).await;
    let report = fixture.verify().await;
    assert!(report.is_clean());
    let judged: Vec<_> = report.partitions.iter().map(|p| (p.progress, p.judged_to, p.log_end)).collect();
    assert_eq!(judged, [(Some(0), 0, 3), (Some(0), 0, 3), (None, 0, 1)]);
}

#[tokio::test]
async fn events_of_a_partition_that_is_added_meanwhile_may_be_counted_already() {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    fixture.finish(&fixture.truth().await).await;
    fixture.write_alert("s", 10, 5).await;
    assert!(!fixture.verify().await.is_clean());
    let broker = HookedBroker::new(&fixture, 1, |broker, partition, offset| {
        if (partition, offset) == (1, 2) {
            broker.grow(TOPIC, 3);
            let append = broker.append(TOPIC, vec![critical(2, 5)]);
            futures_util::FutureExt::now_or_never(append).expect("it never waits").expect("appended");
        }
        None
    });
    let report = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
        .await
        .expect("a report");
    assert_eq!(lines(&report), "");
}

#[tokio::test(start_paused = true)]
async fn rows_past_the_end_of_a_truncated_log_are_foreign() {
    let fixture = Fixture::new().await;
    fixture.append((1..7).map(|ts| critical(0, ts))).await;
    fixture.write(&fixture.truth().await).await;
    fixture.write_progress(0, 5).await;
    fixture.broker.truncate(TOPIC, 0, 4);
    // Offset 4 is below progress, 5 was ahead of it; the alert counts them all.
    insta::assert_snapshot!(fixture.differences().await, @r#"
    foreign: partition 0 offset 4: events has a row, but it is past the log's end
    foreign: partition 0 offset 5: events has a row, but it is past the log's end
    wrong_progress: partition 0: origin 0, next_offset 5: next_offset is past the log's end
    wrong_count: partition 0 source "s" window ending at 10: count 6 through offset 5, but the log has 4 through 3
    wrong_alert_count: source "s" window ending at 10: event_count is 6, but the log has 4
    "#);
    let report = fixture.verify().await;
    assert_eq!((report.partitions[0].progress, report.partitions[0].log_end), (Some(5), 4));
    // Other records were appended to the log: the rows below progress are altered.
    fixture.append((21..29).map(|ts| critical(0, ts))).await;
    let differences = fixture.differences().await;
    assert!(differences.starts_with("altered: partition 0 offset 4: "), "{differences}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_truncated_meanwhile_is_reported() {
    let fixture = Fixture::new().await;
    fixture.append((1..7).map(|ts| critical(0, ts))).await;
    fixture.finish(&fixture.truth().await).await;
    let broker = HookedBroker::new(&fixture, 1, |broker, _, offset| {
        if offset == 2 {
            broker.truncate(TOPIC, 0, 3);
        }
        None
    });
    let report = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
        .await
        .expect("a report");
    assert_eq!(report.counts["foreign"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_recreated_meanwhile_is_reported() {
    for at in 0..6 {
        let fixture = Fixture::new().await;
        fixture.append((1..7).map(|ts| critical(0, ts))).await;
        // Half of the log is judged; the other half is after the judged log.
        fixture.write(&fixture.truth().await).await;
        fixture.write_progress(0, 3).await;
        let broker = HookedBroker::new(&fixture, 1, move |broker, _, offset| {
            if offset == at {
                broker.recreate(TOPIC);
            }
            None
        });
        let result = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default()).await;
        assert!(matches!(result, Err(VerifyError::Recreated { .. })), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_lags_temporarily_is_no_difference() {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    fixture.finish(&fixture.truth().await).await;
    let late = fixture.broker.clone();
    let records = fixture.log().await;
    fixture.broker.truncate(TOPIC, 0, 1);
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let again = records.into_iter().filter(|record| record.partition == 0 && record.offset >= 1);
        let again = again.map(|record| NewRecord { value: record.value, ..value(0, "") });
        late.append(TOPIC, again.collect()).await.expect("appended");
    });
    assert_eq!(fixture.differences().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_broker_that_does_not_respond_is_retried_a_limited_number_of_times() {
    let fixture = Fixture::new().await;
    fixture.append(some()).await;
    fixture.finish(&fixture.truth().await).await;
    let silent = || Some(BrokerError::Retriable { what: "fetch".to_owned(), cause: None });
    let mut requests = 0;
    let broker = HookedBroker::new(&fixture, 1, move |_, _, _| {
        requests += 1;
        if requests % 5 == 0 { None } else { silent() }
    });
    assert!(
        verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
            .await
            .expect("a report")
            .is_clean()
    );
    let broker = HookedBroker::new(&fixture, 1, move |_, _, _| silent());
    let error = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
        .await
        .expect_err("no report");
    assert_eq!(error.to_string(), "could not read topic t partition 0 from offset 0");
    let broker = HookedBroker::new(&fixture, 1, |_, partition, offset| {
        Some(BrokerError::OutOfRange { topic: TOPIC.to_owned(), partition, offset })
    });
    let error = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
        .await
        .expect_err("no report");
    assert!(matches!(error, VerifyError::NothingDelivered { offset: 0, log_end: 3, .. }), "{error}");
}

/// During every fetch, a worker processes more records, raises alerts and advances progress.
#[tokio::test]
async fn a_worker_that_runs_during_the_verification_causes_no_difference() {
    for behind in [0i64, 1, 5] {
        let fixture = Arc::new(Fixture::new().await);
        let work = move |fixture: &Fixture, ts: i64| {
            let work = async {
                fixture.append([critical((ts % 2) as i32, ts)]).await;
                fixture.write(&fixture.truth().await).await;
                for (partition, end) in fixture.ends().await {
                    fixture.write_progress(partition, (end - behind).max(0)).await;
                }
            };
            futures_util::FutureExt::now_or_never(work).expect("it never waits");
        };
        (1..15).for_each(|ts| work(&fixture, ts));
        let (inside, mut ts) = (fixture.clone(), 15);
        let broker = HookedBroker::new(&fixture, 2, move |_, _, _| {
            ts += 1;
            work(&inside, ts);
            None
        });
        let report = verify(&broker, &fixture.store, &fixture.binding_spec, &VerifyOptions::default())
            .await
            .expect("a report");
        assert_eq!(lines(&report), "", "progress {behind} behind");
        assert!(fixture.truth().await.events.len() > 20);
    }
}
