//! Appends on simulated brokers.

use std::sync::LazyLock;
use std::time::Duration;

use exactlyonce::broker::kafka::{KafkaBroker, KafkaOptions};
use exactlyonce::broker::{BrokerError, NewRecord, Producer};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use simulated_kafka::cluster::HostFault::Stop;
use simulated_kafka::cluster::Recovery;
use tokio::time::sleep;

use crate::simulated_kafka::SimulatedBrokers;

const TOPIC: &str = "recreated";
const PARTITIONS: i32 = 6;

/// Appends a record to each partition.
async fn append(broker: &KafkaBroker) -> Result<Vec<(i32, i64)>, BrokerError> {
    let record = |partition| NewRecord {
        value: Some(b"x".to_vec()),
        timestamp: 0,
        partition: Some(partition),
        key: None,
    };
    broker.append(TOPIC, (0..PARTITIONS).map(record).collect()).await
}

/// As [`append`], until it succeeds.
async fn append_in_the_end(broker: &KafkaBroker) {
    while let Err(error) = append(broker).await {
        assert!(error.is_retriable(), "{error:?}");
    }
}

#[tokio::test]
async fn a_topic_that_was_recreated_after_elections_is_appended_to() {
    // A static, because a runtime that belongs to it must not be dropped on a thread of another one.
    static BROKERS: LazyLock<SimulatedBrokers> = LazyLock::new(SimulatedBrokers::start_in_test);
    let mut options = KafkaOptions::new(BROKERS.bootstrap_servers());
    options.properties.insert("message.timeout.ms".to_owned(), "15000".to_owned());
    let broker = KafkaBroker::connect(&options).unwrap();
    broker.create_topic(TOPIC, PARTITIONS, 3).await.unwrap();
    append_in_the_end(&broker).await;
    // Each partition gets another leader, with a higher epoch, which the producer learns.
    for number in 1..=3 {
        BROKERS.command(move |brokers| async move { brokers.apply(number, Stop).await }).await.unwrap();
        append_in_the_end(&broker).await;
        let start = move |brokers: std::sync::Arc<simulated_kafka::serve::LocalBrokers>| async move {
            brokers.recover(Recovery::Start, &[number]).await
        };
        BROKERS.command(start).await.unwrap();
        append_in_the_end(&broker).await;
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.bootstrap_servers).create().unwrap();
    let deleted = admin.delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    while let Err(error) = broker.create_topic(TOPIC, PARTITIONS, 3).await {
        assert!(matches!(error, BrokerError::TopicExists(_)) || error.is_retriable(), "{error:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        append(&broker).await.unwrap(),
        (0..PARTITIONS).map(|partition| (partition, 0)).collect::<Vec<_>>()
    );
}
