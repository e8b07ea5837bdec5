//! The second version of the protocol (KIP-890): each end raises the epoch, and partitions are added by brokers.

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::AddPartitionsToTxnRequest;
use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use simulated_kafka::coordinator::Producer;

use crate::harness::{Bench, ID, Ids, code, init, text, topics};

/// Adds a partition as a broker does for a client of the second version.
fn open(bench: &mut Bench, producer: Producer) {
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(text(ID).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_topics(topics(&[("a", 0)]));
    let token = bench.send(5, AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]));
    bench.reply(token);
    assert_eq!(bench.state(), "Ongoing");
}

fn next(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch + 1, ..producer }
}

/// Ends a transaction with success; the producer afterwards.
fn end(bench: &mut Bench, producer: Producer, commit: bool) -> Producer {
    let ended = bench.end(5, producer, commit);
    assert_eq!(ended.error_code, 0);
    Producer { id: ended.producer_id.0, epoch: ended.producer_epoch }
}

#[test]
fn each_end_raises_the_epoch_which_the_marker_has_as_well() {
    let mut bench = Bench::new();
    let first = bench.init();
    open(&mut bench, first);
    let second = end(&mut bench, first, true);
    assert_eq!(second, next(first));
    assert_eq!((bench.markers[0].producer, bench.markers[0].transaction_version), (second, 2));
    bench.write_markers();
    open(&mut bench, second);
    assert_eq!(end(&mut bench, second, false), next(second));
}

#[test]
fn a_retry_with_the_epoch_before_gets_the_same_answer() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init();
        open(&mut bench, producer);
        end(&mut bench, producer, commit);
        assert_eq!(bench.end(5, producer, commit).error_code, code(Error::ConcurrentTransactions));
        bench.write_markers();
        assert_eq!(end(&mut bench, producer, commit), next(producer));
        assert_eq!(bench.end(5, producer, !commit).error_code, code(Error::InvalidTxnState));
        assert_eq!(bench.markers, []);
    }
}

#[test]
fn after_the_end_only_the_epochs_before_and_after_it_are_known() {
    let mut bench = Bench::new();
    let first = bench.init();
    open(&mut bench, first);
    let second = end(&mut bench, first, false);
    bench.write_markers();
    open(&mut bench, second);
    let third = end(&mut bench, second, false);
    bench.write_markers();
    for other in [first, next(third)] {
        assert_eq!(bench.end(5, other, false).error_code, code(Error::ProducerFenced), "{other:?}");
    }
    assert_eq!(end(&mut bench, second, false), third);
    assert_eq!(end(&mut bench, third, false), next(third));
}

#[test]
fn an_abort_without_a_transaction_raises_the_epoch_and_a_commit_is_refused() {
    let mut bench = Bench::new();
    let mut producer = bench.init();
    assert_eq!(bench.end(5, producer, true).error_code, code(Error::InvalidTxnState));
    for _ in 0..2 {
        let bumped = end(&mut bench, producer, false);
        assert_eq!(bumped, next(producer));
        assert_eq!((bench.state().as_str(), bench.markers.len()), ("CompleteAbort", 0));
        producer = bumped;
    }
    open(&mut bench, producer);
    producer = end(&mut bench, producer, true);
    bench.write_markers();
    assert_eq!(bench.end(5, producer, true).error_code, code(Error::InvalidTxnState));
    assert_eq!(end(&mut bench, producer, false), next(producer));
}

#[test]
fn an_epoch_that_is_not_current_is_fenced() {
    let mut bench = Bench::new();
    let producer = bench.init();
    open(&mut bench, producer);
    assert_eq!(bench.end(5, next(producer), true).error_code, code(Error::ProducerFenced));
    let second = end(&mut bench, producer, true);
    assert_eq!(bench.end(5, second, true).error_code, code(Error::ConcurrentTransactions));
    bench.write_markers();
    open(&mut bench, second);
    assert_eq!(bench.end(5, producer, true).error_code, code(Error::ProducerFenced));
}

#[test]
fn a_new_producer_fences_the_old_one_after_the_abort() {
    let mut bench = Bench::new();
    let old = bench.init();
    open(&mut bench, old);
    assert_eq!(bench.init_with(init()).error_code, code(Error::ConcurrentTransactions));
    bench.write_markers();
    // Once by the abort, once for the new producer.
    assert_eq!(bench.init(), Producer { epoch: old.epoch + 2, ..old });
    assert_eq!(bench.end(5, old, true).error_code, code(Error::ProducerFenced));
}

#[test]
fn the_last_epoch_ends_with_a_new_producer_id() {
    let mut bench = Bench::new();
    let mut producer = bench.init();
    while producer.epoch < i16::MAX - 1 {
        producer = end(&mut bench, producer, false);
    }
    open(&mut bench, producer);
    bench.ids = Ids(None);
    assert_eq!(bench.end(5, producer, true).error_code, code(Error::CoordinatorLoadInProgress));
    bench.ids = Ids(Some(500));
    let rotated = end(&mut bench, producer, true);
    assert_eq!(rotated, Producer { id: 500, epoch: 0 });
    assert_eq!(bench.markers[0].producer, Producer { epoch: i16::MAX, ..producer });
    bench.write_markers();
    assert_eq!(end(&mut bench, producer, true), rotated, "a retry");
    open(&mut bench, rotated);
    assert_eq!(end(&mut bench, rotated, true), next(rotated));
}

#[test]
fn another_coordinator_knows_the_version_of_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init();
    open(&mut bench, producer);
    end(&mut bench, producer, true);
    bench.reload();
    assert_eq!((bench.markers[0].transaction_version, bench.markers[0].producer), (2, next(producer)));
    bench.write_markers();
    open(&mut bench, next(producer));
}
