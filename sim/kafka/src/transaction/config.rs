//! The settings of transactions, named after those of a broker.

/// Settings of a transaction coordinator, with Kafka's defaults. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: the longest timeout that a producer may ask for.
    pub max_timeout: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: between two looks for transactions that
    /// are past their timeout.
    pub abort_check_interval: i64,
    /// `transactional.id.expiration.ms`: an id that is not used for so long is forgotten.
    pub id_expiration: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: between two looks for unused ids.
    pub id_expiration_check_interval: i64,
    /// The feature `transaction.version`: 2 for producers that bump the epoch with each transaction.
    pub transaction_version: i16,
    /// The time before a marker that was refused is sent again (`retry.backoff`, a constant in Kafka).
    pub marker_retry_backoff: i64,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            max_timeout: 900_000,
            abort_check_interval: 10_000,
            id_expiration: 7 * 24 * 3_600_000,
            id_expiration_check_interval: 3_600_000,
            transaction_version: 2,
            marker_retry_backoff: 100,
        }
    }
}
