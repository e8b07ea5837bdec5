//! Idempotent and transactional producers.

use std::time::Duration;

use proto_kafka::messages::AddOffsetsToTxnRequest;
use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
    ProducerId, TransactionalId,
};
use simulated_kafka::protocol::builder::BatchBuilder;
use tokio::time::sleep;

use super::{Run, TOPICS};
use crate::harness::{START, text, topic_name};

/// The coordinator of a transactional id (1) or of a group (0), or some broker.
pub async fn coordinator(run: &Run, who: &str, key: &str, kind: i8) -> i32 {
    let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
    let any = 1 + (key.len() as i32 % 3);
    let response = run.ask(who, any, request, 2).await.filter(|response| response.error_code == 0);
    response.map_or(any, |response| response.node_id.0)
}

/// The id and epoch of a producer.
async fn init(run: &Run, who: &str, id: Option<&str>) -> Option<(i64, i16)> {
    let node = match id {
        Some(id) => coordinator(run, who, id, 1).await,
        None => 1,
    };
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(text(id))))
        .with_transaction_timeout_ms(10_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let response = run.ask(who, node, request, 4).await.filter(|response| response.error_code == 0)?;
    Some((response.producer_id.0, response.producer_epoch))
}

async fn produce(
    run: &Run,
    who: &str,
    id: Option<&str>,
    (producer, epoch): (i64, i16),
    sequence: i32,
    topic: &str,
    version: i16,
) -> bool {
    let batch = BatchBuilder::new(START).producer(producer, epoch, sequence);
    let batch = if id.is_some() { batch.transactional() } else { batch };
    let batch = batch.record(START, None, Some(who.as_bytes())).build();
    let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
    let wanted = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(2_000)
        .with_topic_data(vec![wanted]);
    let response = run.ask(who, run.leader(topic), request, version).await;
    response.is_some_and(|response| response.responses[0].partition_responses[0].error_code == 0)
}

pub async fn idempotent(run: Run, number: u64) {
    let who = format!("idempotent {number}");
    let (topic, _) = TOPICS[number as usize % TOPICS.len()];
    while !run.is_over() {
        sleep(Duration::from_millis(100)).await;
        let Some(producer) = init(&run, &who, None).await else { continue };
        let mut sequence = 0;
        while !run.is_over() && produce(&run, &who, None, producer, sequence, topic, 9).await {
            sequence += 1;
            sleep(Duration::from_millis(70)).await;
        }
    }
}

/// Transactions of the first protocol, which adds partitions first, for even numbers; of the second for the others.
pub async fn transactional(run: Run, number: u64) {
    let (who, id) = (format!("transactional {number}"), format!("transaction{number}"));
    let is_first = number.is_multiple_of(2);
    while !run.is_over() {
        sleep(Duration::from_millis(100)).await;
        let Some(mut producer) = init(&run, &who, Some(&id)).await else { continue };
        let mut sequence = [0; TOPICS.len()];
        for round in 0.. {
            sleep(Duration::from_millis(50)).await;
            if run.is_over() {
                break;
            }
            let node = coordinator(&run, &who, &id, 1).await;
            let mut is_well = true;
            if is_first {
                let topics = TOPICS.map(|(topic, _)| {
                    AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![0])
                });
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(TransactionalId(text(&id)))
                    .with_v3_and_below_producer_id(ProducerId(producer.0))
                    .with_v3_and_below_producer_epoch(producer.1)
                    .with_v3_and_below_topics(topics.to_vec());
                run.ask(&who, node, request, 3).await;
                let request = AddOffsetsToTxnRequest::default()
                    .with_transactional_id(TransactionalId(text(&id)))
                    .with_producer_id(ProducerId(producer.0))
                    .with_producer_epoch(producer.1)
                    .with_group_id(proto_kafka::messages::GroupId(text("classic")));
                run.ask(&who, node, request, 3).await;
            }
            for ((topic, _), sequence) in TOPICS.iter().zip(&mut sequence) {
                let version = if is_first { 9 } else { 12 };
                is_well &= produce(&run, &who, Some(&id), producer, *sequence, topic, version).await;
                *sequence += 1;
            }
            let request = EndTxnRequest::default()
                .with_transactional_id(TransactionalId(text(&id)))
                .with_producer_id(ProducerId(producer.0))
                .with_producer_epoch(producer.1)
                .with_committed(is_well && round % 3 != 0);
            let version = if is_first { 3 } else { 5 };
            let response = run.ask(&who, node, request, version).await;
            let Some(response) = response.filter(|response| response.error_code == 0) else { break };
            if !is_first {
                producer = (response.producer_id.0, response.producer_epoch);
                sequence = [0; TOPICS.len()];
            }
        }
    }
}
