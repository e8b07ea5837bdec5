//! Members of a group: what they give back, lose and get again.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use exactlyonce::broker::kafka::{GroupProtocol, KafkaBroker, KafkaConsumer, KafkaOptions};
use exactlyonce::broker::{Broker, Consumer, Delivery, Producer};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{sleep, timeout};

use crate::mock::{GROUP, PARTITIONS, TOPIC, cluster};
use crate::simulated_kafka::SimulatedBrokers;

/// The least session timeout that brokers accept by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// Options for simulated brokers, which all tests of a process share.
fn simulated(protocol: GroupProtocol) -> KafkaOptions {
    static BROKERS: LazyLock<SimulatedBrokers> = LazyLock::new(SimulatedBrokers::start_in_test);
    let mut options = KafkaOptions::new(BROKERS.bootstrap_servers());
    options.group_protocol = protocol;
    options.session_timeout = SESSION_TIMEOUT;
    options
}

/// Joins and takes deliveries until all partitions are assigned.
async fn join_alone(broker: &KafkaBroker, group: &str, topic: &str) -> KafkaConsumer {
    let mut consumer = broker.subscribe(group, topic).await.unwrap();
    let mut owned = BTreeSet::new();
    while owned.len() < PARTITIONS as usize {
        match next(&mut consumer).await {
            Delivery::Assigned(partitions) => owned.extend(partitions),
            other => panic!("{other:?}"),
        }
    }
    consumer
}

/// A member that takes its deliveries and releases what is revoked, until it is aborted.
fn another_member(broker: &KafkaBroker, group: &str, topic: &str) -> tokio::task::JoinHandle<()> {
    let (broker, group, topic) = (broker.clone(), group.to_owned(), topic.to_owned());
    tokio::spawn(async move {
        let mut consumer = broker.subscribe(&group, &topic).await.unwrap();
        loop {
            if let Ok(Delivery::Revoked(partitions)) = consumer.poll().await {
                partitions.into_iter().for_each(|partition| consumer.release(partition));
            }
        }
    })
}

/// The next delivery; fails after half a minute.
async fn next(consumer: &mut KafkaConsumer) -> Delivery {
    timeout(Duration::from_secs(30), consumer.poll()).await.expect("a delivery").unwrap()
}

/// The position that the group has for a partition.
fn committed(servers: &str, partition: i32) -> Option<Offset> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", GROUP).create().unwrap();
    let mut positions = TopicPartitionList::new();
    positions.add_partition(TOPIC, partition);
    let committed = consumer.committed_offsets(positions, Duration::from_secs(10)).unwrap();
    committed.find_partition(TOPIC, partition).map(|position| position.offset())
}

#[tokio::test]
async fn a_final_position_is_committed_even_if_another_commit_is_in_flight() {
    let (cluster, mut options) = cluster();
    options.request_timeout = Duration::from_secs(20);
    options.session_timeout = Duration::from_secs(30);
    let broker = KafkaBroker::connect(&options).unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assert!(matches!(next(&mut consumer).await, Delivery::Assigned(_)));
    // Responses take longer than the time between two commits, so one is in flight when the member leaves.
    cluster.broker_round_trip_time(-1, Duration::from_secs(3)).unwrap();
    consumer.report(0, 5);
    sleep(Duration::from_millis(2_500)).await;
    consumer.report(0, 9);
    consumer.leave().await;
    cluster.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    let servers = options.bootstrap_servers.clone();
    let committed = tokio::task::spawn_blocking(move || committed(&servers, 0)).await.unwrap();
    assert_eq!(committed, Some(Offset::Offset(9)));
}

#[tokio::test]
async fn partitions_whose_revocation_the_group_no_longer_waits_for_are_lost() {
    lost_while_revoked(GroupProtocol::Classic, "lost while revoked").await;
}

#[tokio::test]
async fn partitions_whose_revocation_the_group_no_longer_waits_for_are_lost_in_the_protocol_consumer() {
    lost_while_revoked(GroupProtocol::Consumer, "lost while revoked (KIP-848)").await;
}

async fn lost_while_revoked(protocol: GroupProtocol, group: &str) {
    let mut options = simulated(protocol);
    // The group waits for a revocation for this time.
    options.max_poll_interval = SESSION_TIMEOUT;
    let topic = match protocol {
        GroupProtocol::Classic => "lost-while-revoked",
        GroupProtocol::Consumer => "lost-while-revoked-848",
    };
    let broker = KafkaBroker::connect(&options).unwrap();
    broker.create_topic(topic, PARTITIONS, 3).await.unwrap();
    let mut consumer = join_alone(&broker, group, topic).await;
    let second = another_member(&broker, group, topic);
    let Delivery::Revoked(revoked) = next(&mut consumer).await else { panic!("no revocation") };
    assert!(!revoked.is_empty());
    // It polls, but never releases them. In the classic protocol, the group waits for it when another member joins.
    let third = another_member(&broker, group, topic);
    match next(&mut consumer).await {
        Delivery::Lost(lost) => assert_eq!(BTreeSet::from_iter(lost), BTreeSet::from_iter(revoked)),
        other => panic!("{other:?}"),
    }
    second.abort();
    third.abort();
}

#[tokio::test]
async fn a_worker_that_does_not_poll_during_a_rebalance_loses_its_partitions_and_joins_again() {
    let (group, topic) = ("silent in a rebalance", "silent-in-a-rebalance");
    let mut options = simulated(GroupProtocol::Consumer);
    options.max_poll_interval = Duration::from_secs(8);
    let broker = KafkaBroker::connect(&options).unwrap();
    broker.create_topic(topic, PARTITIONS, 3).await.unwrap();
    let mut consumer = join_alone(&broker, group, topic).await;
    // After five seconds without a poll, the thread of the member stops reading what librdkafka reports: neither the
    // revocation for the second member, nor, eight seconds later, that it has left the group.
    sleep(Duration::from_millis(5_500)).await;
    let second = another_member(&broker, group, topic);
    sleep(Duration::from_secs(10)).await;
    let mut lost = BTreeSet::new();
    let again = async {
        loop {
            match consumer.poll().await {
                Ok(Delivery::Lost(partitions)) => lost.extend(partitions),
                Ok(Delivery::Assigned(partitions)) if !partitions.is_empty() => break,
                Ok(Delivery::Assigned(_)) => {}
                Err(error) if error.is_retriable() => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(60), again).await.expect("an assignment");
    assert_eq!(lost, BTreeSet::from_iter(0..PARTITIONS));
    second.abort();
}
