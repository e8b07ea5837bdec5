//! The registry of partitions: the order of writes and reads, and contradictions.

use std::collections::BTreeMap;

use exactlyonce::binding::{self, BindingSpec, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::pipeline::{self, Options, PipelineError};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Count, Store, WindowKey};
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;

use crate::faulty::{Call, FaultyStore};
use crate::harness::{Entry, TOPIC, append, block_on, broker_with, event, rng, truth_of};

fn options() -> Options {
    let window = WindowSpec { size_ms: 10, slide_ms: 10, threshold: 3, ..WindowSpec::default() };
    Options {
        batch_records: 4,
        in_flight_batches: 1,
        until_end: true,
        ..Options::new(BindingSpec { window, ..BindingSpec::new(TOPIC) })
    }
}

/// Events of one source and window in a partition.
fn counted(partition: i32, events: i64) -> Vec<Entry> {
    (0..events).map(|id| Entry::Value(partition, event(id, 5, "a", 2))).collect()
}

async fn bound(log: &[Entry]) -> (MemoryBroker, MemoryStore) {
    let (broker, store) = (broker_with(log, 100).await, MemoryStore::new());
    binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap();
    (broker, store)
}

async fn run(broker: &MemoryBroker, store: &FaultyStore) -> Result<(), PipelineError> {
    pipeline::run(broker, store, &options(), rng(1), std::future::pending()).await.map(drop)
}

fn recording(store: &MemoryStore) -> FaultyStore {
    FaultyStore::new(store.clone(), BTreeMap::new(), Vec::new())
}

#[test]
fn an_assignment_registers_before_its_first_count_and_every_batch_reads_the_registry_after_its_counts() {
    block_on(async {
        let (broker, store) = bound(&counted(1, 12)).await;
        for _ in 0..2 {
            let faulty = recording(&store);
            run(&broker, &faulty).await.unwrap();
            append(&broker, &counted(1, 8)).await;
            let calls = faulty.acknowledged();
            let first = calls.iter().position(|call| *call == Call::Register(1)).expect("it registers");
            let writes: Vec<usize> =
                (0..calls.len()).filter(|index| calls[*index] == Call::WriteCounts(1)).collect();
            assert!(writes.len() > 1 && first < writes[0], "{calls:?}");
            for write in writes {
                // At most one batch is in flight.
                assert_eq!(calls[write + 1..write + 3], [Call::Registered, Call::Counts(0)], "{calls:?}");
            }
            assert_eq!(calls.iter().filter(|call| **call == Call::Register(1)).count(), 1, "{calls:?}");
        }
    });
}

#[test]
fn a_partition_without_counted_events_is_not_registered() {
    block_on(async {
        let log: Vec<Entry> = (0..9).map(|id| Entry::Value(2, event(id, 5, "a", 0))).collect();
        let (broker, store) = bound(&[log, counted(0, 9)].concat()).await;
        let faulty = recording(&store);
        run(&broker, &faulty).await.unwrap();
        assert_eq!(store.registered().await.into_result().unwrap(), 1);
        let other = |call: &Call| matches!(call, Call::Register(1 | 2) | Call::Counts(1 | 2));
        assert!(!faulty.acknowledged().iter().any(other), "{:?}", faulty.acknowledged());
    });
}

#[test]
fn a_partition_that_another_worker_registers_is_included_from_the_next_batch_on() {
    block_on(async {
        let (broker, store) = bound(&counted(0, 2)).await;
        run(&broker, &recording(&store)).await.unwrap();
        // What the worker of an unknown partition does.
        let window = WindowKey { source: "a".into(), end: 10 };
        store.register(7).await.into_result().unwrap();
        store
            .write_counts(7, &[(window, Count { count: 40, through_offset: 50 })])
            .await
            .into_result()
            .unwrap();
        append(&broker, &counted(0, 1)).await;
        run(&broker, &recording(&store)).await.unwrap();
        let alerts = truth::stored(&store).await.unwrap().alerts;
        assert_eq!(alerts.into_values().collect::<Vec<_>>(), [43]);
    });
}

#[test]
fn a_registry_without_the_partition_of_the_worker_is_refused() {
    block_on(async {
        let (broker, store) = bound(&counted(1, 9)).await;
        let error = run(&broker, &recording(&store).with_registry_at(1)).await.unwrap_err();
        assert!(matches!(error, PipelineError::NotRegistered { partition: 1, registered: 1 }), "{error:?}");
        assert!(error.is_refusal());
        assert_eq!(store.progress(1).await.into_result().unwrap().unwrap().next_offset, 0);
        // The refusal lost nothing.
        run(&broker, &recording(&store)).await.unwrap();
        let bound = store.binding().await.into_result().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &bound).await);
    });
}
