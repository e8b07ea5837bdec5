//! The errors of a verification that ends without a report.

use std::io;

use thiserror::Error;

use crate::binding::BindingError;
use crate::broker::BrokerError;
use crate::store::StoreError;

/// Why a verification ended without a report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// `init` has not run.
    #[error(
        "the keyspace is not bound to a topic, so there is nothing to verify: run `exactlyonce init` first"
    )]
    Unbound,
    /// The tables cannot be verified with this binding.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The topic that the tables were derived from was deleted; a different one has its name.
    #[error(
        "topic {topic} was recreated: the tables contain data of the topic with id {bound}, the broker has id {found}. \
         the log to compare the tables with no longer exists, so nothing was verified. a recreated topic needs a \
         different keyspace"
    )]
    Recreated {
        /// Topic name.
        topic: String,
        /// The bound id.
        bound: String,
        /// The id that the broker reports.
        found: String,
    },
    /// According to the broker the log has the offset, but the broker delivers nothing from there.
    #[error(
        "topic {topic} partition {partition}: the broker delivers nothing from offset {offset} on, although the log ends \
         at {log_end}"
    )]
    NothingDelivered {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The requested offset.
        offset: i64,
        /// The log's end.
        log_end: i64,
    },
    /// The store refused a request, or did not respond in time.
    #[error("could not {request}")]
    Store {
        /// The request, with table, partition and offsets.
        request: String,
        /// The cause.
        source: StoreError,
    },
    /// The broker refused a request, or did not respond in time.
    #[error("could not {request}")]
    Broker {
        /// The request, with topic, partition and offset.
        request: String,
        /// The cause.
        source: BrokerError,
    },
    /// The temporary file could not be created.
    #[error("cannot create a temporary file in {folder}")]
    Folder {
        /// The folder.
        folder: String,
        /// The operating system's message.
        source: io::Error,
    },
    /// The temporary file could not be read or written; usually because the disk is full.
    #[error("cannot {request} in the temporary file {file}")]
    Spill {
        /// The request.
        request: &'static str,
        /// The file.
        file: String,
        /// SQLite's message.
        source: rusqlite::Error,
    },
}

impl VerifyError {
    /// True if log and tables cannot be compared, and a retry cannot change that.
    pub fn is_refusal(&self) -> bool {
        match self {
            VerifyError::Recreated { .. } => true,
            VerifyError::Binding(error) => error.is_refusal(),
            VerifyError::Unbound
            | VerifyError::NothingDelivered { .. }
            | VerifyError::Broker { .. }
            | VerifyError::Folder { .. }
            | VerifyError::Spill { .. } => false,
            VerifyError::Store { source, .. } => source.damaged().is_some(),
        }
    }
}
