//! Record batches (version 2) as bytes: their headers, and what a broker changes in them.
//!
//! The layout is that of `DefaultRecordBatch`. The checksum covers everything from the attributes on, so the base offset
//! and the leader epoch can be set without computing it again.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::types::{Offset, Timestamp};

/// Bytes of a batch before its records.
pub const HEADER: usize = 61;
/// Bytes before what the length of a batch counts: the base offset and the length itself.
pub const BEFORE_LENGTH: usize = 12;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const COUNT: usize = 57;

const COMPRESSION: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Fewer bytes than the batch claims.
    #[error("{0} bytes are left of a batch, which is not all of it")]
    Short(usize),
    /// A length that no batch has.
    #[error("a batch claims a length of {0}")]
    Length(i32),
    /// Another version of the format.
    #[error("a batch has the magic number {0}")]
    Magic(i8),
    /// The checksum is not that of the content.
    #[error("the checksum is {claimed:08x} and that of the content {computed:08x}")]
    Checksum {
        /// What the batch has.
        claimed: u32,
        /// What it should have.
        computed: u32,
    },
}

/// A whole batch and its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    // A batch has a whole header, so this is always there.
    if let Some(found) = bytes.get(at..at + N) {
        value.copy_from_slice(found);
    }
    value
}

impl Batch {
    /// Takes the first batch off bytes. Checks its length and magic number, not its checksum.
    ///
    /// # Errors
    /// If the bytes do not begin with a whole batch.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER {
            return Err(BatchError::Short(bytes.len()));
        }
        let claimed = i32::from_be_bytes(field(bytes, LENGTH));
        let length = usize::try_from(claimed).map_err(|_| BatchError::Length(claimed))?;
        let magic = i8::from_be_bytes(field(bytes, MAGIC));
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        if length < HEADER - BEFORE_LENGTH {
            return Err(BatchError::Length(claimed));
        }
        if length > bytes.len() - BEFORE_LENGTH {
            return Err(BatchError::Short(bytes.len()));
        }
        Ok(Self { bytes: bytes.split_to(BEFORE_LENGTH + length) })
    }

    /// Splits bytes into batches.
    ///
    /// # Errors
    /// If they are not whole batches.
    pub fn split_all(mut bytes: Bytes) -> Result<Vec<Self>, BatchError> {
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            batches.push(Self::split_from(&mut bytes)?);
        }
        Ok(batches)
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The offset of its first record, when it was produced.
    pub fn base_offset(&self) -> Offset {
        i64::from_be_bytes(field(&self.bytes, BASE_OFFSET))
    }

    /// The offset of its last record, when it was produced: compaction may have removed that.
    pub fn last_offset(&self) -> Offset {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The offset after its last one.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// The difference between its last and its first offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, LAST_OFFSET_DELTA))
    }

    /// The epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, LEADER_EPOCH))
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(&self.bytes, ATTRIBUTES))
    }

    /// The number of its compression.
    pub fn compression(&self) -> i8 {
        (self.attributes() & COMPRESSION) as i8
    }

    /// Whether the broker set its timestamp.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether bytes begin with a transactional batch, whole or not.
    pub(crate) fn begins_transactional(bytes: &[u8]) -> bool {
        bytes.get(MAGIC) == Some(&2)
            && bytes.get(ATTRIBUTES + 1).is_some_and(|low| i16::from(*low) & TRANSACTIONAL != 0)
    }

    /// Whether it has control records.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// When its tombstones and markers may be removed, if compaction has decided that.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes() & DELETE_HORIZON != 0).then(|| self.base_timestamp())
    }

    /// The timestamp that those of its records are relative to; the delete horizon, if there is one.
    pub fn base_timestamp(&self) -> Timestamp {
        i64::from_be_bytes(field(&self.bytes, BASE_TIMESTAMP))
    }

    /// The greatest timestamp of its records.
    pub fn max_timestamp(&self) -> Timestamp {
        i64::from_be_bytes(field(&self.bytes, MAX_TIMESTAMP))
    }

    /// The id of its producer, -1 without idempotence.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(&self.bytes, PRODUCER_ID))
    }

    /// The epoch of its producer, -1 without idempotence.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(&self.bytes, PRODUCER_EPOCH))
    }

    /// The sequence number of its first record, -1 without one.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, BASE_SEQUENCE))
    }

    /// The sequence number of its last record, after 2^31 - 1 again from 0 (`DefaultRecordBatch.incrementSequence`).
    pub fn last_sequence(&self) -> i32 {
        let base = self.base_sequence();
        if base < 0 { base } else { increment_sequence(base, self.last_offset_delta()) }
    }

    /// How many records it has.
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, COUNT))
    }

    /// Its records, compressed if it is.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER.min(self.bytes.len())..)
    }

    /// Checks its checksum.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn check(&self) -> Result<(), BatchError> {
        let claimed = u32::from_be_bytes(field(&self.bytes, CRC));
        let computed = checksum(&self.bytes);
        if claimed == computed { Ok(()) } else { Err(BatchError::Checksum { claimed, computed }) }
    }

    /// The same batch at another offset, appended by a leader of this epoch.
    #[must_use]
    pub fn stamped(&self, base_offset: Offset, leader_epoch: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        set(&mut bytes, BASE_OFFSET, &base_offset.to_be_bytes());
        set(&mut bytes, LEADER_EPOCH, &leader_epoch.to_be_bytes());
        Self { bytes: bytes.freeze() }
    }

    /// The same batch with the broker's time for all of its records (`LogAppendTime`).
    #[must_use]
    pub fn with_append_time(&self, time: Timestamp) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let attributes = self.attributes() | LOG_APPEND_TIME;
        set(&mut bytes, ATTRIBUTES, &attributes.to_be_bytes());
        set(&mut bytes, MAX_TIMESTAMP, &time.to_be_bytes());
        let crc = checksum(&bytes);
        set(&mut bytes, CRC, &crc.to_be_bytes());
        Self { bytes: bytes.freeze() }
    }
}

/// The sequence number that comes this many after another.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    // Sums above 2^31 - 1 continue from 0.
    let sum = i64::from(sequence) + i64::from(by);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// The checksum of a batch (CRC-32C).
pub(super) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES..).unwrap_or_default())
}

fn set(bytes: &mut BytesMut, at: usize, value: &[u8]) {
    let range: Range<usize> = at..at + value.len();
    if let Some(place) = bytes.get_mut(range) {
        place.copy_from_slice(value);
    }
}

/// The fields of a header, to build a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub base_offset: Offset,
    pub leader_epoch: i32,
    pub compression: i8,
    pub log_append_time: bool,
    pub transactional: bool,
    pub control: bool,
    pub delete_horizon: bool,
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

/// A batch of a header and its records.
pub(super) fn assemble(header: Header, payload: &[u8]) -> Batch {
    let flag = |set: bool, flag: i16| if set { flag } else { 0 };
    let attributes = (i16::from(header.compression) & COMPRESSION)
        | flag(header.log_append_time, LOG_APPEND_TIME)
        | flag(header.transactional, TRANSACTIONAL)
        | flag(header.control, CONTROL)
        | flag(header.delete_horizon, DELETE_HORIZON);
    let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&header.base_offset.to_be_bytes());
    let length = HEADER - BEFORE_LENGTH + payload.len();
    bytes.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
    bytes.extend_from_slice(&header.leader_epoch.to_be_bytes());
    bytes.extend_from_slice(&[2]);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&attributes.to_be_bytes());
    bytes.extend_from_slice(&header.last_offset_delta.to_be_bytes());
    bytes.extend_from_slice(&header.base_timestamp.to_be_bytes());
    bytes.extend_from_slice(&header.max_timestamp.to_be_bytes());
    bytes.extend_from_slice(&header.producer_id.to_be_bytes());
    bytes.extend_from_slice(&header.producer_epoch.to_be_bytes());
    bytes.extend_from_slice(&header.base_sequence.to_be_bytes());
    bytes.extend_from_slice(&header.count.to_be_bytes());
    bytes.extend_from_slice(payload);
    let crc = checksum(&bytes);
    set(&mut bytes, CRC, &crc.to_be_bytes());
    Batch { bytes: bytes.freeze() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::builder::BatchBuilder;

    fn batch() -> Batch {
        BatchBuilder::new(1_000).record(1_000, Some(b"k"), Some(b"v")).record(1_007, None, Some(b"w")).build()
    }

    #[test]
    fn crc_32c_is_that_of_the_published_check_value() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn stamping_moves_the_offsets_and_keeps_the_checksum() {
        let stamped = batch().stamped(40, 7);
        assert_eq!((stamped.base_offset(), stamped.last_offset(), stamped.leader_epoch()), (40, 41, 7));
        assert_eq!(
            (stamped.max_timestamp(), stamped.count(), stamped.is_log_append_time()),
            (1_007, 2, false)
        );
        assert_eq!(stamped.check(), Ok(()));
    }

    #[test]
    fn the_brokers_time_changes_the_checksum_too() {
        let timed = batch().with_append_time(5);
        assert!(timed.is_log_append_time());
        assert_eq!((timed.max_timestamp(), timed.check()), (5, Ok(())));
        assert_ne!(timed.bytes()[17..21], batch().bytes()[17..21]);
    }

    #[test]
    fn a_damaged_batch_is_not_accepted() {
        let whole = batch().bytes().clone();
        for cut in [0, 1, HEADER - 1, whole.len() - 1] {
            let mut bytes = whole.slice(..cut);
            assert_eq!(Batch::split_from(&mut bytes), Err(BatchError::Short(cut)));
        }
        for at in ATTRIBUTES..whole.len() {
            let mut damaged = BytesMut::from(&whole[..]);
            damaged[at] ^= 1;
            let batch = Batch::split_from(&mut damaged.freeze()).unwrap();
            assert!(matches!(batch.check(), Err(BatchError::Checksum { .. })), "{at}");
        }
        let mut older = BytesMut::from(&whole[..]);
        older[MAGIC] = 1;
        assert_eq!(Batch::split_from(&mut older.freeze()), Err(BatchError::Magic(1)));
    }

    #[test]
    fn sequences_continue_from_zero_after_the_greatest() {
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(increment_sequence(5, 3), 8);
    }
}
