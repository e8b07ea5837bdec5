//! The configuration of one log.

use crate::types::Timestamp;

/// What a topic's configuration says about its logs. Times are in milliseconds; a limit that is not set is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`
    pub segment_bytes: usize,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `retention.ms`
    pub retention_ms: Option<i64>,
    /// `retention.bytes`
    pub retention_bytes: Option<usize>,
    /// `cleanup.policy` includes `delete`.
    pub delete: bool,
    /// `cleanup.policy` includes `compact`.
    pub compact: bool,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, in thousandths.
    pub min_dirty_per_mille: u64,
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `compression.type`; none for `producer`.
    pub compression: Option<i8>,
    /// `flush.messages`
    pub flush_messages: Option<i64>,
    /// `flush.ms`
    pub flush_ms: Option<i64>,
}

impl Default for LogConfig {
    /// The defaults of Kafka 4.1 (`LogConfig`, `ServerLogConfigs`).
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            delete: true,
            compact: false,
            delete_retention_ms: 24 * 3_600_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_dirty_per_mille: 500,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
            flush_messages: None,
            flush_ms: None,
        }
    }
}

impl LogConfig {
    /// Whether a record's own timestamp is allowed by a broker whose clock shows `now`.
    pub fn allows(&self, timestamp: Timestamp, now: Timestamp) -> bool {
        // No timestamp at all is allowed (`LogValidator.validateTimestamp`).
        timestamp < 0
            || (now.saturating_sub(timestamp) <= self.timestamp_before_max_ms
                && timestamp.saturating_sub(now) <= self.timestamp_after_max_ms)
    }
}
