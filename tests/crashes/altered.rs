//! A broker whose consumers deliver something else.

use std::sync::Arc;

use exactlyonce::broker::memory::{MemoryBroker, MemoryConsumer};
use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};

type Alter = Arc<dyn Fn(Delivery) -> Option<Delivery> + Send + Sync>;

#[derive(Clone)]
pub struct Altered {
    inner: MemoryBroker,
    alter: Alter,
}

pub struct AlteredConsumer {
    inner: MemoryConsumer,
    alter: Alter,
}

impl Altered {
    /// A broker that delivers what `alter` makes of each delivery: `None` for nothing.
    pub fn new(
        inner: MemoryBroker,
        alter: impl Fn(Delivery) -> Option<Delivery> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, alter: Arc::new(alter) }
    }
}

impl Broker for Altered {
    type Consumer = AlteredConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.inner.topic(topic).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.inner.offsets(topic, partition).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.inner.fetch(topic, partition, offset, max_records, max_bytes).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<AlteredConsumer, BrokerError> {
        let inner = self.inner.subscribe(group, topic).await?;
        Ok(AlteredConsumer { inner, alter: self.alter.clone() })
    }
}

impl Consumer for AlteredConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            if let Some(delivery) = (self.alter)(self.inner.poll().await?) {
                return Ok(delivery);
            }
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        self.inner.start(assignment, offset);
    }

    fn pause(&mut self, partition: i32) {
        self.inner.pause(partition);
    }

    fn resume(&mut self, partition: i32) {
        self.inner.resume(partition);
    }

    fn release(&mut self, partition: i32) {
        self.inner.release(partition);
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.inner.report(partition, next_offset);
    }

    async fn leave(self) {
        self.inner.leave().await;
    }
}
