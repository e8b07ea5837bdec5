//! The target `kafka_batch`: record batches, as the simulated Kafka reads and stamps them, and as another codec does.

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::{Buf, Bytes, BytesMut};
use proto_kafka::error::ProtoError;
use proto_kafka::protocol::StrBytes;
use proto_kafka::records::{
    Compression, Record as OtherRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use simulated_kafka::protocol::batch::{BEFORE_LENGTH, Batch, HEADER};
use simulated_kafka::protocol::builder::{BatchBuilder, retain};
use simulated_kafka::protocol::compression::{compress, decompress};
use simulated_kafka::protocol::records::{Record, records};

use crate::allocations::peak;
use crate::types::few;

/// The most that records are decompressed to.
const LIMIT: usize = 64 << 10;

/// What reading records may take: a record is larger in memory than on the wire, where it has seven bytes at least, and a
/// decompressor has windows and tables.
const ALLOWANCE: usize = (16 << 20) + 64 * LIMIT;

/// Where a batch has its length, magic number, checksum and what that covers.
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;

/// Reads and writes record batches, by the first byte:
///
/// - 0: all bytes are the records of a request;
/// - 1: the bytes are the header and the records of one batch, whose length, magic number and checksum are right;
/// - 2: a batch is made from the bytes, which the other codec reads as the same;
/// - 3: the other codec writes records that are made from the bytes, which are read as the same.
///
/// What is read takes memory in proportion, and is the same after the changes that brokers make.
///
/// # Panics
/// If it is not so.
pub fn kafka_batch(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let source = &mut Unstructured::new(rest);
    // Bytes that make nothing are no defect.
    let _ = match mode % 4 {
        0 => {
            sent(rest);
            Ok(())
        }
        1 => {
            sealed(rest);
            Ok(())
        }
        2 => built(source),
        _ => written(source),
    };
}

fn sent(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let (batches, taken) = peak(|| Batch::split_all(bytes.clone()));
    assert!(taken <= 4096 + 8 * bytes.len(), "{taken} bytes for {}", bytes.len());
    let Ok(batches) = batches else { return };
    assert_eq!(batches.iter().map(Batch::size).sum::<usize>(), bytes.len());
    batches.iter().for_each(read);
}

fn sealed(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(HEADER), 0);
    let length = (bytes.len() - BEFORE_LENGTH) as u32;
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    bytes[MAGIC] = 2;
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    let mut left = Bytes::from(bytes);
    let batch = Batch::split_from(&mut left).expect("its length and magic number are right");
    assert_eq!((batch.check(), left.len()), (Ok(()), 0));
    read(&batch);
}

/// Reads the records of a batch, and those of the batches that brokers make of it.
fn read(batch: &Batch) {
    let (found, taken) = peak(|| records(batch, LIMIT));
    assert!(taken <= ALLOWANCE, "{taken} bytes for {}", batch.size());
    let Ok(found) = found else { return };
    assert_eq!(found.len(), usize::try_from(batch.count()).unwrap_or(0));

    let was_whole = batch.check().is_ok();
    let moved = batch.stamped(7_000, 3);
    assert_eq!((moved.base_offset(), moved.leader_epoch(), moved.check().is_ok()), (7_000, 3, was_whole));
    let by = 7_000_i64.wrapping_sub(batch.base_offset());
    same(&moved, found.iter().map(|record| (record.offset.wrapping_add(by), record.timestamp, record)));

    let timed = batch.with_append_time(99);
    assert_eq!((timed.check(), timed.max_timestamp()), (Ok(()), 99));
    same(&timed, found.iter().map(|record| (record.offset, 99, record)));

    let every_second: Vec<Record> = found.iter().step_by(2).cloned().collect();
    let left = retain(batch, &every_second, None);
    assert_eq!((left.check(), left.last_offset_delta()), (Ok(()), batch.last_offset_delta()));
    same(&left, every_second.iter().map(|record| (record.offset, record.timestamp, record)));
}

/// Checks that a batch has these records at these offsets and times.
fn same<'a>(batch: &Batch, expected: impl Iterator<Item = (i64, i64, &'a Record)>) {
    let found = records(batch, 2 * LIMIT).expect("a batch that was read before");
    let found: Vec<_> = found.iter().map(|it| (it.offset, it.timestamp, &it.key, &it.value)).collect();
    let expected: Vec<_> = expected.map(|(offset, time, it)| (offset, time, &it.key, &it.value)).collect();
    assert_eq!(found, expected);
}

type Plain = (i64, Option<Bytes>, Option<Bytes>);

fn plain(source: &mut Unstructured<'_>) -> Result<Plain> {
    let bytes = |bytes: Option<Vec<u8>>| bytes.map(Bytes::from);
    let timestamp = source.int_in_range(0..=1 << 50)?;
    Ok((timestamp, bytes(Option::arbitrary(source)?), bytes(Option::arbitrary(source)?)))
}

fn unpack(payload: &mut Bytes, compression: Compression) -> std::result::Result<Bytes, ProtoError> {
    let bytes = payload.copy_to_bytes(payload.remaining());
    Ok(decompress(compression as i8, bytes, LIMIT).expect("it was compressed here"))
}

fn built(source: &mut Unstructured<'_>) -> Result<()> {
    let compression = source.int_in_range(0..=4)?;
    let (id, epoch, sequence) = (source.int_in_range(0..=1 << 40)?, source.int_in_range(0..=99)?, 0);
    let first = source.int_in_range(0..=1 << 50)?;
    let made = few(source, plain)?;
    let mut builder = BatchBuilder::new(first).producer(id, epoch, sequence);
    for (timestamp, key, value) in &made {
        builder = builder.record(*timestamp, key.as_deref(), value.as_deref());
    }
    let batch = builder.build_compressed(compression);
    assert_eq!((batch.check(), batch.compression()), (Ok(()), compression));
    read(&batch);
    if made.is_empty() {
        // Only compaction leaves such a batch, and the other codec knows none.
        return Ok(());
    }
    let mut bytes = batch.bytes().clone();
    let other = RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(unpack))
        .unwrap_or_else(|error| panic!("{error}: {}", hex::encode(batch.bytes())));
    let found: Vec<_> = other
        .records
        .into_iter()
        .map(|it| (it.producer_id, it.producer_epoch, it.offset, (it.timestamp, it.key, it.value)))
        .collect();
    let expected: Vec<_> = (0..).zip(made).map(|(offset, record)| (id, epoch, offset, record)).collect();
    assert_eq!(found, expected);
    Ok(())
}

fn written(source: &mut Unstructured<'_>) -> Result<()> {
    let algorithms =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let compression = *source.choose(&algorithms)?;
    let made = few(source, |source| {
        let headers = few(source, |source| {
            let name = StrBytes::from_string(String::arbitrary(source)?);
            Ok((name, Option::<Vec<u8>>::arbitrary(source)?.map(Bytes::from)))
        })?;
        Ok((plain(source)?, headers))
    })?;
    let made: Vec<OtherRecord> = (0..).zip(made).map(|(place, made)| other_record(place, made)).collect();
    let pack = |payload: &mut BytesMut, output: &mut BytesMut, compression: Compression| {
        output.extend_from_slice(&compress(compression as i8, payload).expect("it is known"));
        Ok::<_, ProtoError>(())
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &made, &options, Some(pack))
        .unwrap_or_else(|error| panic!("{error}"));
    let batches = Batch::split_all(bytes.freeze()).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Vec::new();
    for batch in &batches {
        assert_eq!(batch.check(), Ok(()));
        read(batch);
        let records = records(batch, LIMIT).unwrap_or_else(|error| panic!("{error}"));
        found.extend(records.into_iter().map(|it| (it.offset, it.timestamp, it.key, it.value)));
    }
    let expected: Vec<_> = made.into_iter().map(|it| (it.offset, it.timestamp, it.key, it.value)).collect();
    assert_eq!(found, expected);
    Ok(())
}

fn other_record(
    place: i32,
    ((timestamp, key, value), headers): (Plain, Vec<(StrBytes, Option<Bytes>)>),
) -> OtherRecord {
    OtherRecord {
        transactional: false,
        control: false,
        delete_horizon_ms: None,
        partition_leader_epoch: 0,
        producer_id: 5,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(place),
        sequence: place,
        timestamp,
        key,
        value,
        headers,
    }
}
