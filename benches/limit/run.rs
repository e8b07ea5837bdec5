//! Runs the pipeline like the program does, and measures the time from its first delivery to its last write.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use exactlyonce::broker::kafka::KafkaBroker;
use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use exactlyonce::pipeline::{self, Options};
use exactlyonce::store::cassandra::CassandraStore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::load::Load;
use crate::services::Services;
use crate::{Measured, Outcome};

pub async fn measure(services: &Services, load: &Load, keyspace: &str) -> Outcome<Measured> {
    let store = CassandraStore::connect(&services.store(keyspace)?, load.layout()).await?;
    let times = Arc::new(Mutex::new(Times::default()));
    let broker =
        Timed { broker: KafkaBroker::connect(&load.kafka(&services.kafka))?, times: Arc::clone(&times) };
    let options = Options { until_end: true, group: keyspace.to_owned(), ..load.options() };
    let rng = ChaCha8Rng::seed_from_u64(0);
    let summary = pipeline::run(&broker, &store, &options, rng, std::future::pending()).await?;
    let times = times.lock().map_err(|_| "a panic")?;
    let requests = store.requests().map(|(kind, number)| (kind.name().to_owned(), number)).collect();
    Ok(Measured { requests, ..Measured::of_this_process(summary.records, times.first, times.last)? })
}

/// When the first records were delivered, and when the worker left the group after it had written everything.
#[derive(Default)]
struct Times {
    first: Option<SystemTime>,
    last: Option<SystemTime>,
}

/// A broker that records [`Times`].
#[derive(Clone)]
struct Timed<T> {
    broker: T,
    times: Arc<Mutex<Times>>,
}

impl<T> Timed<T> {
    fn note(&self, set: impl FnOnce(&mut Times)) {
        if let Ok(mut times) = self.times.lock() {
            set(&mut times);
        }
    }
}

impl<B: Broker> Broker for Timed<B> {
    type Consumer = Timed<B::Consumer>;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.broker.topic(topic).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.broker.offsets(topic, partition).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.broker.fetch(topic, partition, offset, max_records, max_bytes).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Self::Consumer, BrokerError> {
        let broker = self.broker.subscribe(group, topic).await?;
        Ok(Timed { broker, times: Arc::clone(&self.times) })
    }
}

impl<C: Consumer> Consumer for Timed<C> {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        let delivery = self.broker.poll().await;
        if let Ok(Delivery::Records { .. }) = delivery {
            self.note(|times| {
                times.first.get_or_insert_with(SystemTime::now);
            });
        }
        delivery
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        self.broker.start(assignment, offset);
    }

    fn pause(&mut self, partition: i32) {
        self.broker.pause(partition);
    }

    fn resume(&mut self, partition: i32) {
        self.broker.resume(partition);
    }

    fn release(&mut self, partition: i32) {
        self.broker.release(partition);
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.broker.report(partition, next_offset);
    }

    async fn leave(self) {
        self.note(|times| times.last = Some(SystemTime::now()));
        self.broker.leave().await;
    }
}
