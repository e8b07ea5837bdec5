//! The records inside of a batch.

use bytes::Bytes;
use thiserror::Error;

use super::batch::Batch;
use super::compression::{self, CompressionError};
use crate::types::{Offset, Timestamp};

/// Why records cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// They cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record is malformed.
    #[error("record {place} of a batch is malformed: {reason}")]
    Malformed {
        /// Its place in the batch, from 0.
        place: i32,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// All of it after its length, as in the batch: offset and timestamp in it are relative.
    body: Bytes,
    /// Its offset relative to the batch's.
    pub(super) offset_delta: i32,
}

impl Record {
    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// The type of a control record (`ControlRecordType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
}

/// The end of a transaction, as a control record has it (`EndTransactionMarker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// How it ended.
    pub marker: Marker,
    /// The epoch of the coordinator that ended it.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// Reads a control record; none if it is not the end of a transaction.
    pub fn of(record: &Record) -> Option<Self> {
        let key = record.key.as_deref()?;
        let value = record.value.as_deref()?;
        let marker = match key.get(2..4)? {
            [0, 0] => Marker::Abort,
            [0, 1] => Marker::Commit,
            _ => return None,
        };
        let epoch = value.get(2..6)?.try_into().ok()?;
        Some(Self { marker, coordinator_epoch: i32::from_be_bytes(epoch) })
    }
}

/// The records of a batch, all at once.
///
/// # Errors
/// If they cannot be decompressed within `limit` bytes, or are malformed.
pub fn records(batch: &Batch, limit: usize) -> Result<Vec<Record>, RecordError> {
    each(batch, limit)?.collect()
}

/// The records of a batch, one after another: a batch of a megabyte may have millions.
///
/// # Errors
/// If they cannot be decompressed within `limit` bytes. What is malformed is found on the way, and ends it.
pub fn each(
    batch: &Batch,
    limit: usize,
) -> Result<impl Iterator<Item = Result<Record, RecordError>> + '_, RecordError> {
    let payload = compression::decompress(batch.compression(), batch.payload(), limit)?;
    let mut input = Input { bytes: payload, at: 0 };
    let count = batch.count().max(0);
    let mut place = 0;
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let result = if place < count {
            record(batch, &mut input)
        } else {
            ended = true;
            if input.at == input.bytes.len() {
                return None;
            }
            Err("bytes after the last record")
        };
        ended |= result.is_err();
        let result = result.map_err(|reason| RecordError::Malformed { place, reason });
        place += 1;
        Some(result)
    }))
}

fn record(batch: &Batch, input: &mut Input) -> Result<Record, &'static str> {
    let length = usize::try_from(input.varint(5)?).map_err(|_| "a negative length")?;
    let body = input.take(length)?;
    let mut input = Input { bytes: body.clone(), at: 0 };
    input.take(1)?;
    let timestamp_delta = input.varint(10)?;
    let offset_delta = i32::try_from(input.varint(5)?).map_err(|_| "an offset of more than 32 bits")?;
    let key = input.nullable()?;
    let value = input.nullable()?;
    let headers = input.varint(5)?;
    if headers < 0 {
        return Err("a negative number of headers");
    }
    for _ in 0..headers {
        input.nullable()?.ok_or("a header without a key")?;
        input.nullable()?;
    }
    if input.at != input.bytes.len() {
        return Err("bytes after its last header");
    }
    let timestamp = if batch.is_log_append_time() {
        batch.max_timestamp()
    } else {
        batch.base_timestamp().wrapping_add(timestamp_delta)
    };
    let offset = batch.base_offset().wrapping_add(i64::from(offset_delta));
    Ok(Record { offset, timestamp, key, value, body, offset_delta })
}

struct Input {
    bytes: Bytes,
    at: usize,
}

impl Input {
    fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("it is longer than the batch")?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        let length = self.varint(5)?;
        if length < 0 {
            return Ok(None);
        }
        self.take(usize::try_from(length).map_err(|_| "a length")?).map(Some)
    }

    /// A signed number in zigzag encoding, of at most `longest` bytes.
    fn varint(&mut self, longest: u32) -> Result<i64, &'static str> {
        let mut number = 0u64;
        for place in 0..longest {
            let byte = *self.bytes.get(self.at).ok_or("it ends in a number")?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err("a number is too long")
    }
}
