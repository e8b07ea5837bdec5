//! Producers on librdkafka.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::kafka::backend::{
    ClientError, Guarantee, NewRecord, ProducerOptions, TestProducer, TransactionalProducer,
};

/// Timeout of a blocking call.
const TIMEOUT: Duration = Duration::from_secs(30);

type Appended = Result<(i32, i64), ClientError>;

/// Passes each delivery report to the caller that waits for it.
pub struct Reports;

impl ClientContext for Reports {
    // Closed connections are expected in these cases.
    fn error(&self, _: KafkaError, _: &str) {}
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Appended>>;

    fn delivery(&self, result: &DeliveryResult<'_>, reply: Self::DeliveryOpaque) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(client_error(error)),
        };
        // A caller that no longer waits needs no response.
        let _ = reply.send(result);
    }
}

/// A producer, transactional or not.
#[derive(Clone)]
pub struct SocketProducer(Arc<ThreadedProducer<Reports>>);

impl SocketProducer {
    pub fn new(bootstrap: &str, options: &ProducerOptions) -> Self {
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        let mut config = config(bootstrap);
        config
            .set("acks", options.acks.to_string())
            .set("request.timeout.ms", milliseconds(options.request_timeout))
            .set("socket.timeout.ms", milliseconds(options.request_timeout))
            .set("message.timeout.ms", milliseconds(options.delivery_timeout))
            .set("message.send.max.retries", options.retries.to_string())
            .set("enable.idempotence", (options.guarantee == Guarantee::Idempotent).to_string());
        if let Some(compression) = options.compression {
            config.set("compression.type", compression);
        }
        Self(Arc::new(config.create_with_context(Reports).expect("a producer")))
    }

    /// A producer with a transactional id; fences earlier producers of that id.
    pub async fn transactional(bootstrap: &str, id: &str, timeout: Duration) -> Result<Self, ClientError> {
        let mut config = config(bootstrap);
        config.set("transactional.id", id).set("transaction.timeout.ms", timeout.as_millis().to_string());
        config.set("message.timeout.ms", timeout.as_millis().to_string());
        let producer = Self(Arc::new(config.create_with_context(Reports).expect("a producer")));
        producer.blocking(|producer| producer.init_transactions(TIMEOUT)).await?;
        Ok(producer)
    }

    async fn blocking(
        &self,
        call: impl FnOnce(&ThreadedProducer<Reports>) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), ClientError> {
        let producer = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || call(&producer)).await.expect("the call ends");
        done.map_err(|error| client_error(&error))
    }

    fn enqueue(&self, topic: &str, record: NewRecord) -> Result<oneshot::Receiver<Appended>, ClientError> {
        let (reply, report) = oneshot::channel();
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = BaseRecord {
            topic,
            partition: record.partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp,
            headers: (!record.headers.is_empty()).then_some(headers),
            delivery_opaque: Box::new(reply),
        };
        self.0.send(record).map_err(|(error, _)| client_error(&error))?;
        Ok(report)
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("partitioner", "consistent")
        .set("linger.ms", "2")
        .set("message.max.bytes", "20000000")
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
    config
}

impl TestProducer for SocketProducer {
    async fn send(&self, topic: &str, record: NewRecord) -> Appended {
        self.enqueue(topic, record)?.await.expect("every record has its report")
    }

    async fn send_all(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, ClientError> {
        let mut waiting = Vec::new();
        for record in records {
            waiting.push(self.enqueue(topic, record)?);
        }
        let mut positions = Vec::new();
        for reply in waiting {
            positions.push(reply.await.expect("every record has its report")?);
        }
        Ok(positions)
    }
}

impl TransactionalProducer for SocketProducer {
    async fn begin(&self) -> Result<(), ClientError> {
        self.blocking(|producer| producer.begin_transaction()).await
    }

    async fn commit(&self) -> Result<(), ClientError> {
        self.blocking(|producer| producer.commit_transaction(TIMEOUT)).await
    }

    async fn abort(&self) -> Result<(), ClientError> {
        self.blocking(|producer| producer.abort_transaction(TIMEOUT)).await
    }
}

/// Converts an error of librdkafka.
pub fn client_error(error: &KafkaError) -> ClientError {
    let code = match error {
        // A fatal error hides its reason behind its own code.
        KafkaError::Transaction(error) => error.code(),
        error => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
    };
    client_error_of_code(code)
}

/// Converts an error code of librdkafka.
pub fn client_error_of_code(code: RDKafkaErrorCode) -> ClientError {
    match code {
        RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend => {
            ClientError::NotEnoughReplicas
        }
        RDKafkaErrorCode::MessageTimedOut
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::RequestTimedOut => ClientError::TimedOut,
        RDKafkaErrorCode::BrokerTransportFailure => ClientError::Disconnected,
        RDKafkaErrorCode::MessageSizeTooLarge => ClientError::TooLarge,
        RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::InvalidProducerEpoch => ClientError::Fenced,
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => ClientError::UnknownTopic,
        RDKafkaErrorCode::TopicAlreadyExists => ClientError::TopicExists,
        RDKafkaErrorCode::OffsetOutOfRange => ClientError::OutOfRange,
        RDKafkaErrorCode::InvalidPartitions => ClientError::InvalidPartitions,
        other => ClientError::Other(format!("{other:?}")),
    }
}
