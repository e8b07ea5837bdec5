//! Why a store could not be opened.

use std::time::Duration;

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use thiserror::Error;

use super::CassandraOptions;
use super::difference::Difference;
use super::outcomes::{self, ErrorClass};
use crate::error::Cause;
use crate::store::StoreError;

/// An error of the driver as the cause of an error of this module. Its message includes those of its own causes, so it
/// has no source: [`chain`](crate::error::chain) would print them twice.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DriverError(Cause);

impl DriverError {
    pub(super) fn new(error: impl Into<Cause>) -> Self {
        Self(error.into())
    }

    /// The driver's error, for example an [`ExecutionError`].
    pub fn get(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.0.as_ref()
    }
}

/// True if a request was refused because its user lacks a permission.
pub fn lacks_permission(error: &StoreError) -> bool {
    let driver = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<DriverError>());
    let request = driver.and_then(|error| error.get().downcast_ref::<ExecutionError>());
    let attempt = |error: &ExecutionError| {
        matches!(
            error,
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unauthorized, _))
        )
    };
    request.is_some_and(|error| attempt(error) && outcomes::of_execution(error) == ErrorClass::Refused)
}

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
        /// The driver's error, if it has one: a [`DriverError`].
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
        /// The driver's error, if it has one: a [`DriverError`].
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
            ErrorClass::Unknown => Self::unavailable(options, what, DriverError::new(error.clone())),
            ErrorClass::Refused => {
                let cause = DriverError::new(error.clone());
                Self::refused(options, format!("could not {what}"), Some(cause.into()))
            }
        }
    }

    pub(super) fn not_in_time(options: &CassandraOptions, what: &str, waited: Duration) -> Self {
        Self::unavailable(options, what, format!("no response within {} s", waited.as_secs()))
    }
}
