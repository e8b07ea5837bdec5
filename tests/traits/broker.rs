//! Cases for every broker.

use std::collections::BTreeMap;
use std::time::Duration;

use exactlyonce::broker::{
    Assignment, Broker, BrokerError, Consumer, Delivery, LogOffsets, NewRecord, Producer, partition_of_key,
};
use exactlyonce::event::Record;
use futures_util::FutureExt;

crate::on_every_implementation!(
    [
        (on_memory: exactlyonce::broker::memory::MemoryBroker::default()),
        #[cfg(feature = "embedded")]
        (on_embedded in_folder: crate::embedded::broker_in),
    ],
    [
        an_unknown_topic_is_told_by_every_verb,
        a_topic_is_described_as_it_was_created,
        a_topic_is_created_once,
        a_partition_that_the_topic_does_not_have_is_fatal,
        records_come_back_byte_for_byte,
        a_key_decides_the_partition_unless_one_is_named,
        an_append_says_where_each_record_is,
        a_log_begins_and_ends_where_its_records_do,
        a_fetch_goes_on_where_the_last_one_ended,
        a_fetch_outside_the_log_is_out_of_range,
        a_member_alone_gets_all_partitions_and_nothing_of_them_before_their_start,
        a_subscription_delivers_every_record_once_in_order,
        a_partition_is_delivered_from_where_it_was_started,
        the_end_is_told_again_when_it_has_moved,
        a_start_outside_the_log_fails_and_another_start_goes_on,
        a_paused_partition_is_not_served_until_it_is_resumed,
        a_partition_resumed_without_anything_new_in_the_log_goes_on,
        after_a_new_start_nothing_of_the_older_incarnation_comes,
        an_end_that_was_found_for_an_older_incarnation_does_not_come,
        a_poll_that_is_dropped_loses_nothing,
        a_full_partition_does_not_starve_the_others,
        a_member_that_leaves_can_come_back,
    ]
);

pub(crate) const TOPIC: &str = "events";

pub(crate) fn value(text: impl Into<String>) -> NewRecord {
    NewRecord { value: Some(text.into().into_bytes()), partition: Some(0), ..NewRecord::default() }
}

pub(crate) fn values(partition: i32, numbers: impl IntoIterator<Item = i64>) -> Vec<NewRecord> {
    let record = |n: i64| NewRecord { partition: Some(partition), ..value(n.to_string()) };
    numbers.into_iter().map(record).collect()
}

/// The next delivery; a minute without one means that there never will be.
pub(crate) async fn next<C: Consumer>(consumer: &mut C) -> Delivery {
    let delivery = tokio::time::timeout(Duration::from_secs(60), consumer.poll()).await;
    delivery.expect("nothing was delivered").expect("the membership ended")
}

/// Takes the assignment and starts each of its partitions at 0, as incarnation 1.
pub(crate) async fn start_all<C: Consumer>(consumer: &mut C) -> Vec<i32> {
    let mut partitions = Vec::new();
    while partitions.is_empty() {
        match next(consumer).await {
            Delivery::Assigned(assigned) => partitions = assigned,
            other => panic!("{other:?} before an assignment"),
        }
    }
    // A single member may get its partitions one by one.
    while let Some(Ok(Delivery::Assigned(more))) = consumer.poll().now_or_never() {
        partitions.extend(more);
    }
    for &partition in &partitions {
        consumer.start(Assignment { partition, incarnation: 1 }, 0);
    }
    partitions.sort_unstable();
    partitions
}

/// What was delivered of each partition, until each of `ends` was reported.
pub(crate) async fn until_ends<C: Consumer>(
    consumer: &mut C,
    ends: &[(i32, i64)],
) -> BTreeMap<i32, Vec<Record>> {
    let mut open: BTreeMap<i32, i64> = ends.iter().copied().collect();
    let mut all: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    while !open.is_empty() {
        match next(consumer).await {
            Delivery::Records { assignment, records, next_offset } => {
                assert!(!records.is_empty());
                let last = records.last().map_or(0, |record| record.offset);
                assert!(next_offset > last, "{next_offset} after {last}");
                assert!(records.iter().all(|record| record.partition == assignment.partition));
                all.entry(assignment.partition).or_default().extend(records);
            }
            Delivery::End { assignment, offset } => {
                if open.get(&assignment.partition) == Some(&offset) {
                    open.remove(&assignment.partition);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

pub(crate) fn offsets_of(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

pub(crate) async fn an_unknown_topic_is_told_by_every_verb<B: Broker + Producer>(broker: B) {
    let unknown = |error: &BrokerError| matches!(error, BrokerError::UnknownTopic(topic) if topic == "no");
    assert!(broker.topic("no").await.is_err_and(|error| unknown(&error)));
    assert!(broker.offsets("no", 0).await.is_err_and(|error| unknown(&error)));
    assert!(broker.fetch("no", 0, 0, 10, 1000).await.is_err_and(|error| unknown(&error)));
    assert!(broker.subscribe("group", "no").await.is_err_and(|error| unknown(&error)));
    assert!(broker.append("no", values(0, 0..1)).await.is_err_and(|error| unknown(&error)));
}

pub(crate) async fn a_topic_is_described_as_it_was_created<B: Broker + Producer>(broker: B) {
    let created = broker.create_topic(TOPIC, 3, 2).await.unwrap();
    assert_eq!((created.name.as_str(), created.partitions, created.replication), (TOPIC, 3, 2));
    assert!(!created.compacted);
    assert!(!created.id.is_empty());
    assert_eq!(broker.topic(TOPIC).await.unwrap(), created);
    let other = broker.create_topic("other", 1, 1).await.unwrap();
    assert_ne!(other.id, created.id);
    assert_eq!(broker.topic(TOPIC).await.unwrap(), created);
}

pub(crate) async fn a_topic_is_created_once<B: Broker + Producer>(broker: B) {
    let created = broker.create_topic(TOPIC, 3, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..5)).await.unwrap();
    let again = broker.create_topic(TOPIC, 5, 1).await;
    assert!(matches!(&again, Err(BrokerError::TopicExists(topic)) if topic == TOPIC), "{again:?}");
    assert_eq!(broker.topic(TOPIC).await.unwrap(), created);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap().end, 5);
}

pub(crate) async fn a_partition_that_the_topic_does_not_have_is_fatal<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    for partition in [2, -1, i32::MAX] {
        let fatal = |error: &BrokerError| matches!(error, BrokerError::Fatal { what, .. } if what.contains(&partition.to_string()));
        assert!(broker.offsets(TOPIC, partition).await.is_err_and(|error| fatal(&error)));
        assert!(broker.fetch(TOPIC, partition, 0, 1, 1).await.is_err_and(|error| fatal(&error)));
        assert!(broker.append(TOPIC, values(partition, 0..1)).await.is_err_and(|error| fatal(&error)));
    }
}

pub(crate) async fn records_come_back_byte_for_byte<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let contents = [
        (None, None, 0),
        (Some(vec![]), Some(vec![]), -1),
        (Some(bytes.clone()), Some(bytes), i64::MAX),
        (None, Some(vec![0; 200_000]), i64::MIN),
    ];
    let records =
        contents.clone().map(|(key, value, timestamp)| NewRecord { key, value, timestamp, partition: None });
    broker.append(TOPIC, records.to_vec()).await.unwrap();
    let expected: Vec<Record> = (0..)
        .zip(contents)
        .map(|(offset, (key, value, timestamp))| Record { partition: 0, offset, timestamp, key, value })
        .collect();
    let fetched = broker.fetch(TOPIC, 0, 0, 100, usize::MAX).await.unwrap();
    assert_eq!(fetched.records, expected);
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    assert_eq!(until_ends(&mut consumer, &[(0, 4)]).await[&0], expected);
}

pub(crate) async fn a_key_decides_the_partition_unless_one_is_named<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    let keys: Vec<Vec<u8>> = (0..20).map(|i| format!("key {i}").into_bytes()).collect();
    let by_key = keys.iter().map(|key| NewRecord { key: Some(key.clone()), ..NewRecord::default() });
    let places = broker.append(TOPIC, by_key.collect()).await.unwrap();
    let expected: Vec<i32> = keys.iter().map(|key| partition_of_key(key, 3)).collect();
    assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), expected);
    assert!((0..3).all(|partition| expected.contains(&partition)));
    let named = NewRecord { key: Some(keys[0].clone()), partition: Some(2), ..NewRecord::default() };
    assert_eq!(broker.append(TOPIC, vec![named]).await.unwrap()[0].0, 2);
}

pub(crate) async fn an_append_says_where_each_record_is<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mixed = [1, 0, 1, 1].map(|partition| NewRecord { partition: Some(partition), ..value("x") });
    let places = broker.append(TOPIC, mixed.to_vec()).await.unwrap();
    assert_eq!(places, [(1, 0), (0, 0), (1, 1), (1, 2)]);
    assert_eq!(broker.append(TOPIC, mixed.to_vec()).await.unwrap(), [(1, 3), (0, 1), (1, 4), (1, 5)]);
    assert_eq!(broker.append(TOPIC, vec![]).await.unwrap(), []);
}

pub(crate) async fn a_log_begins_and_ends_where_its_records_do<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    assert_eq!(broker.offsets(TOPIC, 1).await.unwrap(), LogOffsets { start: 0, end: 0 });
    broker.append(TOPIC, values(1, 0..7)).await.unwrap();
    assert_eq!(broker.offsets(TOPIC, 1).await.unwrap(), LogOffsets { start: 0, end: 7 });
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 0, end: 0 });
}

pub(crate) async fn a_fetch_goes_on_where_the_last_one_ended<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    broker.append(TOPIC, values(1, 0..3)).await.unwrap();
    let (mut offset, mut pieces) = (0, Vec::new());
    loop {
        let fetched = broker.fetch(TOPIC, 0, offset, 4, usize::MAX).await.unwrap();
        pieces.push(offsets_of(&fetched.records));
        if fetched.records.is_empty() {
            assert_eq!(fetched.next_offset, offset);
            break;
        }
        offset = fetched.next_offset;
    }
    assert_eq!(pieces, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9], vec![]]);
}

pub(crate) async fn a_fetch_outside_the_log_is_out_of_range<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..5)).await.unwrap();
    assert_eq!(broker.fetch(TOPIC, 0, 5, 10, 1000).await.unwrap().next_offset, 5);
    for outside in [6, -1, i64::MAX, i64::MIN] {
        let fetched = broker.fetch(TOPIC, 0, outside, 10, 1000).await;
        assert!(
            matches!(fetched, Err(BrokerError::OutOfRange { partition: 0, offset, .. }) if offset == outside),
            "{fetched:?}"
        );
    }
}

pub(crate) async fn a_member_alone_gets_all_partitions_and_nothing_of_them_before_their_start<B>(broker: B)
where
    B: Broker + Producer,
{
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    for partition in 0..3 {
        broker.append(TOPIC, values(partition, 0..2)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    let mut assigned = Vec::new();
    while assigned.len() < 3 {
        match next(&mut consumer).await {
            Delivery::Assigned(partitions) => assigned.extend(partitions),
            other => panic!("{other:?}"),
        }
    }
    assigned.sort_unstable();
    assert_eq!(assigned, [0, 1, 2]);
    consumer.start(Assignment { partition: 1, incarnation: 1 }, 0);
    let delivered = until_ends(&mut consumer, &[(1, 2)]).await;
    assert_eq!(delivered.into_keys().collect::<Vec<_>>(), [1]);
    consumer.start(Assignment { partition: 0, incarnation: 2 }, 0);
    let delivered = until_ends(&mut consumer, &[(0, 2)]).await;
    assert_eq!(delivered.into_keys().collect::<Vec<_>>(), [0]);
}

pub(crate) async fn a_subscription_delivers_every_record_once_in_order<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    let lengths = [5_000, 0, 701];
    for (partition, length) in (0..).zip(lengths) {
        broker.append(TOPIC, values(partition, 0..length)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    assert_eq!(start_all(&mut consumer).await, [0, 1, 2]);
    let delivered = until_ends(&mut consumer, &[(0, 5_000), (1, 0), (2, 701)]).await;
    assert_eq!(delivered.keys().copied().collect::<Vec<_>>(), [0, 2]);
    for (partition, records) in delivered {
        let length = lengths[partition as usize];
        assert_eq!(offsets_of(&records), (0..length).collect::<Vec<_>>());
        let text = |record: &Record| record.value == Some(record.offset.to_string().into_bytes());
        assert!(records.iter().all(text));
    }
}

pub(crate) async fn a_partition_is_delivered_from_where_it_was_started<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    for start in [7, 10, 0] {
        consumer.start(Assignment { partition: 0, incarnation: 2 }, start);
        let delivered = until_ends(&mut consumer, &[(0, 10)]).await;
        let offsets = delivered.get(&0).map(|records| offsets_of(records)).unwrap_or_default();
        assert_eq!(offsets, (start..10).collect::<Vec<_>>());
    }
}

pub(crate) async fn the_end_is_told_again_when_it_has_moved<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    assert!(until_ends(&mut consumer, &[(0, 0), (1, 0)]).await.is_empty());
    for round in 0..3 {
        broker.append(TOPIC, values(1, round..round + 1)).await.unwrap();
        // Partition 0 has not moved, so it says nothing.
        match next(&mut consumer).await {
            Delivery::Records { assignment, records, next_offset } => {
                assert_eq!((assignment.partition, next_offset), (1, round + 1));
                assert_eq!(offsets_of(&records), [round]);
            }
            other => panic!("{other:?}"),
        }
        match next(&mut consumer).await {
            Delivery::End { assignment, offset } => {
                assert_eq!((assignment.partition, offset), (1, round + 1))
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_start_outside_the_log_fails_and_another_start_goes_on<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..5)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 5), (1, 0)]).await;
    for (incarnation, outside) in [(2, 6), (3, -1)] {
        let partition = 0;
        consumer.start(Assignment { partition, incarnation }, outside);
        match next(&mut consumer).await {
            Delivery::Failed { assignment, offset, error: BrokerError::OutOfRange { .. } } => {
                assert_eq!((assignment, offset), (Assignment { partition, incarnation }, outside));
            }
            other => panic!("{other:?}"),
        }
        // It has stopped; the other partition has not.
        broker.append(TOPIC, values(1, 0..1)).await.unwrap();
        let end = broker.offsets(TOPIC, 1).await.unwrap().end;
        assert_eq!(until_ends(&mut consumer, &[(1, end)]).await.into_keys().collect::<Vec<_>>(), [1]);
    }
    consumer.start(Assignment { partition: 0, incarnation: 4 }, 3);
    assert_eq!(offsets_of(&until_ends(&mut consumer, &[(0, 5)]).await[&0]), [3, 4]);
}

pub(crate) async fn a_paused_partition_is_not_served_until_it_is_resumed<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 0), (1, 0)]).await;
    consumer.pause(0);
    for end in 1..=5 {
        // What was fetched before the pause may still come: nothing was there to be fetched, so at most an
        // answer that was under way.
        broker.append(TOPIC, values(0, end..end + 1)).await.unwrap();
        broker.append(TOPIC, values(1, end..end + 1)).await.unwrap();
        let delivered = until_ends(&mut consumer, &[(1, end)]).await;
        assert!(end == 1 || !delivered.contains_key(&0), "{delivered:?}");
    }
    consumer.resume(0);
    // Some of it may have come in the first round.
    let delivered = until_ends(&mut consumer, &[(0, 5)]).await;
    assert_eq!(delivered[&0].last().map(|record| record.offset), Some(4));
}

pub(crate) async fn a_partition_resumed_without_anything_new_in_the_log_goes_on<B: Broker + Producer>(
    broker: B,
) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    let mut got = Vec::new();
    consumer.pause(0);
    // Nothing to deliver, or one piece that was under way.
    for _ in 0..3 {
        if let Ok(Ok(Delivery::Records { records, .. })) =
            tokio::time::timeout(Duration::from_millis(60), consumer.poll()).await
        {
            got.extend(records);
        }
    }
    consumer.resume(0);
    got.extend(until_ends(&mut consumer, &[(0, 10)]).await.into_values().flatten());
    assert_eq!(offsets_of(&got), (0..10).collect::<Vec<_>>());
}

pub(crate) async fn after_a_new_start_nothing_of_the_older_incarnation_comes<B: Broker + Producer>(
    broker: B,
) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..9_000)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    for incarnation in 2..40 {
        // Leaves a piece that was read ahead, a read under way, or neither.
        if incarnation % 3 > 0 {
            next(&mut consumer).await;
        }
        if incarnation % 3 > 1 {
            let _ = tokio::time::timeout(Duration::from_millis(2), consumer.poll()).await;
        }
        let start = incarnation as i64 * 11;
        let assignment = Assignment { partition: 0, incarnation };
        consumer.start(assignment, start);
        match next(&mut consumer).await {
            Delivery::Records { assignment: delivered, records, .. } => {
                assert_eq!((delivered, records[0].offset), (assignment, start));
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn an_end_that_was_found_for_an_older_incarnation_does_not_come<B: Broker + Producer>(
    broker: B,
) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    // Both are at their end, and one has said so.
    let Delivery::End { assignment: ended, .. } = next(&mut consumer).await else { panic!("no end") };
    let assignment = Assignment { partition: 1 - ended.partition, incarnation: 2 };
    consumer.start(assignment, 0);
    match next(&mut consumer).await {
        Delivery::End { assignment: delivered, offset: 0 } => assert_eq!(delivered, assignment),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_poll_that_is_dropped_loses_nothing<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    for partition in 0..2 {
        broker.append(TOPIC, values(partition, 0..6_000)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    let (mut all, mut ends, mut dropped) = (BTreeMap::<i32, Vec<i64>>::new(), 0, 0);
    while ends < 2 {
        // Polled once; if that is not enough it is dropped, and the time until the next poll varies.
        let delivery = match consumer.poll().now_or_never() {
            Some(delivery) => delivery.unwrap(),
            None => {
                dropped += 1;
                match dropped % 3 {
                    0 => tokio::time::sleep(Duration::from_millis(1)).await,
                    _ => tokio::task::yield_now().await,
                }
                continue;
            }
        };
        match delivery {
            Delivery::Records { assignment, records, .. } => {
                all.entry(assignment.partition).or_default().extend(offsets_of(&records));
            }
            Delivery::End { .. } => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    for (partition, offsets) in all {
        assert_eq!(offsets, (0..6_000).collect::<Vec<_>>(), "partition {partition}");
    }
}

pub(crate) async fn a_full_partition_does_not_starve_the_others<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    // So many that the others' leaders are connected to long before they are read.
    for start in (0..200_000).step_by(20_000) {
        broker.append(TOPIC, values(1, start..start + 20_000)).await.unwrap();
    }
    broker.append(TOPIC, values(0, 0..1)).await.unwrap();
    broker.append(TOPIC, values(2, 0..1)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    let mut seen = BTreeMap::new();
    while seen.len() < 3 {
        match next(&mut consumer).await {
            Delivery::Records { assignment, next_offset, .. } => {
                seen.insert(assignment.partition, next_offset);
            }
            Delivery::End { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(seen[&1] < 200_000, "{seen:?}");
}

pub(crate) async fn a_member_that_leaves_can_come_back<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..5)).await.unwrap();
    for _ in 0..3 {
        let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
        assert_eq!(start_all(&mut consumer).await, [0, 1]);
        // Where the last one was makes no difference.
        assert_eq!(until_ends(&mut consumer, &[(0, 5), (1, 0)]).await[&0].len(), 5);
        consumer.report(0, 5);
        consumer.leave().await;
    }
}
