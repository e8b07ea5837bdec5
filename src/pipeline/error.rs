//! Why a worker stops: what, where, which offsets, and what the operator can do.

use thiserror::Error;

use crate::binding::BindingError;
use crate::broker::BrokerError;
use crate::store::StoreError;

/// Why a run ended early. Nothing is lost by any of them: what was not durable is read again.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The keyspace is not bound to this topic and these facts.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Retention deleted records that were never processed.
    #[error(
        "topic {topic} partition {partition}: the log begins at offset {log_start}, but only what lies below \
         {next_offset} was processed: records {next_offset} to {log_start} are gone. restore them, or start \
         over in a new keyspace"
    )]
    LogBeginsAfterProgress {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where the log begins.
        log_start: i64,
        /// Where the pipeline must go on.
        next_offset: i64,
    },
    /// The broker does not have the offset where the pipeline must go on.
    #[error(
        "topic {topic} partition {partition}: the broker does not have offset {offset} (progress is \
         {next_offset}): the log was truncated or recreated. run verify to see what the tables hold, and start \
         over in a new keyspace"
    )]
    OutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
        /// Durable progress.
        next_offset: i64,
    },
    /// The records just below progress are not those that were stored.
    #[error(
        "topic {topic} partition {partition} offset {offset}: the log holds another record than the tables \
         ({difference}; progress is {next_offset}): the log was truncated or recreated. run verify to see what \
         the tables hold, and start over in a new keyspace"
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
    /// A window holds more events than `event_count` can represent.
    #[error(
        "source {source_name:?} window ending at {window_end}: {sum} events do not fit event_count, an int"
    )]
    CountOverflow {
        /// The source.
        source_name: String,
        /// The window's end, in milliseconds.
        window_end: i64,
        /// The sum over all partitions.
        sum: i64,
    },
    /// This worker registered its partition, that was acknowledged, and the registry does not show it.
    #[error(
        "partition {partition} was registered, but the registry holds only {registered} partitions: somebody deleted from \
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
    /// The store did not acknowledge a request until the retry deadline.
    #[error("the store did not {request} for {seconds} s")]
    StoreUnavailable {
        /// The request, with table, partition and offsets.
        request: String,
        /// How long it was tried.
        seconds: u64,
        /// The driver's error.
        source: StoreError,
    },
    /// The broker cannot go on.
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
            // The tables hold something that this program did not write.
            PipelineError::StoreRefused { source, .. } => source.damaged().is_some(),
            PipelineError::StoreUnavailable { .. } | PipelineError::Broker { .. } => false,
        }
    }
}
