//! Batches that brokers write themselves: control batches, records of coordinators, what compaction leaves.

use bytes::{BufMut, BytesMut};

use super::batch::{Batch, Header, assemble};
use super::compression;
use super::records::{EndMarker, Marker, Record};
use crate::types::{Offset, Timestamp};

/// Builds a batch, record by record.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: Header,
    payload: BytesMut,
}

impl BatchBuilder {
    /// A batch whose timestamps are relative to `base_timestamp`.
    pub fn new(base_timestamp: Timestamp) -> Self {
        let header = Header {
            base_offset: 0,
            leader_epoch: -1,
            compression: compression::NONE,
            log_append_time: false,
            transactional: false,
            control: false,
            delete_horizon: false,
            last_offset_delta: -1,
            base_timestamp,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        Self { header, payload: BytesMut::new() }
    }

    /// Of an idempotent producer; the sequence number is that of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = sequence;
        self
    }

    /// In a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.transactional = true;
        self
    }

    /// Adds a record, at the next offset.
    #[must_use]
    pub fn record(mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.header.last_offset_delta += 1;
        let mut body = BytesMut::new();
        body.put_i8(0);
        put_varint(&mut body, timestamp.wrapping_sub(self.header.base_timestamp));
        put_varint(&mut body, i64::from(self.header.last_offset_delta));
        for bytes in [key, value] {
            match bytes {
                None => put_varint(&mut body, -1),
                Some(bytes) => {
                    put_varint(&mut body, bytes.len() as i64);
                    body.put_slice(bytes);
                }
            }
        }
        put_varint(&mut body, 0);
        put_varint(&mut self.payload, body.len() as i64);
        self.payload.put_slice(&body);
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.count += 1;
        self
    }

    /// The batch, uncompressed.
    pub fn build(self) -> Batch {
        assemble(self.header, &self.payload)
    }

    /// The batch, compressed; uncompressed if there is no such compression.
    pub fn build_compressed(mut self, compression: i8) -> Batch {
        match compression::compress(compression, &self.payload) {
            Some(payload) => {
                self.header.compression = compression;
                assemble(self.header, &payload)
            }
            None => self.build(),
        }
    }
}

/// The control batch that ends a transaction of a producer (`MemoryRecords.withEndTransactionMarker`).
pub fn end_of_transaction(time: Timestamp, producer_id: i64, producer_epoch: i16, end: EndMarker) -> Batch {
    let kind: i16 = match end.marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let key = [0i16.to_be_bytes(), kind.to_be_bytes()].concat();
    let value = [&0i16.to_be_bytes()[..], &end.coordinator_epoch.to_be_bytes()].concat();
    let mut builder = BatchBuilder::new(time).producer(producer_id, producer_epoch, -1).transactional();
    builder.header.control = true;
    builder.record(time, Some(&key), Some(&value)).build()
}

/// What is left of a batch when only these of its records are kept: offsets, producer and attributes are the same, and
/// there may be no record at all (`MemoryRecords.filterTo`). The records are compressed as they were.
///
/// With a delete horizon, the base timestamp becomes that time, and the records' timestamps stay as they were.
pub fn retain(batch: &Batch, kept: &[Record], delete_horizon: Option<Timestamp>) -> Batch {
    let horizon = batch.delete_horizon().or(delete_horizon);
    let base_timestamp = horizon.unwrap_or(batch.base_timestamp());
    let mut payload = BytesMut::new();
    for record in kept {
        let mut body = BytesMut::new();
        body.put_slice(record.body().get(..1).unwrap_or_default());
        put_varint(&mut body, record.timestamp.wrapping_sub(base_timestamp));
        put_varint(&mut body, i64::from(record.offset_delta));
        body.put_slice(after_deltas(record.body()));
        put_varint(&mut payload, body.len() as i64);
        payload.put_slice(&body);
    }
    let max_timestamp = if batch.is_log_append_time() || kept.is_empty() {
        batch.max_timestamp()
    } else {
        kept.iter().map(|record| record.timestamp).max().unwrap_or(-1)
    };
    let compressed = compression::compress(batch.compression(), &payload);
    let header = Header {
        base_offset: batch.base_offset(),
        leader_epoch: batch.leader_epoch(),
        compression: if compressed.is_some() { batch.compression() } else { compression::NONE },
        log_append_time: batch.is_log_append_time(),
        transactional: batch.is_transactional(),
        control: batch.is_control(),
        delete_horizon: horizon.is_some(),
        last_offset_delta: batch.last_offset_delta(),
        base_timestamp,
        max_timestamp,
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        count: i32::try_from(kept.len()).unwrap_or(i32::MAX),
    };
    assemble(header, compressed.as_deref().unwrap_or(&payload))
}

/// The same batch with another compression, as a broker writes it whose topic has a `compression.type`.
pub fn recompress(batch: &Batch, records: &[u8], compression: i8) -> Option<Batch> {
    let payload = compression::compress(compression, records)?;
    let header = Header {
        base_offset: batch.base_offset(),
        leader_epoch: batch.leader_epoch(),
        compression,
        log_append_time: batch.is_log_append_time(),
        transactional: batch.is_transactional(),
        control: batch.is_control(),
        delete_horizon: false,
        last_offset_delta: batch.last_offset_delta(),
        base_timestamp: batch.base_timestamp(),
        max_timestamp: batch.max_timestamp(),
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        count: batch.count(),
    };
    Some(assemble(header, &payload))
}

/// The offset after the last record that is left of a batch, none if none is.
pub fn last_kept(kept: &[Record]) -> Option<Offset> {
    kept.last().map(|record| record.offset)
}

/// A record's body after its attributes and the two relative numbers.
fn after_deltas(body: &[u8]) -> &[u8] {
    let mut rest = body.get(1..).unwrap_or_default();
    for _ in 0..2 {
        let length = rest.iter().position(|byte| byte & 0x80 == 0).map_or(rest.len(), |last| last + 1);
        rest = rest.get(length..).unwrap_or_default();
    }
    rest
}

/// Writes a signed number in zigzag encoding.
fn put_varint(output: &mut BytesMut, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        output.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    output.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::records::records;

    #[test]
    fn records_are_read_as_they_were_built_with_every_compression() {
        for compression in 0..=4 {
            let long = vec![b'x'; 300];
            let built = BatchBuilder::new(1_000)
                .record(1_000, Some(b""), None)
                .record(900, None, Some(&long))
                .record(i64::MAX, Some(b"key"), Some(b""))
                .build_compressed(compression);
            assert_eq!((built.check(), built.compression()), (Ok(()), compression));
            let read = records(&built.stamped(7, 0), 1 << 20).unwrap();
            let read: Vec<_> =
                read.iter().map(|record| (record.offset, record.timestamp, record.key.as_deref())).collect();
            let expected: [(i64, i64, Option<&[u8]>); 3] =
                [(7, 1_000, Some(b"")), (8, 900, None), (9, i64::MAX, Some(b"key"))];
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_batch_keeps_its_offsets_and_sequences_when_records_are_removed() {
        let batch = BatchBuilder::new(10)
            .producer(5, 1, 40)
            .record(10, Some(b"a"), Some(b"1"))
            .record(30, Some(b"b"), Some(b"2"))
            .record(20, Some(b"a"), Some(b"3"))
            .build()
            .stamped(100, 3);
        let all = records(&batch, 1 << 20).unwrap();
        let left = retain(&batch, &all[1..2], Some(77));
        assert_eq!((left.base_offset(), left.last_offset(), left.last_sequence()), (100, 102, 42));
        assert_eq!((left.count(), left.max_timestamp(), left.delete_horizon()), (1, 30, Some(77)));
        let kept = records(&left, 1 << 20).unwrap();
        assert_eq!((kept[0].offset, kept[0].timestamp, kept[0].value.as_deref()), (101, 30, Some(&b"2"[..])));
        let none = retain(&left, &[], None);
        assert_eq!((none.count(), none.last_offset(), none.check()), (0, 102, Ok(())));
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        for marker in [Marker::Abort, Marker::Commit] {
            let end = EndMarker { marker, coordinator_epoch: 9 };
            let batch = end_of_transaction(50, 4, 2, end);
            assert!(batch.is_control() && batch.is_transactional());
            let read = records(&batch, 1 << 10).unwrap();
            assert_eq!(EndMarker::of(&read[0]), Some(end));
        }
    }
}
