//! The cases of every broker.

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
        #[cfg(feature = "kafka")]
        (on_simulated_kafka: crate::kafka::simulated(crate::kafka::GroupProtocol::Classic)),
        #[cfg(feature = "kafka")]
        (on_simulated_kafka_in_the_protocol_consumer: crate::kafka::simulated(crate::kafka::GroupProtocol::Consumer)),
        #[cfg(feature = "kafka")]
        (on_kafka on_brokers: crate::kafka::broker(crate::kafka::GroupProtocol::Classic)),
        #[cfg(feature = "kafka")]
        (on_kafka_in_the_protocol_consumer on_brokers: crate::kafka::broker(crate::kafka::GroupProtocol::Consumer)),
    ],
    [
        every_call_reports_an_unknown_topic,
        a_topic_is_described_as_it_was_created,
        a_topic_is_created_once,
        a_partition_that_the_topic_does_not_have_is_fatal,
        the_key_determines_the_partition_unless_one_is_given,
        an_append_returns_the_position_of_each_record,
        offsets_are_those_of_the_first_record_and_after_the_last,
        a_fetch_continues_where_the_last_one_ended,
        a_fetch_outside_the_log_is_out_of_range,
        a_single_member_gets_all_partitions_and_no_records_before_their_start,
        a_subscription_delivers_every_record_once_in_order,
        a_partition_is_delivered_from_its_start,
        the_end_is_reported_again_when_it_has_moved,
        a_start_outside_the_log_fails_and_a_new_start_resumes,
        a_paused_partition_is_not_delivered_until_it_is_resumed,
        a_resumed_partition_continues_without_new_records_in_the_log,
        after_a_new_start_no_records_of_the_older_incarnation_are_delivered,
        the_end_of_an_older_incarnation_is_not_delivered,
        a_dropped_poll_loses_no_delivery,
        a_full_partition_does_not_starve_the_others,
        a_member_that_leaves_can_rejoin,
    ]
);

// Kafka does not accept every timestamp: its case is in kafka.rs.
crate::on_every_implementation!(
    [
        (with_any_timestamp_on_memory: exactlyonce::broker::memory::MemoryBroker::default()),
        #[cfg(feature = "embedded")]
        (with_any_timestamp_on_embedded in_folder: crate::embedded::broker_in),
    ],
    [records_are_returned_byte_for_byte]
);

pub(crate) const TOPIC: &str = "events";

pub(crate) fn value(text: impl Into<String>) -> NewRecord {
    NewRecord { value: Some(text.into().into_bytes()), partition: Some(0), ..NewRecord::default() }
}

pub(crate) fn values(partition: i32, numbers: impl IntoIterator<Item = i64>) -> Vec<NewRecord> {
    let record = |n: i64| NewRecord { partition: Some(partition), ..value(n.to_string()) };
    numbers.into_iter().map(record).collect()
}

/// The next delivery; fails after a minute.
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
    // A member may get its partitions one by one.
    while let Some(Ok(Delivery::Assigned(more))) = consumer.poll().now_or_never() {
        partitions.extend(more);
    }
    for &partition in &partitions {
        consumer.start(Assignment { partition, incarnation: 1 }, 0);
    }
    partitions.sort_unstable();
    partitions
}

/// The delivered records of each partition, until each of `ends` was reported.
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

pub(crate) async fn every_call_reports_an_unknown_topic<B: Broker + Producer>(broker: B) {
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

async fn records_are_returned_byte_for_byte<B: Broker + Producer>(broker: B) {
    returned_byte_for_byte(broker, [0, -1, i64::MAX, i64::MIN]).await;
}

/// Appends records with these timestamps, and checks what is fetched and delivered.
pub(crate) async fn returned_byte_for_byte<B: Broker + Producer>(broker: B, timestamps: [i64; 4]) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let [first, second, third, fourth] = timestamps;
    let contents = [
        (None, None, first),
        (Some(vec![]), Some(vec![]), second),
        (Some(bytes.clone()), Some(bytes), third),
        (None, Some(vec![0; 200_000]), fourth),
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

pub(crate) async fn the_key_determines_the_partition_unless_one_is_given<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 3, 1).await.unwrap();
    let keys: Vec<Vec<u8>> = (0..20).map(|i| format!("key {i}").into_bytes()).collect();
    let by_key = keys.iter().map(|key| NewRecord { key: Some(key.clone()), ..NewRecord::default() });
    let positions = broker.append(TOPIC, by_key.collect()).await.unwrap();
    let expected: Vec<i32> = keys.iter().map(|key| partition_of_key(key, 3)).collect();
    assert_eq!(positions.iter().map(|position| position.0).collect::<Vec<_>>(), expected);
    assert!((0..3).all(|partition| expected.contains(&partition)));
    let named = NewRecord { key: Some(keys[0].clone()), partition: Some(2), ..NewRecord::default() };
    assert_eq!(broker.append(TOPIC, vec![named]).await.unwrap()[0].0, 2);
}

pub(crate) async fn an_append_returns_the_position_of_each_record<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mixed = [1, 0, 1, 1].map(|partition| NewRecord { partition: Some(partition), ..value("x") });
    let positions = broker.append(TOPIC, mixed.to_vec()).await.unwrap();
    assert_eq!(positions, [(1, 0), (0, 0), (1, 1), (1, 2)]);
    assert_eq!(broker.append(TOPIC, mixed.to_vec()).await.unwrap(), [(1, 3), (0, 1), (1, 4), (1, 5)]);
    assert_eq!(broker.append(TOPIC, vec![]).await.unwrap(), []);
}

pub(crate) async fn offsets_are_those_of_the_first_record_and_after_the_last<B: Broker + Producer>(
    broker: B,
) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    assert_eq!(broker.offsets(TOPIC, 1).await.unwrap(), LogOffsets { start: 0, end: 0 });
    broker.append(TOPIC, values(1, 0..7)).await.unwrap();
    assert_eq!(broker.offsets(TOPIC, 1).await.unwrap(), LogOffsets { start: 0, end: 7 });
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 0, end: 0 });
}

pub(crate) async fn a_fetch_continues_where_the_last_one_ended<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    broker.append(TOPIC, values(1, 0..3)).await.unwrap();
    let (mut offset, mut chunks) = (0, Vec::new());
    loop {
        let fetched = broker.fetch(TOPIC, 0, offset, 4, usize::MAX).await.unwrap();
        chunks.push(offsets_of(&fetched.records));
        if fetched.records.is_empty() {
            assert_eq!(fetched.next_offset, offset);
            break;
        }
        offset = fetched.next_offset;
    }
    assert_eq!(chunks, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9], vec![]]);
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

pub(crate) async fn a_single_member_gets_all_partitions_and_no_records_before_their_start<B>(broker: B)
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

pub(crate) async fn a_partition_is_delivered_from_its_start<B: Broker + Producer>(broker: B) {
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

pub(crate) async fn the_end_is_reported_again_when_it_has_moved<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    assert!(until_ends(&mut consumer, &[(0, 0), (1, 0)]).await.is_empty());
    for round in 0..3 {
        broker.append(TOPIC, values(1, round..round + 1)).await.unwrap();
        // The end of partition 0 has not moved, so it is not reported.
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

pub(crate) async fn a_start_outside_the_log_fails_and_a_new_start_resumes<B: Broker + Producer>(broker: B) {
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
        // Its delivery has stopped; that of the other partition continues.
        broker.append(TOPIC, values(1, 0..1)).await.unwrap();
        let end = broker.offsets(TOPIC, 1).await.unwrap().end;
        assert_eq!(until_ends(&mut consumer, &[(1, end)]).await.into_keys().collect::<Vec<_>>(), [1]);
    }
    consumer.start(Assignment { partition: 0, incarnation: 4 }, 3);
    assert_eq!(offsets_of(&until_ends(&mut consumer, &[(0, 5)]).await[&0]), [3, 4]);
}

pub(crate) async fn a_paused_partition_is_not_delivered_until_it_is_resumed<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    until_ends(&mut consumer, &[(0, 0), (1, 0)]).await;
    consumer.pause(0);
    for end in 1..=5 {
        // Records that were fetched before the pause may still be delivered: here at most the response of a fetch that
        // was in flight.
        broker.append(TOPIC, values(0, end..end + 1)).await.unwrap();
        broker.append(TOPIC, values(1, end..end + 1)).await.unwrap();
        let delivered = until_ends(&mut consumer, &[(1, end)]).await;
        assert!(end == 1 || !delivered.contains_key(&0), "{delivered:?}");
    }
    consumer.resume(0);
    // Some of the records may have been delivered in the first round.
    let delivered = until_ends(&mut consumer, &[(0, 5)]).await;
    assert_eq!(delivered[&0].last().map(|record| record.offset), Some(4));
}

pub(crate) async fn a_resumed_partition_continues_without_new_records_in_the_log<B: Broker + Producer>(
    broker: B,
) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    let mut got = Vec::new();
    consumer.pause(0);
    // Nothing to deliver, or one chunk that was in flight.
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

pub(crate) async fn after_a_new_start_no_records_of_the_older_incarnation_are_delivered<
    B: Broker + Producer,
>(
    broker: B,
) {
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..9_000)).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    for incarnation in 2..40 {
        // Leaves a chunk that was read ahead, a read in flight, or neither.
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

pub(crate) async fn the_end_of_an_older_incarnation_is_not_delivered<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    // Both partitions are at their end, and one has reported it.
    let Delivery::End { assignment: ended, .. } = next(&mut consumer).await else { panic!("no end") };
    let assignment = Assignment { partition: 1 - ended.partition, incarnation: 2 };
    consumer.start(assignment, 0);
    match next(&mut consumer).await {
        Delivery::End { assignment: delivered, offset: 0 } => assert_eq!(delivered, assignment),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_dropped_poll_loses_no_delivery<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    for partition in 0..2 {
        broker.append(TOPIC, values(partition, 0..6_000)).await.unwrap();
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    let (mut all, mut ends, mut dropped) = (BTreeMap::<i32, Vec<i64>>::new(), 0, 0);
    while ends < 2 {
        // Polls once and drops the future if it is not ready; the time until the next poll varies.
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
    // So many records that the client connects to the leaders of the other partitions before it has read them all.
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

pub(crate) async fn a_member_that_leaves_can_rejoin<B: Broker + Producer>(broker: B) {
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..5)).await.unwrap();
    for _ in 0..3 {
        let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
        assert_eq!(start_all(&mut consumer).await, [0, 1]);
        // The position of the previous member makes no difference.
        assert_eq!(until_ends(&mut consumer, &[(0, 5), (1, 0)]).await[&0].len(), 5);
        consumer.report(0, 5);
        consumer.leave().await;
    }
}
