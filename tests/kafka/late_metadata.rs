//! Simulated brokers of which two learn late of a new topic.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use exactlyonce::broker::kafka::{KafkaBroker, KafkaOptions};
use exactlyonce::broker::{Broker, Producer};
use simulated_kafka::serve::LocalBrokers;
use simulated_kafka::types::NodeId;

use crate::simulated_kafka::SimulatedBrokers;

/// Which broker answers is random: the one that metadata name as the controller.
const TOPICS: usize = 8;

#[tokio::test]
async fn a_topic_that_some_brokers_do_not_know_yet_is_described_and_judged() {
    // A static, because a runtime that belongs to it must not be dropped on a thread of another one.
    static BROKERS: LazyLock<SimulatedBrokers> = LazyLock::new(SimulatedBrokers::start_in_test);
    let address = BROKERS.addresses()[0].to_string();
    let broker = KafkaBroker::connect(&KafkaOptions::new(address)).unwrap();
    let lag = |brokers: Arc<LocalBrokers>| async move {
        for number in [2, 3] {
            brokers.cluster().lag_metadata(NodeId(number), Duration::from_millis(500));
        }
        Ok(())
    };
    BROKERS.command(lag).await.unwrap();
    for number in 0..TOPICS {
        let name = format!("new-{number}");
        let created = broker.create_topic(&name, 1, 3).await.unwrap();
        assert_eq!(created.partitions, 1);
        let findings = broker.guarantees(&name).await.unwrap();
        assert!(!findings.is_empty());
    }
}
