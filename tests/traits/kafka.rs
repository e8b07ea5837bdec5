//! The cases of brokers on a real Kafka, with both group protocols.

use exactlyonce::broker::kafka::GroupProtocol;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;

#[path = "../common/kafka.rs"]
mod services;

use crate::broker::{TOPIC, start_all, until_ends};
use services::TestBroker;

/// A broker whose members use this group protocol.
fn broker(protocol: GroupProtocol) -> TestBroker {
    let mut options = services::options();
    options.group_protocol = protocol;
    TestBroker::new(&options)
}

macro_rules! on_kafka {
    ([$($case:ident),* $(,)?]) => {
        mod on_kafka {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --kafka 3"]
                async fn $case() {
                    crate::broker::$case(super::broker(super::GroupProtocol::Classic)).await;
                }
            )*
        }

        mod on_kafka_in_the_protocol_consumer {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --kafka 3"]
                async fn $case() {
                    crate::broker::$case(super::broker(super::GroupProtocol::Consumer)).await;
                }
            )*
        }
    };
}

// All cases but one: Kafka does not accept every timestamp, so records have a separate case below.
on_kafka!([
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
]);

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn records_are_returned_byte_for_byte() {
    let broker = broker(GroupProtocol::Classic);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    // The brokers delete old records, and refuse timestamps that are far in the future.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let contents = [
        (None, None, now),
        (Some(vec![]), Some(vec![]), now - 86_400_000),
        (Some(bytes.clone()), Some(bytes), now - 1),
        (None, Some(vec![0; 200_000]), now + 1),
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
