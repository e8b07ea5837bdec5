//! Fetches outside any group.

use exactlyonce::broker::Broker;

use super::helpers::{append, describe, driver, fetch, offsets_of, retry, topic, values_of};
use crate::kafka::backend::{Backend, ProducerOptions, TestProducer, value};
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
