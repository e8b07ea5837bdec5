//! Workers that are stopped, stores that are away for long, and partitions that change hands.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::pipeline::{self, Options, PipelineError};
use exactlyonce::store::Store;
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;
use tokio::time::{Instant, sleep};

use crate::faulty::{Fault, FaultyStore};
use crate::harness::{Entry, append, block_on, broker_with, event, facts, rng, truth_of};

/// Operations of a start with three partitions: the binding, and for each partition progress, rows below it,
/// and progress again.
const START: u64 = 10;

fn log(records: i64) -> Vec<Entry> {
    (0..records).map(|i| Entry::Value((i % 3) as i32, event(i, i * 100, "a", 2))).collect()
}

fn options() -> Options {
    Options {
        batch_records: 4,
        batch_delay: Duration::from_millis(5),
        stop_deadline: Duration::from_secs(2),
        ..Options::new(facts(WindowSpec::default()))
    }
}

async fn bound(records: i64) -> (MemoryBroker, MemoryStore) {
    let broker = broker_with(&log(records), 5).await;
    let store = MemoryStore::new();
    binding::init(&broker, &store, &options().facts, &Origin::Start).await.unwrap();
    (broker, store)
}

async fn progress(store: &MemoryStore) -> BTreeMap<i32, i64> {
    let all = store.progress_of_all().await.answer().unwrap();
    all.into_iter().map(|(partition, progress)| (partition, progress.next_offset)).collect()
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_writes_progress() {
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
        assert_eq!(stored.events.len() as i64, done, "nothing lies past progress");
    });
}

#[test]
fn a_stop_gives_up_at_its_deadline() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let faults = (START + 6..100_000).map(|operation| (operation, Fault::Lost)).collect();
        let deaf = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let begun = Instant::now();
        let stop = sleep(Duration::from_secs(5));
        pipeline::run(&broker, &deaf, &options(), rng(1), stop).await.unwrap();
        assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&begun.elapsed()), "{begun:?}");
    });
}

#[test]
fn a_store_that_stays_away_ends_the_run_at_the_retry_deadline() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let faults = (START + 6..100_000).map(|operation| (operation, Fault::Lost)).collect();
        let deaf = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let options = Options { retry_deadline: Some(Duration::from_secs(30)), ..options() };
        let error = pipeline::run(&broker, &deaf, &options, rng(1), pending()).await.unwrap_err();
        assert!(matches!(error, PipelineError::StoreUnavailable { seconds: 30.., .. }), "{error:?}");
        assert!(!error.is_refusal());
    });
}

#[test]
fn a_store_that_is_away_for_long_is_waited_for() {
    block_on(async {
        let (broker, store) = bound(90).await;
        let faults = (START + 2..START + 300).map(|operation| (operation, Fault::Lost)).collect();
        let away = FaultyStore::new(store.clone(), faults, vec![(1, 1)]);
        let options = Options { until_end: true, ..options() };
        let begun = Instant::now();
        pipeline::run(&broker, &away, &options, rng(1), pending()).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(10), "the store was not away: {:?}", begun.elapsed());
        let binding = store.binding().await.answer().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &binding).await);
    });
}

/// What was logged.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while this runs.
fn logged(run: impl FnOnce()) -> String {
    let told = Told::default();
    let writer = told.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let ours = tracing::Dispatch::new(subscriber);
    // While there is but one, tracing takes the word of whichever thread logs first for whether a line is of
    // interest to anybody, and the threads of the other tests have no subscriber.
    let _another = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    tracing::dispatcher::with_default(&ours, run);
    String::from_utf8(told.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn an_episode_of_trouble_is_told_once_when_it_begins_and_once_when_it_is_over() {
    let told = logged(|| {
        block_on(async {
            let (broker, store) = bound(300).await;
            // Two episodes, each with several batches of several partitions in trouble.
            let lost = (START + 20..START + 70).chain(START + 260..START + 310);
            let faults = lost.map(|operation| (operation, Fault::Lost)).collect();
            let away = FaultyStore::new(store, faults, vec![(1, 1)]);
            let backoff_max = Duration::from_millis(20);
            let options = Options { until_end: true, backoff_max, ..options() };
            pipeline::run(&broker, &away, &options, rng(1), pending()).await.unwrap();
            assert!(away.operations() > START + 310, "the second episode never came");
        });
    });
    let times = |words: &str| told.matches(words).count();
    assert_eq!((times("no answer, trying again"), times("answers again")), (2, 2), "{told}");
}

#[test]
fn trouble_that_lasts_is_told_once_a_minute() {
    let told = logged(|| {
        block_on(async {
            let (broker, store) = bound(60).await;
            let faults = (START + 6..100_000).map(|operation| (operation, Fault::Lost)).collect();
            let deaf = FaultyStore::new(store, faults, vec![(1, 1)]);
            let stop = sleep(Duration::from_secs(200));
            pipeline::run(&broker, &deaf, &options(), rng(1), stop).await.unwrap();
        });
    });
    let times = |words: &str| told.matches(words).count();
    assert_eq!((times(" no answer, trying again"), times("still no answer, trying again")), (4, 3), "{told}");
}

#[test]
fn a_batch_writes_its_rows_in_parts_and_its_counts_once() {
    block_on(async {
        let (broker, store) = bound(3_000).await;
        let watched = FaultyStore::new(store.clone(), BTreeMap::new(), vec![(5, 5)]);
        let large = Options {
            batch_records: 600,
            write_records: 50,
            batch_delay: Duration::from_secs(1),
            until_end: true,
            ..options()
        };
        pipeline::run(&broker, &watched, &large, rng(1), pending()).await.unwrap();
        let (rows, counts) = watched.writes();
        assert_eq!((rows.iter().sum::<usize>(), rows.iter().max()), (3_000, Some(&50)), "{rows:?}");
        assert!(counts.len() <= 6, "two batches of each partition: {counts:?}");
        let old = FaultyStore::new(MemoryStore::new(), BTreeMap::new(), vec![(5, 5)]);
        binding::init(&broker, &old, &options().facts, &Origin::Start).await.unwrap();
        let short = Options { batch_longest: Duration::ZERO, ..large };
        pipeline::run(&broker, &old, &short, rng(1), pending()).await.unwrap();
        assert_eq!(old.writes().1.len(), 60, "a batch closes when it is old");
    });
}

#[test]
fn partitions_change_hands_when_workers_come_and_go() {
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
        assert_eq!(first.records + second.records, 420, "an orderly hand-over repeats nothing");
        let binding = store.binding().await.answer().unwrap().unwrap();
        assert_eq!(truth::stored(&store).await.unwrap(), truth_of(&broker, &binding).await);
    });
}
