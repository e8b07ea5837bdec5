//! InitProducerId: ids, epochs and fencing.

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::*;
use simulated_kafka::coordinator::{BatchId, Producer};
use simulated_kafka::transaction::{TransactionConfig, TransactionResponse};

use crate::harness::{Bench, ID, Ids, add, code, init, init_as, text};

#[test]
fn a_new_id_gets_a_producer_id_and_epoch_0_and_each_later_producer_the_next_epoch() {
    let mut bench = Bench::new();
    assert_eq!(bench.init(), Producer { id: 100, epoch: 0 });
    assert_eq!(bench.init(), Producer { id: 100, epoch: 1 });
    bench.reload();
    assert_eq!(bench.init(), Producer { id: 100, epoch: 2 });
}

#[test]
fn an_idempotent_producer_gets_an_id_of_its_own_without_a_record() {
    let mut bench = Bench::new();
    let request = || init().with_transactional_id(None);
    let first = bench.init_with(request());
    assert_eq!((first.producer_id.0, first.producer_epoch), (100, 0));
    assert_eq!(bench.init_with(request()).producer_id.0, 101);
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn without_producer_ids_a_producer_has_to_ask_again() {
    let mut bench = Bench::new();
    bench.ids = Ids(None);
    let refused = bench.init_with(init());
    assert_eq!((refused.error_code, refused.producer_id.0), (code(Error::CoordinatorLoadInProgress), -1));
    bench.ids = Ids(Some(7));
    assert_eq!(bench.init().id, 7);
}

#[test]
fn impossible_requests_are_refused() {
    let mut bench = Bench::new();
    let error = |bench: &mut Bench, request| bench.init_with(request).error_code;
    assert_eq!(
        error(&mut bench, init().with_transactional_id(Some(text("").into()))),
        code(Error::InvalidRequest)
    );
    for timeout in [0, -1, 900_001] {
        let request = init().with_transaction_timeout_ms(timeout);
        assert_eq!(error(&mut bench, request), code(Error::InvalidTransactionTimeout));
    }
    assert_eq!(error(&mut bench, init().with_producer_id(5.into())), code(Error::InvalidRequest));
    assert_eq!(error(&mut bench, init().with_keep_prepared_txn(true)), code(Error::UnsupportedVersion));
}

#[test]
fn a_producer_raises_its_own_epoch_and_gets_the_same_when_it_asks_again() {
    let mut bench = Bench::new();
    let producer = bench.init();
    for _ in 0..2 {
        assert_eq!(bench.init_with(init_as(producer)).producer_epoch, 1);
    }
    let fenced = Producer { epoch: 0, ..producer };
    bench.init();
    assert_eq!(bench.init_with(init_as(fenced)).error_code, code(Error::ProducerFenced));
    let other = Producer { id: 5, epoch: 0 };
    assert_eq!(bench.init_with(init_as(other)).error_code, code(Error::ProducerFenced));
    assert_eq!(bench.init_version(3, init_as(other)).error_code, code(Error::InvalidProducerEpoch));
}

#[test]
fn nothing_else_happens_to_an_id_while_its_record_is_not_committed() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.hold = true;
    let token = bench.send(3, add(producer, &[("a", 0)]));
    assert_eq!(bench.init_with(init()).error_code, code(Error::ConcurrentTransactions));
    assert_eq!(bench.add(producer, &[("a", 1)]), code(Error::ConcurrentTransactions));
    assert_eq!(bench.end(1, producer, true).error_code, code(Error::ConcurrentTransactions));
    assert_eq!(bench.state(), "Empty");
    bench.commit();
    assert_eq!(bench.added(token), 0);
    assert_eq!(bench.state(), "Ongoing");
}

#[test]
fn a_record_that_fails_changes_nothing_and_is_refused_with_the_coordinators_error() {
    for (error, answered) in [
        (Error::NotEnoughReplicas, Error::CoordinatorNotAvailable),
        (Error::NotLeaderOrFollower, Error::NotCoordinator),
        (Error::MessageTooLarge, Error::UnknownServerError),
    ] {
        let mut bench = Bench::new();
        let producer = bench.init();
        bench.hold = true;
        let token = bench.send(3, add(producer, &[("a", 0)]));
        bench.fail(error);
        assert_eq!(bench.added(token), code(answered));
        assert_eq!(bench.state(), "Empty");
        bench.hold = false;
        assert_eq!(bench.add(producer, &[("a", 0)]), 0);
    }
}

#[test]
fn a_record_is_given_up_after_the_transactions_timeout() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.hold = true;
    let token = bench.send(3, add(producer, &[("a", 0)]));
    bench.pass(60_000);
    assert_eq!(bench.added(token), code(Error::CoordinatorNotAvailable));
    bench.commit();
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn requests_that_wait_are_refused_when_the_coordinator_moves() {
    let mut bench = Bench::new();
    bench.hold = true;
    let token = bench.send(4, init());
    let refused = bench.reload();
    let [(refused_token, TransactionResponse::InitProducerId(response))] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!((*refused_token, response.error_code), (token, code(Error::NotCoordinator)));
    // A batch of the shard before does nothing.
    assert!(bench.shard.committed(bench.now, BatchId(9)).batches.is_empty());
}

#[test]
fn a_new_producer_aborts_the_open_transaction_of_the_old_one_and_has_to_ask_again() {
    let mut bench = Bench::new();
    let old = bench.init();
    bench.add(old, &[("a", 0)]);
    assert_eq!(bench.init_with(init()).error_code, code(Error::ConcurrentTransactions));
    assert_eq!(bench.state(), "PrepareAbort");
    assert_eq!(bench.init_with(init()).error_code, code(Error::ConcurrentTransactions));
    let marker = &bench.markers[0];
    assert!(!marker.commit && marker.producer.epoch > old.epoch, "{marker:?}");
    assert_eq!(
        (marker.coordinator_epoch, marker.partitions.as_slice()),
        (5, [("a".to_owned(), 0)].as_slice())
    );
    bench.write_markers();
    assert_eq!(bench.state(), "CompleteAbort");
    let new = bench.init();
    assert!(new.epoch > old.epoch);
    assert_eq!(bench.end(1, old, true).error_code, code(Error::InvalidProducerEpoch));
    assert_eq!(bench.end(2, old, true).error_code, code(Error::ProducerFenced));
    assert_eq!(bench.add(old, &[("a", 0)]), code(Error::ProducerFenced));
}

#[test]
fn a_producer_whose_epochs_are_used_up_gets_another_id() {
    let mut bench = Bench::with(TransactionConfig { transaction_version: 0, ..TransactionConfig::default() });
    let mut producer = bench.init();
    // The last epoch that a client may have.
    while producer.epoch < i16::MAX - 1 {
        producer = bench.init();
    }
    let rotated = bench.init_with(init_as(producer));
    assert_eq!((rotated.producer_id.0, rotated.producer_epoch), (101, 0));
    let again = bench.init_with(init_as(producer));
    assert_eq!((again.error_code, again.producer_id.0, again.producer_epoch), (0, 101, 0));
}

#[test]
fn an_id_that_is_not_used_is_forgotten_after_its_expiration() {
    let day = 24 * 3_600_000;
    let mut bench = Bench::new();
    bench.init();
    bench.pass(6 * day);
    bench.init();
    bench.pass(6 * day);
    assert_eq!(bench.state(), "Empty");
    bench.pass(2 * day);
    assert_eq!(bench.state(), "");
    assert_eq!(bench.log.last().map(|record| record.value.is_none()), Some(true));
    bench.reload();
    assert_eq!(bench.init(), Producer { id: 101, epoch: 0 });
}

#[test]
fn an_id_whose_transaction_is_not_ended_in_all_partitions_is_not_forgotten() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, &[("a", 0)]);
    bench.end(1, producer, true);
    bench.pass(8 * 24 * 3_600_000);
    assert_eq!(bench.state(), "PrepareCommit");
    bench.write_markers();
    assert_eq!(bench.state(), "CompleteCommit");
}

#[test]
fn an_id_whose_tombstone_fails_is_not_forgotten() {
    let day = 24 * 3_600_000;
    let mut bench = Bench::new();
    bench.init();
    bench.hold = true;
    bench.pass(7 * day);
    assert_eq!(bench.open.len(), 1);
    bench.fail(Error::NotEnoughReplicas);
    bench.hold = false;
    assert_eq!(bench.init(), Producer { id: 100, epoch: 1 });
}

#[test]
fn transactions_are_listed_by_state_producer_duration_and_pattern() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, &[("a", 0)]);
    bench.pass(500);
    let mut listed = |request: ListTransactionsRequest| {
        let token = bench.send(1, request);
        match bench.reply(token) {
            TransactionResponse::ListTransactions(response) => response,
            other => panic!("{other:?}"),
        }
    };
    let all = || ListTransactionsRequest::default();
    let count = |response: ListTransactionsResponse| response.transaction_states.len();
    assert_eq!(count(listed(all())), 1);
    assert_eq!(count(listed(all().with_state_filters(vec![text("Ongoing")]))), 1);
    assert_eq!(count(listed(all().with_producer_id_filters(vec![3.into()]))), 0);
    assert_eq!(count(listed(all().with_duration_filter(499))), 1);
    assert_eq!(count(listed(all().with_duration_filter(500))), 0);
    assert_eq!(count(listed(all().with_transactional_id_pattern(Some(text("i."))))), 1);
    assert_eq!(count(listed(all().with_transactional_id_pattern(Some(text("i"))))), 0);
    let unknown = listed(all().with_state_filters(vec![text("Open")]));
    assert_eq!((unknown.unknown_state_filters.len(), unknown.transaction_states.len()), (1, 0));
    let invalid = listed(all().with_transactional_id_pattern(Some(text("("))));
    assert_eq!(invalid.error_code, code(Error::InvalidRegularExpression));
}

#[test]
fn a_transaction_is_described_with_its_partitions() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, &[("b", 1), ("a", 0), ("a", 3)]);
    let ids = vec![text(ID).into(), text("none").into(), text("").into()];
    let token = bench.send(0, DescribeTransactionsRequest::default().with_transactional_ids(ids));
    let TransactionResponse::DescribeTransactions(response) = bench.reply(token) else { panic!() };
    let [described, unknown, empty] = response.transaction_states.as_slice() else { panic!("{response:?}") };
    assert_eq!((described.transaction_timeout_ms, described.producer_epoch), (60_000, 0));
    assert_eq!(described.transaction_start_time_ms, bench.now);
    let topics: Vec<_> =
        described.topics.iter().map(|t| (t.topic.to_string(), t.partitions.clone())).collect();
    assert_eq!(topics, [("a".to_owned(), vec![0, 3]), ("b".to_owned(), vec![1])]);
    assert_eq!(unknown.error_code, code(Error::TransactionalIdNotFound));
    assert_eq!(empty.error_code, code(Error::InvalidRequest));
}
