//! Partitions of a transaction: added by clients and brokers, and verified by brokers.

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use proto_kafka::messages::{AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use simulated_kafka::coordinator::{Producer, partition_of};
use simulated_kafka::transaction::TransactionResponse;

use crate::harness::{Bench, ID, add, code, text, topics};

fn transaction(id: &str, producer: Producer, partitions: &[(&str, i32)]) -> AddPartitionsToTxnTransaction {
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(text(id).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_topics(topics(partitions))
}

fn response(
    bench: &mut Bench,
    transactions: Vec<AddPartitionsToTxnTransaction>,
) -> AddPartitionsToTxnResponse {
    let token = bench.send(4, AddPartitionsToTxnRequest::default().with_transactions(transactions));
    match bench.reply(token) {
        TransactionResponse::AddPartitionsToTxn(response) => response,
        other => panic!("{other:?}"),
    }
}

/// The errors of a verification, partition by partition.
fn verified(bench: &mut Bench, id: &str, producer: Producer, partitions: &[(&str, i32)]) -> Vec<i16> {
    let request = transaction(id, producer, partitions).with_verify_only(true);
    let result = response(bench, vec![request]).results_by_transaction.remove(0);
    let partitions = result.topic_results.into_iter().flat_map(|topic| topic.results_by_partition);
    partitions.map(|partition| partition.partition_error_code).collect()
}

#[test]
fn a_partition_is_verified_if_it_is_part_of_the_open_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init();
    let abortable = code(Error::TransactionAbortable);
    assert_eq!(verified(&mut bench, ID, producer, &[("a", 0)]), [abortable]);
    bench.add(producer, &[("a", 0)]);
    assert_eq!(verified(&mut bench, ID, producer, &[("a", 0), ("a", 1)]), [0, abortable]);
    bench.end(1, producer, true);
    assert_eq!(verified(&mut bench, ID, producer, &[("a", 0)]), [code(Error::ConcurrentTransactions)]);
    bench.write_markers();
    assert_eq!(verified(&mut bench, ID, producer, &[("a", 0)]), [abortable], "a late record opens nothing");
}

#[test]
fn the_partitions_of_another_producer_are_not_verified() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, &[("a", 0)]);
    let at = &[("a", 0)];
    let mapping = code(Error::InvalidProducerIdMapping);
    assert_eq!(verified(&mut bench, "other", producer, at), [mapping]);
    assert_eq!(verified(&mut bench, ID, Producer { id: 5, ..producer }, at), [mapping]);
    assert_eq!(
        verified(&mut bench, ID, Producer { epoch: 9, ..producer }, at),
        [code(Error::ProducerFenced)]
    );
    assert_eq!(verified(&mut bench, "", producer, at), [code(Error::InvalidRequest)]);
}

#[test]
fn one_unknown_partition_refuses_all_of_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init();
    let token = bench.send(3, add(producer, &[("a", 0), ("a", 9), ("none", 0)]));
    let TransactionResponse::AddPartitionsToTxn(response) = bench.reply(token) else { panic!() };
    let results =
        response.results_by_topic_v3_and_below.into_iter().flat_map(|topic| topic.results_by_partition);
    let codes: Vec<_> = results.map(|partition| partition.partition_error_code).collect();
    let unknown = code(Error::UnknownTopicOrPartition);
    assert_eq!(codes, [code(Error::OperationNotAttempted), unknown, unknown]);
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn partitions_of_another_producer_or_epoch_are_not_added() {
    let mut bench = Bench::new();
    let old = bench.init();
    let producer = bench.init();
    let another = Producer { id: producer.id + 1, ..producer };
    assert_eq!(bench.add(another, &[("a", 0)]), code(Error::InvalidProducerIdMapping));
    let newer = Producer { epoch: producer.epoch + 1, ..producer };
    for other in [old, newer] {
        assert_eq!(bench.add(other, &[("a", 0)]), code(Error::ProducerFenced));
    }
    assert_eq!(bench.state(), "Empty");
    assert_eq!(bench.add(producer, &[("a", 0)]), 0);
}

#[test]
fn partitions_that_are_known_already_need_no_record() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, &[("a", 0), ("b", 0)]);
    let records = bench.log.len();
    assert_eq!(bench.add(producer, &[("b", 0)]), 0);
    assert_eq!(bench.log.len(), records);
    assert_eq!(bench.add(producer, &[("b", 1)]), 0);
    assert_eq!(bench.log.len(), records + 1);
}

#[test]
fn a_transaction_begins_without_partitions_if_none_are_added() {
    let mut bench = Bench::new();
    let producer = bench.init();
    let records = bench.log.len();
    bench.send(3, add(producer, &[]));
    assert_eq!((bench.state().as_str(), bench.log.len()), ("Ongoing", records + 1));
    // Then it is open, and nothing is new.
    bench.send(3, add(producer, &[]));
    assert_eq!(bench.log.len(), records + 1);
}

#[test]
fn the_record_of_a_transaction_has_the_version_of_its_protocol() {
    // A tagged field of two bytes, the only one there is; version 0 is left out.
    for (version, end) in [(4, &[0][..]), (5, &[1, 2, 2, 0, 2])] {
        let mut bench = Bench::new();
        let producer = bench.init();
        let transactions = vec![transaction(ID, producer, &[("a", 0)])];
        bench.send(version, AddPartitionsToTxnRequest::default().with_transactions(transactions));
        let value = bench.log.last().and_then(|record| record.value.clone()).expect("a record");
        assert!(value.ends_with(end), "version {version}: {value:?}");
    }
}

#[test]
fn a_batch_of_transactions_is_answered_when_the_last_record_is_committed() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.hold = true;
    let other = Producer { id: 5, epoch: 0 };
    let transactions =
        vec![transaction("unknown", other, &[("a", 1)]), transaction(ID, producer, &[("a", 0), ("b", 1)])];
    let token = bench.send(4, AddPartitionsToTxnRequest::default().with_transactions(transactions));
    assert!(!bench.replies.contains_key(&token));
    bench.commit();
    let TransactionResponse::AddPartitionsToTxn(response) = bench.reply(token) else { panic!() };
    let codes: Vec<(String, i16)> = response
        .results_by_transaction
        .iter()
        .map(|result| {
            let first = result.topic_results[0].results_by_partition[0].partition_error_code;
            (result.transactional_id.to_string(), first)
        })
        .collect();
    let mapping = code(Error::InvalidProducerIdMapping);
    assert_eq!(codes, [("unknown".to_owned(), mapping), (ID.to_owned(), 0)]);
}

#[test]
fn the_offsets_of_a_group_are_a_partition_of_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init();
    let request = |producer: Producer| {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(text(ID).into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_group_id(text("group").into())
    };
    let error = |bench: &mut Bench, version, producer| {
        let token = bench.send(version, request(producer));
        match bench.reply(token) {
            TransactionResponse::AddOffsetsToTxn(response) => response.error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error(&mut bench, 3, producer), 0);
    assert_eq!(error(&mut bench, 3, producer), 0);
    let fenced = Producer { epoch: 7, ..producer };
    assert_eq!(error(&mut bench, 1, fenced), code(Error::InvalidProducerEpoch));
    assert_eq!(error(&mut bench, 2, fenced), code(Error::ProducerFenced));
    bench.end(1, producer, true);
    let expected = ("__consumer_offsets".to_owned(), partition_of("group", 50));
    assert_eq!(bench.markers[0].partitions, [expected]);
}
