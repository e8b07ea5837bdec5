//! Log and tables contradict each other: the pipeline stops with the documented error and writes nothing.

use std::collections::BTreeMap;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use exactlyonce::binding::{self, BindingError, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, Fetched};
use exactlyonce::event::{Event, Health, Row};
use exactlyonce::pipeline::{self, Options, PipelineError, Summary};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Count, Layout, Progress, Store, WindowKey};
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;

use crate::altered::Altered;
use crate::harness::{
    Entry, PARTITIONS, TOPIC, append, binding_spec, block_on, broker_with, event, rng, truth_of,
};

fn log(records: i64) -> Vec<Entry> {
    (0..records).map(|i| Entry::Value((i % 3) as i32, event(i, i, "a", 2))).collect()
}

fn options() -> Options {
    Options { until_end: true, ..Options::new(binding_spec(WindowSpec::default())) }
}

async fn run(broker: &MemoryBroker, store: &MemoryStore) -> Result<Summary, PipelineError> {
    pipeline::run(broker, store, &options(), rng(1), pending()).await
}

/// A broker and a store after thirty records were processed.
async fn processed() -> (MemoryBroker, MemoryStore) {
    let broker = broker_with(&log(30), 10).await;
    let store = MemoryStore::new();
    binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap();
    run(&broker, &store).await.unwrap();
    (broker, store)
}

/// Expects a refusal that does not change the tables; returns the error.
async fn refused(broker: &MemoryBroker, store: &MemoryStore) -> PipelineError {
    let before = truth::stored(store).await.unwrap();
    let progress = store.progress_of_all().await.into_result().unwrap();
    let error = run(broker, store).await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    assert_eq!(truth::stored(store).await.unwrap(), before);
    assert_eq!(store.progress_of_all().await.into_result().unwrap(), progress);
    error
}

#[test]
fn retention_past_progress_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        append(&broker, &log(30)).await;
        broker.delete_below(TOPIC, 1, 15);
        let error = refused(&broker, &store).await;
        assert!(
            matches!(
                error,
                PipelineError::LogBeginsAfterProgress { partition: 1, log_start: 15, next_offset: 10, .. }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn retention_up_to_progress_is_accepted() {
    block_on(async {
        let (broker, store) = processed().await;
        append(&broker, &log(30)).await;
        for partition in 0..PARTITIONS {
            broker.delete_below(TOPIC, partition, 10);
        }
        run(&broker, &store).await.unwrap();
        assert_eq!(truth::stored(&store).await.unwrap().events.len(), 60);
    });
}

#[test]
fn an_idle_partition_whose_log_ends_in_a_marker_survives_retention() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.skip(TOPIC, 0, 1);
        run(&broker, &store).await.unwrap();
        broker.delete_below(TOPIC, 0, 11);
        run(&broker, &store).await.unwrap();
    });
}

#[test]
fn a_log_that_ends_before_progress_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.truncate(TOPIC, 2, 4);
        let error = refused(&broker, &store).await;
        assert!(
            matches!(error, PipelineError::OutOfRange { partition: 2, offset: 10, next_offset: 10, .. }),
            "{error:?}"
        );
    });
}

#[test]
fn different_records_below_progress_are_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.truncate(TOPIC, 2, 8);
        let other = (0..6).map(|i| Entry::Value(2, event(100 + i, 1, "x", 1))).collect::<Vec<_>>();
        append(&broker, &other).await;
        let error = refused(&broker, &store).await;
        assert!(
            matches!(
                error,
                PipelineError::RecordsDiffer {
                    partition: 2,
                    offset: 8,
                    next_offset: 10,
                    difference: "the event differs",
                    ..
                }
            ),
            "{error:?}"
        );
    });
}

/// A log with an open transaction: from an offset on, the first six fetches return nothing.
fn open_transaction(inner: MemoryBroker, from: i64) -> Altered {
    let empty_fetches = AtomicU32::new(6);
    Altered::new(inner).fetching(move |offset, mut fetched| {
        let again = |empty_fetches: u32| empty_fetches.checked_sub(1);
        if offset >= from && empty_fetches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, again).is_ok() {
            return Fetched { records: Vec::new(), next_offset: offset };
        }
        if offset < from && fetched.next_offset > from {
            fetched.records.retain(|record| record.offset < from);
            fetched.next_offset = from;
        }
        fetched
    })
}

#[test]
fn different_records_in_an_open_transaction_are_refused_when_it_is_committed() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.truncate(TOPIC, 2, 8);
        let other = (0..6).map(|i| Entry::Value(2, event(100 + i, 1, "x", 1))).collect::<Vec<_>>();
        append(&broker, &other).await;
        let broker = open_transaction(broker, 8);
        let error = pipeline::run(&broker, &store, &options(), rng(1), pending()).await.unwrap_err();
        assert!(matches!(error, PipelineError::RecordsDiffer { partition: 2, offset: 8, .. }), "{error:?}");
    });
}

#[test]
fn a_gap_where_the_tables_have_a_row_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.truncate(TOPIC, 2, 8);
        broker.skip(TOPIC, 2, 4);
        let error = refused(&broker, &store).await;
        assert!(matches!(error, PipelineError::RecordsDiffer { partition: 2, offset: 8, .. }), "{error:?}");
    });
}

#[test]
fn a_missing_record_is_named_although_the_next_one_has_its_content() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.truncate(TOPIC, 2, 8);
        broker.skip(TOPIC, 2, 1);
        // What was at offset 8, at offset 9.
        append(&broker, &[Entry::Value(2, event(26, 26, "a", 2))]).await;
        let error = refused(&broker, &store).await;
        let (offset, difference) = match error {
            PipelineError::RecordsDiffer { offset, difference, .. } => (offset, difference),
            error => panic!("{error:?}"),
        };
        assert_eq!((offset, difference), (8, "the log has no such record"));
    });
}

#[test]
fn a_recreated_topic_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.recreate(TOPIC);
        append(&broker, &log(60)).await;
        let error = refused(&broker, &store).await;
        assert!(matches!(error, PipelineError::Binding(BindingError::Recreated { .. })), "{error:?}");
    });
}

#[test]
fn a_running_worker_detects_that_the_topic_is_recreated() {
    block_on(async {
        let (broker, store) = processed().await;
        let endless = Options { until_end: false, ..options() };
        let running = pipeline::run(&broker, &store, &endless, rng(1), pending());
        let recreate = async {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            broker.recreate(TOPIC);
            pending::<()>().await;
        };
        let error = tokio::select! {
            result = running => result.unwrap_err(),
            () = recreate => unreachable!(),
        };
        assert!(error.is_refusal(), "{error:?}");
    });
}

#[test]
fn the_error_of_an_unbound_keyspace_names_init() {
    block_on(async {
        let broker = broker_with(&log(3), 10).await;
        let error = run(&broker, &MemoryStore::new()).await.unwrap_err();
        assert!(matches!(error, PipelineError::Binding(BindingError::Unbound { .. })), "{error:?}");
        assert!(error.to_string().contains("exactlyonce init"), "{error}");
    });
}

#[test]
fn rows_without_a_binding_are_refused_by_run_and_init() {
    block_on(async {
        let broker = broker_with(&log(3), 10).await;
        let store = MemoryStore::new();
        let event =
            Event { id: 1, ts: 1, source: "a".into(), client: String::new(), health: Health::Nominal };
        store.write_rows(0, &[(0, Row::Event(event))]).await.into_result().unwrap();
        let error = refused(&broker, &store).await;
        assert!(matches!(error, PipelineError::Binding(BindingError::ForeignRows)), "{error:?}");
        let error =
            binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap_err();
        assert!(matches!(error, BindingError::ForeignRows), "{error:?}");
    });
}

#[test]
fn a_store_with_a_different_layout_than_the_bound_one_is_refused_by_run_and_init() {
    block_on(async {
        let broker = broker_with(&log(30), 10).await;
        let rows = NonZeroU32::new(500).unwrap();
        let bucketed = MemoryStore::with_layout(Layout::bucketed(rows));
        let binding_spec = options().binding_spec;
        let bound = binding::init(&broker, &bucketed, &binding_spec, &Origin::Start).await.unwrap().binding;
        assert_eq!(bound.layout, Layout::bucketed(rows));
        run(&broker, &bucketed).await.unwrap();
        // The tables have one layout, and the worker is configured with another one.
        let other = MemoryStore::new();
        other.bind(&bound).await.into_result().unwrap();
        let message = "bound with layout = \"bucketed:500\", not \"original\"";
        let error = refused(&broker, &other).await;
        assert!(error.to_string().contains(message), "{error}");
        let error = binding::init(&broker, &other, &binding_spec, &Origin::Start).await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(message), "{error}");
        let error = binding::check_store(&other).await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(message), "{error}");
        binding::check_store(&bucketed).await.unwrap();
        binding::check_store(&MemoryStore::new()).await.unwrap();
    });
}

#[test]
fn every_other_parameter_of_the_binding_is_compared() {
    block_on(async {
        let (broker, store) = processed().await;
        let good = options();
        let window = |window| Options { binding_spec: binding_spec(window), ..good.clone() };
        let default = WindowSpec::default();
        let mut bytes = good.clone();
        bytes.binding_spec.max_mutation_bytes = 77;
        for options in [
            window(WindowSpec { size_ms: 10_000, ..default }),
            window(WindowSpec { slide_ms: 1_000, ..default }),
            window(WindowSpec { threshold: 11, ..default }),
            window(WindowSpec { health: exactlyonce::window::HealthSet::of(&Health::ALL), ..default }),
            bytes,
        ] {
            let error = pipeline::run(&broker, &store, &options, rng(1), pending()).await.unwrap_err();
            assert!(matches!(error, PipelineError::Binding(BindingError::Differs { .. })), "{error:?}");
            assert!(error.is_refusal());
        }
    });
}

#[test]
fn a_compacted_topic_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.set_compacted(TOPIC, true);
        let error = refused(&broker, &store).await;
        assert!(matches!(error, PipelineError::Binding(BindingError::Compacted { .. })), "{error:?}");
    });
}

#[test]
fn a_partition_that_is_added_later_starts_at_zero_and_is_refused_if_its_log_does_not() {
    block_on(async {
        let (broker, store) = processed().await;
        broker.grow(TOPIC, PARTITIONS + 1);
        append(&broker, &[Entry::Value(PARTITIONS, event(1, 1, "late", 2))]).await;
        run(&broker, &store).await.unwrap();
        let progress = store.progress(PARTITIONS).await.into_result().unwrap();
        assert_eq!(progress, Some(Progress { origin: 0, next_offset: 1 }));

        broker.grow(TOPIC, PARTITIONS + 2);
        append(&broker, &[Entry::Value(PARTITIONS + 1, event(1, 1, "late", 2))]).await;
        broker.delete_below(TOPIC, PARTITIONS + 1, 1);
        let error = refused(&broker, &store).await;
        assert!(matches!(error, PipelineError::LogBeginsAfterProgress { next_offset: 0, .. }), "{error:?}");
    });
}

#[test]
fn a_sum_past_the_range_of_event_count_is_refused() {
    block_on(async {
        let (broker, store) = processed().await;
        let window = WindowKey { source: "a".into(), end: 5_000 };
        let count = Count { count: i64::from(i32::MAX), through_offset: 1 };
        store.register(77).await.into_result().unwrap();
        store.write_counts(77, &[(window, count)]).await.into_result().unwrap();
        append(&broker, &log(3)).await;
        let error = run(&broker, &store).await.unwrap_err();
        assert!(matches!(error, PipelineError::CountOverflow { window_end: 5_000, .. }), "{error:?}");
    });
}

#[test]
fn workers_start_at_the_origins_that_were_bound_first() {
    block_on(async {
        let broker = broker_with(&log(30), 10).await;
        let store = MemoryStore::new();
        let binding_spec = options().binding_spec;
        let from = Origin::Offsets(BTreeMap::from([(0, 4), (1, 10)]));
        let first = binding::init(&broker, &store, &binding_spec, &from).await.unwrap();
        let second = binding::init(&broker, &store, &binding_spec, &Origin::Start).await.unwrap();
        assert!(first.new && !second.new);
        assert_eq!(first.binding, second.binding);
        run(&broker, &store).await.unwrap();
        let stored = truth::stored(&store).await.unwrap();
        assert_eq!(stored.events.len(), 6 + 10);
        assert_eq!(stored, truth_of(&broker, &first.binding).await);
    });
}

#[test]
fn origins_that_the_log_does_not_have_are_refused() {
    block_on(async {
        let broker = broker_with(&log(30), 10).await;
        let store = MemoryStore::new();
        for (partition, offset) in [(0, 11), (0, -1), (7, 0)] {
            let from = Origin::Offsets(BTreeMap::from([(partition, offset)]));
            binding::init(&broker, &store, &options().binding_spec, &from).await.unwrap_err();
        }
        assert_eq!(store.binding().await.into_result().unwrap(), None);
        assert_eq!(broker.topic(TOPIC).await.unwrap().partitions, PARTITIONS);
    });
}
