//! What the coordinators of groups and of transactions share.
//!
//! A coordinator is a state machine for each partition of `__consumer_offsets` or `__transaction_state`:
//! [`GroupShard`](crate::group::GroupShard) and [`TransactionShard`](crate::transaction::TransactionShard). It is
//! pure: it performs no input or output, reads no clock, and holds no task. Its runtime, the broker that leads the
//! partition, drives it so:
//!
//! 1. A new shard is created when the broker becomes the leader of the partition. The runtime reads the
//!    partition from its start to its end, calls `replay` for each record (and `replay_marker` for each
//!    transaction marker), and then `loaded`. Until then it answers COORDINATOR_LOAD_IN_PROGRESS. It reports to a shard of
//!    groups where the high watermark is (`high_watermark_reached`).
//! 2. It calls `handle` for each request, `tick` at or after `next_deadline`, and the other methods for the events
//!    in their names. Each returns [`Effects`].
//! 3. It appends each [`Batch`] of the effects to the partition, in order, each as one batch of records, and
//!    calls `committed` with its id when the high watermark has passed it, or `failed` if it cannot be appended.
//!    Batches are committed in the order of their ids.
//! 4. It sends each reply of the effects at once. A reply that waits for records is kept in the shard, and is part
//!    of the effects of a later call.
//! 5. When the broker is no longer the leader, it sends the replies that `unload` returns, and drops the shard.
//!
//! Time is in milliseconds since the epoch, and never goes backwards from call to call.

mod outbox;
mod topics;
pub(crate) mod wire;

use bytes::Bytes;

use crate::error::ErrorCode;

pub(crate) use outbox::Outbox;
pub use topics::Topics;
pub use wire::RecordError;

/// Identifies a request that waits for its response. The runtime chooses it, unique among the open requests of a
/// shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Identifies a batch that a shard asked its runtime to append. Ascending in a shard, from 0 for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Where a request comes from, and in which version of its API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `client.id` of the request's header; empty if it is null.
    pub client_id: String,
    /// The address of the client, as Kafka prints it: with a slash, without a port.
    pub client_host: String,
    /// The version of the request's API.
    pub api_version: i16,
}

/// A record of a coordinator's partition. A record without a value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key: its first two bytes are the type of the record.
    pub key: Bytes,
    /// The value; `None` deletes what the key names.
    pub value: Option<Bytes>,
}

/// The producer of a transactional batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// The epoch of the producer.
    pub epoch: i16,
}

/// Records that are appended to the coordinator's partition as one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// By which the runtime reports its end: `committed` or `failed`.
    pub id: BatchId,
    /// The records; never empty.
    pub records: Vec<Record>,
    /// Set if the batch is part of a transaction: it then carries this producer, is transactional, and has no
    /// sequence (-1), as offsets that a transaction commits.
    pub producer: Option<Producer>,
    /// The time of the records, in milliseconds since the epoch.
    pub timestamp: i64,
}

/// Markers of one transaction that is to be ended in these partitions.
///
/// The runtime finds the leader of each partition, sends it WriteTxnMarkers (or appends the marker, if it leads the
/// partition itself), and reports each outcome with `TransactionShard::marker_written`. It does not send a marker
/// again on its own: the shard does, in the effects of a later call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Whose transaction it is; to be given back with the outcome.
    pub transactional_id: String,
    /// The producer id and epoch of the marker.
    pub producer: Producer,
    /// The epoch of the coordinator: the leader epoch of the shard's partition.
    pub coordinator_epoch: i32,
    /// Whether the transaction is committed, or else aborted.
    pub commit: bool,
    /// The version of the transaction protocol (`transaction.version`) that the client speaks.
    pub transaction_version: i16,
    /// Topics and partitions, in order.
    pub partitions: Vec<(String, i32)>,
}

/// What became of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerOutcome {
    /// The leader of the partition appended it, and replicas have it as `acks=all` demands.
    Written,
    /// The topic does not exist any more, as the runtime's metadata have it.
    Gone,
    /// The leader answered this error, or could not be reached (`NetworkException`), or is not known
    /// (`LeaderNotAvailable`).
    Refused(ErrorCode),
}

/// What a shard asks of its runtime.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Effects<R> {
    /// To append, in this order.
    pub batches: Vec<Batch>,
    /// To send now.
    pub replies: Vec<(Token, R)>,
    /// Markers to write; only a coordinator of transactions asks for them.
    pub markers: Vec<Markers>,
    /// Whether the shard's state is ahead of its log after an append that failed. The runtime calls `unload`,
    /// drops the shard, and loads it from the log. Batches that were not yet appended are dropped as well.
    pub reload: bool,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Self { batches: Vec::new(), replies: Vec::new(), markers: Vec::new(), reload: false }
    }
}

impl<R> Effects<R> {
    /// Adds the effects of a later call.
    pub fn append(&mut self, mut later: Self) {
        self.batches.append(&mut later.batches);
        self.replies.append(&mut later.replies);
        self.markers.append(&mut later.markers);
        self.reload |= later.reload;
    }
}

/// The error that a client gets when its coordinator could not append a record.
///
/// As `CoordinatorOperationExceptionHelper.handleOperationException` and
/// `TransactionStateManager.appendTransactionToLog` translate them.
pub fn append_error(error: ErrorCode) -> ErrorCode {
    use ErrorCode as E;
    match error {
        E::UnknownTopicOrPartition
        | E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::RequestTimedOut => E::CoordinatorNotAvailable,
        E::NotLeaderOrFollower | E::KafkaStorageError => E::NotCoordinator,
        E::MessageTooLarge | E::RecordListTooLarge | E::InvalidFetchSize => E::UnknownServerError,
        other => other,
    }
}

/// The partition of `__consumer_offsets` or `__transaction_state` that holds a group or a transactional id.
///
/// `Utils.abs(key.hashCode()) % partitions`, where `hashCode` is that of Java's strings: over UTF-16 code units.
/// 0 if there are no partitions.
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash =
        key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // `Utils.abs`: i32::MIN becomes 0.
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    hash.checked_rem(partitions).unwrap_or(0)
}

/// The code of a result, 0 for success.
pub(crate) fn code(result: Result<(), ErrorCode>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_partition_of_its_java_hash() {
        // "hello".hashCode() == 99162322, "Aa" and "BB" collide at 2112, and
        // "polygenelubricants".hashCode() == Integer.MIN_VALUE.
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_of("Aa", 50), 2112 % 50);
        assert_eq!(partition_of("Aa", 50), partition_of("BB", 50));
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("", 50), 0);
    }

    #[test]
    fn a_negative_hash_is_made_positive_before_the_division() {
        // "zzzzzz".hashCode() == -685785664.
        assert_eq!(partition_of("zzzzzz", 7), 685_785_664 % 7);
    }
}
