//! Why nothing was verified.

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
    /// The binding is not one that this program can judge.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The topic that the tables were made from is gone; another one has its name.
    #[error(
        "topic {topic} was recreated: the tables were made from the topic with id {bound}, the broker has id \
         {found}. the log that could prove or disprove them is gone, so nothing in them was judged. a recreated \
         topic needs a keyspace of another name"
    )]
    Recreated {
        /// Topic name.
        topic: String,
        /// What the binding says.
        bound: String,
        /// What the broker says.
        found: String,
    },
    /// The broker has the offset according to its own response, but delivers nothing from there.
    #[error(
        "topic {topic} partition {partition}: the broker delivers nothing from offset {offset} on, though the \
         log ends at {log_end}"
    )]
    NothingDelivered {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
        /// Where the log ends.
        log_end: i64,
    },
    /// The store refused, or did not answer for long enough.
    #[error("the store did not {request}")]
    Store {
        /// The request, with table, partition and offsets.
        request: String,
        /// Its own message.
        source: StoreError,
    },
    /// The broker refused, or did not answer for long enough.
    #[error("the broker did not {request}")]
    Broker {
        /// The request, with topic, partition and offset.
        request: String,
        /// Its own message.
        source: BrokerError,
    },
    /// There is no space for the temporary file.
    #[error("cannot make a temporary file in {folder}")]
    Folder {
        /// The folder.
        folder: String,
        /// The operating system's message.
        source: io::Error,
    },
    /// The temporary file does not do its work; mostly the disk is full.
    #[error("cannot {request} in the temporary file {file}")]
    Spill {
        /// What was tried.
        request: &'static str,
        /// The file.
        file: String,
        /// SQLite's message.
        source: rusqlite::Error,
    },
}

impl VerifyError {
    /// True if log and tables cannot be held against each other, whoever asks and when.
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
