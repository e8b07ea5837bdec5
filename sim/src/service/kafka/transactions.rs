//! Transactions of a producer with librdkafka that are aborted: their records are never read, and their markers take an
//! offset each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::scenario::options::TOPIC;

/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A transactional producer. A clone is the same.
#[derive(Clone)]
pub(crate) struct Transactions {
    bootstrap: String,
    id: &'static str,
    /// Between two transactions, or within one.
    producer: Arc<Kept>,
}

#[derive(Default)]
struct Kept(Mutex<Option<BaseProducer>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Option<BaseProducer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Its end waits for its threads, which a task must not.
        if let Some(producer) = self.lock().take() {
            std::thread::spawn(move || drop(producer));
        }
    }
}

impl Transactions {
    pub fn new(bootstrap: String, id: &'static str) -> Self {
        Self { bootstrap, id, producer: Arc::default() }
    }

    /// Appends a record to each of these partitions in a transaction, and aborts it.
    pub async fn abort(self, partitions: Vec<i32>) -> Result<(), String> {
        self.clone().begin(partitions).await?;
        self.end().await
    }

    /// Appends a record to each of these partitions in a transaction, which stays open.
    pub async fn begin(self, partitions: Vec<i32>) -> Result<(), String> {
        self.blocking(move |producer| {
            producer.begin_transaction()?;
            for partition in partitions {
                let record = BaseRecord::<(), [u8]>::to(TOPIC).partition(partition).payload(b"aborted");
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(LIMIT)
        })
        .await
    }

    /// Aborts the transaction.
    pub async fn end(self) -> Result<(), String> {
        self.blocking(|producer| producer.abort_transaction(LIMIT)).await
    }

    /// Does something with the producer on a thread of its own. After an error there is another producer the next time,
    /// which fences this one.
    async fn blocking(
        self,
        work: impl FnOnce(&BaseProducer) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), String> {
        let Self { bootstrap, id, producer } = self;
        let run = move || {
            let mut kept = producer.lock();
            let producer = match kept.take() {
                Some(producer) => producer,
                None => {
                    let producer: BaseProducer = ClientConfig::new()
                        .set("bootstrap.servers", bootstrap)
                        .set("transactional.id", id)
                        .set("transaction.timeout.ms", "60000")
                        .set("message.timeout.ms", "10000")
                        .set("reconnect.backoff.max.ms", "500")
                        .set("linger.ms", "0")
                        .create()?;
                    producer.init_transactions(LIMIT)?;
                    producer
                }
            };
            work(&producer)?;
            *kept = Some(producer);
            Ok(())
        };
        let done = tokio::task::spawn_blocking(run).await;
        done.map_err(|error| error.to_string())?.map_err(|error: KafkaError| error.to_string())
    }
}
