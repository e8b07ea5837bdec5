//! Compaction: gaps in a log.

use std::time::Duration;

use super::helpers::{
    describe, driver, eventually, fetch, offsets, offsets_of, ranges, read_all, topic, values_of,
};
use super::member::{Member, Positions, offsets_delivered};
use crate::kafka::backend::{Backend, NewRecord, ProducerOptions, TestProducer, Verb};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            compaction_leaves_gaps_and_neither_the_start_nor_the_end_moves,
            [Compaction],
            "compaction keeps the last record of each key and its offset; a read at a gap returns the next record (Kafka documentation, Log Compaction)"
        ),
        case!(
            a_compacted_log_returns_fewer_records_when_it_is_read_again,
            [Compaction],
            "as above: records of an offset that was read before may be gone"
        ),
    ]
}

const SEGMENTS: (&str, &str) = ("segment.ms", "100");
const CONFIGS: [(&str, &str); 6] = [
    SEGMENTS,
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "200"),
    ("min.compaction.lag.ms", "0"),
    ("delete.retention.ms", "100"),
];

/// Appends ten records of two keys and then one of a third key, in separate segments; nothing is compacted yet.
async fn two_keys<W: Backend>(backend: &W) -> String {
    let topic = topic(backend, &[SEGMENTS]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let keyed = |key: i64, n: i64| NewRecord {
        key: Some(key.to_string().into_bytes()),
        value: Some(n.to_string().into_bytes()),
        partition: Some(0),
        ..NewRecord::default()
    };
    for n in 0..10 {
        producer.send(&topic, keyed(n % 2, n)).await.expect("a record");
    }
    // The first record after segment.ms rolls the segment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    producer.send(&topic, keyed(2, 10)).await.expect("a record");
    topic
}

/// Waits until the topic is compacted: the records 8, 9 and 10 remain.
async fn compacted<W: Backend>(backend: &W, topic: &str) {
    backend.set_configs(topic, &CONFIGS).await.expect("configured");
    let broker = driver(backend);
    let attempt = || async { read_all(&broker, topic, 0, 0).await.len() };
    eventually("compaction", attempt, |count| *count == 3).await;
}

async fn compaction_leaves_gaps_and_neither_the_start_nor_the_end_moves<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = two_keys(backend).await;
    compacted(backend, &topic).await;
    let broker = driver(backend);
    let all = read_all(&broker, &topic, 0, 0).await;
    let log = offsets(&broker, &topic).await;
    seen.note(format!(
        "0-9 of two keys, 10 of a third: {} are left, start {}, end {}",
        ranges(&offsets_of(&all)),
        log.start,
        log.end
    ));
    assert_eq!((offsets_of(&all), log.start, log.end), (vec![8, 9, 10], 0, 11));
    for offset in [0, 5, 9] {
        let fetched = fetch(&broker, &topic, offset).await;
        seen.note(format!("a fetch at {offset}: {}", describe(&fetched)));
        assert!(fetched.is_ok());
    }
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::at([(0, 3)])).await;
    member.until_ends(&[(0, 11)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), [8, 9, 10]);
    seen.note("a member started at 3: 8-10, end 11");
}

async fn a_compacted_log_returns_fewer_records_when_it_is_read_again<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = two_keys(backend).await;
    let broker = driver(backend);
    let before = read_all(&broker, &topic, 0, 0).await.len();
    assert_eq!(before, 11);
    compacted(backend, &topic).await;
    let after = read_all(&broker, &topic, 0, 0).await;
    assert_eq!(values_of(&after), ["8", "9", "10"]);
    seen.note("11 records before, 3 after, without any error");
}
