//! Producers that retry.

use std::time::Duration;

use proto_kafka::messages::DescribeProducersRequest;
use proto_kafka::messages::describe_producers_request::TopicRequest;

use super::helpers::{append, driver, eventually, offsets, read_all, topic, values_of};
use super::raw::{init, leader, outcome, produce, topic_name};
use crate::kafka::backend::{
    Backend, ClientError, Guarantee, Link, ProducerOptions, Request, TestProducer, Verb, value,
};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_retry_appends_twice_without_idempotence,
            [Link(LoseResponses)],
            "at least once: a resend whose first response was lost is appended again (Kafka documentation, Message Delivery Semantics)"
        ),
        case!(
            a_retry_appends_once_with_idempotence,
            [Link(LoseResponses), Transactions],
            "the broker drops a batch whose producer id and sequence it has (KIP-98)"
        ),
        case!(
            a_send_that_failed_may_have_been_appended,
            [Link(LoseResponses)],
            "a timeout says nothing about the log (Kafka documentation, Message Delivery Semantics)"
        ),
        case!(
            a_new_idempotent_producer_appends_again,
            [Transactions],
            "a producer id lives as long as its producer: no deduplication between sessions (KIP-98)"
        ),
        case!(
            an_idempotent_producer_appends_once_and_in_order_despite_lost_responses,
            [Link(LoseResponses), Transactions],
            "sequences are per partition, up to 5 batches in flight (KIP-98)"
        ),
        case!(
            an_idempotent_producer_that_is_silent_for_too_long_appends_again,
            [Transactions],
            "producer.id.expiration.ms: what the broker knows of a silent producer is dropped, and its next sequence may be any (KIP-360)"
        ),
    ]
}

fn quick(guarantee: Guarantee) -> ProducerOptions {
    ProducerOptions { guarantee, request_timeout: Duration::from_secs(2), ..ProducerOptions::default() }
}

async fn lose_one_response<W: Backend>(backend: &W, guarantee: Guarantee) -> Vec<String> {
    let topic = topic(backend, &[]).await;
    let link = backend.link();
    let producer = backend.producer(&quick(guarantee), Some(&link));
    producer.send(&topic, value("first")).await.expect("a record");
    link.lose_responses(Request::Produce, 1);
    producer.send(&topic, value("second")).await.expect("a record, retried");
    assert_eq!(link.lost_responses(), 1);
    producer.send(&topic, value("third")).await.expect("a record");
    values_of(&read_all(&driver(backend), &topic, 0, 0).await)
}

async fn a_retry_appends_twice_without_idempotence<W: Backend>(backend: &W, seen: &Observations) {
    let values = lose_one_response(backend, Guarantee::Plain).await;
    seen.note(format!("the response to the second of three is lost: {}", values.join(", ")));
    assert_eq!(values, ["first", "second", "second", "third"]);
}

async fn a_retry_appends_once_with_idempotence<W: Backend>(backend: &W, seen: &Observations) {
    let values = lose_one_response(backend, Guarantee::Idempotent).await;
    seen.note(format!("the response to the second of three is lost: {}", values.join(", ")));
    assert_eq!(values, ["first", "second", "third"]);
}

async fn a_send_that_failed_may_have_been_appended<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let link = backend.link();
    let producer = backend.producer(&ProducerOptions { retries: 0, ..quick(Guarantee::Plain) }, Some(&link));
    producer.send(&topic, value("first")).await.expect("a record");
    link.lose_responses(Request::Produce, 1);
    let refused = producer.send(&topic, value("second")).await;
    assert!(matches!(refused, Err(ClientError::TimedOut | ClientError::Disconnected)), "{refused:?}");
    let values = values_of(&read_all(&driver(backend), &topic, 0, 0).await);
    seen.note(format!(
        "the response to the second is lost and not requested again: an error, and the log has {}",
        values.join(", ")
    ));
    assert_eq!(values, ["first", "second"]);
}

async fn a_new_idempotent_producer_appends_again<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    for _ in 0..2 {
        let producer = backend.producer(&quick(Guarantee::Idempotent), None);
        producer.send(&topic, value("the same")).await.expect("a record");
    }
    let values = values_of(&read_all(&driver(backend), &topic, 0, 0).await);
    seen.note(format!("two producers send the same: {} records", values.len()));
    assert_eq!(values.len(), 2);
}

async fn an_idempotent_producer_appends_once_and_in_order_despite_lost_responses<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let link = backend.link();
    let producer = backend.producer(&quick(Guarantee::Idempotent), Some(&link));
    let mut sent = Vec::new();
    for round in 0..4 {
        link.lose_responses(Request::Produce, 1);
        let batch: Vec<_> = (0..25).map(|n| format!("{}", round * 25 + n)).collect();
        producer.send_all(&topic, batch.iter().map(value).collect()).await.expect("records");
        sent.extend(batch);
    }
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    eventually("all records", attempt, |end| *end >= 100).await;
    assert_eq!(values_of(&read_all(&broker, &topic, 0, 0).await), sent);
    assert_eq!(link.lost_responses(), 4);
    append(backend, &topic, 0, 100..101).await;
    assert_eq!(offsets(&broker, &topic).await.end, 101);
    seen.note("4 responses lost in 100 records: 100 records, in order");
}

/// How many producers the leader of a topic knows.
async fn known_producers<W: Backend>(backend: &W, topic: &str) -> usize {
    let wanted = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![wanted]);
    let response = backend.request(leader(backend, topic).await, &request, 0).await;
    response.topics[0].partitions[0].active_producers.len()
}

async fn an_idempotent_producer_that_is_silent_for_too_long_appends_again<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let producer = init(backend, None, Duration::from_secs(60)).await;
    for attempt in ["sent", "sent again"] {
        let offset = produce(backend, &topic, producer, 0, None).await;
        seen.note(format!("sequence 0, {attempt}: {}", outcome(&offset)));
    }
    assert_eq!(known_producers(backend, &topic).await, 1);
    backend.configure_brokers("producer.id.expiration.ms", Some("1000")).await;
    let forgotten = || known_producers(backend, &topic);
    for sequence in [0, 40] {
        eventually("the expiration", forgotten, |known| *known == 0).await;
        let offset = produce(backend, &topic, producer, sequence, None).await;
        let outcome = outcome(&offset);
        seen.note(format!(
            "silent for longer than producer.id.expiration.ms, sequence {sequence}: {outcome}"
        ));
    }
    assert_eq!(offsets(&driver(backend), &topic).await.end, 3);
}
