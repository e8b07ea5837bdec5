//! Fetches outside any group.

use exactlyonce::broker::Broker;
use simulated_hosts::HostFault;

use super::helpers::{append, describe, driver, eventually, fetch, offsets_of, retry, topic, values_of};
use super::member::{Member, Positions, offsets_delivered};
use super::raw::{FETCH_BY_NAME, error_name, fetch_of, first, text};
use crate::kafka::backend::{Backend, Client, ProducerOptions, TestProducer, Verb, value};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_fetch_returns_a_record_however_small_its_limit_in_bytes,
            [],
            "the first batch is returned even if it is larger than max_bytes (KIP-74)"
        ),
        case!(
            a_fetch_returns_at_most_the_requested_number_of_records,
            [],
            "the project's `Broker::fetch`; the protocol itself bounds bytes only"
        ),
        case!(
            a_fetch_stops_near_its_limit_in_bytes,
            [],
            "the project's `Broker::fetch`; Kafka's max_bytes counts whole batches (KIP-74)"
        ),
        case!(
            a_log_read_in_chunks_equals_the_log_read_as_a_whole,
            [],
            "offsets ascend; a fetch continues where the last one ended"
        ),
        case!(
            a_fetch_inside_a_batch_starts_with_the_requested_record,
            [],
            "the broker returns whole batches; the client drops what lies below the position (KIP-98, record batches)"
        ),
        case!(
            a_consumer_reads_from_the_replica_in_its_rack,
            [Host(Pause)],
            "with replica.selector.class, the leader sends a consumer to the in-sync replica in its rack, without records (KIP-392)"
        ),
        case!(
            a_client_without_a_fetch_session_is_served,
            [],
            "max.incremental.fetch.session.cache.slots: 1000; beyond them a new session gets the id 0, which is none (KIP-227)"
        ),
    ]
}

async fn a_fetch_returns_a_record_however_small_its_limit_in_bytes<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let records = (0..3).map(|n| value(n.to_string().repeat(1000))).collect();
    producer.send_all(&topic, records).await.expect("records");
    let broker = driver(backend);
    let fetched = retry(|| broker.fetch(&topic, 0, 1, 100, 1)).await;
    seen.note(format!("records of 1000 bytes, a fetch at 1 of at most 1 byte: {}", describe(&fetched)));
    assert_eq!(offsets_of(&fetched.expect("a record").records), [1]);
}

async fn a_fetch_returns_at_most_the_requested_number_of_records<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..100).await;
    let broker = driver(backend);
    for max_records in [1, 7, 100, 1000] {
        let fetched = retry(|| broker.fetch(&topic, 0, 0, max_records, 1 << 20)).await;
        seen.note(format!("100 records, a fetch of at most {max_records}: {}", describe(&fetched)));
        assert!(fetched.is_ok_and(|fetched| fetched.records.len() == max_records.min(100)));
    }
}

async fn a_fetch_stops_near_its_limit_in_bytes<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let records = (0..100).map(|_| value("x".repeat(1000))).collect();
    producer.send_all(&topic, records).await.expect("records");
    let broker = driver(backend);
    let fetched = retry(|| broker.fetch(&topic, 0, 0, 1000, 10_000)).await.expect("records");
    let count = fetched.records.len();
    assert!((1..=12).contains(&count), "{count}");
    assert_eq!(fetched.next_offset, count as i64);
    seen.note("100 records of 1000 bytes, a fetch of at most 10000: some 10 of them");
}

async fn a_log_read_in_chunks_equals_the_log_read_as_a_whole<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..250).await;
    append(backend, &topic, 0, 250..500).await;
    let broker = driver(backend);
    let whole = fetch(&broker, &topic, 0).await.expect("the log").records;
    assert_eq!(values_of(&whole), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    let (mut next, mut pieces) = (0, Vec::new());
    while next < 500 {
        let fetched = retry(|| broker.fetch(&topic, 0, next, 17, 1 << 20)).await.expect("a chunk");
        next = fetched.next_offset;
        pieces.extend(fetched.records);
    }
    assert_eq!(pieces, whole);
    seen.note("500 records in chunks of 17: the same as in one fetch");
    let back = retry(|| broker.fetch(&topic, 0, 100, 1, 1 << 20)).await.expect("a record");
    assert_eq!(offsets_of(&back.records), [100]);
    seen.note("then a fetch further back, at 100: 100");
}

async fn a_fetch_inside_a_batch_starts_with_the_requested_record<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    let broker = driver(backend);
    let fetched = fetch(&broker, &topic, 6).await;
    seen.note(format!("10 records sent at once, a fetch at 6: {}", describe(&fetched)));
    let fetched = fetched.expect("records");
    assert_eq!(offsets_of(&fetched.records), [6, 7, 8, 9]);
    assert_eq!(values_of(&fetched.records), ["6", "7", "8", "9"]);
}

/// How many sessions a broker keeps.
const SESSIONS: usize = 1000;

async fn a_consumer_reads_from_the_replica_in_its_rack<W: Backend>(backend: &W, seen: &Observations) {
    let topic = backend.unique("contract");
    backend.create_topic_on(&topic, &[1, 2, 3], &[]).await.expect("a topic");
    append(backend, &topic, 0, 0..10).await;
    let ask = async |node, rack: &str| {
        let request = fetch_of(&topic, 0).with_rack_id(text(rack));
        first(&backend.request(node, &request, FETCH_BY_NAME).await)
    };
    let sent_on = (String::from("none"), 3, false);
    // The leader learns with its next fetch that the follower has everything.
    let attempt = || ask(1, "rack-3");
    assert_eq!(eventually("the follower", attempt, |found| *found == sent_on).await, sent_on);
    seen.note("broker 1 leads, a fetch from it by a consumer in the rack of 3: sent to 3, no records");
    // The follower learns with its next fetch what is committed.
    let served = (String::from("none"), -1, true);
    let attempt = || ask(3, "rack-3");
    assert_eq!(eventually("the follower", attempt, |found| *found == served).await, served);
    for (node, rack) in [(3, "rack-3"), (1, "rack-1"), (1, "elsewhere"), (1, "")] {
        let (error, preferred, has_records) = ask(node, rack).await;
        assert_eq!((error.as_str(), preferred), ("none", -1));
        let records = if has_records { "records" } else { "no records" };
        seen.note(format!("from {node} in the rack {rack:?}: {records}"));
    }
    let broker = backend.broker(Client { rack: Some("rack-3"), ..Client::default() }, None);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 10)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), (0..10).collect::<Vec<_>>());
    seen.note("a member in the rack of 3: each of 10 records once");
    backend.apply(HostFault::Pause, 3).await;
    let attempt = || ask(1, "rack-3");
    assert_eq!(eventually("the leader", attempt, |found| *found == served).await, served);
    seen.note("3 is paused and out of sync: records from 1");
}

async fn a_client_without_a_fetch_session_is_served<W: Backend>(backend: &W, seen: &Observations) {
    let topic = backend.unique("contract");
    backend.create_topic_on(&topic, &[1], &[("min.insync.replicas", "1")]).await.expect("a topic");
    append(backend, &topic, 0, 0..1).await;
    let begin = || fetch_of(&topic, 0).with_session_epoch(0);
    let mut sessions = Vec::new();
    let mut without = 0;
    while without < 16 {
        let response = backend.request(1, &begin(), FETCH_BY_NAME).await;
        assert_eq!(first(&response), (String::from("none"), -1, true));
        match response.session_id {
            0 => without += 1,
            id => sessions.push(id),
        }
        assert!(sessions.len() <= SESSIONS, "{} sessions", sessions.len());
    }
    // Followers and other clients have some, too.
    assert!(sessions.len() > SESSIONS * 9 / 10, "{} sessions", sessions.len());
    seen.note(
        "of more than 1000 clients that begin a session, the last ones get none, and records nevertheless",
    );
    let go_on = |id, epoch| begin().with_topics(Vec::new()).with_session_id(id).with_session_epoch(epoch);
    let response = backend.request(1, &go_on(sessions[0], 1), FETCH_BY_NAME).await;
    seen.note(format!("the first one's next fetch: {}", error_name(response.error_code)));
    for id in &sessions {
        backend.request(1, &go_on(*id, -1), FETCH_BY_NAME).await;
    }
    let response = backend.request(1, &go_on(sessions[0], 2), FETCH_BY_NAME).await;
    seen.note(format!("all have ended theirs, a fetch in one of these: {}", error_name(response.error_code)));
    let response = backend.request(1, &begin(), FETCH_BY_NAME).await;
    assert_ne!(response.session_id, 0);
    seen.note("a new one begins");
}
