//! What consumers of committed records may read, as a cluster shows it to who looks from outside.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use proto_kafka::messages::fetch_response::PartitionData;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use proto_kafka::messages::{
    DeleteRecordsRequest, FindCoordinatorRequest, ProduceRequest, ProducerId, TransactionalId,
    WriteTxnMarkersRequest,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_kafka::cluster::Committed;
use simulated_kafka::cluster::HostFault::{Kill, Pause};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::batch::Batch;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::protocol::compression;
use simulated_kafka::protocol::records::{EndMarker, Marker, records};
use simulated_kafka::types::NodeId;

use crate::harness::{START, Testbed, batch_of, checked, seconds, text, topic_name, wanted};

/// A topic without verification of transactions, so that batches and markers of any producer are appended.
async fn start(configs: &[(&str, &str)]) -> Testbed {
    let bed = Testbed::start_with(1, |options| options.verify_transactions = false).await;
    bed.topic("t", &[1, 2], configs).await;
    bed
}

fn in_transaction(producer: i64, sequence: i32, values: &[&str]) -> Batch {
    let builder = BatchBuilder::new(START).producer(producer, 0, sequence).transactional();
    let record = |builder: BatchBuilder, value: &&str| builder.record(START, None, Some(value.as_bytes()));
    values.iter().fold(builder, record).build()
}

async fn try_append(bed: &Testbed, batch: &Batch) -> Result<i64, ErrorCode> {
    let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
    let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(text("p"))))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic]);
    let response = bed.send(1, request, 9).await.unwrap();
    let partition = &response.responses[0].partition_responses[0];
    checked(partition.error_code, partition.base_offset)
}

pub async fn append(bed: &Testbed, batch: &Batch) -> i64 {
    try_append(bed, batch).await.unwrap()
}

/// Writes a marker to the topic.
pub async fn end(bed: &Testbed, producer: i64, commit: bool) {
    let topic = WritableTxnMarkerTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer))
        .with_producer_epoch(0)
        .with_transaction_result(commit)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let response = bed.send(1, request, 1).await.unwrap();
    assert_eq!(response.markers[0].topics[0].partitions[0].error_code, 0);
}

pub async fn delete_below(bed: &Testbed, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = bed.send(1, request, 2).await.unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

fn committed(bed: &Testbed, from: i64) -> Committed {
    bed.cluster.committed("t", 0, from).expect("a leader")
}

type Values = Vec<(i64, Option<Bytes>)>;

fn values(committed: &Committed) -> Values {
    committed.records.iter().map(|record| (record.offset, record.value.clone())).collect()
}

/// The offsets of the records, whose values are the same numbers.
fn offsets(committed: &Committed) -> Vec<i64> {
    let checked = committed.records.iter().map(|record| {
        assert_eq!(record.value, Some(Bytes::from(record.offset.to_string())));
        record.offset
    });
    checked.collect()
}

#[tokio::test(start_paused = true)]
async fn control_records_and_records_of_aborted_transactions_are_left_out_and_an_open_one_ends_it() {
    let bed = start(&[]).await;
    append(&bed, &batch_of(&["0"])).await;
    append(&bed, &in_transaction(7, 0, &["1", "2"])).await;
    append(&bed, &in_transaction(8, 0, &["3"])).await;
    let open = committed(&bed, 0);
    assert_eq!((offsets(&open), open.next_offset, open.last_stable), (vec![0], 1, 1));
    assert_eq!((open.high_watermark, open.log_end, open.log_start), (4, 4, 0));
    end(&bed, 7, false).await;
    end(&bed, 8, true).await;
    append(&bed, &in_transaction(7, 2, &["6"])).await;
    append(&bed, &batch_of(&["7"])).await;
    // 4 and 5 are markers; the transaction at 6 is open.
    let tail = committed(&bed, 0);
    assert_eq!((offsets(&tail), tail.next_offset), (vec![0, 3], 6));
    end(&bed, 7, true).await;
    let all = committed(&bed, 0);
    assert_eq!(offsets(&all), [0, 3, 6, 7]);
    assert_eq!((all.next_offset, all.last_stable), (9, 9));
    // From within a batch, and beyond the end.
    assert_eq!(offsets(&committed(&bed, 3)), [3, 6, 7]);
    let beyond = committed(&bed, 20);
    assert_eq!((offsets(&beyond), beyond.next_offset, beyond.last_stable), (vec![], 20, 9));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_below_the_high_watermark_is_left_out() {
    let bed = start(&[]).await;
    append(&bed, &batch_of(&["0"])).await;
    bed.fault(2, Pause);
    bed.produce_to(1, "t", &batch_of(&["1", "2"]), 1).await.unwrap();
    let held = committed(&bed, 0);
    assert_eq!((offsets(&held), held.next_offset, held.log_end), (vec![0], 1, 3));
    bed.resume(2);
    bed.until("the high watermark advances", async || committed(&bed, 0).next_offset == 3).await;
    assert_eq!(offsets(&committed(&bed, 2)), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_compaction_removed_is_a_gap_up_to_the_next_offset() {
    let bed = start(&[("cleanup.policy", "compact")]).await;
    let keyed = |key: &[u8], value: &[u8]| {
        BatchBuilder::new(START)
            .record(START, Some(key), Some(value))
            .record(START, Some(b"other"), None)
            .build()
    };
    append(&bed, &keyed(b"k", b"0")).await;
    append(&bed, &keyed(b"k", b"2")).await;
    append(&bed, &keyed(b"j", b"4")).await;
    bed.cluster.compact("t");
    let found = committed(&bed, 0);
    let records = found.records.iter().map(|record| {
        let text = |bytes: &Option<Bytes>| {
            bytes.as_deref().map(String::from_utf8_lossy).map(|text| text.to_string())
        };
        (record.offset, text(&record.key).unwrap(), text(&record.value).unwrap_or_default())
    });
    let records: Vec<_> = records.collect();
    let expected = [(2, "k", "2"), (4, "j", "4"), (5, "other", "")];
    assert_eq!(records, expected.map(|(offset, key, value)| (offset, key.to_owned(), value.to_owned())));
    assert_eq!((found.next_offset, found.log_start), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn records_of_every_compression_are_read_with_their_timestamps() {
    let bed = start(&[]).await;
    for number in compression::NONE..=compression::ZSTD {
        let time = START + i64::from(number);
        let batch = BatchBuilder::new(START)
            .record(time, Some(b"key"), Some(&[number as u8; 100]))
            .record(time + 10, None, None)
            .build_compressed(number);
        append(&bed, &batch).await;
    }
    let found = committed(&bed, 3);
    assert_eq!((found.records.len(), found.next_offset), (7, 10));
    for record in &found.records {
        let (number, is_second) = (record.offset / 2, record.offset % 2 == 1);
        assert_eq!(record.timestamp, START + number + if is_second { 10 } else { 0 });
        let value = (!is_second).then(|| Bytes::from(vec![number as u8; 100]));
        assert_eq!((record.key.is_none(), &record.value), (is_second, &value));
    }
}

#[tokio::test(start_paused = true)]
async fn records_have_the_time_of_the_broker_where_that_is_configured() {
    let bed = start(&[("message.timestamp.type", "LogAppendTime")]).await;
    bed.clocks[0].step(5_000_000);
    append(&bed, &batch_of(&["0", "1"])).await;
    let data = bed.cluster.batches(NodeId(1), "t", 0).unwrap();
    let found = committed(&bed, 0);
    let times: BTreeSet<i64> = found.records.iter().map(|record| record.timestamp).collect();
    assert_eq!((times, found.records.len()), (BTreeSet::from([data[0].max_timestamp()]), 2));
    assert!(data[0].max_timestamp() >= START + 5_000);
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_below_the_start_also_within_a_batch_and_in_an_open_transaction() {
    let bed = start(&[]).await;
    append(&bed, &batch_of(&["0", "1", "2"])).await;
    append(&bed, &in_transaction(7, 0, &["3", "4", "5"])).await;
    delete_below(&bed, 1).await;
    let found = committed(&bed, 0);
    assert_eq!((offsets(&found), found.log_start, found.next_offset), (vec![1, 2], 1, 3));
    // The transaction begins below the start, so that the last stable offset is within its batch.
    delete_below(&bed, 4).await;
    let found = committed(&bed, 0);
    assert_eq!((offsets(&found), found.log_start, found.last_stable), (vec![], 4, 4));
    assert_eq!((found.next_offset, committed(&bed, 5).next_offset), (3, 5));
    end(&bed, 7, true).await;
    assert_eq!(offsets(&committed(&bed, 0)), [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_while_nobody_leads() {
    let bed = start(&[]).await;
    append(&bed, &batch_of(&["0"])).await;
    assert!(bed.cluster.committed("t", 1, 0).is_none() && bed.cluster.committed("u", 0, 0).is_none());
    assert_eq!(bed.cluster.leader("t", 0), Some(NodeId(1)));
    assert_eq!(bed.cluster.in_sync("t", 0), [NodeId(1), NodeId(2)]);
    bed.fault(1, Kill);
    assert!(bed.cluster.committed("t", 0, 0).is_none());
    // The next leader does not know that it leads.
    bed.cluster.lag_metadata(NodeId(2), seconds(5));
    bed.until("a leader is elected", async || bed.leader("t") == Some(2)).await;
    assert!(bed.cluster.committed("t", 0, 0).is_none());
    tokio::time::sleep(seconds(10)).await;
    assert_eq!((committed(&bed, 0).leader, offsets(&committed(&bed, 0))), (NodeId(2), vec![0]));
}

/// What a consumer of committed records takes from a response, as `CompletedFetch` does; its next position.
fn consume(data: &PartitionData, mut position: i64, values: &mut Values) -> i64 {
    let mut pending = data.aborted_transactions.clone().unwrap_or_default();
    pending.sort_by_key(|aborted| aborted.first_offset);
    let mut aborted = BTreeSet::new();
    for batch in Batch::split_all(data.records.clone().unwrap_or_default()).unwrap() {
        pending.retain(|transaction| {
            let begins = transaction.first_offset <= batch.last_offset();
            if begins {
                aborted.insert(transaction.producer_id.0);
            }
            !begins
        });
        let content = records(&batch, 1 << 20).unwrap();
        if batch.is_control() {
            if content.first().and_then(EndMarker::of).is_some_and(|end| end.marker == Marker::Abort) {
                aborted.remove(&batch.producer_id());
            }
        } else if !(batch.is_transactional() && aborted.contains(&batch.producer_id())) {
            let new = content.into_iter().filter(|record| record.offset >= position);
            values.extend(new.map(|record| (record.offset, record.value)));
        }
        position = batch.next_offset();
    }
    position
}

#[tokio::test(start_paused = true)]
async fn committed_records_of_random_logs_are_what_a_consumer_reads() {
    let mut seen = [0; 4];
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bed = start(&[("cleanup.policy", "compact,delete")]).await;
        let mut sequences = [0; 3];
        for number in 0..40 {
            let mut below = |limit: u64| random.next_u64() % limit;
            let producer = below(3);
            match below(10) {
                0..5 => {
                    let (sequence, count) = (&mut sequences[producer as usize], 1 + below(3));
                    let mut builder = BatchBuilder::new(START);
                    if below(4) > 0 {
                        builder = builder.producer(producer as i64, 0, *sequence).transactional();
                        *sequence += count as i32;
                    }
                    for _ in 0..count {
                        let (key, value) = ([below(8) as u8], [number, below(256) as u8]);
                        builder = builder.record(START, Some(&key), Some(&value));
                    }
                    let batch = builder.build_compressed(below(5) as i8);
                    // A producer without a transaction may not write while it has an open one: then nothing is appended.
                    let _ = try_append(&bed, &batch).await;
                }
                5..8 => end(&bed, producer as i64, below(2) == 0).await,
                8 => {
                    if below(2) == 0 {
                        bed.cluster.roll("t");
                    }
                    bed.cluster.compact("t");
                }
                _ => {
                    let state = bed.cluster.replica(NodeId(1), "t", 0).unwrap();
                    let to = state.start + below(2) as i64 * below(4) as i64;
                    delete_below(&bed, to.min(state.high_watermark)).await;
                }
            }
        }
        let state = bed.cluster.replica(NodeId(1), "t", 0).unwrap();
        seen[0] += usize::from(state.start > 0);
        seen[1] += usize::from(state.last_stable < state.high_watermark);
        for from in state.start..=state.end {
            let (mut read, mut position) = (Values::new(), from);
            loop {
                let data = bed.fetch_with(1, "t", wanted(position), 1).await.unwrap();
                assert_eq!(data.error_code, 0);
                let next = consume(&data, position, &mut read);
                seen[2] += usize::from(data.aborted_transactions.is_some_and(|aborted| !aborted.is_empty()));
                if next == position {
                    break;
                }
                position = next;
            }
            let found = committed(&bed, from);
            assert_eq!(values(&found), read, "seed {seed} from {from}");
            assert!(found.next_offset >= position, "seed {seed} from {from}");
            seen[3] += usize::from(!read.is_empty());
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_weak_reference_does_not_keep_a_cluster() {
    let bed = start(&[]).await;
    let weak = bed.cluster.downgrade();
    let broker = bed.cluster.broker(NodeId(1)).unwrap();
    assert_eq!(weak.upgrade().and_then(|cluster| cluster.leader("t", 0)), Some(NodeId(1)));
    drop(bed);
    assert!(weak.upgrade().is_none());
    broker.died().await;
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_of_a_group_is_the_leader_of_its_partition() {
    let bed = Testbed::start_with(1, |options| options.offsets_partitions = 5).await;
    assert_eq!(bed.cluster.coordinator_of_group("g"), None);
    let request = || FindCoordinatorRequest::default().with_key(text("g"));
    bed.until("there is a coordinator", async || {
        bed.send(1, request(), 2).await.is_some_and(|response| response.error_code == 0)
    })
    .await;
    let found = bed.send(1, request(), 2).await.unwrap();
    assert_eq!(bed.cluster.coordinator_of_group("g"), Some(NodeId(found.node_id.0)));
    assert_eq!(bed.cluster.coordinator_of_transaction("p"), None);
}
