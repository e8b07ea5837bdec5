//! A scenario in one process: a log, workers that are restarted when they crash, and the resulting tables.

use std::collections::BTreeMap;
use std::time::Duration;

use exactlyonce::binding::{self, BindingSpec, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;
use exactlyonce::pipeline::{self, Options};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Binding, Store};
use exactlyonce::truth::{self, Tables};
use exactlyonce::window::WindowSpec;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::faulty::{Fault, FaultyStore};

pub const TOPIC: &str = "exactlyonce.events";
pub const PARTITIONS: i32 = 3;

/// Maximum simulated time of a scenario. Faults take seconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

/// One entry of a log.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A record with this value.
    Value(i32, Option<Vec<u8>>),
    /// Offsets without a record.
    Gap(i32, i64),
}

/// An event's value.
pub fn event(id: i64, ts: i64, source: &str, health: i32) -> Option<Vec<u8>> {
    let event = serde_json::json!({"id": id, "ts": ts, "source": source, "client": "c", "health": health});
    Some(event.to_string().into_bytes())
}

/// The log, the options of the workers, and the faults.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub log: Vec<Entry>,
    pub window: WindowSpec,
    pub workers: usize,
    pub fetch_records: usize,
    pub batch_records: usize,
    pub in_flight_batches: usize,
    pub counts_cache_bytes: usize,
    pub faults: BTreeMap<u64, Fault>,
    pub delays: Vec<(u64, u64)>,
}

/// The result of a scenario.
pub struct ScenarioResult {
    pub operations: u64,
    pub injected: Vec<Fault>,
    pub stored: Tables,
    pub truth: Tables,
}

pub fn binding_spec(window: WindowSpec) -> BindingSpec {
    BindingSpec { window, ..BindingSpec::new(TOPIC) }
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A broker with this log.
pub async fn broker_with(log: &[Entry], fetch_records: usize) -> MemoryBroker {
    let broker = MemoryBroker::new(fetch_records);
    broker.create_topic(TOPIC, PARTITIONS, 1).await.unwrap();
    append(&broker, log).await;
    broker
}

pub async fn append(broker: &MemoryBroker, log: &[Entry]) {
    for entry in log {
        match entry {
            Entry::Gap(partition, offsets) => broker.skip(TOPIC, *partition, *offsets),
            Entry::Value(partition, value) => {
                let record = NewRecord {
                    value: value.clone(),
                    timestamp: 7,
                    partition: Some(*partition),
                    ..NewRecord::default()
                };
                broker.append(TOPIC, vec![record]).await.unwrap();
            }
        }
    }
}

/// All records of the log.
pub async fn records(broker: &MemoryBroker) -> Vec<Record> {
    let mut records = Vec::new();
    for partition in 0..broker.topic(TOPIC).await.unwrap().partitions {
        let start = broker.offsets(TOPIC, partition).await.unwrap().start;
        records.extend(broker.fetch(TOPIC, partition, start, usize::MAX, usize::MAX).await.unwrap().records);
    }
    records
}

/// Runs a future on a paused clock, which advances when all tasks wait; panics at [`SETTLE_LIMIT`].
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(SETTLE_LIMIT, future).await.expect("the run never ends") })
}

impl Scenario {
    pub fn options(&self) -> Options {
        Options {
            batch_records: self.batch_records,
            write_records: Some(self.batch_records.div_ceil(2)),
            in_flight_batches: self.in_flight_batches,
            counts_cache_bytes: self.counts_cache_bytes,
            prefetch_bytes: 400,
            until_end: true,
            ..Options::new(binding_spec(self.window))
        }
    }

    /// Runs the workers until they have processed the log.
    pub fn run(&self) -> ScenarioResult {
        block_on(async {
            let broker = broker_with(&self.log, self.fetch_records).await;
            let store = MemoryStore::new();
            let options = self.options();
            let bound = binding::init(&broker, &store, &options.binding_spec, &Origin::Start).await.unwrap();
            let faulty = FaultyStore::new(store.clone(), self.faults.clone(), self.delays.clone());
            let workers =
                (0..self.workers).map(|id| work(&broker, faulty.for_another_worker(), &options, id));
            futures_util::future::join_all(workers).await;
            // Until all late requests are applied.
            tokio::time::sleep(Duration::from_secs(1)).await;
            for partition in 0..PARTITIONS {
                let end = broker.offsets(TOPIC, partition).await.unwrap().end;
                let progress = store.progress(partition).await.into_result().unwrap().unwrap();
                assert_eq!(progress.next_offset, end, "progress of partition {partition}");
            }
            ScenarioResult {
                operations: faulty.operations(),
                injected: faulty.injected(),
                stored: truth::stored(&store).await.unwrap(),
                truth: truth_of(&broker, &bound.binding).await,
            }
        })
    }

    /// Runs the workers, and compares the tables with the ground truth.
    pub fn check(&self) -> ScenarioResult {
        let result = self.run();
        assert_eq!(result.stored, result.truth);
        result
    }
}

pub async fn truth_of(broker: &MemoryBroker, binding: &Binding) -> Tables {
    truth::tables(&records(broker).await, binding)
}

/// Runs a worker, which is restarted when it crashes.
async fn work(broker: &MemoryBroker, store: FaultyStore, options: &Options, id: usize) {
    for incarnation in 0.. {
        let rng = rng((id as u64) << 32 | incarnation);
        let run = pipeline::run(broker, &store, options, rng, std::future::pending());
        tokio::select! {
            biased;
            () = store.crashed() => {}
            result = run => {
                result.unwrap();
                return;
            }
        }
    }
}
