//! The log: several handles, retention, deletion, added partitions, damage.

use std::collections::BTreeSet;

use exactlyonce::broker::{
    Assignment, Broker, BrokerError, Consumer, Delivery, LogOffsets, NewRecord, Producer,
};
use futures_util::future::join_all;
use rusqlite::Connection;
use tempfile::tempdir;

use super::broker_in;
use crate::broker::{TOPIC, next, offsets_of, start_all, until_ends, value, values};
use exactlyonce::error::chain;

#[tokio::test]
async fn a_reopened_log_has_the_same_content() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    let topic = broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(1, 0..100)).await.unwrap();
    let records = broker.fetch(TOPIC, 1, 0, 1000, usize::MAX).await.unwrap();
    drop(broker);
    let broker = broker_in(folder.path());
    assert_eq!(broker.topic(TOPIC).await.unwrap(), topic);
    assert_eq!(broker.fetch(TOPIC, 1, 0, 1000, usize::MAX).await.unwrap(), records);
    assert_eq!(broker.append(TOPIC, values(1, 0..1)).await.unwrap(), [(1, 100)]);
}

#[tokio::test]
async fn a_fetch_returns_at_least_one_record_and_about_the_requested_bytes() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, vec![value("x".repeat(100)); 10]).await.unwrap();
    for (max_bytes, expected) in [(0, 1), (1, 1), (100, 1), (101, 2), (450, 5), (usize::MAX, 10)] {
        let fetched = broker.fetch(TOPIC, 0, 0, 100, max_bytes).await.unwrap();
        assert_eq!(fetched.records.len(), expected, "{max_bytes} bytes");
        assert_eq!(fetched.next_offset, expected as i64);
    }
    assert_eq!(broker.fetch(TOPIC, 0, 0, 0, 1000).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn records_without_a_key_are_distributed_round_robin() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    for count in [4, 1, 4] {
        broker.append(TOPIC, vec![NewRecord::default(); count]).await.unwrap();
    }
    for partition in 0..3 {
        assert_eq!(broker.offsets(TOPIC, partition).await.unwrap().end, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_with_separate_handles_append_concurrently() {
    let folder = tempdir().unwrap();
    let reader = broker_in(folder.path());
    reader.create_topic(TOPIC, 2, 1).await.unwrap();
    let produce = |producer: usize| {
        let broker = broker_in(folder.path());
        async move {
            let mut positions = Vec::new();
            for round in 0..20 {
                let partition = round % 2;
                let record = |n: usize| NewRecord {
                    partition: Some(partition),
                    ..value(format!("{producer} {round} {n}"))
                };
                positions.extend(broker.append(TOPIC, (0..10).map(record).collect()).await.unwrap());
            }
            positions
        }
    };
    let positions: Vec<(i32, i64)> =
        join_all((0..4).map(produce).map(tokio::spawn)).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(positions.len(), 800);
    assert_eq!(positions.iter().collect::<BTreeSet<_>>().len(), 800);
    let mut texts = BTreeSet::new();
    for partition in 0..2 {
        let fetched = reader.fetch(TOPIC, partition, 0, 1000, usize::MAX).await.unwrap();
        assert_eq!(offsets_of(&fetched.records), (0..400).collect::<Vec<_>>());
        texts.extend(fetched.records.into_iter().map(|record| record.value));
    }
    assert_eq!(texts.len(), 800);
}

#[tokio::test]
async fn a_waiting_consumer_gets_records_that_another_handle_appends() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 0)]).await;
    let other = broker_in(folder.path());
    for end in 1..4 {
        let append = async { other.append(TOPIC, values(0, end..end + 1)).await.unwrap() };
        let ends = [(0, end)];
        let (delivered, _) = tokio::join!(until_ends(&mut consumer, &ends), append);
        assert_eq!(offsets_of(&delivered[&0]), [end - 1]);
    }
}

#[tokio::test]
async fn new_partitions_are_assigned() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..3)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 3)]).await;
    broker.add_partitions(TOPIC, 3).await.unwrap();
    broker.add_partitions(TOPIC, 2).await.unwrap();
    assert!(matches!(next(&mut consumer).await, Delivery::Assigned(new) if new == [1, 2]));
    assert_eq!(broker.topic(TOPIC).await.unwrap().partitions, 3);
    broker.append(TOPIC, values(2, 0..1)).await.unwrap();
    consumer.start(Assignment { partition: 2, incarnation: 2 }, 0);
    assert_eq!(until_ends(&mut consumer, &[(2, 1)]).await[&2].len(), 1);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap().end, 3);
}

#[tokio::test]
async fn offsets_removed_by_retention_are_out_of_range_and_later_ones_remain() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    for partition in 0..2 {
        broker.append(TOPIC, values(partition, 0..25_000)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    next(&mut consumer).await;
    for (below, start) in [(24_000, 24_000), (5, 24_000), (-1, 24_000), (i64::MAX, 25_000)] {
        broker.delete_below(TOPIC, 0, below).await.unwrap();
        assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start, end: 25_000 });
        let fetched = broker.fetch(TOPIC, 0, start - 1, 10, 1000).await;
        assert!(matches!(fetched, Err(BrokerError::OutOfRange { .. })), "{fetched:?}");
        let fetched = broker.fetch(TOPIC, 0, start, 5, 1000).await.unwrap();
        assert_eq!(offsets_of(&fetched.records), (start..25_000).take(5).collect::<Vec<_>>());
    }
    consumer.start(Assignment { partition: 0, incarnation: 1 }, 0);
    assert!(matches!(next(&mut consumer).await, Delivery::Failed { offset: 0, .. }));
    assert_eq!(broker.append(TOPIC, values(0, 0..1)).await.unwrap(), [(0, 25_000)]);
    assert_eq!(broker.offsets(TOPIC, 1).await.unwrap(), LogOffsets { start: 0, end: 25_000 });
    let records: i64 = Connection::open(folder.path().join("log.sqlite"))
        .unwrap()
        .query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap();
    assert_eq!(records, 25_001);
}

#[tokio::test]
async fn a_topic_with_the_name_of_a_deleted_one_is_empty_and_has_a_different_id() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    let before = broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.create_topic("other", 2, 1).await.unwrap();
    for topic in [TOPIC, "other"] {
        broker.append(topic, values(0, 0..15_000)).await.unwrap();
        broker.append(topic, values(1, 0..3)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 15_000), (1, 3)]).await;
    broker.delete_topic(TOPIC).await.unwrap();
    assert!(matches!(broker.topic(TOPIC).await, Err(BrokerError::UnknownTopic(_))));
    assert!(matches!(broker.delete_topic(TOPIC).await, Err(BrokerError::UnknownTopic(_))));
    for _ in 0..2 {
        let delivery = next(&mut consumer).await;
        let unknown = matches!(&delivery, Delivery::Failed { error: BrokerError::UnknownTopic(_), .. });
        assert!(unknown, "{delivery:?}");
    }
    let after = broker.create_topic(TOPIC, 2, 1).await.unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 0, end: 0 });
    assert_eq!(broker.fetch(TOPIC, 0, 0, 10, 1000).await.unwrap().records, []);
    assert_eq!(broker.fetch("other", 0, 14_999, 10, 1000).await.unwrap().records.len(), 1);
    assert_eq!(broker.fetch("other", 1, 0, 10, 1000).await.unwrap().records.len(), 3);
    let records: i64 = Connection::open(folder.path().join("log.sqlite"))
        .unwrap()
        .query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap();
    assert_eq!(records, 15_003);
}

#[tokio::test]
async fn the_description_of_a_topic_contains_whether_it_is_compacted() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    for compacted in [true, false] {
        broker.set_compacted(TOPIC, compacted).await.unwrap();
        assert_eq!(broker.topic(TOPIC).await.unwrap().compacted, compacted);
    }
    assert!(matches!(broker.set_compacted("no", true).await, Err(BrokerError::UnknownTopic(_))));
}

#[tokio::test]
async fn a_topic_that_kafka_would_refuse_is_refused() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ü", "a\0", &long] {
        let created = broker.create_topic(name, 1, 1).await;
        assert!(matches!(created, Err(BrokerError::Fatal { .. })), "{name:?}: {created:?}");
    }
    for partitions in [0, -1, 100_001, i32::MAX] {
        let created = broker.create_topic(TOPIC, partitions, 1).await;
        assert!(matches!(created, Err(BrokerError::Fatal { .. })), "{partitions}: {created:?}");
    }
    broker.create_topic(&long[1..], 1, 1).await.unwrap();
    assert!(matches!(broker.topic(TOPIC).await, Err(BrokerError::UnknownTopic(_))));
}

#[tokio::test]
async fn a_failed_append_appends_none_of_its_records() {
    let folder = tempdir().unwrap();
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut records = values(0, 0..10);
    records.extend(values(5, 0..1));
    broker.append(TOPIC, records).await.unwrap_err();
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap().end, 0);
    assert_eq!(broker.append(TOPIC, values(0, 0..1)).await.unwrap(), [(0, 0)]);
}

#[tokio::test]
async fn a_missing_or_altered_record_is_reported_and_never_skipped() {
    for (damage, message) in [
        ("DELETE FROM records WHERE offset = 3", "partition 0 offset 3 is missing"),
        ("DELETE FROM records WHERE offset >= 3", "partition 0 offset 3 is missing"),
        ("UPDATE records SET value = x'00' WHERE offset = 3", "partition 0 offset 3 was altered"),
        ("UPDATE records SET value = NULL WHERE offset = 3", "partition 0 offset 3 was altered"),
        ("UPDATE records SET key = x'' WHERE offset = 3", "partition 0 offset 3 was altered"),
        ("UPDATE records SET timestamp = 1 WHERE offset = 3", "partition 0 offset 3 was altered"),
    ] {
        let folder = tempdir().unwrap();
        let broker = broker_in(folder.path());
        broker.create_topic(TOPIC, 2, 1).await.unwrap();
        broker.append(TOPIC, values(0, 0..10)).await.unwrap();
        let file = folder.path().join("log.sqlite");
        Connection::open(&file).unwrap().execute(damage, []).unwrap();
        let error = broker.fetch(TOPIC, 0, 0, 100, usize::MAX).await.unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, BrokerError::Fatal { .. }), "{text}");
        assert!(text.contains(message) && text.contains(file.to_str().unwrap()), "{text}");
        assert_eq!(broker.fetch(TOPIC, 0, 0, 3, usize::MAX).await.unwrap().records.len(), 3);
        let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
        start_all(&mut consumer).await;
        loop {
            match next(&mut consumer).await {
                Delivery::End { assignment, .. } => assert_eq!(assignment.partition, 1),
                Delivery::Failed { assignment, error, .. } => {
                    assert!(assignment.partition == 0 && chain(&error).contains(message), "{error:?}");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
