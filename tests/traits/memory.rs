//! Features of the in-memory broker: groups of several members, gaps, truncation.

use std::collections::BTreeSet;

use exactlyonce::broker::memory::{MemoryBroker, MemoryConsumer};
use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, LogOffsets, Producer};
use futures_util::FutureExt;

use crate::broker::{TOPIC, next, offsets_of, start_all, until_ends, values};

/// The deliveries of a member that are available without waiting.
fn deliveries(consumer: &mut MemoryConsumer) -> Vec<Delivery> {
    std::iter::from_fn(|| consumer.poll().now_or_never().map(Result::unwrap)).collect()
}

fn assigned(deliveries: &[Delivery]) -> BTreeSet<i32> {
    let of = |delivery: &Delivery| match delivery {
        Delivery::Assigned(partitions) => partitions.clone(),
        _ => Vec::new(),
    };
    deliveries.iter().flat_map(of).collect()
}

fn revoked(deliveries: &[Delivery]) -> Vec<i32> {
    let of = |delivery: &Delivery| match delivery {
        Delivery::Revoked(partitions) => partitions.clone(),
        _ => Vec::new(),
    };
    deliveries.iter().flat_map(of).collect()
}

#[tokio::test]
async fn a_revoked_partition_is_not_reassigned_until_it_is_released() {
    let broker = MemoryBroker::default();
    broker.create_topic(TOPIC, 4, 1).await.unwrap();
    let mut first = broker.subscribe("group", TOPIC).await.unwrap();
    assert_eq!(assigned(&deliveries(&mut first)), BTreeSet::from([0, 1, 2, 3]));
    let mut second = broker.subscribe("group", TOPIC).await.unwrap();
    let revoked_partitions = revoked(&deliveries(&mut first));
    assert_eq!(revoked_partitions.len(), 2);
    assert_eq!(assigned(&deliveries(&mut second)), BTreeSet::new());
    first.release(revoked_partitions[0]);
    assert_eq!(assigned(&deliveries(&mut second)), BTreeSet::from([revoked_partitions[0]]));
    first.release(revoked_partitions[1]);
    assert_eq!(assigned(&deliveries(&mut second)), BTreeSet::from([revoked_partitions[1]]));
}

#[tokio::test]
async fn partitions_of_a_member_that_is_dropped_are_reassigned() {
    let broker = MemoryBroker::default();
    broker.create_topic(TOPIC, 4, 1).await.unwrap();
    let mut first = broker.subscribe("group", TOPIC).await.unwrap();
    deliveries(&mut first);
    let mut second = broker.subscribe("group", TOPIC).await.unwrap();
    let mut other_group = broker.subscribe("another group", TOPIC).await.unwrap();
    assert_eq!(assigned(&deliveries(&mut other_group)).len(), 4);
    drop(first);
    assert_eq!(assigned(&deliveries(&mut second)), BTreeSet::from([0, 1, 2, 3]));
}

#[tokio::test]
async fn new_partitions_are_assigned() {
    let broker = MemoryBroker::default();
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    assert_eq!(assigned(&deliveries(&mut consumer)), BTreeSet::from([0]));
    broker.grow(TOPIC, 3);
    assert_eq!(assigned(&deliveries(&mut consumer)), BTreeSet::from([1, 2]));
}

#[tokio::test]
async fn gaps_are_skipped_and_the_end_may_be_after_one() {
    let broker = MemoryBroker::default();
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..2)).await.unwrap();
    broker.skip(TOPIC, 0, 3);
    broker.append(TOPIC, values(0, 0..1)).await.unwrap();
    broker.skip(TOPIC, 0, 1);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 0, end: 7 });
    let fetched = broker.fetch(TOPIC, 0, 0, 10, 1000).await.unwrap();
    assert_eq!((offsets_of(&fetched.records), fetched.next_offset), (vec![0, 1, 5], 7));
    let fetched = broker.fetch(TOPIC, 0, 3, 10, 1000).await.unwrap();
    assert_eq!(offsets_of(&fetched.records), [5]);
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    start_all(&mut consumer).await;
    assert_eq!(offsets_of(&until_ends(&mut consumer, &[(0, 7)]).await[&0]), [0, 1, 5]);
}

#[tokio::test]
async fn offsets_removed_by_retention_or_truncation_are_out_of_range() {
    let broker = MemoryBroker::default();
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    broker.delete_below(TOPIC, 0, 4);
    broker.truncate(TOPIC, 0, 8);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 4, end: 8 });
    for outside in [3, 9] {
        let fetched = broker.fetch(TOPIC, 0, outside, 10, 1000).await;
        assert!(matches!(fetched, Err(BrokerError::OutOfRange { .. })), "{fetched:?}");
    }
    let mut consumer = broker.subscribe("group", TOPIC).await.unwrap();
    next(&mut consumer).await;
    consumer.start(Assignment { partition: 0, incarnation: 1 }, 3);
    assert!(matches!(next(&mut consumer).await, Delivery::Failed { offset: 3, .. }));
}

#[tokio::test]
async fn a_recreated_topic_is_empty_and_has_another_id() {
    let broker = MemoryBroker::default();
    let before = broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    broker.recreate(TOPIC);
    assert_ne!(broker.topic(TOPIC).await.unwrap().id, before.id);
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap(), LogOffsets { start: 0, end: 0 });
}
