//! What a broker checks of a batch that it did not write, and what it changes (`LogValidator`, `UnifiedLog.append`).

use super::{DECOMPRESSED, LogConfig, Origin};
use crate::error::{ErrorCode, Result};
use crate::protocol::batch::Batch;
use crate::protocol::{builder, compression, records};
use crate::types::Timestamp;

/// The batch as it is to be appended.
pub(super) fn validated(batch: &Batch, config: &LogConfig, origin: Origin, now: Timestamp) -> Result<Batch> {
    let is_too_large = |batch: &Batch| batch.size() > config.max_message_bytes && origin == Origin::Client;
    if is_too_large(batch) {
        return Err(ErrorCode::MessageTooLarge);
    }
    batch.check().map_err(|_| ErrorCode::CorruptMessage)?;
    if origin == Origin::Client {
        check_header(batch)?;
    }
    let (mut found, mut invalid) = (0, false);
    for record in records::each(batch, DECOMPRESSED).map_err(|_| ErrorCode::InvalidRecord)? {
        let record = record.map_err(|_| ErrorCode::InvalidRecord)?;
        let is_misplaced = record.offset - batch.base_offset() != found;
        found += 1;
        if is_misplaced || config.compact && record.key.is_none() && !batch.is_control() {
            invalid = true;
            continue;
        }
        // It takes precedence over the errors of other records (`LogValidator.processRecordErrors`).
        if !config.log_append_time && !batch.is_control() && !config.allows(record.timestamp, now) {
            return Err(ErrorCode::InvalidTimestamp);
        }
    }
    if invalid || found != i64::from(batch.last_offset_delta()) + 1 {
        return Err(ErrorCode::InvalidRecord);
    }
    let mut batch = batch.clone();
    if let Some(compression) = config.compression
        && compression != batch.compression()
        && !batch.is_control()
    {
        let payload = compression::decompress(batch.compression(), batch.payload(), DECOMPRESSED);
        let payload = payload.map_err(|_| ErrorCode::InvalidRecord)?;
        batch = builder::recompress(&batch, &payload, compression)
            .ok_or(ErrorCode::UnsupportedCompressionType)?;
        if is_too_large(&batch) {
            return Err(ErrorCode::MessageTooLarge);
        }
    }
    if batch.size() > config.segment_bytes {
        return Err(ErrorCode::RecordListTooLarge);
    }
    Ok(if config.log_append_time { batch.with_append_time(now) } else { batch })
}

/// `LogValidator.validateBatch`
fn check_header(batch: &Batch) -> Result<()> {
    let count = batch.count();
    if count <= 0 || count != batch.last_offset_delta().saturating_add(1) || batch.is_control() {
        return Err(ErrorCode::InvalidRecord);
    }
    if batch.producer_id() >= 0 && batch.base_sequence() < 0 {
        return Err(ErrorCode::InvalidRecord);
    }
    if batch.is_transactional() && batch.producer_id() < 0 {
        return Err(ErrorCode::InvalidRecord);
    }
    if batch.is_log_append_time() || batch.delete_horizon().is_some() {
        return Err(ErrorCode::InvalidTimestamp);
    }
    Ok(())
}
