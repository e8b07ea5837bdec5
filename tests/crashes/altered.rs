//! A broker that answers, and whose consumers deliver, something else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::broker::memory::{MemoryBroker, MemoryConsumer};
use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use tokio::time::{Instant, timeout_at};

type Deliver = Arc<dyn Fn(Delivery) -> Option<Delivery> + Send + Sync>;

#[derive(Clone)]
pub struct Altered {
    inner: MemoryBroker,
    deliver: Deliver,
    fetch: Arc<dyn Fn(i64, Fetched) -> Fetched + Send + Sync>,
    describe: Arc<dyn Fn(Topic) -> Result<Topic, BrokerError> + Send + Sync>,
    failures: Vec<Duration>,
    pauses: Arc<Mutex<Vec<Duration>>>,
}

pub struct AlteredConsumer {
    inner: MemoryConsumer,
    deliver: Deliver,
    /// When polls fail, the next one last.
    failures: Vec<Instant>,
    failed_at: Option<Instant>,
    pauses: Arc<Mutex<Vec<Duration>>>,
}

impl Altered {
    /// A broker that alters nothing.
    pub fn new(inner: MemoryBroker) -> Self {
        Self {
            inner,
            deliver: Arc::new(Some),
            fetch: Arc::new(|_, fetched| fetched),
            describe: Arc::new(Ok),
            failures: Vec::new(),
            pauses: Arc::default(),
        }
    }

    /// Its consumers deliver what `deliver` makes of each delivery: `None` for nothing.
    pub fn delivering(self, deliver: impl Fn(Delivery) -> Option<Delivery> + Send + Sync + 'static) -> Self {
        Self { deliver: Arc::new(deliver), ..self }
    }

    /// A poll of a consumer fails, with an error that is retriable, at each of these times after it has joined, in ascending order.
    pub fn failing_after(self, failures: impl IntoIterator<Item = Duration>) -> Self {
        Self { failures: failures.into_iter().collect(), ..self }
    }

    /// How long the consumers were not polled after each failed poll.
    pub fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }

    /// A fetch from an offset returns what `fetch` makes of it.
    pub fn fetching(self, fetch: impl Fn(i64, Fetched) -> Fetched + Send + Sync + 'static) -> Self {
        Self { fetch: Arc::new(fetch), ..self }
    }

    /// The topic is described as `describe` makes of it.
    pub fn describing(
        self,
        describe: impl Fn(Topic) -> Result<Topic, BrokerError> + Send + Sync + 'static,
    ) -> Self {
        Self { describe: Arc::new(describe), ..self }
    }
}

impl Broker for Altered {
    type Consumer = AlteredConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        (self.describe)(self.inner.topic(topic).await?)
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
        let fetched = self.inner.fetch(topic, partition, offset, max_records, max_bytes).await?;
        Ok((self.fetch)(offset, fetched))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<AlteredConsumer, BrokerError> {
        let inner = self.inner.subscribe(group, topic).await?;
        let failures = self.failures.iter().rev().map(|after| Instant::now() + *after).collect();
        let (deliver, pauses) = (self.deliver.clone(), self.pauses.clone());
        Ok(AlteredConsumer { inner, deliver, failures, failed_at: None, pauses })
    }
}

impl Consumer for AlteredConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        if let Some(failed_at) = self.failed_at.take() {
            self.pauses.lock().unwrap().push(failed_at.elapsed());
        }
        loop {
            let delivery = match self.failures.last() {
                None => self.inner.poll().await?,
                Some(at) => match timeout_at(*at, self.inner.poll()).await {
                    Ok(delivery) => delivery?,
                    Err(_) => {
                        self.failures.pop();
                        self.failed_at = Some(Instant::now());
                        let (what, cause) = ("poll".to_owned(), Some("no coordinator".into()));
                        return Err(BrokerError::Retriable { what, cause });
                    }
                },
            };
            if let Some(delivery) = (self.deliver)(delivery) {
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
