//! Workers that are stopped, long outages of the store, and partitions that are reassigned.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::BrokerError;
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::pipeline::{self, Options, PipelineError};
use exactlyonce::store::Store;
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;
use tokio::time::{Instant, sleep, timeout};

use crate::altered::Altered;
use crate::faulty::{Fault, FaultyStore};
use crate::harness::{Entry, append, binding_spec, block_on, broker_with, event, rng, truth_of};

/// Number of operations of a start with three partitions: a read of the binding, and for each partition reads of
/// progress and of the rows below it, and a write of progress.
const START: u64 = 10;

fn log(records: i64) -> Vec<Entry> {
    (0..records).map(|i| Entry::Value((i % 3) as i32, event(i, i * 100, "a", 2))).collect()
}

fn options() -> Options {
    Options {
        batch_records: 4,
        batch_delay: Duration::from_millis(5),
        stop_deadline: Duration::from_secs(2),
        ..Options::new(binding_spec(WindowSpec::default()))
    }
}

async fn bound(records: i64) -> (MemoryBroker, MemoryStore) {
    let broker = broker_with(&log(records), 5).await;
    let store = MemoryStore::new();
    binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap();
    (broker, store)
}

async fn progress(store: &MemoryStore) -> BTreeMap<i32, i64> {
    let all = store.progress_of_all().await.into_result().unwrap();
    all.into_iter().map(|(partition, progress)| (partition, progress.next_offset)).collect()
}

#[test]
fn a_stop_finishes_requests_in_flight_and_writes_progress() {
    block_on(async {
        let (broker, store) = bound(600).await;
        let slow = FaultyStore::new(store.clone(), BTreeMap::new(), vec![(20, 20)]);
        let stop = sleep(Duration::from_millis(700));
        let summary = pipeline::run(&broker, &slow, &options(), rng(1), stop).await.unwrap();
        let progress = progress(&store).await;
        let done: i64 = progress.values().sum();
        assert!(0 < done && done < 600, "{progress:?}");
        assert_eq!(summary.next_offsets, progress);
        assert_eq!(summary.records, done as u64);
        let stored = truth::stored(&store).await.unwrap();
        assert_eq!(stored.events.len() as i64, done, "no row is past progress");
    });
}

#[test]
fn a_stop_ends_at_its_deadline() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let faults = (START + 6..100_000).map(|operation| (operation, Fault::RequestLost)).collect();
        let failing = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let started = Instant::now();
        let stop = sleep(Duration::from_secs(5));
        pipeline::run(&broker, &failing, &options(), rng(1), stop).await.unwrap();
        assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&started.elapsed()), "{started:?}");
    });
}

#[test]
fn a_store_that_stays_unavailable_ends_the_run_at_the_retry_deadline() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let faults = (START + 6..100_000).map(|operation| (operation, Fault::RequestLost)).collect();
        let failing = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let options = Options { retry_deadline: Some(Duration::from_secs(30)), ..options() };
        let error = pipeline::run(&broker, &failing, &options, rng(1), pending()).await.unwrap_err();
        assert!(matches!(error, PipelineError::StoreUnavailable { seconds: 30.., .. }), "{error:?}");
        assert!(!error.is_refusal());
    });
}

#[test]
fn a_run_survives_a_long_outage_of_the_store() {
    block_on(async {
        let (broker, store) = bound(90).await;
        let faults = (START + 2..START + 300).map(|operation| (operation, Fault::RequestLost)).collect();
        let faulty = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let options = Options { until_end: true, ..options() };
        let started = Instant::now();
        pipeline::run(&broker, &faulty, &options, rng(1), pending()).await.unwrap();
        assert!(
            started.elapsed() > Duration::from_secs(10),
            "the store was not unavailable: {:?}",
            started.elapsed()
        );
        let binding = store.binding().await.into_result().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &binding).await);
    });
}

/// A buffer for log lines.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what is logged while this runs.
fn logged(run: impl FnOnce()) -> String {
    let logged = LogBuffer::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let ours = tracing::Dispatch::new(subscriber);
    // With a single dispatcher, tracing caches whether a log line is enabled by asking only the thread that logs it
    // first, and the threads of other tests have no subscriber. A second dispatcher prevents that.
    let _another = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    tracing::dispatcher::with_default(&ours, run);
    String::from_utf8(logged.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn failing_requests_are_logged_once_when_they_start_to_fail_and_once_when_all_have_recovered() {
    let text = logged(|| {
        block_on(async {
            let (broker, store) = bound(300).await;
            // Two episodes, in each of which requests of several batches and partitions fail.
            let lost = (START + 20..START + 70).chain(START + 260..START + 310);
            let faults = lost.map(|operation| (operation, Fault::RequestLost)).collect();
            let faulty = FaultyStore::new(store, faults, vec![(1, 1)]);
            let backoff_max = Duration::from_millis(20);
            let options = Options { until_end: true, backoff_max, ..options() };
            pipeline::run(&broker, &faulty, &options, rng(1), pending()).await.unwrap();
            assert!(faulty.operations() > START + 310, "the second episode did not occur");
        });
    });
    let times = |message: &str| text.matches(message).count();
    assert_eq!((times("request failed; retrying"), times("recovered")), (2, 2), "{text}");
}

#[test]
fn requests_that_keep_failing_are_logged_once_a_minute() {
    let text = logged(|| {
        block_on(async {
            let (broker, store) = bound(60).await;
            let faults = (START + 6..100_000).map(|operation| (operation, Fault::RequestLost)).collect();
            let failing = FaultyStore::new(store, faults, vec![(1, 1)]);
            let stop = sleep(Duration::from_secs(200));
            pipeline::run(&broker, &failing, &options(), rng(1), stop).await.unwrap();
        });
    });
    let times = |message: &str| text.matches(message).count();
    assert_eq!((times("request failed; retrying"), times("requests still fail; retrying")), (1, 3), "{text}");
}

#[test]
fn a_batch_writes_its_rows_in_parts_and_its_counts_once() {
    block_on(async {
        let (broker, store) = bound(3_000).await;
        let watched = FaultyStore::new(store.clone(), BTreeMap::new(), vec![(5, 5)]);
        let large = Options {
            batch_records: 600,
            write_records: Some(50),
            batch_delay: Duration::from_secs(1),
            until_end: true,
            ..options()
        };
        pipeline::run(&broker, &watched, &large, rng(1), pending()).await.unwrap();
        let (rows, counts) = watched.writes();
        assert_eq!((rows.iter().sum::<usize>(), rows.iter().max()), (3_000, Some(&50)), "{rows:?}");
        // Of each partition 600 records, which is the most that a batch may have, and 400.
        assert_eq!((rows.len(), counts.len()), (60, 6), "{rows:?}, {counts:?}");
        let old = FaultyStore::new(MemoryStore::new(), BTreeMap::new(), vec![(5, 5)]);
        binding::init(&broker, &old, &options().binding_spec, &Origin::Start).await.unwrap();
        let short = Options { batch_longest: Duration::ZERO, ..large };
        pipeline::run(&broker, &old, &short, rng(1), pending()).await.unwrap();
        assert_eq!(old.writes().1.len(), 60, "a batch closes at its maximum age");
    });
}

#[test]
fn partitions_are_reassigned_when_workers_start_and_stop() {
    block_on(async {
        let (broker, store) = bound(300).await;
        let slow = FaultyStore::new(store.clone(), BTreeMap::new(), vec![(3, 9), (1, 2), (7, 0)]);
        let options = options();
        let first = pipeline::run(&broker, &slow, &options, rng(1), sleep(Duration::from_millis(400)));
        let second = async {
            sleep(Duration::from_millis(90)).await;
            append(&broker, &log(120)).await;
            let until_end = Options { until_end: true, ..options.clone() };
            pipeline::run(&broker, &slow.for_another_worker(), &until_end, rng(2), pending()).await
        };
        let (first, second) = tokio::join!(first, second);
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.records > 0 && second.records > 0);
        assert_eq!(first.records + second.records, 420, "a graceful reassignment repeats nothing");
        let binding = store.binding().await.into_result().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &binding).await);
    });
}

/// Two workers share the partitions. The first one never ends; the second one ends at the log's end, for which it reads
/// the progress of the first one, with this fault. Returns the result of the second one.
async fn run_beside_another(options: &Options, fault: Option<Fault>) -> Result<(), PipelineError> {
    let (broker, store) = bound(60).await;
    let beside = pipeline::run(&broker, &store, options, rng(1), pending());
    let second = async {
        sleep(Duration::from_millis(90)).await;
        append(&broker, &log(30)).await;
        let faulty = FaultyStore::new(store.clone(), BTreeMap::new(), vec![(1, 1)]);
        faulty.fail_progress_of_all(fault);
        let until_end = Options { until_end: true, ..options.clone() };
        let run = pipeline::run(&broker, &faulty, &until_end, rng(2), pending());
        timeout(Duration::from_secs(600), run).await.expect("it ends").map(drop)
    };
    tokio::select! {
        ended = beside => panic!("the first worker ended: {ended:?}"),
        ended = second => ended,
    }
}

#[test]
fn run_until_end_fails_if_it_may_not_read_the_progress_of_other_workers() {
    block_on(async {
        run_beside_another(&options(), None).await.unwrap();
        let error = run_beside_another(&options(), Some(Fault::Refused)).await.unwrap_err();
        assert!(matches!(error, PipelineError::StoreRefused { .. }), "{error:?}");
        assert!(error.to_string().contains("progress of all partitions"), "{error}");
    });
}

#[test]
fn run_until_end_logs_that_it_cannot_read_the_progress_of_other_workers_and_ends_at_the_deadline() {
    let text = logged(|| {
        block_on(async {
            let options = Options { retry_deadline: Some(Duration::from_secs(30)), ..options() };
            let error = run_beside_another(&options, Some(Fault::RequestLost)).await.unwrap_err();
            assert!(matches!(error, PipelineError::StoreUnavailable { seconds: 30.., .. }), "{error:?}");
        });
    });
    assert_eq!(text.matches("read the progress of all partitions: no response").count(), 1, "{text}");
}

#[test]
fn a_stop_ends_a_run_that_cannot_read_the_progress_of_other_workers_without_an_error() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let faulty = FaultyStore::new(store, BTreeMap::new(), vec![(1, 1)]);
        faulty.fail_progress_of_all(Some(Fault::RequestLost));
        let until_end = Options { until_end: true, batch_delay: Duration::from_secs(3), ..options() };
        pipeline::run(&broker, &faulty, &until_end, rng(1), sleep(Duration::from_secs(2))).await.unwrap();
    });
}

#[test]
fn a_topic_check_that_keeps_failing_is_logged_with_its_cause_once_a_minute_and_when_it_succeeds_again() {
    let text = logged(|| {
        block_on(async {
            let (inner, store) = bound(60).await;
            let silent = Arc::<AtomicBool>::default();
            let is_silent = silent.clone();
            let broker = Altered::new(inner).describing(move |topic| {
                if is_silent.load(Ordering::Relaxed) {
                    let (what, cause) = ("describe the topic".to_owned(), Some("no controller".into()));
                    return Err(BrokerError::Retriable { what, cause });
                }
                Ok(topic)
            });
            let options = options();
            let run = pipeline::run(&broker, &store, &options, rng(1), sleep(Duration::from_secs(300)));
            let silence = async {
                sleep(Duration::from_secs(15)).await;
                silent.store(true, Ordering::Relaxed);
                sleep(Duration::from_secs(150)).await;
                silent.store(false, Ordering::Relaxed);
                pending::<()>().await;
            };
            tokio::select! {
                result = run => drop(result.unwrap()),
                () = silence => unreachable!(),
            }
        });
    });
    let lines = |message: &str| text.lines().filter(|line| line.contains(message)).collect::<Vec<_>>();
    let failed = lines("the topic could not be checked");
    assert_eq!(failed.len(), 3, "{text}");
    assert!(failed.iter().all(|line| line.contains(" WARN ") && line.contains("no controller")), "{text}");
    let over = lines("the topic can be checked again");
    assert!(over.len() == 1 && over[0].contains(" INFO "), "{text}");
}
