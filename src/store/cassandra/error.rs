//! Why there is no store to work with.

use std::time::Duration;

use scylla::errors::ExecutionError;
use thiserror::Error;

use super::CassandraOptions;
use super::difference::Difference;
use super::outcomes::{self, ErrorClass};
use crate::error::Cause;

/// Why there is no store to work with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No answer, or one that may be another next time: try again.
    #[error("cassandra at {nodes} is not available: could not {what}")]
    Unavailable {
        /// The contact points.
        nodes: String,
        /// What could not be done.
        what: String,
        /// The driver's message.
        #[source]
        cause: Option<Cause>,
    },
    /// The options are wrong, or the cluster will have nothing to do with us: trying again helps nothing.
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
    /// The tables are not those of this program.
    #[error("the schema differs")]
    Schema(#[from] Difference),
}

impl ConnectError {
    /// True if another attempt may go well.
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

    /// Of a request that was made to set things up.
    pub(super) fn of_request(options: &CassandraOptions, what: &str, error: &ExecutionError) -> Self {
        match outcomes::of_execution(error) {
            ErrorClass::Unknown => Self::unavailable(options, what, error.to_string()),
            ErrorClass::Refused => {
                Self::refused(options, format!("could not {what}"), Some(error.to_string().into()))
            }
        }
    }

    pub(super) fn not_in_time(options: &CassandraOptions, what: &str, waited: Duration) -> Self {
        Self::unavailable(options, what, format!("no answer in {} s", waited.as_secs()))
    }
}
