//! The broker's cases on a real Kafka, under both group protocols.

use exactlyonce::broker::kafka::GroupProtocol;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;

#[path = "../common/kafka.rs"]
mod services;

use crate::broker::{TOPIC, start_all, until_ends};
use services::Own;

/// A broker whose members use this group protocol.
fn broker(protocol: GroupProtocol) -> Own {
    let mut options = services::options();
    options.group_protocol = protocol;
    Own::new(&options)
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

// All but one: Kafka does not take every timestamp, so records have a case of their own below.
on_kafka!([
    an_unknown_topic_is_told_by_every_verb,
    a_topic_is_described_as_it_was_created,
    a_topic_is_created_once,
    a_partition_that_the_topic_does_not_have_is_fatal,
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
]);

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn records_come_back_byte_for_byte() {
    let broker = broker(GroupProtocol::Classic);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    // The brokers delete what is old, and refuse what is much later than now.
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
