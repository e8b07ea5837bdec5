//! Retention, compaction, timestamps, and what a fetch returns of a log.

use simulated_kafka::cluster::Clock;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::types::NodeId;

use crate::harness::{START, Testbed, batch_of, seconds, wanted};

const HOUR: i64 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn retention_deletes_whole_segments_by_their_greatest_timestamp() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[("retention.ms", "60000"), ("segment.bytes", "1048576")]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    bed.cluster.roll("t");
    // A record from the future keeps its segment.
    let future = BatchBuilder::new(START + HOUR / 2).record(START + HOUR / 2, None, Some(b"c")).build();
    assert_eq!(bed.produce_to(1, "t", &future, -1).await, Ok(2));
    bed.cluster.roll("t");
    bed.produce("t", &["d"], -1).await.unwrap();
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(bed.offset_at(1, "t", -2).await, Ok(2));
    assert_eq!(bed.fetch("t", 1).await, Err(ErrorCode::OffsetOutOfRange));
    // The active segment is old, but the one before it is not: whole segments go, from the first on.
    assert_eq!(bed.fetch("t", 2).await.unwrap().texts(), ["c"]);
    assert_eq!(bed.fetch("t", 3).await.unwrap().texts(), ["d"]);
    tokio::time::sleep(seconds(1800)).await;
    assert_eq!((bed.offset_at(1, "t", -2).await, bed.end("t").await), (Ok(4), Ok(4)));
}

#[tokio::test(start_paused = true)]
async fn a_record_from_more_than_an_hour_ahead_is_refused() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    let at = |time: i64| BatchBuilder::new(time).record(time, None, Some(b"x")).build();
    let refused = bed.produce_to(1, "t", &at(START + HOUR + 60_000), 1).await;
    assert_eq!(refused, Err(ErrorCode::InvalidTimestamp));
    assert_eq!(bed.produce_to(1, "t", &at(START + HOUR - 60_000), 1).await, Ok(0));
    // The producer is right, and the broker's clock is behind.
    bed.clocks[0].step(-7_200_000_000);
    assert_eq!(bed.produce_to(1, "t", &at(START), 1).await, Err(ErrorCode::InvalidTimestamp));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_returns_whole_batches_and_at_least_one() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    bed.produce("t", &["a", "b", "c"], -1).await.unwrap();
    bed.produce("t", &["d"], -1).await.unwrap();
    let data = bed.fetch_with(1, "t", wanted(2).with_partition_max_bytes(1), 0).await.unwrap();
    let bytes = data.records.unwrap();
    // The first record lies below the position, and nothing of the second batch fits.
    let first = simulated_kafka::protocol::batch::Batch::split_all(bytes).unwrap();
    assert_eq!((first.len(), first[0].base_offset(), first[0].count()), (1, 0, 3));
    // A limit within the second batch cuts it.
    let one = first[0].size() as i32;
    let data = bed.fetch_with(1, "t", wanted(0).with_partition_max_bytes(one + 20), 0).await.unwrap();
    assert_eq!(data.records.unwrap().len(), one as usize + 20);
}

#[tokio::test(start_paused = true)]
async fn records_are_found_by_their_time() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    for time in [10, 30, 20] {
        let batch = BatchBuilder::new(START + time).record(START + time, None, Some(b"x")).build();
        bed.produce_to(1, "t", &batch, -1).await.unwrap();
    }
    let at = async |time: i64| bed.offset_at(1, "t", time).await;
    assert_eq!((at(START).await, at(START + 11).await, at(START + 25).await), (Ok(0), Ok(1), Ok(1)));
    assert_eq!((at(START + 31).await, at(-3).await), (Ok(-1), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_the_last_record_of_each_key_and_a_batch_for_its_producer() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[("cleanup.policy", "compact")]).await;
    let keyed = |sequence: i32, key: &[u8], value: &[u8]| {
        BatchBuilder::new(START).producer(5, 0, sequence).record(START, Some(key), Some(value)).build()
    };
    for (sequence, key, value) in [(0, b"k", b"1"), (1, b"k", b"2"), (2, b"j", b"3")] {
        bed.produce_to(1, "t", &keyed(sequence, key, value), -1).await.unwrap();
    }
    let other = BatchBuilder::new(START).record(START, Some(b"j"), Some(b"4")).build();
    bed.produce_to(1, "t", &other, -1).await.unwrap();
    let unkeyed = bed.produce_to(1, "t", &batch_of(&["x"]), -1).await;
    assert_eq!(unkeyed, Err(ErrorCode::InvalidRecord));
    bed.cluster.compact("t");
    let kept = bed.cluster.batches(NodeId(1), "t", 0).unwrap();
    let kept: Vec<_> = kept.iter().map(|batch| (batch.base_offset(), batch.count())).collect();
    // The batch at 2 has no record any more, and keeps the producer's sequence number.
    assert_eq!(kept, [(1, 1), (2, 0), (3, 1)]);
    assert_eq!((bed.offset_at(1, "t", -2).await, bed.end("t").await), (Ok(0), Ok(4)));
    assert_eq!(bed.fetch("t", 0).await.unwrap().values, [(1, "2".to_owned()), (3, "4".to_owned())]);
    // A fetch that returns only the empty batch advances the position.
    let data = bed.fetch_with(1, "t", wanted(2).with_partition_max_bytes(1), 0).await.unwrap();
    let empty = simulated_kafka::protocol::batch::Batch::split_all(data.records.unwrap()).unwrap();
    assert_eq!((empty[0].count(), empty[0].next_offset()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn the_greatest_timestamp_is_that_of_the_first_record_that_has_it_also_if_it_was_deleted() {
    let bed = Testbed::start().await;
    bed.topic("sent", &[1], &[]).await;
    bed.topic("appended", &[1], &[("message.timestamp.type", "LogAppendTime")]).await;
    let batch = |times: &[i64]| {
        let builder = BatchBuilder::new(times[0]);
        times.iter().fold(builder, |builder, time| builder.record(*time, None, Some(b"x"))).build()
    };
    for topic in ["sent", "appended"] {
        bed.produce_to(1, topic, &batch(&[START - 9, START, START]), -1).await.unwrap();
    }
    bed.produce_to(1, "sent", &batch(&[START - 5]), -1).await.unwrap();
    assert_eq!(bed.offset_at(1, "sent", -3).await, Ok(1));
    assert_eq!(bed.offset_at(1, "appended", -3).await, Ok(0));
    bed.cluster.delete_records("sent", 0, 3).unwrap();
    bed.until("the deletion", async || bed.offset_at(1, "sent", -2).await == Ok(3)).await;
    assert_eq!(bed.offset_at(1, "sent", -3).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_as_large_as_the_broker_stores_it() {
    let bed = Testbed::start().await;
    let limit = ("max.message.bytes", "1000");
    bed.topic("as_sent", &[1], &[limit]).await;
    bed.topic("uncompressed", &[1], &[limit, ("compression.type", "uncompressed")]).await;
    bed.topic("compressed", &[1], &[limit, ("compression.type", "gzip")]).await;
    let batch = |codec| {
        let value = [b'v'; 1500];
        BatchBuilder::new(START).record(START, None, Some(&value)).build_compressed(codec)
    };
    let (plain, lz4) = (batch(0), batch(3));
    assert!(plain.size() > 1000 && lz4.size() < 1000);
    assert_eq!(bed.produce_to(1, "as_sent", &lz4, -1).await, Ok(0));
    assert_eq!(bed.produce_to(1, "uncompressed", &lz4, -1).await, Err(ErrorCode::MessageTooLarge));
    // What is sent must not be larger either.
    assert_eq!(bed.produce_to(1, "compressed", &plain, -1).await, Err(ErrorCode::MessageTooLarge));
    // A segment may be smaller than what a batch may have.
    let (size, segment) = (("max.message.bytes", "2000000"), ("segment.bytes", "1048576"));
    bed.topic("segments", &[1], &[size, segment]).await;
    let large = BatchBuilder::new(START).record(START, None, Some(&[b'v'; 1_200_000]));
    assert_eq!(bed.produce_to(1, "segments", &large.build(), -1).await, Err(ErrorCode::RecordListTooLarge));
    assert_eq!(bed.end("segments").await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_append_times_replaces_the_times_of_its_producers() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[("message.timestamp.type", "LogAppendTime")]).await;
    bed.clocks[0].step(5_000_000);
    let now = bed.clocks[0].micros() / 1000;
    let old = BatchBuilder::new(START - HOUR).record(START - HOUR, None, Some(b"x")).build();
    assert_eq!(bed.produce_to(1, "t", &old, -1).await, Ok(0));
    let batches = bed.cluster.batches(NodeId(1), "t", 0).unwrap();
    let records = simulated_kafka::protocol::records::records(&batches[0], 1 << 10).unwrap();
    assert!((now..now + 1_000).contains(&records[0].timestamp), "{} {now}", records[0].timestamp);
    assert_eq!(bed.offset_at(1, "t", now).await, Ok(0));
}
