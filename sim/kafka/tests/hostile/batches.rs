//! Damaged record batches in Produce, and batches that decompress to far more than they are.

use bytes::{Bytes, BytesMut};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::batch::Batch;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use simulated_kafka::protocol::messages::{ApiKey, ProduceRequest, ProduceResponse};
use simulated_kafka::protocol::{Decodable, Encodable};

use crate::Target;
use crate::harness::{START, text, topic_name};
use crate::requests::{Draw, damage, frame};

const VERSION: i16 = 9;

/// Where the fields of a batch are.
const LENGTH: usize = 8;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;
const HEADER: usize = 61;

/// Sets the length and the checksum to those of the content.
fn repair(bytes: &mut [u8]) {
    if bytes.len() < HEADER {
        return;
    }
    let length = (bytes.len() as u32 - 12).to_be_bytes();
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length);
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]).to_be_bytes();
    bytes[CRC..CRC + 4].copy_from_slice(&crc);
}

impl Target {
    /// Produces bytes as the records of partition 0 of `t`: the error code, none if the connection ended, and the peak
    /// memory.
    fn produce(&self, records: &[u8]) -> (Option<i16>, usize) {
        let data =
            PartitionProduceData::default().with_index(0).with_records(Some(Bytes::copy_from_slice(records)));
        let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(vec![data]);
        // Without an id, what is transactional is refused before it is looked at.
        let id = text("id").into();
        let request = ProduceRequest::default()
            .with_transactional_id(Some(id))
            .with_acks(1)
            .with_timeout_ms(1000)
            .with_topic_data(vec![topic]);
        let mut body = BytesMut::new();
        request.encode(&mut body, VERSION).expect("a request");
        let leader = self.bed.leader("t").expect("a leader");
        let sent = frame(ApiKey::Produce as i16, VERSION, 2, &body);
        drop((request, body));
        let (received, taken) =
            crate::memory::most_of(|| self.runtime.block_on(self.bed.send_bytes(leader, &sent)));
        let received = received.expect("a response, or the end of the connection");
        let Some(response) = received.get(9..) else { return (None, taken) };
        let response =
            ProduceResponse::decode(&mut Bytes::copy_from_slice(response), VERSION).expect("a response");
        (Some(response.responses[0].partition_responses[0].error_code), taken)
    }
}

/// Batches as producers send them.
fn some_batches() -> Vec<Batch> {
    let long = b"a value ".repeat(40);
    let mut batches = Vec::new();
    for compression in 0..=4 {
        let records = |builder: BatchBuilder| {
            builder.record(START, Some(b"k"), Some(&long)).record(START + 1, None, Some(b"v")).record(
                START,
                Some(b"k"),
                None,
            )
        };
        batches.push(records(BatchBuilder::new(START)).build_compressed(compression));
        batches.push(records(BatchBuilder::new(START).producer(1000, 0, 0)).build_compressed(compression));
        let transactional = BatchBuilder::new(START).producer(1001, 0, 0).transactional();
        batches.push(records(transactional).build_compressed(compression));
    }
    batches
}

#[test]
fn a_damaged_batch_is_refused_or_can_be_read_again_and_takes_little_memory() {
    let target = Target::start();
    let batches = some_batches();
    let mut draw = Draw::new(3);
    let mut accepted = 0;
    for round in 0..3000 {
        let mut bytes = batches[round % batches.len()].bytes().to_vec();
        match draw.below(4) {
            0 => damage(&mut bytes, &mut draw),
            // The header.
            1 => {
                let mut rest = bytes.split_off(HEADER);
                damage(&mut bytes, &mut draw);
                bytes.append(&mut rest);
            }
            // The records.
            2 => {
                let mut rest = bytes.split_off(HEADER);
                damage(&mut rest, &mut draw);
                bytes.append(&mut rest);
            }
            _ => {
                let place = draw.pick(&[LENGTH, LAST_OFFSET_DELTA, COUNT]);
                let number = draw.pick(&[-1, 0, 1, 2, 4, i32::MAX, i32::MIN, 1 << 24]);
                bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
            }
        }
        // A checksum that is right lets the rest be looked at.
        if draw.below(4) > 0 {
            repair(&mut bytes);
        }
        let (code, taken) = target.produce(&bytes);
        accepted += usize::from(code == Some(0));
        assert!(taken < (1 << 20) + 64 * bytes.len(), "{code:?}: {taken} bytes for {bytes:?}");
    }
    assert!((1..1500).contains(&accepted), "{accepted} of 3000 are accepted");
    target.runtime.block_on(async {
        let mut offset = 0;
        let end = target.bed.end("t").await.expect("an end");
        while offset < end {
            let read = target.bed.fetch("t", offset).await.expect("what was accepted can be read");
            // Offsets without records are none of what clients produce.
            assert_eq!(read.values.first().map(|(first, _)| *first), Some(offset));
            offset = read.values.last().map_or(end, |(last, _)| last + 1);
        }
    });
    target.still_serves();
}

#[test]
fn a_batch_with_a_wrong_checksum_length_or_count_has_the_error_that_kafka_gives_it() {
    let target = Target::start();
    let whole = BatchBuilder::new(START).record(START, None, Some(b"value")).build().bytes().to_vec();
    let with = |place: usize, number: i32, repaired: bool| {
        let mut bytes = whole.clone();
        bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
        if repaired {
            repair(&mut bytes);
        }
        bytes
    };
    let corrupt = ErrorCode::CorruptMessage.code();
    let invalid = ErrorCode::InvalidRecord.code();
    assert_eq!(target.produce(&with(CRC, 7, false)).0, Some(corrupt));
    assert_eq!(target.produce(&with(LAST_OFFSET_DELTA, 1, true)).0, Some(invalid));
    for count in [0, 2, -1, i32::MIN, i32::MAX] {
        assert_eq!(target.produce(&with(COUNT, count, true)).0, Some(invalid), "{count}");
    }
    target.still_serves();
}

/// A batch of one compressed payload, which claims this many records.
fn claiming(compression: i8, count: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = BatchBuilder::new(START).record(START, None, None).build().bytes().to_vec();
    bytes.truncate(HEADER);
    bytes.extend_from_slice(payload);
    bytes[ATTRIBUTES + 1] = compression as u8;
    bytes[LAST_OFFSET_DELTA..LAST_OFFSET_DELTA + 4].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[COUNT..COUNT + 4].copy_from_slice(&count.to_be_bytes());
    repair(&mut bytes);
    bytes
}

/// A frame of zstd that is a run of blocks, each of which is one byte 128 Ki times.
fn zstd_run(byte: u8, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for block in 1..=blocks {
        let header: u32 = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

#[test]
fn a_compressed_batch_that_claims_gigabytes_takes_bounded_memory() {
    let target = Target::start();
    // A block of snappy whose length is 2^28 - 1, a frame of zstd with the largest window and content.
    let snappy = [0xff, 0xff, 0xff, 0x7f, 0x00, b'x'];
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xff][..], &[0xff; 8], &[1, 0, 0]].concat();
    for (compression, payload) in [(2, &snappy[..]), (4, &zstd[..])] {
        let (code, taken) = target.produce(&claiming(compression, 1, payload));
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
        assert!(taken < 4 << 20, "compression {compression}: {taken} bytes");
    }
    target.still_serves();
}

#[test]
fn a_bomb_of_gigabytes_is_refused_within_its_bound() {
    let target = Target::start();
    // 32 GiB in a megabyte.
    let (code, taken) = target.produce(&claiming(4, 1, &zstd_run(0, 1 << 18)));
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(taken < 600 << 20, "{taken} bytes");
    target.still_serves();
}

#[test]
fn a_bomb_of_millions_of_records_is_refused_without_memory_for_each() {
    let target = Target::start();
    // Lengths of six, and records of nothing: 00 00 00 01 01 00 are attributes, deltas of 0, no key, no value, no
    // headers. A block of zstd repeats one byte only, so this is of gzip.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let payload = record.repeat(3 << 20);
    let compressed = simulated_kafka::protocol::compression::compress(1, &payload).expect("gzip");
    drop(payload);
    let (code, taken) = target.produce(&claiming(1, 3 << 20, &compressed));
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(taken < 80 << 20, "{taken} bytes for {}", compressed.len());
    target.still_serves();
}
