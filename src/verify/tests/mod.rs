//! Tests with the broker and the store in memory, whose logs and tables are written by hand.

mod binding;
mod differences;
mod equality;
mod live;
mod retention;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::binding::{BindingSpec, Origin, StoredBinding, init};
use crate::broker::memory::{MemoryBroker, MemoryConsumer};
use crate::broker::{BrokerError, Fetched, LogOffsets, NewRecord, Producer};
use crate::event::{Event, Health, Record, Row};
use crate::store::memory::MemoryStore;
use crate::store::{Alert, Count, Progress, WindowKey};
use crate::truth::{self, Tables};
use crate::window::WindowSpec;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
const THRESHOLD: i32 = 3;

/// A topic of two partitions and a keyspace bound to it, with tumbling windows of 10 ms.
struct Fixture {
    broker: MemoryBroker,
    store: MemoryStore,
    binding_spec: BindingSpec,
    binding: Binding,
}

/// A window of a source.
fn window(source: &str, end: i64) -> WindowKey {
    WindowKey { source: source.into(), end }
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Origin::Start, Vec::new(), 10).await
    }

    /// A fixture whose log had these records before the keyspace was bound.
    async fn with(origin: Origin, before: Vec<NewRecord>, slide_ms: i64) -> Self {
        let (broker, store) = (MemoryBroker::new(500), MemoryStore::new());
        broker.create_topic(TOPIC, PARTITIONS, 1).await.expect("a topic");
        broker.append(TOPIC, before).await.expect("appended");
        let window = WindowSpec { size_ms: 10, slide_ms, threshold: THRESHOLD, ..WindowSpec::default() };
        let binding_spec = BindingSpec { window, max_mutation_bytes: 1_000, ..BindingSpec::new(TOPIC) };
        let binding = init(&broker, &store, &binding_spec, &origin).await.expect("bound").binding;
        Self { broker, store, binding_spec, binding }
    }

    async fn append(&self, records: impl IntoIterator<Item = NewRecord>) {
        self.broker.append(TOPIC, records.into_iter().collect()).await.expect("appended");
    }

    async fn log(&self) -> Vec<Record> {
        let mut log = Vec::new();
        for partition in 0..PARTITIONS {
            let mut at = self.broker.offsets(TOPIC, partition).await.expect("offsets").start;
            loop {
                let fetched = self.broker.fetch(TOPIC, partition, at, 100, 1 << 20).await.expect("records");
                log.extend(fetched.records);
                if fetched.next_offset == at {
                    break;
                }
                at = fetched.next_offset;
            }
        }
        log
    }

    async fn truth(&self) -> Tables {
        truth::tables(&self.log().await, &self.binding)
    }

    async fn ends(&self) -> BTreeMap<i32, i64> {
        let mut ends = BTreeMap::new();
        for partition in 0..PARTITIONS {
            ends.insert(partition, self.broker.offsets(TOPIC, partition).await.expect("offsets").end);
        }
        ends
    }

    async fn write_progress(&self, partition: i32, next_offset: i64) {
        let origin = self.binding.origin(partition);
        let progress = Progress { origin, next_offset };
        self.store.write_progress(partition, progress).await.into_result().expect("written");
    }

    /// Writes these tables.
    async fn write(&self, tables: &Tables) {
        for ((partition, offset), event) in &tables.events {
            self.write_row(*partition, *offset, Row::Event(event.clone())).await;
        }
        for ((partition, offset), letter) in &tables.dead_letters {
            self.write_row(*partition, *offset, Row::DeadLetter(letter.clone())).await;
        }
        for (WindowKey { source, end: ts }, event_count) in &tables.alerts {
            self.write_alert(source, *ts, *event_count as i32).await;
        }
        for ((partition, WindowKey { source, end }), (count, through)) in &tables.counts {
            self.write_count(*partition, source, *end, (*count, *through)).await;
        }
    }

    async fn write_row(&self, partition: i32, offset: i64, row: Row) {
        self.store.write_rows(partition, &[(offset, row)]).await.into_result().expect("written");
    }

    async fn write_alert(&self, source: &str, ts: i64, event_count: i32) {
        let alert = Alert { source: source.into(), ts, event_count };
        self.store.write_alerts(&[alert]).await.into_result().expect("written");
    }

    /// Registers the partition and writes a count, through an offset.
    async fn write_count(&self, partition: i32, source: &str, end: i64, (count, through): (i64, i64)) {
        self.store.register(partition).await.into_result().expect("registered");
        let window = window(source, end);
        let count = Count { count, through_offset: through };
        self.store.write_counts(partition, &[(window, count)]).await.into_result().expect("written");
    }

    /// Writes these tables, and progress up to the end of the log.
    async fn finish(&self, tables: &Tables) {
        self.write(tables).await;
        for (partition, end) in self.ends().await {
            self.write_progress(partition, end).await;
        }
    }

    async fn verify(&self) -> Report {
        verify(&self.broker, &self.store, &self.binding_spec, &VerifyOptions::default())
            .await
            .expect("a report")
    }

    /// The differences, a line each.
    async fn differences(&self) -> String {
        lines(&self.verify().await)
    }
}

fn lines(report: &Report) -> String {
    assert_eq!(report.total(), report.differences.len() as u64);
    report.differences.iter().map(|difference| format!("{difference}\n")).collect()
}

fn value(partition: i32, value: &str) -> NewRecord {
    NewRecord { partition: Some(partition), value: Some(value.into()), ..NewRecord::default() }
}

fn event(partition: i32, ts: i64, source: &str, health: i32) -> NewRecord {
    let text = format!(r#"{{"id":{ts},"ts":{ts},"source":"{source}","client":"c","health":{health}}}"#);
    value(partition, &text)
}

fn critical(partition: i32, ts: i64) -> NewRecord {
    event(partition, ts, "s", 2)
}

/// Four Critical events of one window over both partitions, one event that does not count, one dead letter.
fn some() -> Vec<NewRecord> {
    vec![
        critical(0, 1),
        critical(0, 2),
        critical(1, 3),
        critical(1, 4),
        event(0, 5, "s", 0),
        value(1, "nonsense"),
    ]
}

/// A broker in memory with a hook before each fetch.
#[derive(Clone)]
struct HookedBroker {
    inner: MemoryBroker,
    fetch_records: usize,
    hook: Arc<Mutex<FetchHook>>,
}

/// Called with partition and offset before a fetch. A returned error is the result of the fetch.
type FetchHook = Box<dyn FnMut(&MemoryBroker, i32, i64) -> Option<BrokerError> + Send>;

impl HookedBroker {
    fn new(
        fixture: &Fixture,
        fetch_records: usize,
        hook: impl FnMut(&MemoryBroker, i32, i64) -> Option<BrokerError> + Send + 'static,
    ) -> Self {
        Self { inner: fixture.broker.clone(), fetch_records, hook: Arc::new(Mutex::new(Box::new(hook))) }
    }
}

impl Broker for HookedBroker {
    type Consumer = MemoryConsumer;

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
        _max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let error = (self.hook.lock().expect("no panic"))(&self.inner, partition, offset);
        match error {
            Some(error) => Err(error),
            None => self.inner.fetch(topic, partition, offset, self.fetch_records, max_bytes).await,
        }
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<MemoryConsumer, BrokerError> {
        self.inner.subscribe(group, topic).await
    }
}
