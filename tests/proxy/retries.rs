//! Retries: the driver repeats nothing, the pipeline repeats requests with the same bytes.

use std::time::Duration;

use exactlyonce::event::{Event, Health, Row};
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore};
use exactlyonce::store::{Layout, Outcome, Store};
use scylla::errors::{DbError, WriteType};
use scylla::frame::types::Consistency::Quorum;
use scylla_proxy::{Condition, Reaction, RequestFrame, RequestOpcode, RequestReaction};

use crate::harness::{AppliedTo, Harness, requests, rule, some};

fn all(seen: &mut AppliedTo) -> Vec<RequestFrame> {
    std::iter::from_fn(|| seen.try_recv().ok()).map(|(frame, _)| frame).collect()
}

fn row(offset: i64) -> (i64, Row) {
    let (source, client) = ("a".to_owned(), "c".to_owned());
    (offset, Row::Event(Event { id: 1, ts: 5, source, client, health: Health::Nominal }))
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn the_driver_sends_a_request_once_whatever_its_outcome() {
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    let forged = RequestReaction::forge();
    // Errors after which drivers usually retry on the same node.
    let (consistency, received, required) = (Quorum, 2, 2);
    let batch_log =
        DbError::WriteTimeout { consistency, received, required, write_type: WriteType::BatchLog };
    let no_data = DbError::ReadTimeout { consistency, received, required, data_present: false };
    for (fault, reaction) in [
        ("write timeout in the batch log", RequestReaction::forge_with_error(batch_log)),
        ("read timeout without data", RequestReaction::forge_with_error(no_data)),
        ("write timeout", forged.write_timeout()),
        ("unavailable", forged.unavailable()),
        ("overloaded", forged.overloaded()),
        ("bootstrapping", forged.is_bootstrapping()),
        ("server error", forged.server_error()),
        ("read timeout", forged.read_timeout()),
        ("no response", RequestReaction::drop_frame()),
        ("connection closed", RequestReaction::drop_connection()),
    ] {
        let (rule, mut seen) = rule(requests(), reaction);
        harness.on_requests(vec![rule]);
        let outcome = harness.store.write_rows(0, &[row(0)]).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{fault}: {outcome:?}");
        // Time for a retry, if there is one.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(all(&mut seen).len(), 1, "{fault}");
        harness.proxy.turn_off_rules();
        let again = async {
            while !matches!(harness.store.progress(0).await, Outcome::Acknowledged(_)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("the driver reconnects");
    }
    harness.work().await.unwrap();
    harness.check().await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn the_driver_prepares_a_statement_again_that_the_node_has_evicted() {
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    let once = requests().and(Condition::TrueForLimitedTimes(1));
    let (forget, mut forgotten) = rule(once, RequestReaction::forge().unprepared());
    let (watch, mut passed) =
        rule(requests().or(Condition::RequestOpcode(RequestOpcode::Prepare)), RequestReaction::noop());
    harness.on_requests(vec![forget, watch]);
    let read = harness.store.progress(0).await;
    assert!(matches!(read, Outcome::Acknowledged(_)), "{read:?}");
    let (first, then) = (all(&mut forgotten), all(&mut passed));
    assert_eq!(first.len(), 1);
    let opcodes: Vec<RequestOpcode> = then.iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [RequestOpcode::Prepare, RequestOpcode::Execute]);
    assert_eq!(first[0].body, then[1].body);
    harness.work().await.unwrap();
    harness.check().await;
}

/// Number of requests in flight of two concurrent calls that write ten rows each, with one row per request.
async fn requests_in_flight(
    harness: &mut Harness,
    in_flight_bytes: usize,
    in_flight_requests: usize,
) -> usize {
    let options =
        CassandraOptions { request_bytes: 1, in_flight_bytes, in_flight_requests, ..harness.options.clone() };
    let store = CassandraStore::connect(&options, Layout::ORIGINAL).await.unwrap();
    let (rule, mut seen) = rule(requests(), RequestReaction::drop_frame());
    harness.on_requests(vec![rule]);
    let rows: Vec<_> = (0..10).map(row).collect();
    let count = async {
        let first = seen.recv().await;
        // Time for all others that the limits allow.
        tokio::time::sleep(Duration::from_millis(400)).await;
        usize::from(first.is_some()) + all(&mut seen).len()
    };
    let count = tokio::select! {
        count = count => count,
        outcomes = async { tokio::join!(store.write_rows(0, &rows), store.write_rows(1, &rows)) } => {
            panic!("{outcomes:?} without a response")
        }
    };
    harness.proxy.turn_off_rules();
    count
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn the_options_limit_the_requests_in_flight_over_all_calls() {
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    // The estimated size of such a row is 115 bytes.
    assert_eq!(requests_in_flight(&mut harness, 300, 100).await, 2);
    assert_eq!(requests_in_flight(&mut harness, usize::MAX, 5).await, 5);
    assert_eq!(requests_in_flight(&mut harness, usize::MAX, 100).await, 20);
    harness.work().await.unwrap();
    harness.check().await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn the_pipeline_retries_failed_requests_with_the_same_bytes_and_timestamps() {
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    // Exactly the writes are batches.
    let writes = || Condition::RequestOpcode(RequestOpcode::Batch);
    let (fail, mut failed) = rule(some(writes(), 30), RequestReaction::forge().write_timeout());
    let (watch, mut passed) = rule(writes(), RequestReaction::noop());
    harness.on_requests(vec![fail, watch]);
    harness.work().await.unwrap();
    let (failed, passed) = (all(&mut failed), all(&mut passed));
    assert!(failed.len() > 3, "{}", failed.len());
    for frame in &failed {
        assert!(passed.iter().any(|passed| passed.body == frame.body), "never repeated: {frame:?}");
    }
    // If the driver retried, the pipeline would repeat fewer requests.
    println!("{} failed, {} passed", failed.len(), passed.len());
    harness.check().await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn missing_values_are_unset_and_never_null() {
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    let writes = Condition::RequestOpcode(RequestOpcode::Batch);
    let (watch, mut passed) = rule(writes, RequestReaction::noop());
    harness.on_requests(vec![watch]);
    harness.work().await.unwrap();
    let (mut set, mut unset) = (0, 0);
    for frame in all(&mut passed) {
        for length in value_lengths(&frame.body) {
            match length {
                -2 => unset += 1,
                length => {
                    assert!(length >= 0, "a null is a tombstone: {frame:?}");
                    set += 1;
                }
            }
        }
    }
    assert!(set > 1_000 && unset > 10, "{set} set, {unset} unset");
    harness.check().await;
}

/// The lengths of all values of a batch in the protocol (version 4): -1 is null, -2 is unset.
fn value_lengths(body: &[u8]) -> Vec<i32> {
    let short = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let (mut lengths, mut at) = (Vec::new(), 3);
    for _ in 0..short(1) {
        assert_eq!(body[at], 1, "a prepared statement");
        at += 3 + short(at + 1);
        let values = short(at);
        at += 2;
        for _ in 0..values {
            let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            at += 4 + usize::try_from(length).unwrap_or(0);
            lengths.push(length);
        }
    }
    // What remains is the consistency level, the flags, and the serial consistency level.
    assert!((3..=5).contains(&(body.len() - at)), "{} bytes left", body.len() - at);
    lengths
}
