//! When a batch closes.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::Delivery;
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::pipeline::{self, Options, Summary};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::window::WindowSpec;
use tokio::time::{Instant, sleep};

use crate::altered::Altered;
use crate::faulty::FaultyStore;
use crate::harness::{Entry, append, binding_spec, block_on, broker_with, event, rng};

const HOUR: Duration = Duration::from_secs(3_600);

fn options() -> Options {
    Options { batch_records: 1_000, batch_longest: HOUR, ..Options::new(binding_spec(WindowSpec::default())) }
}

/// A log with records in each of its three partitions, and tables that are bound to it.
async fn bound(records: i64) -> (MemoryBroker, MemoryStore) {
    let log: Vec<Entry> =
        (0..records).map(|i| Entry::Value((i % 3) as i32, event(i, i * 100, "a", 2))).collect();
    let broker = broker_with(&log, 5).await;
    let store = MemoryStore::new();
    binding::init(&broker, &store, &options().binding_spec, &Origin::Start).await.unwrap();
    (broker, store)
}

#[test]
fn the_end_of_the_log_closes_a_batch_however_long_it_may_wait_for_records() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let options = Options { batch_delay: HOUR, until_end: true, ..options() };
        let began = Instant::now();
        let summary = pipeline::run(&broker, &store, &options, rng(1), pending()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!((summary.records, summary.batches), (60, 3));
    });
}

#[test]
fn rows_are_flushed_when_they_have_enough_bytes() {
    block_on(async {
        let (broker, store) = bound(60).await;
        let watched = FaultyStore::new(store, BTreeMap::new(), vec![(1, 1)]);
        let options = Options { write_records: Some(1_000), write_bytes: 500, until_end: true, ..options() };
        pipeline::run(&broker, &watched, &options, rng(1), pending()).await.unwrap();
        // Twenty records of each partition, of some fifty bytes each.
        let (rows, _) = watched.writes();
        assert_eq!(rows.iter().sum::<usize>(), 60);
        assert!(rows.iter().max().is_some_and(|most| (5..=12).contains(most)), "{rows:?}");
    });
}

#[test]
fn the_summary_counts_what_was_written() {
    block_on(async {
        let dead_letter = || Entry::Value(0, Some(b"no event".to_vec()));
        let events = (0..12).map(|i| Entry::Value(0, event(i, i, "a", 2)));
        let log: Vec<Entry> = events.chain((0..4).map(|_| dead_letter())).collect();
        let broker = broker_with(&log, 100).await;
        let store = MemoryStore::new();
        let options = Options { batch_records: 4, until_end: true, ..options() };
        binding::init(&broker, &store, &options.binding_spec, &Origin::Start).await.unwrap();
        let summary = pipeline::run(&broker, &store, &options, rng(1), pending()).await.unwrap();
        let expected = Summary {
            records: 16,
            events: 12,
            dead_letters: 4,
            // The third batch reaches the threshold of 10, and the fourth has no events.
            alerts: 1,
            batches: 4,
            next_offsets: [(0, 16), (1, 0), (2, 0)].into(),
        };
        assert_eq!(summary, expected);
    });
}

#[test]
fn a_batch_waits_for_records_as_long_as_it_may_from_its_first_one_on() {
    block_on(async {
        let (broker, store) = bound(0).await;
        let options = Options { batch_delay: Duration::from_secs(1), ..options() };
        let produce = async {
            for id in 0..200 {
                sleep(Duration::from_millis(50)).await;
                append(&broker, &[Entry::Value(0, event(id, id, "a", 2))]).await;
            }
        };
        // As if records came too fast for an end.
        let without_ends = Altered::new(broker.clone()).delivering(|delivery| match delivery {
            Delivery::End { .. } => None,
            delivery => Some(delivery),
        });
        let run = pipeline::run(&without_ends, &store, &options, rng(1), sleep(Duration::from_secs(13)));
        let (summary, ()) = tokio::join!(run, produce);
        let summary = summary.unwrap();
        assert_eq!(summary.records, 200);
        assert!((9..=11).contains(&summary.batches), "{summary:?}");
    });
}
