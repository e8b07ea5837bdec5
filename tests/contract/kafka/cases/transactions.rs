//! Transactions: their records and markers in the log, and what a reader of committed records gets.

use std::time::Duration;

use exactlyonce::broker::{Broker, LogOffsets};
use proto_kafka::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use proto_kafka::messages::{EndTxnRequest, TransactionalId, WriteTxnMarkersRequest};
use simulated_hosts::{HostFault, Recovery};

use super::helpers::{
    append, describe, driver, eventually, fetch, numbered, offsets, offsets_of, ranges, read_all, topic,
    topic_of, values_of,
};
use super::member::{Member, MemberEvent, Positions, offsets_delivered};
use super::raw::{Coordinates, coordinator, error_name, init, leader, outcome, produce, text, topic_name};
use crate::kafka::backend::{Backend, ClientError, NODES, TestProducer, TransactionalProducer, Verb};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_commit_marker_takes_an_offset_and_is_not_delivered,
            [Transactions],
            "control batches take an offset and are not handed to the application (KIP-98)"
        ),
        case!(
            an_aborted_transaction_is_not_delivered,
            [Transactions],
            "read_committed drops the records of aborted transactions (KIP-98)"
        ),
        case!(
            a_reader_stops_at_an_open_transaction,
            [Transactions],
            "read_committed reads up to the last stable offset: the first offset of an open transaction (KIP-98)"
        ),
        case!(
            a_position_between_the_last_stable_offset_and_the_end_is_in_range,
            [Transactions],
            "a fetch above the last stable offset returns no records (UnifiedLog.read)"
        ),
        case!(
            a_new_producer_of_the_same_id_aborts_the_open_transaction_of_the_old_one,
            [Transactions],
            "InitProducerId bumps the epoch: aborts the open transaction and fences the older producer (KIP-98)"
        ),
        case!(
            a_transaction_whose_producer_stops_is_aborted_after_its_timeout,
            [Transactions],
            "transaction.timeout.ms, enforced by the coordinator (KIP-98)"
        ),
        case!(
            overlapping_transactions_are_separate,
            [Transactions],
            "a batch carries its producer's id; the broker sends the list of aborted transactions (KIP-98)"
        ),
        case!(
            a_transaction_over_several_partitions_is_committed_in_each,
            [Transactions],
            "one marker for each partition (KIP-98)"
        ),
        case!(
            a_commit_is_seen_in_each_partition_when_its_leader_has_the_marker,
            [Transactions, Host(Pause)],
            "EndTxn is acknowledged when the decision is stored; markers are sent to each leader until it has them (KIP-98)"
        ),
        case!(
            the_end_is_past_markers_and_aborted_records,
            [Transactions],
            "the log end offset counts control records and aborted ones (KIP-98)"
        ),
        case!(
            a_position_after_the_last_record_is_out_of_range_when_its_marker_is_deleted,
            [Transactions],
            "DeleteRecords and retention know offsets, not records (KIP-107)"
        ),
        case!(
            a_position_at_the_reported_end_stays_in_range_when_all_records_are_deleted,
            [Transactions],
            "DeleteRecords up to the high watermark: log start = log end (KIP-107)"
        ),
        case!(
            a_write_outside_of_any_transaction_is_refused_or_else_hangs_until_an_administrator_ends_it,
            [Transactions],
            "transaction.partition.verification.enable: the leader asks the coordinator (KIP-890); what hangs is ended by WriteTxnMarkers (KIP-664)"
        ),
    ]
}

const LONG: Duration = Duration::from_secs(60);

async fn transactional<W: Backend>(backend: &W) -> W::Transactional {
    backend.transactional(&backend.unique("transactions"), LONG).await.expect("a transactional producer")
}

async fn a_commit_marker_takes_an_offset_and_is_not_delivered<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 0..3)).await.expect("records");
    producer.commit().await.expect("committed");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await };
    let after = eventually("the commit", attempt, |offsets| offsets.end > 0).await;
    assert_eq!(after, LogOffsets { start: 0, end: 4 });
    seen.note("3 records committed: end 4");
    for offset in [0, 3, 4] {
        let fetched = fetch(&broker, &topic, offset).await;
        seen.note(format!("a fetch at {offset}: {}", describe(&fetched)));
        assert!(fetched.is_ok_and(|fetched| fetched.next_offset == 4));
    }
    append(backend, &topic, 0, 3..4).await;
    assert_eq!(offsets_of(&read_all(&broker, &topic, 0, 0).await), [0, 1, 2, 4]);
    seen.note("another record: all offsets are 0-2, 4");
}

async fn an_aborted_transaction_is_not_delivered<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..2).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 2..5)).await.expect("records");
    producer.abort().await.expect("aborted");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    assert_eq!(eventually("the abort", attempt, |end| *end > 2).await, 6);
    for offset in [0, 2, 4] {
        let fetched = fetch(&broker, &topic, offset).await;
        seen.note(format!("0-1 plain, 2-4 aborted, end 6, a fetch at {offset}: {}", describe(&fetched)));
        assert!(fetched.is_ok_and(|fetched| fetched.next_offset == 6));
    }
    append(backend, &topic, 0, 6..8).await;
    assert_eq!(offsets_of(&read_all(&broker, &topic, 0, 0).await), [0, 1, 6, 7]);
    seen.note("two more: all offsets are 0-1, 6-7");
}

async fn a_reader_stops_at_an_open_transaction<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..2).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 2..4)).await.expect("records");
    append(backend, &topic, 0, 4..6).await;
    let broker = driver(backend);
    let attempt = || async { backend.high_watermark(&topic, 0).await };
    assert_eq!(eventually("the high watermark", attempt, |high| *high == Ok(6)).await, Ok(6));
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 0, end: 2 });
    seen.note("0-1 plain, 2-3 in an open transaction, 4-5 plain: high watermark 6, end 2");
    seen.note(format!("a fetch at 0: {}", describe(&fetch(&broker, &topic, 0).await)));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 2)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [0, 1]);
    seen.note("a member: 0-1, end 2");
    producer.commit().await.expect("committed");
    member.until_ends(&[(0, 7)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), [0, 1, 2, 3, 4, 5]);
    seen.note("committed: 2-5, end 7");
}

async fn a_position_between_the_last_stable_offset_and_the_end_is_in_range<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 0..2)).await.expect("records");
    append(backend, &topic, 0, 2..6).await;
    let broker = driver(backend);
    let attempt = || async { backend.high_watermark(&topic, 0).await };
    assert_eq!(eventually("the high watermark", attempt, |high| *high == Ok(6)).await, Ok(6));
    for offset in [0, 3, 6, 7] {
        let fetched = fetch(&broker, &topic, offset).await;
        seen.note(format!(
            "last stable offset 0, high watermark 6, a fetch at {offset}: {}",
            describe(&fetched)
        ));
    }
    let fetched = broker.fetch(&topic, 0, 4, 10, 1000).await;
    assert!(fetched.is_ok_and(|fetched| fetched.records.is_empty() && fetched.next_offset == 4));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::at([(0, 3)])).await;
    member.until_owns(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let so_far = member.events();
    assert!(
        !so_far
            .iter()
            .any(|events| matches!(events, MemberEvent::Failed { .. } | MemberEvent::Records { .. })),
        "{so_far:?}"
    );
    seen.note("a member started at 3: no records, no failure");
    producer.abort().await.expect("aborted");
    member.until_ends(&[(0, 7)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), [3, 4, 5]);
    seen.note("aborted: 3-5, end 7");
}

async fn a_new_producer_of_the_same_id_aborts_the_open_transaction_of_the_old_one<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let id = backend.unique("transactions");
    let old = backend.transactional(&id, LONG).await.expect("a transactional producer");
    old.begin().await.expect("begun");
    old.send_all(&topic, numbered(0, 0..2)).await.expect("records");
    let new = backend.transactional(&id, LONG).await.expect("its successor");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    assert_eq!(eventually("the abort", attempt, |end| *end > 0).await, 3);
    seen.note("2 records in a transaction left open, a new producer of the same id: aborted, end 3");
    let refused = old.commit().await;
    assert_eq!(refused, Err(ClientError::Fenced));
    seen.note("the old producer's commit: fenced");
    new.begin().await.expect("begun");
    new.send_all(&topic, numbered(0, 3..4)).await.expect("a record");
    new.commit().await.expect("committed");
    eventually("the commit", attempt, |end| *end == 5).await;
    assert_eq!(offsets_of(&read_all(&broker, &topic, 0, 0).await), [3]);
    seen.note("the new producer commits one record: all offsets are 3, end 5");
}

async fn a_transaction_whose_producer_stops_is_aborted_after_its_timeout<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let id = backend.unique("transactions");
    let producer =
        backend.transactional(&id, Duration::from_secs(2)).await.expect("a transactional producer");
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 0..2)).await.expect("records");
    append(backend, &topic, 0, 2..3).await;
    let broker = driver(backend);
    assert_eq!(offsets(&broker, &topic).await.end, 0);
    let attempt = || async { offsets(&broker, &topic).await.end };
    assert_eq!(eventually("the abort", attempt, |end| *end > 0).await, 4);
    assert_eq!(offsets_of(&read_all(&broker, &topic, 0, 0).await), [2]);
    seen.note("2 records in a transaction of a silent producer, 1 plain: end 0, after the timeout end 4 and the plain one is read");
}

async fn overlapping_transactions_are_separate<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let (kept, dropped) = (transactional(backend).await, transactional(backend).await);
    kept.begin().await.expect("begun");
    dropped.begin().await.expect("begun");
    for n in 0..3 {
        kept.send_all(&topic, numbered(0, [2 * n])).await.expect("a record");
        dropped.send_all(&topic, numbered(0, [2 * n + 1])).await.expect("a record");
    }
    dropped.abort().await.expect("aborted");
    kept.commit().await.expect("committed");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    assert_eq!(eventually("both ends", attempt, |end| *end > 0).await, 8);
    let records = read_all(&broker, &topic, 0, 0).await;
    assert_eq!(values_of(&records), ["0", "2", "4"]);
    seen.note(format!(
        "two transactions in turn, one aborted: offsets {} are read, end 8",
        ranges(&offsets_of(&records))
    ));
}

async fn a_transaction_over_several_partitions_is_committed_in_each<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic_of(backend, 3, &[]).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    for partition in 0..3 {
        producer.send_all(&topic, numbered(partition, 0..2)).await.expect("records");
    }
    producer.commit().await.expect("committed");
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 3), (1, 3), (2, 3)]).await;
    let events = member.leave().await;
    assert!((0..3).all(|partition| offsets_delivered(&events, partition) == [0, 1]));
    seen.note("2 records in each of 3 partitions: 0-1, end 3 in each");
}

async fn a_commit_is_seen_in_each_partition_when_its_leader_has_the_marker<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let id = backend.unique("transactions");
    let producer = backend.transactional(&id, LONG).await.expect("a transactional producer");
    let coordinator = coordinator(backend, &id, Coordinates::Transaction).await;
    let paused = NODES.into_iter().find(|node| *node != coordinator).expect("another broker");
    let mut topics = Vec::new();
    for node in [coordinator, paused] {
        let topic = backend.unique("contract");
        let alone = [("min.insync.replicas", "1")];
        backend.create_topic_on(&topic, &[node], &alone).await.expect("the topic is created");
        topics.push(topic);
    }
    producer.begin().await.expect("begun");
    for topic in &topics {
        producer.send_all(topic, numbered(0, 0..2)).await.expect("records");
    }
    backend.apply(HostFault::Pause, paused).await;
    producer.commit().await.expect("committed");
    seen.note("2 records in each of 2 partitions, the leader of the second is paused: the commit succeeds");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topics[0]).await.end };
    assert_eq!(eventually("the first marker", attempt, |end| *end > 0).await, 3);
    seen.note("the first has the marker: end 3");
    backend.recover(Recovery::Resume, &[paused]).await;
    let attempt = || async { offsets(&broker, &topics[1]).await.end };
    assert_eq!(eventually("the second marker", attempt, |end| *end > 0).await, 3);
    seen.note("resumed, the second has it, too: end 3");
}

async fn the_end_is_past_markers_and_aborted_records<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..2).await;
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 2..5)).await.expect("records");
    producer.abort().await.expect("aborted");
    let broker = driver(backend);
    let positions = Positions::default();
    let member = Member::join(&broker, &backend.unique("group"), &topic, &positions).await;
    member.until_ends(&[(0, 6)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [0, 1]);
    seen.note("0-1 plain, 2-4 aborted: a member receives 0-1 and the end at 6");
    producer.begin().await.expect("begun");
    producer.send_all(&topic, numbered(0, 6..7)).await.expect("a record");
    producer.commit().await.expect("committed");
    member.until_ends(&[(0, 8)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), [0, 1, 6]);
    seen.note("one more, committed: 6, and the end at 8");
}

async fn a_position_after_the_last_record_is_out_of_range_when_its_marker_is_deleted<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let (topic, broker) = committed_and_deleted(backend).await;
    let fetched = fetch(&broker, &topic, 3).await;
    seen.note(format!(
        "0-2 committed, the marker at 3, all deleted: start 4, end 4; a fetch at 3: {}",
        describe(&fetched)
    ));
    assert!(fetched.is_err());
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::at([(0, 3)])).await;
    let failed = |events: &[MemberEvent]| {
        events
            .iter()
            .any(|events| matches!(events, MemberEvent::Failed { offset: 3, kind: "out of range", .. }))
    };
    member.until("the failure", failed).await;
    seen.note("a member started at 3: out of range, although no record is missing");
    member.leave().await;
}

async fn a_position_at_the_reported_end_stays_in_range_when_all_records_are_deleted<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    commit_three(backend, &topic).await;
    let (broker, positions) = (driver(backend), Positions::default());
    let group = backend.unique("group");
    let member = Member::join(&broker, &group, &topic, &positions).await;
    member.until_ends(&[(0, 4)]).await;
    member.leave().await;
    assert_eq!(positions.of(0), 4);
    assert_eq!(backend.delete_records(&topic, 0, None).await, Ok(4));
    let successor = Member::join(&driver(backend), &group, &topic, &positions).await;
    successor.until_ends(&[(0, 4)]).await;
    seen.note(
        "0-2 committed, the end reported at 4, all deleted: a successor that starts at 4 gets the end at 4",
    );
    append(backend, &topic, 0, 4..6).await;
    successor.until_ends(&[(0, 6)]).await;
    let events = successor.leave().await;
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Failed { .. })), "{events:?}");
    assert_eq!(offsets_delivered(&events, 0), [4, 5]);
    seen.note("two more: 4-5");
}

async fn commit_three<W: Backend>(backend: &W, topic: &str) {
    let producer = transactional(backend).await;
    producer.begin().await.expect("begun");
    producer.send_all(topic, numbered(0, 0..3)).await.expect("records");
    producer.commit().await.expect("committed");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, topic).await.end };
    eventually("the commit", attempt, |end| *end == 4).await;
}

async fn committed_and_deleted<W: Backend>(backend: &W) -> (String, W::Broker) {
    let topic = topic(backend, &[]).await;
    commit_three(backend, &topic).await;
    assert_eq!(backend.delete_records(&topic, 0, None).await, Ok(4));
    let broker = driver(backend);
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 4, end: 4 });
    (topic, broker)
}

async fn a_write_outside_of_any_transaction_is_refused_or_else_hangs_until_an_administrator_ends_it<
    W: Backend,
>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let id = backend.unique("transactions");
    append(backend, &topic, 0, 0..1).await;
    let producer = init(backend, Some(&id), Duration::from_secs(2)).await;
    let refused = produce(backend, &topic, producer, 0, Some(&id)).await;
    seen.note(format!("1 plain record, a write outside of any transaction: {}", outcome(&refused)));
    backend.configure_brokers("transaction.partition.verification.enable", Some("false")).await;
    // A broker learns of it after the one that was asked.
    let attempt = || produce(backend, &topic, producer, 0, Some(&id));
    assert_eq!(eventually("the change", attempt, Result::is_ok).await, Ok(1));
    backend.configure_brokers("transaction.partition.verification.enable", None).await;
    append(backend, &topic, 0, 2..3).await;
    let broker = driver(backend);
    assert_eq!(offsets(&broker, &topic).await.end, 1);
    seen.note("without verification it is appended at 1, another plain one at 2: end 1");
    let end = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(&id)))
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch);
    let node = coordinator(backend, &id, Coordinates::Transaction).await;
    let response = backend.request(node, &end, 3).await;
    seen.note(format!("its abort: {}", error_name(response.error_code)));
    // Longer than its timeout.
    tokio::time::sleep(Duration::from_secs(5)).await;
    init(backend, Some(&id), Duration::from_secs(2)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(offsets(&broker, &topic).await.end, 1);
    assert_eq!(backend.high_watermark(&topic, 0).await, Ok(3));
    seen.note("after its timeout, and with a new producer of the id: end 1, high watermark 3");
    let of_topic =
        WritableTxnMarkerTopic::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_topics(vec![of_topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let response = backend.request(leader(backend, &topic).await, &request, 1).await;
    assert_eq!(response.markers[0].topics[0].partitions[0].error_code, 0);
    let attempt = || async { offsets(&broker, &topic).await.end };
    assert_eq!(eventually("the marker", attempt, |end| *end > 1).await, 4);
    let records = read_all(&broker, &topic, 0, 0).await;
    seen.note(format!(
        "an administrator writes the marker of an abort: offsets {} are read, end 4",
        ranges(&offsets_of(&records))
    ));
}
