//! Transactions and their coordinators on replicated partitions.

use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use proto_kafka::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    ProduceRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use simulated_kafka::cluster::HostFault::Kill;
use simulated_kafka::cluster::{Options, Verb};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::types::NodeId;

use crate::administration::{BROKER, SET, alter};
use crate::harness::{START, Testbed, checked, read, seconds, text, topic_name, wanted};

pub const ID: &str = "transactional";

#[derive(Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

pub async fn start(change: impl FnOnce(&mut Options)) -> Testbed {
    let bed = Testbed::start_with(1, |options| {
        options.offsets_partitions = 1;
        options.transaction_partitions = 1;
        change(options);
    })
    .await;
    bed.topic("a", &[1, 2, 3], &[]).await;
    bed.topic("b", &[2, 3, 1], &[]).await;
    bed
}

/// The coordinator, asked until there is one.
pub async fn coordinator(bed: &Testbed) -> i32 {
    loop {
        let request = FindCoordinatorRequest::default().with_key(text(ID)).with_key_type(1);
        let response = bed.send(bed.any(), request, 2).await.unwrap();
        if response.error_code == 0 {
            return response.node_id.0;
        }
        assert_eq!(response.error_code, ErrorCode::CoordinatorNotAvailable.code());
        tokio::time::sleep(seconds(1)).await;
    }
}

pub async fn init(bed: &Testbed) -> Producer {
    loop {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(ID))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let response = bed.send(coordinator(bed).await, request, 4).await.unwrap();
        if response.error_code == 0 {
            return Producer { id: response.producer_id.0, epoch: response.producer_epoch };
        }
        tokio::time::sleep(seconds(1)).await;
    }
}

pub async fn add(bed: &Testbed, producer: Producer, topics: &[&str]) -> Result<(), ErrorCode> {
    let topics = topics.iter().map(|topic| {
        AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![0])
    });
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text(ID)))
        .with_v3_and_below_producer_id(ProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(topics.collect());
    let response = bed.send(coordinator(bed).await, request, 3).await.unwrap();
    checked(response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, ())
}

pub async fn end(bed: &Testbed, producer: Producer, commit: bool) -> Result<(), ErrorCode> {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(ID)))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_committed(commit);
    let response = bed.send(coordinator(bed).await, request, 3).await.unwrap();
    checked(response.error_code, ())
}

pub async fn produce(
    bed: &Testbed,
    producer: Producer,
    topic: &str,
    sequence: i32,
    value: &str,
) -> Result<i64, ErrorCode> {
    let batch = BatchBuilder::new(START)
        .producer(producer.id, producer.epoch, sequence)
        .transactional()
        .record(START, None, Some(value.as_bytes()))
        .build();
    let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
    let wanted = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(text(ID))))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![wanted]);
    let response = bed.send(bed.leader(topic).unwrap(), request, 9).await.unwrap();
    let partition = &response.responses[0].partition_responses[0];
    checked(partition.error_code, partition.base_offset)
}

/// What a reader of committed records gets: the last stable offset, and how many aborted transactions it learns of.
async fn committed(bed: &Testbed, topic: &str) -> (i64, usize, Vec<String>) {
    let data = bed.fetch_with(bed.leader(topic).unwrap(), topic, wanted(0), 1).await.unwrap();
    let aborted = data.aborted_transactions.clone().unwrap_or_default().len();
    let found = read(data, 0).unwrap();
    (found.last_stable, aborted, found.values.into_iter().map(|(_, value)| value).collect())
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_at_its_coordinator_before_its_markers_are_written_one_by_one() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    assert_eq!(add(&bed, producer, &["a", "b"]).await, Ok(()));
    assert_eq!(produce(&bed, producer, "a", 0, "1").await, Ok(0));
    assert_eq!(produce(&bed, producer, "b", 0, "2").await, Ok(0));
    assert_eq!(committed(&bed, "a").await, (0, 0, vec![]));
    // Markers for the topic that broker 2 leads are lost, unless the coordinator is there.
    let distant = if coordinator(&bed).await == 2 { ("a", 1) } else { ("b", 2) };
    bed.links.rule(move |envelope| {
        (envelope.verb == Verb::WriteMarkers && envelope.to == NodeId(distant.1)).then(Vec::new)
    });
    let near = if distant.0 == "a" { "b" } else { "a" };
    assert_eq!(end(&bed, producer, true).await, Ok(()));
    tokio::time::sleep(seconds(1)).await;
    let is_far = coordinator(&bed).await != distant.1;
    assert!(is_far);
    assert_eq!(committed(&bed, near).await.0, 2);
    assert_eq!(committed(&bed, distant.0).await, (0, 0, vec![]));
    // The next transaction waits for the last one.
    assert_eq!(add(&bed, producer, &["a"]).await, Err(ErrorCode::ConcurrentTransactions));
    bed.links.restore_all();
    bed.until("the other marker", async || committed(&bed, distant.0).await.0 == 2).await;
    bed.until("the next transaction", async || add(&bed, producer, &["a"]).await.is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_transaction_is_listed_to_readers_of_committed_records() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["a"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    end(&bed, producer, false).await.unwrap();
    bed.until("the marker", async || committed(&bed, "a").await.0 == 2).await;
    assert_eq!(committed(&bed, "a").await, (2, 1, vec!["1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_to_an_ended_transaction_is_refused() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["a"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    end(&bed, producer, false).await.unwrap();
    bed.until("the marker", async || committed(&bed, "a").await.0 == 2).await;
    assert_eq!(produce(&bed, producer, "a", 1, "late").await, Err(ErrorCode::InvalidTxnState));
}

#[tokio::test(start_paused = true)]
async fn without_verification_a_late_write_opens_a_transaction_that_nobody_ends() {
    let bed = start(|options| options.verify_transactions = false).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["a"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    end(&bed, producer, false).await.unwrap();
    bed.until("the marker", async || committed(&bed, "a").await.0 == 2).await;
    assert_eq!(produce(&bed, producer, "a", 1, "late").await, Ok(2));
    bed.produce("a", &["plain"], -1).await.unwrap();
    tokio::time::sleep(seconds(3600)).await;
    // The last stable offset stands still, the high watermark does not.
    let state = bed.cluster.replica(NodeId(1), "a", 0).unwrap();
    assert_eq!((state.last_stable, state.high_watermark), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn the_offsets_of_a_transaction_are_refused_by_brokers_that_only_follow_the_coordinator_of_the_group() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    let of_group = crate::groups::coordinator(&bed).await;
    bed.cluster.settled().await;
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic =
        TxnOffsetCommitRequestTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(ID)))
        .with_group_id(GroupId(text("group")))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    for version in [3, 4, 5] {
        for node in (1..=3).filter(|node| *node != of_group) {
            let response = bed.send(node, request.clone(), version).await.unwrap();
            let code = response.topics[0].partitions[0].error_code;
            assert_eq!(code, ErrorCode::NotCoordinator.code(), "broker {node}, version {version}");
        }
    }
    let response = bed.send(of_group, request, 5).await.unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn verification_ends_and_begins_again_while_brokers_run() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    for (enabled, outcome) in [
        ("true", Err(ErrorCode::InvalidTxnState)),
        ("false", Ok(0)),
        ("true", Err(ErrorCode::InvalidTxnState)),
    ] {
        let change = [("transaction.partition.verification.enable", SET, Some(enabled))];
        assert_eq!(alter(&bed, (BROKER, ""), &change, false).await, Ok(()));
        assert_eq!(produce(&bed, producer, if outcome.is_ok() { "a" } else { "b" }, 0, "1").await, outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_ends_what_the_old_one_had_decided() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["a", "b"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    produce(&bed, producer, "b", 0, "2").await.unwrap();
    bed.links.rule(|envelope| (envelope.verb == Verb::WriteMarkers).then(Vec::new));
    end(&bed, producer, true).await.unwrap();
    let old = coordinator(&bed).await;
    bed.fault(old, Kill);
    bed.links.restore_all();
    bed.until("another coordinator", async || coordinator(&bed).await != old).await;
    for topic in ["a", "b"] {
        bed.until("a leader", async || bed.leader(topic).is_some_and(|leader| leader != old)).await;
    }
    bed.cluster.settled().await;
    bed.until("the markers", async || committed(&bed, "a").await.0 == 2 && committed(&bed, "b").await.0 == 2)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_producer_fences_the_old_one_and_aborts_its_transaction() {
    let bed = start(|_| {}).await;
    let old = init(&bed).await;
    add(&bed, old, &["a"]).await.unwrap();
    produce(&bed, old, "a", 0, "1").await.unwrap();
    let new = init(&bed).await;
    assert!(new.id == old.id && new.epoch > old.epoch);
    assert_eq!(committed(&bed, "a").await.0, 2);
    assert_eq!(end(&bed, old, true).await, Err(ErrorCode::ProducerFenced));
    assert_eq!(produce(&bed, old, "a", 1, "x").await, Err(ErrorCode::InvalidProducerEpoch));
}

/// As clients of the second protocol end a transaction and produce: without adding partitions.
#[tokio::test(start_paused = true)]
async fn a_transaction_begins_while_the_markers_of_the_last_one_arrive() {
    let bed = start(|_| ()).await;
    let mut producer = init(&bed).await;
    for round in 0..20 {
        let batch = BatchBuilder::new(START)
            .producer(producer.id, producer.epoch, 0)
            .transactional()
            .record(START, None, Some(b"value"))
            .build();
        let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
        let wanted = TopicProduceData::default().with_name(topic_name("a")).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(text(ID))))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![wanted]);
        let response = bed.send(bed.leader("a").unwrap(), request, 12).await.unwrap();
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "round {round}");
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(ID)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(round % 2 == 0);
        let response = bed.send(coordinator(&bed).await, request, 5).await.unwrap();
        assert_eq!(response.error_code, 0, "round {round}");
        producer = Producer { id: response.producer_id.0, epoch: response.producer_epoch };
    }
}

/// Sends batches to the topics `a` and `b` in one request to broker 1, which leads `a` alone; the errors and messages.
async fn produce_both(
    bed: &Testbed,
    batches: [BatchBuilder; 2],
    id: Option<&str>,
    acks: i16,
) -> Option<Vec<(Option<ErrorCode>, Option<String>)>> {
    let topics = ["a", "b"].into_iter().zip(batches).map(|(topic, batch)| {
        let batch = batch.record(START, None, Some(b"x")).build();
        let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data])
    });
    let request = ProduceRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(text(id))))
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(topics.collect());
    let response = bed.send(1, request, 9).await?;
    let partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
    let errors = partitions.map(|partition| {
        let message = partition.error_message.map(|message| message.to_string());
        (ErrorCode::try_from_code(partition.error_code), message)
    });
    Some(errors.collect())
}

#[tokio::test(start_paused = true)]
async fn the_transactional_batches_of_a_request_are_of_one_producer_or_all_are_refused() {
    let bed = start(|options| options.verify_transactions = false).await;
    let batch = |id: i64, epoch: i16| BatchBuilder::new(START).producer(id, epoch, 0);
    let message = "Transactional records contained more than one producer ID".to_owned();
    let refused = vec![(Some(ErrorCode::InvalidProducerIdMapping), Some(message)); 2];
    for other in [batch(2, 0), batch(1, 1)] {
        let both = [batch(1, 0).transactional(), other.transactional()];
        assert_eq!(produce_both(&bed, both.clone(), Some(ID), -1).await, Some(refused.clone()));
        // Who expects no response learns of it all the same.
        assert_eq!(produce_both(&bed, both, Some(ID), 0).await, None);
    }
    assert_eq!(bed.end("a").await, Ok(0), "nothing was appended");
    // Another producer that is not transactional is none of the transaction.
    let not_leader = (Some(ErrorCode::NotLeaderOrFollower), None);
    let both = [batch(1, 0).transactional(), batch(2, 0)];
    assert_eq!(produce_both(&bed, both, Some(ID), -1).await, Some(vec![(None, None), not_leader]));
}

#[tokio::test(start_paused = true)]
async fn a_transactional_batch_without_the_id_of_its_transactions_is_refused() {
    let bed = start(|options| options.verify_transactions = false).await;
    let batch = |id: i64| BatchBuilder::new(START).producer(id, 0, 0);
    let refused = vec![(Some(ErrorCode::TransactionalIdAuthorizationFailed), None); 2];
    let one = [batch(1), batch(1).transactional()];
    assert_eq!(produce_both(&bed, one, None, -1).await, Some(refused));
    assert_eq!(bed.end("a").await, Ok(0), "nothing was appended");
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_the_first_protocol_ends_the_next_transaction() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["a"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    end(&bed, producer, true).await.unwrap();
    bed.until("the next transaction", async || add(&bed, producer, &["a"]).await.is_ok()).await;
    produce(&bed, producer, "a", 1, "2").await.unwrap();
    // The same request, which the network has duplicated.
    assert_eq!(end(&bed, producer, true).await, Ok(()));
    bed.until("its marker", async || committed(&bed, "a").await.0 == 4).await;
    // The producer believes that it is in the second transaction, and is about to abort it.
    assert_eq!(committed(&bed, "a").await.2, ["1", "2"]);
    let refused = async || end(&bed, producer, false).await == Err(ErrorCode::InvalidTxnState);
    bed.until("the end of the transaction", refused).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_the_second_protocol_is_fenced() {
    let bed = start(|_| {}).await;
    let producer = init(&bed).await;
    let end = async |producer: Producer| {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(ID)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(true);
        let response = bed.send(coordinator(&bed).await, request, 5).await.unwrap();
        let next = Producer { id: response.producer_id.0, epoch: response.producer_epoch };
        checked(response.error_code, next)
    };
    add(&bed, producer, &["a"]).await.unwrap();
    produce(&bed, producer, "a", 0, "1").await.unwrap();
    let next = end(producer).await.unwrap();
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch + 1));
    bed.until("the next transaction", async || add(&bed, next, &["a"]).await.is_ok()).await;
    produce(&bed, next, "a", 0, "2").await.unwrap();
    assert_eq!(end(producer).await.map(|_| ()), Err(ErrorCode::ProducerFenced));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(committed(&bed, "a").await, (2, 0, vec!["1".to_owned()]));
    // The transaction goes on.
    produce(&bed, next, "a", 1, "3").await.unwrap();
    assert!(end(next).await.is_ok());
    bed.until("its marker", async || committed(&bed, "a").await.2 == ["1", "2", "3"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_ends_holds_readers_at_the_start_of_the_log_when_retention_has_removed_it()
{
    let bed = start(|options| options.verify_transactions = false).await;
    bed.topic("short", &[1], &[("retention.ms", "60000")]).await;
    let producer = init(&bed).await;
    add(&bed, producer, &["short"]).await.unwrap();
    produce(&bed, producer, "short", 0, "1").await.unwrap();
    end(&bed, producer, false).await.unwrap();
    bed.until("the marker", async || committed(&bed, "short").await.0 == 2).await;
    produce(&bed, producer, "short", 1, "late").await.unwrap();
    bed.produce("short", &["plain"], -1).await.unwrap();
    // A reader of committed records is at its end, and stays there.
    assert_eq!(committed(&bed, "short").await.0, 2);
    tokio::time::sleep(seconds(600)).await;
    let data = bed.fetch_with(1, "short", wanted(2), 1).await.unwrap();
    assert_eq!(checked(data.error_code, ()), Err(ErrorCode::OffsetOutOfRange));
    // It is open all the same, wherever the log starts (`UnifiedLog.maybeIncrementFirstUnstableOffset`).
    let start = bed.produce("short", &["plain"], -1).await.unwrap();
    let data = bed.fetch_with(1, "short", wanted(start), 1).await.unwrap();
    assert_eq!(
        (data.log_start_offset, data.last_stable_offset, data.high_watermark),
        (start, start, start + 1)
    );
    assert_eq!(data.records.map_or(0, |records| records.len()), 0);
}
