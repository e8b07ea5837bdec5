//! Topics: descriptions, deletion, recreation, added partitions.

use exactlyonce::broker::{Broker, BrokerError};

use super::helpers::{
    append, describe, driver, eventually, fetch, kind, offsets, retry, topic, topic_of, values_of,
};
use super::member::{Member, MemberEvent, Positions, delivered, offsets_delivered};
use super::raw::{FETCH_BY_ID, fetch_by_id, first};
use crate::kafka::backend::{Backend, Client, ClientError, Protocol, Verb};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(every_call_reports_an_unknown_topic, [], "UNKNOWN_TOPIC_OR_PARTITION (Kafka protocol)"),
        case!(a_topic_is_created_once, [], "TOPIC_ALREADY_EXISTS (Kafka protocol, CreateTopics)"),
        case!(
            a_topic_is_described_from_the_cluster,
            [],
            "DescribeTopicPartitions and DescribeConfigs; a topic has an id (KIP-516)"
        ),
        case!(
            a_topic_whose_cleanup_policy_includes_compact_is_compacted,
            [],
            "cleanup.policy is a list of `delete` and `compact` (topic configuration)"
        ),
        case!(
            a_recreated_topic_has_a_different_id_and_starts_at_zero,
            [],
            "a topic's id is never used again (KIP-516)"
        ),
        case!(
            a_stored_position_reads_different_records_in_a_recreated_topic,
            [],
            "offsets start at 0 again; a consumer that sends no topic id is not informed (KIP-516, rejected alternatives)"
        ),
        case!(
            a_member_whose_topic_is_recreated_is_not_notified,
            [],
            "a fetch by topic id: UNKNOWN_TOPIC_ID (KIP-516); librdkafka refreshes its metadata"
        ),
        case!(
            a_fetch_by_the_id_of_a_deleted_topic_is_an_error,
            [],
            "UNKNOWN_TOPIC_ID: topics of the same name have different ids (KIP-516)"
        ),
        case!(
            the_number_of_partitions_cannot_be_reduced,
            [],
            "INVALID_PARTITIONS (Kafka protocol, CreatePartitions)"
        ),
        case!(
            classic_added_partitions_are_assigned_and_read_from_their_start,
            [],
            "found with the next metadata refresh, by default after 5 minutes (topic.metadata.refresh.interval.ms)"
        ),
        case!(
            consumer_added_partitions_are_assigned_and_read_from_their_start,
            [ConsumerProtocol],
            "found by the broker (KIP-848)"
        ),
    ]
}

async fn every_call_reports_an_unknown_topic<W: Backend>(backend: &W, seen: &Observations) {
    let broker = driver(backend);
    let no = backend.unique("no-such-topic");
    let described = kind(&broker.topic(&no).await.expect_err("no topic"));
    let offsets = kind(&broker.offsets(&no, 0).await.expect_err("no topic"));
    let fetched = kind(&broker.fetch(&no, 0, 0, 10, 1000).await.expect_err("no topic"));
    let subscribed = match broker.subscribe(&backend.unique("group"), &no).await {
        Ok(_) => "a membership",
        Err(error) => kind(&error),
    };
    seen.note(format!("topic: {described}, offsets: {offsets}, fetch: {fetched}, subscribe: {subscribed}"));
    assert!([described, offsets, fetched, subscribed].iter().all(|kind| *kind == "unknown topic"));
}

async fn a_topic_is_created_once<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    assert_eq!(backend.create_topic(&topic, 5, 1, &[]).await, Err(ClientError::TopicExists));
    let broker = driver(backend);
    assert_eq!(broker.topic(&topic).await.expect("a topic").partitions, 1);
    assert_eq!(offsets(&broker, &topic).await.end, 3);
    seen.note("created again with 5 partitions: exists already; still 1 partition, end 3");
}

async fn a_topic_is_described_from_the_cluster<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic_of(backend, 5, &[]).await;
    let broker = driver(backend);
    let described = retry(|| broker.topic(&topic)).await.expect("a topic");
    assert_eq!(
        (described.name.as_str(), described.partitions, described.replication),
        (topic.as_str(), 5, 3)
    );
    assert!(!described.compacted && !described.id.is_empty());
    seen.note("5 partitions, 3 replicas, not compacted, an id");
    backend.add_partitions(&topic, 6).await.expect("another partition");
    let grown = retry(|| broker.topic(&topic)).await.expect("a topic");
    assert_eq!((grown.partitions, &grown.id), (6, &described.id));
    seen.note("a partition added: 6 at once, the same id");
}

async fn a_topic_whose_cleanup_policy_includes_compact_is_compacted<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let broker = driver(backend);
    for policy in ["delete", "compact", "compact,delete", "delete,compact"] {
        let topic = topic(backend, &[("cleanup.policy", policy)]).await;
        let compacted = retry(|| broker.topic(&topic)).await.expect("a topic").compacted;
        seen.note(format!("{policy}: {compacted}"));
        assert_eq!(compacted, policy.contains("compact"));
    }
    let topic = topic(backend, &[]).await;
    backend.set_configs(&topic, &[("cleanup.policy", "compact")]).await.expect("a configuration");
    let attempt = || async { retry(|| broker.topic(&topic)).await.expect("a topic").compacted };
    eventually("the change of the policy", attempt, |compacted| *compacted).await;
    seen.note("changed to compact: true");
}

async fn a_recreated_topic_has_a_different_id_and_starts_at_zero<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..5).await;
    let broker = driver(backend);
    let first = retry(|| broker.topic(&topic)).await.expect("a topic");
    backend.delete_topic(&topic).await.expect("deleted");
    let gone = broker.topic(&topic).await;
    assert!(matches!(&gone, Err(BrokerError::UnknownTopic(_))), "{gone:?}");
    backend.create_topic(&topic, 1, 3, &[]).await.expect("created");
    let second = retry(|| broker.topic(&topic)).await.expect("a topic");
    assert_ne!(first.id, second.id);
    assert_eq!(append(backend, &topic, 0, 0..1).await, [0]);
    let attempt = || broker.offsets(&topic, 0);
    let right = |offsets: &Result<exactlyonce::broker::LogOffsets, BrokerError>| {
        offsets.as_ref().is_ok_and(|offsets| offsets.start == 0 && offsets.end == 1)
    };
    assert!(eventually("the new log", attempt, right).await.is_ok());
    seen.note("deleted: unknown topic; recreated: another id, the first record has offset 0");
}

async fn a_stored_position_reads_different_records_in_a_recreated_topic<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..5).await;
    backend.delete_topic(&topic).await.expect("deleted");
    backend.create_topic(&topic, 1, 3, &[]).await.expect("created");
    append(backend, &topic, 0, 100..103).await;
    let broker = driver(backend);
    seen.note(format!(
        "position 5, 3 records in the new log: {}",
        describe(&fetch(&broker, &topic, 5).await)
    ));
    append(backend, &topic, 0, 103..108).await;
    let fetched = fetch(&broker, &topic, 5).await;
    seen.note(format!("8 records in the new log: {}, no error", describe(&fetched)));
    assert_eq!(values_of(&fetched.expect("records").records), ["105", "106", "107"]);
}

async fn a_member_whose_topic_is_recreated_is_not_notified<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..5).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 5)]).await;
    let mark = member.mark();
    backend.delete_topic(&topic).await.expect("deleted");
    backend.create_topic(&topic, 1, 3, &[]).await.expect("created");
    append(backend, &topic, 0, 100..108).await;
    // Long enough for two metadata refreshes.
    tokio::time::sleep(Client::default().metadata_interval * 3).await;
    let events = member.since(mark);
    let records = offsets_delivered(&events, 0);
    // The result depends on whether it fetches before or after the new log has reached its position.
    let expected: Vec<_> = (5..).take(records.len()).collect();
    assert_eq!(records, expected, "{events:?}");
    let of_another_kind = |events: &&MemberEvent| match events {
        MemberEvent::Failed { kind, .. } => *kind != "out of range",
        MemberEvent::Records { .. } | MemberEvent::End { .. } => false,
        _ => true,
    };
    assert_eq!(events.iter().find(of_another_kind), None);
    seen.note(
        "position 5, recreated with 8 records: the member continues at 5 in the new log, or is out of range if it fetches too early; only the topic's id shows it",
    );
    member.crash().await;
}

async fn a_fetch_by_the_id_of_a_deleted_topic_is_an_error<W: Backend>(backend: &W, seen: &Observations) {
    let topic = backend.unique("contract");
    backend.create_topic_on(&topic, &[1, 2, 3], &[]).await.expect("a topic");
    append(backend, &topic, 0, 0..1).await;
    let by_id = fetch_by_id(backend, &topic, 0).await;
    let fetched = first(&backend.request(1, &by_id, FETCH_BY_ID).await);
    assert_eq!(fetched, (String::from("none"), -1, true));
    backend.delete_topic(&topic).await.expect("deleted");
    backend.create_topic_on(&topic, &[1, 2, 3], &[]).await.expect("a topic");
    append(backend, &topic, 0, 0..1).await;
    let (error, _, _) = first(&backend.request(1, &by_id, FETCH_BY_ID).await);
    seen.note(format!("a topic is recreated, a fetch at 0 by the id of the first: {error}"));
}

async fn the_number_of_partitions_cannot_be_reduced<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic_of(backend, 3, &[]).await;
    for total in [2, 3] {
        assert_eq!(backend.add_partitions(&topic, total).await, Err(ClientError::InvalidPartitions));
    }
    seen.note("3 partitions, 2 or 3 requested: invalid partitions");
}

async fn classic_added_partitions_are_assigned_and_read_from_their_start<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    added_partitions(backend, seen, Protocol::Classic).await;
}

async fn consumer_added_partitions_are_assigned_and_read_from_their_start<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    added_partitions(backend, seen, Protocol::Consumer).await;
}

async fn added_partitions<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let broker = backend.broker(Client { protocol, ..Client::default() }, None);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 3)]).await;
    backend.add_partitions(&topic, 3).await.expect("two more partitions");
    // Appended before any client can detect the partitions.
    append(backend, &topic, 1, 10..15).await;
    append(backend, &topic, 2, 20..25).await;
    member.until_owns(3).await;
    member.until_ends(&[(1, 5), (2, 5)]).await;
    append(backend, &topic, 0, 3..5).await;
    member.until_delivered(0, 5).await;
    let events = member.leave().await;
    for partition in [1, 2] {
        assert_eq!(offsets_delivered(&events, partition), [0, 1, 2, 3, 4]);
        assert_eq!(delivered(&events, partition)[0].1, format!("{partition}0"));
    }
    assert_eq!(offsets_delivered(&events, 0), [0, 1, 2, 3, 4]);
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Lost(_))));
    seen.note("two partitions added, written to at once: assigned, and read from 0 to 4");
    seen.note("the first partition was delivered once");
}
