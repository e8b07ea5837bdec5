//! Why a worker stops: what, where, which offsets, and what the operator can do.

use thiserror::Error;

use crate::binding::BindingError;
use crate::broker::BrokerError;
use crate::store::StoreError;

/// Why a run ended early. None of them loses anything: what was not durable is read again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The keyspace is not bound, or to something other than the configuration says.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Retention deleted records that were never processed.
    #[error(
        "topic {topic} partition {partition}: the log starts at offset {log_start}, but only records below \
         {next_offset} were processed: records from {next_offset} up to {log_start} were deleted. restore them, or \
         start over in a new keyspace"
    )]
    LogBeginsAfterProgress {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// First offset of the log.
        log_start: i64,
        /// Offset at which the pipeline must continue.
        next_offset: i64,
    },
    /// The broker does not have the offset at which the pipeline must continue.
    #[error(
        "topic {topic} partition {partition}: the broker does not have offset {offset} (progress is \
         {next_offset}): the log was truncated or recreated. run verify to see what the tables contain, and start \
         over in a new keyspace"
    )]
    OutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The requested offset.
        offset: i64,
        /// Durable progress.
        next_offset: i64,
    },
    /// The records just below progress are not those that were stored.
    #[error(
        "topic {topic} partition {partition} offset {offset}: the log has a different record than the tables \
         ({difference}; progress is {next_offset}): the log was truncated or recreated. run verify to see what \
         the tables contain, and start over in a new keyspace"
    )]
    RecordsDiffer {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// First offset that differs.
        offset: i64,
        /// Durable progress.
        next_offset: i64,
        /// How.
        difference: &'static str,
    },
    /// A window has more events than `event_count` can represent.
    #[error(
        "source {source_name:?} window ending at {window_end}: {sum} events do not fit into event_count, an int"
    )]
    CountOverflow {
        /// The source.
        source_name: String,
        /// The window's end, in milliseconds.
        window_end: i64,
        /// The sum over all partitions.
        sum: i64,
    },
    /// This worker registered its partition and that was acknowledged, but the registry does not contain it.
    #[error(
        "partition {partition} was registered, but the registry has only {registered} partitions: another program deleted from \
         the table registry or lowered its value, so sums over partitions cannot be trusted any more. run verify to see \
         what the tables hold, and start over in a new keyspace"
    )]
    NotRegistered {
        /// The partition.
        partition: i32,
        /// What the registry says.
        registered: i32,
    },
    /// The store refused a request that the protocol needs.
    #[error("the store refused to {request}")]
    StoreRefused {
        /// The request, with table, partition and offsets.
        request: String,
        /// The driver's error.
        source: StoreError,
    },
    /// The store did not acknowledge a request before the retry deadline.
    #[error("could not {request}: the store did not acknowledge it for {seconds} s")]
    StoreUnavailable {
        /// The request, with table, partition and offsets.
        request: String,
        /// How long it was retried.
        seconds: u64,
        /// The driver's error.
        source: StoreError,
    },
    /// The broker returned an error that is not transient.
    #[error("the broker stopped serving topic {topic}")]
    Broker {
        /// Topic name.
        topic: String,
        /// The driver's error.
        source: BrokerError,
    },
}

impl PipelineError {
    /// True if log and tables contradict each other, so that continuing would be a guess.
    pub fn is_refusal(&self) -> bool {
        match self {
            PipelineError::Binding(error) => error.is_refusal(),
            PipelineError::LogBeginsAfterProgress { .. }
            | PipelineError::OutOfRange { .. }
            | PipelineError::RecordsDiffer { .. }
            | PipelineError::CountOverflow { .. }
            | PipelineError::NotRegistered { .. } => true,
            // The tables contain something that this program did not write.
            PipelineError::StoreRefused { source, .. } => source.damaged().is_some(),
            PipelineError::StoreUnavailable { .. } | PipelineError::Broker { .. } => false,
        }
    }
}
