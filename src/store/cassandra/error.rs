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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cql::Keyspace;

    fn of_server(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "a message".to_owned()))
    }

    #[test]
    fn only_an_error_of_the_server_that_says_so_is_a_missing_permission() {
        let lacks = |error| lacks_permission(&StoreError::new("read", DriverError::new(error)));
        assert!(lacks(of_server(DbError::Unauthorized)));
        assert!(!lacks(of_server(DbError::Invalid)), "it is refused for another reason");
        assert!(!lacks(of_server(DbError::Overloaded)));
        // The permissions could not be looked up, so the outcome is unknown.
        let message = format!("{}...", outcomes::NO_LOOK_UP);
        let unknown = RequestAttemptError::DbError(DbError::Unauthorized, message);
        assert!(!lacks(ExecutionError::LastAttemptError(unknown)));
        assert!(!lacks_permission(&StoreError::of("read")), "it has no cause");
    }

    #[test]
    fn only_a_store_that_is_not_available_is_worth_another_attempt() {
        let keyspace = Keyspace::try_from("k".to_owned()).unwrap();
        let options = CassandraOptions::new(vec!["a".to_owned(), "b".to_owned()], keyspace);
        let of_request = |error| ConnectError::of_request(&options, "do it", &of_server(error));
        assert!(of_request(DbError::Overloaded).is_transient());
        assert!(!of_request(DbError::Unauthorized).is_transient());
        assert!(!ConnectError::refused(&options, "no", None).is_transient());
        let late = ConnectError::not_in_time(&options, "connect", Duration::from_secs(7));
        assert!(late.is_transient());
        assert_eq!(
            crate::error::chain(&late),
            "cassandra at a, b is not available: could not connect: no response within 7 s"
        );
    }
}
