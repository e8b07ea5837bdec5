//! Topics for each test on a real Kafka cluster, which `docker/local/cluster` starts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use exactlyonce::broker::kafka::{KafkaBroker, KafkaConsumer, KafkaOptions};
use exactlyonce::broker::{Broker, BrokerError, Fetched, LogOffsets, NewRecord, Producer, Topic};
use exactlyonce::guarantee::Finding;

use crate::cluster::Cluster;

/// Options for the running cluster.
pub(crate) fn options() -> KafkaOptions {
    let brokers = Cluster::running().addresses("KAFKA", 1).unwrap_or_else(|error| panic!("{error}"));
    KafkaOptions::new(brokers.join(","))
}

/// A broker that adds a unique suffix to the names of topics and groups, because all tests share one cluster.
#[derive(Clone, Debug)]
pub(crate) struct TestBroker {
    pub(crate) kafka: KafkaBroker,
    suffix: String,
}

impl TestBroker {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let suffix = format!(".{started:x}.{}.{number}", std::process::id());
        Self { kafka: KafkaBroker::connect(options).expect("the options are valid"), suffix }
    }

    /// The name with the suffix.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    fn without_suffix(&self, error: BrokerError) -> BrokerError {
        let without_suffix =
            |name: String| name.strip_suffix(&self.suffix).map(str::to_owned).unwrap_or(name);
        match error {
            BrokerError::OutOfRange { topic, partition, offset } => {
                BrokerError::OutOfRange { topic: without_suffix(topic), partition, offset }
            }
            BrokerError::UnknownTopic(topic) => BrokerError::UnknownTopic(without_suffix(topic)),
            BrokerError::TopicExists(topic) => BrokerError::TopicExists(without_suffix(topic)),
            other => other,
        }
    }
}

impl Broker for TestBroker {
    type Consumer = KafkaConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let described =
            self.kafka.topic(&self.name(topic)).await.map_err(|error| self.without_suffix(error))?;
        Ok(Topic { name: topic.to_owned(), ..described })
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.kafka.offsets(&self.name(topic), partition).await.map_err(|error| self.without_suffix(error))
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        records: usize,
        bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let fetched = self.kafka.fetch(&self.name(topic), partition, offset, records, bytes).await;
        fetched.map_err(|error| self.without_suffix(error))
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        self.kafka.guarantees(&self.name(topic)).await.map_err(|error| self.without_suffix(error))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<KafkaConsumer, BrokerError> {
        let joined = self.kafka.subscribe(&self.name(group), &self.name(topic)).await;
        joined.map_err(|error| self.without_suffix(error))
    }
}

impl Producer for TestBroker {
    async fn create_topic(&self, topic: &str, partitions: i32, copies: i16) -> Result<Topic, BrokerError> {
        let created = self.kafka.create_topic(&self.name(topic), partitions, copies).await;
        let created = created.map_err(|error| self.without_suffix(error))?;
        Ok(Topic { name: topic.to_owned(), ..created })
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        self.kafka.append(&self.name(topic), records).await.map_err(|error| self.without_suffix(error))
    }
}
