//! The log in Apache Kafka, through librdkafka.
//!
//! - The caller decides where a partition starts. If the options say so, positions are committed to the group, but only
//!   for lag dashboards; they are never read. An offset out of range is an error (`auto.offset.reset=error`); nothing
//!   is reset.
//! - Only committed records are delivered, and the log's end is the last stable offset (`read_committed`).
//! - A group member runs on a thread of its own, so it is responsive even while the worker waits. The module `member`
//!   describes how it responds to rebalances under both group protocols. The worker gets different events for revoked
//!   partitions (it finishes its work first) and for lost ones.
//! - The module `error` describes what each error means.
//!
//! librdkafka retries by itself when a connection breaks, a leader moves or a coordinator is unavailable.

mod consumer;
mod error;
mod flow_control;
mod guarantee;
mod log;
mod member;
mod options;
mod probe;
mod producer;
mod properties;
mod raw;
mod reader;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use consumer::KafkaConsumer;
pub use error::KafkaError;
pub use options::{GroupProtocol, KafkaOptions, OptionsError, Sasl, SaslMechanism, Security, Tls};

use crate::broker::{Broker, BrokerError, Fetched, LogOffsets, NewRecord, Producer, Topic};
use crate::error::Cause;
use crate::guarantee::Finding;
use producer::drop_elsewhere;
use raw::Client;
use reader::Reader;

/// Interval of the check whether a request in flight can succeed at all.
const WATCH: Duration = Duration::from_millis(100);

/// Time between two probes of a listener whose protocol is unknown.
const PROBE: Duration = Duration::from_secs(2);

/// A Kafka cluster.
#[derive(Clone)]
pub struct KafkaBroker {
    inner: Arc<Inner>,
}

struct Inner {
    options: KafkaOptions,
    /// `None` only during the drop.
    reader: Option<Arc<Reader>>,
    producer: producer::Producer,
    /// True if stopping idle partitions is scheduled.
    stop_planned: AtomicBool,
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBroker").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping it waits for librdkafka's threads.
        drop_elsewhere(self.reader.take());
    }
}

impl KafkaBroker {
    /// Starts connecting in the background: the first request shows whether the cluster is available.
    ///
    /// # Errors
    /// [`BrokerError::Fatal`] if the options are invalid ([`KafkaOptions::check`]) or librdkafka rejects
    /// their combination, for example if a certificate file does not exist.
    pub fn connect(options: &KafkaOptions) -> Result<Self, BrokerError> {
        let what = || format!("use the options for {}", options.bootstrap_servers);
        options.check().map_err(|error| BrokerError::Fatal { what: what(), cause: Some(Box::new(error)) })?;
        let client = Client::consumer(&options.reader());
        let reader = client.and_then(|client| Reader::new(client, options));
        let reader = Some(Arc::new(reader.map_err(|error| error.fatal(what()))?));
        let (producer, stop_planned) = (producer::Producer::default(), AtomicBool::new(false));
        Ok(Self { inner: Arc::new(Inner { options: options.clone(), reader, producer, stop_planned }) })
    }

    /// The last connection error that librdkafka has reported since the cluster's last response, for a caller with a
    /// request in flight: a host that cannot be resolved, a refused connection, a listener with a different protocol.
    pub fn last_error(&self) -> Option<Cause> {
        self.inner.reader.as_ref()?.last_error().map(Into::into)
    }

    /// The topic has at least so many partitions, as the group knows.
    fn knows(&self, topic: &str, partitions: i32) {
        if let Some(reader) = &self.inner.reader {
            reader.knows(topic, partitions);
        }
    }

    fn options(&self) -> &KafkaOptions {
        &self.inner.options
    }

    /// Runs a blocking request outside the runtime's threads. Returns early if librdkafka reports that the cluster will
    /// never accept this client.
    async fn wait_for<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> String,
        request: impl FnOnce(&Reader) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let Some(reader) = self.inner.reader.clone() else {
            return Err(BrokerError::Fatal { what: what(), cause: None });
        };
        let watched = reader.clone();
        let mut response = tokio::task::spawn_blocking(move || request(&reader));
        let mut probe_at = Instant::now();
        loop {
            match tokio::time::timeout(WATCH, &mut response).await {
                Ok(Ok(response)) => {
                    if response.as_ref().is_ok()
                        || response.as_ref().is_err_and(|error| !error.is_retriable())
                    {
                        watched.establish();
                    }
                    return response;
                }
                Ok(Err(error)) => {
                    return Err(BrokerError::Fatal { what: what(), cause: Some(Box::new(error)) });
                }
                Err(_) => {
                    watched.connect_again();
                    if let Some((error, reason)) = watched.permanent_failure() {
                        // A waiting thread would delay the drop of the runtime.
                        watched.cancel(true);
                        let _ = tokio::time::timeout(WATCH * 5, &mut response).await;
                        watched.cancel(false);
                        return Err(error.refused(what(), reason));
                    }
                    if watched.should_probe() && probe_at <= Instant::now() {
                        probe_at = Instant::now() + PROBE;
                        let reader = watched.clone();
                        let _ = tokio::task::spawn_blocking(move || reader.probe_listener()).await;
                    }
                }
            }
        }
    }

    /// Schedules [`Reader::stop_idle`].
    fn stop_idle_later(&self) {
        if self.inner.stop_planned.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(reader::IDLE_TIMEOUT * 2).await;
            let Some(inner) = inner.upgrade() else { return };
            inner.stop_planned.store(false, Ordering::Release);
            if let Some(reader) = inner.reader.clone() {
                let _ = tokio::task::spawn_blocking(move || reader.stop_idle()).await;
            }
        });
    }
}

impl Broker for KafkaBroker {
    type Consumer = KafkaConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let name = topic.to_owned();
        self.wait_for(|| format!("describe topic {topic}"), move |reader| reader.topic(&name)).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("read the offsets of topic {topic} partition {partition}");
        self.wait_for(what, move |reader| reader.offsets(&name, partition)).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("read topic {topic} partition {partition} from offset {offset}");
        self.stop_idle_later();
        let read = move |reader: &Reader| reader.fetch(&name, partition, offset, max_records, max_bytes);
        self.wait_for(what, read).await
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("read the settings of topic {topic} and its brokers");
        self.wait_for(what, move |reader| reader.guarantees(&name)).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Self::Consumer, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("join group {group} for topic {topic}");
        let partitions = self.wait_for(what, move |reader| reader.partitions(&name)).await?;
        KafkaConsumer::join(self, group, topic, partitions).map_err(|error| error.about(topic, what()))
    }
}

impl Producer for KafkaBroker {
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> Result<Topic, BrokerError> {
        let name = topic.to_owned();
        let create = move |reader: &Reader| {
            reader.create_topic(&name, partitions, replication)?;
            // The controller knows the topic; other brokers may learn of it a moment later.
            reader.topic(&name)
        };
        self.wait_for(|| format!("create topic {topic}"), create).await
    }

    /// Appends records. A timestamp of 0 is replaced by the producer's clock, as librdkafka does.
    ///
    /// If the topic is deleted and created again meanwhile, the records may time out (`message.timeout.ms`, 5 minutes by
    /// default); the next call appends to the new topic.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        let name = topic.to_owned();
        let highest = records.iter().filter_map(|record| record.partition).max();
        let lowest = records.iter().filter_map(|record| record.partition).min();
        let check = move |reader: &Reader| {
            // librdkafka waits half a minute for a topic that does not exist.
            let named: Vec<i32> = [Some(0), highest, lowest].into_iter().flatten().collect();
            reader.check_partitions(&name, &named)
        };
        let id = self.wait_for(|| format!("append to topic {topic}"), check).await?;
        self.inner.producer.append(&self.options().producer(), topic, id, records).await
    }
}
