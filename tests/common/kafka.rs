//! Separate topics for tests on a real Kafka cluster, which `docker/local/cluster` starts.

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

/// A broker on which this test's topics and groups have unique names: the real cluster is shared by all tests.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) kafka: KafkaBroker,
    suffix: String,
}

impl Own {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let suffix = format!(".{began:x}.{}.{number}", std::process::id());
        Self { kafka: KafkaBroker::connect(options).expect("the options are right"), suffix }
    }

    /// The name on the cluster.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    fn plain(&self, error: BrokerError) -> BrokerError {
        let plain = |name: String| name.strip_suffix(&self.suffix).map(str::to_owned).unwrap_or(name);
        match error {
            BrokerError::OutOfRange { topic, partition, offset } => {
                BrokerError::OutOfRange { topic: plain(topic), partition, offset }
            }
            BrokerError::UnknownTopic(topic) => BrokerError::UnknownTopic(plain(topic)),
            BrokerError::TopicExists(topic) => BrokerError::TopicExists(plain(topic)),
            other => other,
        }
    }
}

impl Broker for Own {
    type Consumer = KafkaConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let described = self.kafka.topic(&self.name(topic)).await.map_err(|error| self.plain(error))?;
        Ok(Topic { name: topic.to_owned(), ..described })
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.kafka.offsets(&self.name(topic), partition).await.map_err(|error| self.plain(error))
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
        fetched.map_err(|error| self.plain(error))
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        self.kafka.guarantees(&self.name(topic)).await.map_err(|error| self.plain(error))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<KafkaConsumer, BrokerError> {
        let joined = self.kafka.subscribe(&self.name(group), &self.name(topic)).await;
        joined.map_err(|error| self.plain(error))
    }
}

impl Producer for Own {
    async fn create_topic(&self, topic: &str, partitions: i32, copies: i16) -> Result<Topic, BrokerError> {
        let created = self.kafka.create_topic(&self.name(topic), partitions, copies).await;
        let created = created.map_err(|error| self.plain(error))?;
        Ok(Topic { name: topic.to_owned(), ..created })
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        self.kafka.append(&self.name(topic), records).await.map_err(|error| self.plain(error))
    }
}
