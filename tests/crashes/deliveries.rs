//! Deliveries that fail, and errors that come after the worker has begun to end.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exactlyonce::binding::{self, BindingError, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{BrokerError, Delivery};
use exactlyonce::pipeline::{self, Options, PipelineError};
use exactlyonce::store::Store;
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;
use tokio::time::sleep;

use crate::altered::Altered;
use crate::faulty::{Fault, FaultyStore};
use crate::harness::{Entry, TOPIC, append, binding_spec, block_on, broker_with, event, rng, truth_of};

fn options() -> Options {
    Options { until_end: true, ..Options::new(binding_spec(WindowSpec::default())) }
}

fn log(records: i64) -> Vec<Entry> {
    (0..records).map(|i| Entry::Value((i % 3) as i32, event(i, i * 100, "a", 2))).collect()
}

async fn bound(records: i64) -> (MemoryBroker, MemoryStore) {
    let broker = broker_with(&log(records), 5).await;
    let store = MemoryStore::new();
    binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap();
    (broker, store)
}

/// A broker whose second delivery of records of partition 1 fails with this error.
fn failing_once(broker: &MemoryBroker, error: fn() -> BrokerError) -> Altered {
    let (first, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    Altered::new(broker.clone()).delivering(move |delivery| match delivery {
        Delivery::Records { assignment, records, .. }
            if assignment.partition == 1
                && first.swap(true, Ordering::Relaxed)
                && !failed.swap(true, Ordering::Relaxed) =>
        {
            let offset = records.first().map_or(0, |record| record.offset);
            Some(Delivery::Failed { assignment, offset, error: error() })
        }
        delivery => Some(delivery),
    })
}

#[test]
fn a_delivery_that_failed_for_a_while_is_repeated_from_progress_on() {
    block_on(async {
        let (broker, store) = bound(90).await;
        let failing = failing_once(&broker, || BrokerError::Retriable {
            what: "fetch".to_owned(),
            cause: Some("no leader".into()),
        });
        pipeline::run(&failing, &store, &options(), rng(1), pending()).await.unwrap();
        let binding = store.binding().await.into_result().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &binding).await);
    });
}

#[test]
fn a_delivery_that_is_refused_ends_the_worker_with_the_error() {
    block_on(async {
        let (broker, store) = bound(90).await;
        let failing = failing_once(&broker, || BrokerError::Unsupported {
            what: "read this format".to_owned(),
            cause: None,
        });
        let error = pipeline::run(&failing, &store, &options(), rng(1), pending()).await.unwrap_err();
        let PipelineError::Broker { source: BrokerError::Unsupported { what, .. }, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(what, "read this format");
    });
}

#[test]
fn a_topic_that_is_recreated_with_as_many_records_is_detected_by_its_id() {
    block_on(async {
        let (broker, store) = bound(90).await;
        let endless = Options { until_end: false, ..options() };
        let running = pipeline::run(&broker, &store, &endless, rng(1), pending());
        let recreate = async {
            sleep(Duration::from_secs(3)).await;
            broker.recreate(TOPIC);
            append(&broker, &log(90)).await;
            pending::<()>().await;
        };
        let error = tokio::select! {
            result = running => result.unwrap_err(),
            () = recreate => unreachable!(),
        };
        assert!(matches!(error, PipelineError::Binding(BindingError::Recreated { .. })), "{error:?}");
    });
}

#[test]
fn an_error_of_the_end_check_after_a_stop_is_not_the_result() {
    block_on(async {
        let (broker, store) = bound(60).await;
        // A request takes 0.8 s. The worker begins when the binding is read. Half a second later, after the stop, the read
        // of all progress is refused, while the assignments still read their own.
        let faulty = FaultyStore::new(store, BTreeMap::new(), vec![(400, 400)]);
        faulty.fail_progress_of_all(Some(Fault::Refused));
        let stop = sleep(Duration::from_millis(1_000));
        pipeline::run(&broker, &faulty, &options(), rng(1), stop).await.unwrap();
        let faulty = faulty.for_another_worker();
        let error = pipeline::run(&broker, &faulty, &options(), rng(1), pending()).await.unwrap_err();
        assert!(matches!(error, PipelineError::StoreRefused { .. }), "{error:?}");
    });
}
