//! The content of records.

use std::collections::BTreeSet;

use exactlyonce::broker::{Broker, partition_of_key};

use super::helpers::{driver, fetch, offsets, read_all, retry, topic, topic_of};
use super::member::{Member, MemberEvent, Positions};
use crate::kafka::backend::{Backend, ClientError, NewRecord, ProducerOptions, TestProducer, Verb, value};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            null_and_empty_keys_and_values_are_delivered_unchanged,
            [],
            "a length of -1 is null, 0 is empty (Kafka protocol, record format)"
        ),
        case!(headers_do_not_change_key_and_value, [], "headers are kept beside key and value (KIP-82)"),
        case!(
            the_producer_sets_the_time_of_a_record,
            [],
            "message.timestamp.type=CreateTime is the default (topic configuration)"
        ),
        case!(
            the_broker_sets_the_time_of_a_record_if_the_topic_is_configured_so,
            [],
            "message.timestamp.type=LogAppendTime: the broker's clock for all records of a batch (topic configuration)"
        ),
        case!(
            a_record_larger_than_any_queue_is_delivered,
            [],
            "max.message.bytes bounds a batch; a consumer's limits are not absolute (KIP-74)"
        ),
        case!(
            a_record_above_the_topics_limit_is_refused,
            [],
            "MESSAGE_TOO_LARGE / RecordTooLargeException above max.message.bytes (topic configuration)"
        ),
        case!(
            the_crc_of_a_key_determines_its_partition,
            [],
            "partitioner=consistent: CRC-32 of the key, empty and null keys to the same partition (librdkafka, CONFIGURATION.md)"
        ),
        case!(
            every_compression_is_read,
            [Compression],
            "gzip, snappy, lz4 and zstd (topic configuration, compression.type)"
        ),
        case!(
            a_fetch_inside_a_compressed_batch_starts_with_the_requested_record,
            [Compression],
            "the broker returns the whole batch (KIP-98)"
        ),
    ]
}

async fn null_and_empty_keys_and_values_are_delivered_unchanged<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let texts = [None, Some(Vec::new()), Some((0..=255).collect::<Vec<u8>>())];
    let mut sent = Vec::new();
    for key in &texts {
        for value in &texts {
            sent.push((key.clone(), value.clone()));
        }
    }
    let record = |(key, value): &(Option<Vec<u8>>, Option<Vec<u8>>)| NewRecord {
        key: key.clone(),
        value: value.clone(),
        partition: Some(0),
        ..NewRecord::default()
    };
    let producer = backend.producer(&ProducerOptions::default(), None);
    producer.send_all(&topic, sent.iter().map(record).collect()).await.expect("records");
    let fetched = fetch(&driver(backend), &topic, 0).await.expect("records");
    let arrived: Vec<_> = fetched.records.into_iter().map(|record| (record.key, record.value)).collect();
    assert_eq!(arrived, sent);
    seen.note("null, empty and all 256 bytes, as key and as value: as sent");
}

async fn headers_do_not_change_key_and_value<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let headers = vec![("trace", b"1".to_vec()), ("trace", b"2".to_vec()), ("empty", Vec::new())];
    let producer = backend.producer(&ProducerOptions::default(), None);
    producer.send(&topic, NewRecord { headers, ..value("with") }).await.expect("a record");
    let fetched = fetch(&driver(backend), &topic, 0).await.expect("a record");
    let [record] = fetched.records.as_slice() else { panic!("{fetched:?}") };
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (None, Some(&b"with"[..])));
    seen.note("a record with three headers: its value and no key");
}

async fn the_producer_sets_the_time_of_a_record<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[("retention.ms", "-1")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    for timestamp in [1, 1_000_000_000_000, 7] {
        let record = NewRecord { timestamp: Some(timestamp), ..value("x") };
        producer.send(&topic, record).await.expect("a record");
    }
    let fetched = fetch(&driver(backend), &topic, 0).await.expect("records");
    let times: Vec<_> = fetched.records.iter().map(|record| record.timestamp).collect();
    seen.note(format!("sent with 1, 1000000000000, 7: {times:?}"));
    assert_eq!(times, [1, 1_000_000_000_000, 7]);
}

async fn the_broker_sets_the_time_of_a_record_if_the_topic_is_configured_so<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[("message.timestamp.type", "LogAppendTime")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let record = |n: i64| NewRecord { timestamp: Some(n + 1), ..value(n.to_string()) };
    producer.send_all(&topic, (0..3).map(record).collect()).await.expect("records");
    let broker = driver(backend);
    let times: Vec<_> = read_all(&broker, &topic, 0, 0).await.iter().map(|record| record.timestamp).collect();
    assert_eq!(times.len(), 3);
    assert!(times.iter().all(|&time| time > 1_000_000_000), "{times:?}");
    assert_eq!(times.iter().collect::<BTreeSet<_>>().len(), 1, "{times:?}");
    seen.note("sent at once with 1, 2, 3: one time of the broker's for all three");
}

async fn a_record_larger_than_any_queue_is_delivered<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[("max.message.bytes", "12000000")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let large: String = (0..10_000_000).map(|n: u32| char::from(b'a' + (n % 23) as u8)).collect();
    producer.send(&topic, value("before")).await.expect("a record");
    producer.send(&topic, value(large.clone())).await.expect("a large record");
    producer.send(&topic, value("after")).await.expect("a record");
    let broker = driver(backend);
    let records = read_all(&broker, &topic, 0, 0).await;
    assert!(records.len() == 3 && records[1].value.as_deref() == Some(large.as_bytes()));
    seen.note("10000000 bytes fetched whole, between two small records");
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 3)]).await;
    let events = member.leave().await;
    let whole = |events: &MemberEvent| matches!(events, MemberEvent::Records { records, .. } if records.iter().any(|(offset, value)| *offset == 1 && *value == large));
    assert!(events.iter().any(whole));
    seen.note("and delivered whole to a member");
}

async fn a_record_above_the_topics_limit_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[("max.message.bytes", "10000")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let refused = producer.send(&topic, value("x".repeat(20_000))).await;
    assert_eq!(refused, Err(ClientError::TooLarge));
    assert_eq!(offsets(&driver(backend), &topic).await.end, 0);
    seen.note("20000 bytes where 10000 are allowed: too large, end 0");
}

async fn the_crc_of_a_key_determines_its_partition<W: Backend>(backend: &W, seen: &Observations) {
    const PARTITIONS: i32 = 7;
    let topic = topic_of(backend, PARTITIONS, &[]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let mut keys: Vec<Vec<u8>> = (0..60).map(|n| format!("source-{n}").into_bytes()).collect();
    keys.push((0..=255).collect());
    for key in &keys {
        let record = NewRecord { key: Some(key.clone()), value: Some(key.clone()), ..NewRecord::default() };
        let (partition, _) = producer.send(&topic, record).await.expect("a record");
        assert_eq!(partition, partition_of_key(key, PARTITIONS), "{key:?}");
    }
    seen.note("61 keys, 7 partitions: as in the project's own function");
    let empty = NewRecord { key: Some(Vec::new()), value: Some(Vec::new()), ..NewRecord::default() };
    let (partition, _) = producer.send(&topic, empty).await.expect("a record");
    assert_eq!(partition, partition_of_key(b"", PARTITIONS));
    let (of_null, _) = producer.send(&topic, NewRecord::default()).await.expect("a record");
    seen.note(format!("an empty key: {partition}, a null key: {of_null}"));
    let broker = driver(backend);
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        sum += retry(|| broker.offsets(&topic, partition)).await.expect("offsets").end;
    }
    assert_eq!(sum, 63);
}

const COMPRESSIONS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

async fn every_compression_is_read<W: Backend>(backend: &W, seen: &Observations) {
    let broker = driver(backend);
    let text = |n: i64| format!("{n} {}", "compressible ".repeat(50));
    let records = || (0..100).map(|n| value(text(n))).collect::<Vec<_>>();
    for compression in COMPRESSIONS {
        let by_producer = topic(backend, &[]).await;
        let options = ProducerOptions { compression: Some(compression), ..ProducerOptions::default() };
        backend.producer(&options, None).send_all(&by_producer, records()).await.expect("records");
        let by_topic = topic(backend, &[("compression.type", compression)]).await;
        let plain = backend.producer(&ProducerOptions::default(), None);
        plain.send_all(&by_topic, records()).await.expect("records");
        for topic in [by_producer, by_topic] {
            let values: Vec<_> =
                read_all(&broker, &topic, 0, 0).await.into_iter().map(|record| record.value).collect();
            let sent: Vec<_> = (0..100).map(|n| Some(text(n).into_bytes())).collect();
            assert_eq!(values, sent, "{compression}");
        }
        seen.note(format!("{compression}, by the producer and by the topic: read"));
    }
}

async fn a_fetch_inside_a_compressed_batch_starts_with_the_requested_record<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let broker = driver(backend);
    for compression in COMPRESSIONS {
        let topic = topic(backend, &[]).await;
        let options = ProducerOptions { compression: Some(compression), ..ProducerOptions::default() };
        let records = (0..100).map(|n| value(format!("{n}{}", " compressible".repeat(20)))).collect();
        backend.producer(&options, None).send_all(&topic, records).await.expect("records");
        let fetched = fetch(&broker, &topic, 57).await.expect("records");
        assert_eq!(fetched.records.first().map(|record| record.offset), Some(57), "{compression}");
        assert_eq!((fetched.records.len(), fetched.next_offset), (43, 100), "{compression}");
    }
    seen.note("a fetch at 57 of 100, with each compression: 57-99, next 100");
}
