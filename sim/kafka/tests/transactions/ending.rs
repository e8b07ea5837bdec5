//! The end of transactions with the first version of the protocol, their markers, and timeouts.

use proto_kafka::error::ResponseError as Error;
use simulated_kafka::coordinator::{MarkerOutcome, Producer};
use simulated_kafka::transaction::TransactionConfig;

use crate::harness::{Bench, code, end, init};

fn open(bench: &mut Bench) -> Producer {
    let producer = bench.init();
    assert_eq!(bench.add(producer, &[("a", 0), ("b", 1)]), 0);
    producer
}

#[test]
fn the_end_is_acknowledged_when_it_is_decided_and_markers_follow_one_by_one() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = open(&mut bench);
        let ended = bench.end(1, producer, commit);
        assert_eq!((ended.error_code, ended.producer_id.0, ended.producer_epoch), (0, -1, -1));
        let marker = bench.markers[0].clone();
        assert_eq!((marker.commit, marker.producer, marker.transaction_version), (commit, producer, 0));
        assert_eq!(marker.partitions, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        let prepared = if commit { "PrepareCommit" } else { "PrepareAbort" };
        assert_eq!(bench.state(), prepared);
        bench.marker("b", 1, MarkerOutcome::Written);
        assert_eq!(bench.state(), prepared);
        bench.marker("a", 0, MarkerOutcome::Written);
        assert_eq!(bench.state(), if commit { "CompleteCommit" } else { "CompleteAbort" });
        assert_eq!(bench.markers, []);
    }
}

#[test]
fn the_end_is_not_acknowledged_and_no_marker_is_sent_before_its_record_is_committed() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.hold = true;
    let token = bench.send(1, end(producer, true));
    assert!(!bench.replies.contains_key(&token));
    assert_eq!(bench.markers, []);
    bench.commit();
    assert_eq!(bench.ended(token).error_code, 0);
    assert_eq!(bench.markers.len(), 1);
}

#[test]
fn until_all_markers_are_written_nothing_new_begins() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    let concurrent = code(Error::ConcurrentTransactions);
    assert_eq!(bench.add(producer, &[("a", 0)]), concurrent);
    assert_eq!(bench.init_with(init()).error_code, concurrent);
    assert_eq!(bench.end(1, producer, true).error_code, concurrent);
    bench.write_markers();
    assert_eq!(bench.add(producer, &[("a", 0)]), 0);
}

#[test]
fn a_repeated_end_has_the_same_answer_and_another_one_is_refused() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = open(&mut bench);
        bench.end(1, producer, commit);
        bench.write_markers();
        assert_eq!(bench.end(1, producer, commit).error_code, 0);
        assert_eq!(bench.end(1, producer, !commit).error_code, code(Error::InvalidTxnState));
        assert_eq!(bench.markers, []);
    }
}

#[test]
fn an_end_of_another_epoch_or_another_producer_changes_nothing() {
    let mut bench = Bench::new();
    let old = bench.init();
    let producer = open(&mut bench);
    assert_eq!(producer, Producer { epoch: old.epoch + 1, ..old });
    let newer = Producer { epoch: producer.epoch + 1, ..producer };
    for other in [old, newer] {
        assert_eq!(bench.end(2, other, true).error_code, code(Error::ProducerFenced));
        // Older clients do not know that error.
        assert_eq!(bench.end(1, other, true).error_code, code(Error::InvalidProducerEpoch));
    }
    let another = Producer { id: producer.id + 1, ..producer };
    assert_eq!(bench.end(2, another, true).error_code, code(Error::InvalidProducerIdMapping));
    assert_eq!((bench.state().as_str(), bench.markers.len()), ("Ongoing", 0));
    assert_eq!(bench.end(2, producer, true).error_code, 0);
}

#[test]
fn without_a_transaction_there_is_no_end() {
    let mut bench = Bench::new();
    let producer = bench.init();
    for commit in [true, false] {
        assert_eq!(bench.end(1, producer, commit).error_code, code(Error::InvalidTxnState));
    }
    let other = Producer { id: 5, epoch: 0 };
    assert_eq!(bench.end(1, other, true).error_code, code(Error::InvalidProducerIdMapping));
    let mut empty = Bench::new();
    assert_eq!(empty.end(1, other, true).error_code, code(Error::InvalidProducerIdMapping));
}

#[test]
fn a_marker_that_is_refused_is_sent_again_a_little_later_for_that_partition_only() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    bench.marker("b", 1, MarkerOutcome::Written);
    for error in [Error::NotLeaderOrFollower, Error::LeaderNotAvailable, Error::NetworkException] {
        bench.marker("a", 0, MarkerOutcome::Refused(error));
        assert_eq!(bench.markers, []);
        bench.pass(100);
        assert_eq!(bench.markers[0].partitions, [("a".to_owned(), 0)]);
    }
    bench.write_markers();
    assert_eq!(bench.state(), "CompleteCommit");
}

#[test]
fn a_topic_that_is_gone_needs_no_marker() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    bench.marker("a", 0, MarkerOutcome::Gone);
    bench.marker("b", 1, MarkerOutcome::Gone);
    assert_eq!(bench.state(), "CompleteCommit");
}

#[test]
fn a_coordinator_that_is_fenced_leaves_the_transaction_to_its_successor() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    bench.marker("a", 0, MarkerOutcome::Refused(Error::TransactionCoordinatorFenced));
    bench.marker("b", 1, MarkerOutcome::Written);
    bench.pass(1_000);
    assert_eq!((bench.state().as_str(), bench.markers.len()), ("PrepareCommit", 0));
    bench.reload();
    assert_eq!(bench.markers[0].coordinator_epoch, 6);
    bench.write_markers();
    assert_eq!(bench.state(), "CompleteCommit");
}

#[test]
fn another_coordinator_goes_on_with_all_markers_of_a_decided_transaction() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, false);
    bench.marker("a", 0, MarkerOutcome::Written);
    bench.reload();
    // Which markers are written is not recorded.
    assert_eq!(bench.markers[0].partitions.len(), 2);
    assert!(!bench.markers[0].commit);
    assert_eq!(bench.end(1, producer, false).error_code, code(Error::ConcurrentTransactions));
    bench.write_markers();
    assert_eq!(bench.state(), "CompleteAbort");
    assert_eq!(bench.add(producer, &[("a", 0)]), 0);
}

#[test]
fn an_outcome_of_another_epoch_changes_nothing() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    let other = Producer { epoch: producer.epoch + 1, ..producer };
    for (topic, partition) in [("a", 0), ("b", 1)] {
        let effects =
            bench.shard.marker_written(bench.now, "id", other, (topic, partition), MarkerOutcome::Written);
        assert!(effects.batches.is_empty());
    }
    assert_eq!(bench.state(), "PrepareCommit");
}

#[test]
fn the_record_of_the_end_is_written_again_until_it_succeeds() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.end(1, producer, true);
    bench.hold = true;
    bench.write_markers();
    bench.fail(Error::NotEnoughReplicas);
    assert_eq!(bench.state(), "PrepareCommit");
    bench.hold = false;
    bench.pass(100);
    assert_eq!(bench.state(), "CompleteCommit");
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_is_fenced() {
    for version in [0, 2] {
        let mut bench =
            Bench::with(TransactionConfig { transaction_version: version, ..TransactionConfig::default() });
        let producer = open(&mut bench);
        bench.pass(60_000);
        assert_eq!(bench.state(), "Ongoing");
        // The coordinator looks every 10 seconds.
        bench.pass(10_000);
        assert_eq!(bench.state(), "PrepareAbort");
        assert_eq!(bench.markers[0].producer.epoch, producer.epoch + 1);
        bench.write_markers();
        assert_eq!(bench.state(), "CompleteAbort");
        assert_eq!(bench.end(2, producer, true).error_code, code(Error::ProducerFenced));
        assert_eq!(bench.add(producer, &[("a", 0)]), code(Error::ProducerFenced));
        assert!(bench.init().epoch > producer.epoch + 1);
    }
}

#[test]
fn partitions_that_are_added_later_do_not_prolong_a_transaction() {
    let mut bench = Bench::new();
    let producer = open(&mut bench);
    bench.pass(50_000);
    assert_eq!(bench.add(producer, &[("a", 3)]), 0);
    bench.pass(20_000);
    assert_eq!(bench.state(), "PrepareAbort");
}

#[test]
fn a_fence_that_could_not_be_recorded_uses_the_same_epoch_again() {
    let mut bench = Bench::with(TransactionConfig { transaction_version: 0, ..TransactionConfig::default() });
    let producer = open(&mut bench);
    bench.hold = true;
    for _ in 0..3 {
        let token = bench.send(4, init());
        bench.fail(Error::NotEnoughReplicas);
        bench.replies.remove(&token);
    }
    bench.hold = false;
    assert_eq!(bench.init_with(init()).error_code, code(Error::ConcurrentTransactions));
    assert_eq!(bench.markers[0].producer.epoch, producer.epoch + 1);
}
