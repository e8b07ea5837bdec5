//! Members of a group on librdkafka's mock cluster: what they give back, lose and get again.

use std::time::Duration;

use exactlyonce::broker::kafka::{KafkaBroker, KafkaConsumer};
use exactlyonce::broker::{Broker, Consumer, Delivery};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{sleep, timeout};

use crate::mock::{GROUP, TOPIC, cluster};

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
