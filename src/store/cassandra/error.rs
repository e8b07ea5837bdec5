//! Why a store could not be opened.

use std::time::Duration;

use scylla::errors::ExecutionError;
use thiserror::Error;

use super::CassandraOptions;
use super::difference::Difference;
use super::outcomes::{self, ErrorClass};
use crate::error::Cause;

/// Why a store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A transient error: no response, or one that may be different next time.
    #[error("cassandra at {nodes} is not available: could not {what}")]
    Unavailable {
        /// The contact points.
        nodes: String,
        /// The request that failed.
        what: String,
        /// The driver's message.
        #[source]
        cause: Option<Cause>,
    },
    /// The options are invalid, or the cluster refuses this client: a retry cannot help.
    #[error("cassandra at {nodes}: {what}")]
    Refused {
        /// The contact points.
        nodes: String,
        /// What is wrong.
        what: String,
        /// The driver's message.
        #[source]
        cause: Option<Cause>,
    },
    /// The tables differ from those of this program.
    #[error("the schema differs")]
    Schema(#[from] Difference),
}

impl ConnectError {
    /// True if a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, ConnectError::Unavailable { .. })
    }

    pub(super) fn unavailable(options: &CassandraOptions, what: &str, cause: impl Into<Cause>) -> Self {
        ConnectError::Unavailable {
            nodes: options.contact_points.join(", "),
            what: what.to_owned(),
            cause: Some(cause.into()),
        }
    }

    pub(super) fn refused(options: &CassandraOptions, what: impl Into<String>, cause: Option<Cause>) -> Self {
        ConnectError::Refused { nodes: options.contact_points.join(", "), what: what.into(), cause }
    }

    /// The error of a request while the store is opened.
    pub(super) fn of_request(options: &CassandraOptions, what: &str, error: &ExecutionError) -> Self {
        match outcomes::of_execution(error) {
            ErrorClass::Unknown => Self::unavailable(options, what, error.to_string()),
            ErrorClass::Refused => {
                Self::refused(options, format!("could not {what}"), Some(error.to_string().into()))
            }
        }
    }

    pub(super) fn not_in_time(options: &CassandraOptions, what: &str, waited: Duration) -> Self {
        Self::unavailable(options, what, format!("no response within {} s", waited.as_secs()))
    }
}
