//! The outcome of a request for each error of the driver.
//!
//! A request is *refused* only if it certainly was not applied and never will be. All other errors are *unknown*,
//! even if the current server certainly did nothing: the pipeline then retries, which is always correct. Every
//! variant of the pinned driver has a row in one of the tables below, which are those of `docs/outcomes.md`. A
//! variant of a later driver (its errors are `#[non_exhaustive]`) is unknown and logged, so that a row is added.

use std::fmt::Debug;

use scylla::errors::{BadQuery, DbError, ExecutionError, PrepareError, RequestAttemptError};
use tracing::error;

/// Two of the three outcomes; the third is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// It certainly was not applied, and never will be.
    Refused,
    /// It may have been applied, or may be later.
    Unknown,
}

use ErrorClass::{Refused, Unknown};

/// The class of a request that ended in this error.
pub(super) fn of_execution(error: &ExecutionError) -> ErrorClass {
    look_up(EXECUTION, error, "")
}

/// The class of preparing a statement.
pub(super) fn of_prepare(error: &PrepareError) -> ErrorClass {
    look_up(PREPARE, error, "")
}

/// The class of the only attempt of a request.
pub(super) fn of_attempt(error: &RequestAttemptError) -> ErrorClass {
    look_up(ATTEMPT, error, "")
}

/// The class of a request to which a server responded with an error.
fn of_server(error: &DbError, message: &str) -> ErrorClass {
    look_up(SERVER, error, &message.to_ascii_lowercase())
}

/// The class in the first row that matches this error.
fn look_up<E: Debug>(table: &[Row<E>], error: &E, message: &str) -> ErrorClass {
    table.iter().find_map(|row| (row.class)(error, message)).unwrap_or_else(|| {
        error!(
            ?error,
            "an error of the driver that is not in docs/outcomes.md; the outcome is treated as unknown"
        );
        Unknown
    })
}

/// The outcome of some errors, and the reason.
#[cfg_attr(not(test), expect(dead_code, reason = "a test compares the texts with docs/outcomes.md"))]
struct Row<E> {
    /// The errors that it matches, as a pattern.
    errors: &'static str,
    /// Which of them it matches, if not all.
    which: &'static str,
    /// `Refused` or `Unknown`; anything else refers to another table.
    outcome: &'static str,
    why: &'static str,
    /// The class of an error with a message in lower case; `None` if the row does not match.
    class: fn(&E, &str) -> Option<ErrorClass>,
}

macro_rules! row {
    ($errors:pat, $outcome:expr, $why:literal) => {
        row!($errors, "", |_| true, $outcome, $why)
    };
    ($errors:pat, $which:literal, $is:expr, $outcome:expr, $why:literal) => {
        Row {
            errors: stringify!($errors),
            which: $which,
            outcome: stringify!($outcome),
            why: $why,
            class: |error, message| {
                let is: fn(&str) -> bool = $is;
                match error {
                    $errors if is(message) => Some($outcome),
                    _ => None,
                }
            },
        }
    };
}

const EXECUTION: &[Row<ExecutionError>] = &[
    row!(ExecutionError::BadQuery(error), look_up(BAD_QUERY, error, ""), "detected by the client"),
    row!(ExecutionError::EmptyPlan, Unknown, "no node was available; nodes come back"),
    row!(ExecutionError::PrepareError(error), of_prepare(error), ""),
    row!(
        ExecutionError::ConnectionPoolError(_),
        Unknown,
        "no connection, so nothing was sent; connections are re-established"
    ),
    row!(ExecutionError::LastAttemptError(error), of_attempt(error), ""),
    row!(
        ExecutionError::RequestTimeout(_),
        Unknown,
        "the client stopped waiting; the request may still be applied"
    ),
    row!(ExecutionError::UseKeyspaceError(_), Unknown, "belongs to a request that the store does not send"),
    row!(ExecutionError::SchemaAgreementError(_), Unknown, "likewise"),
    row!(ExecutionError::MetadataError(_), Unknown, "likewise"),
];

const BAD_QUERY: &[Row<BadQuery>] = &[
    row!(
        BadQuery::PartitionKeyExtraction,
        Refused,
        "the values do not fit the statement; a retry would fail the same way"
    ),
    row!(BadQuery::SerializationError(_), Refused, "likewise"),
    row!(BadQuery::ValuesTooLongForKey(..), Refused, "a key of more than 65,535 bytes"),
    row!(BadQuery::TooManyQueriesInBatchStatement(_), Refused, "a batch of more than 65,535 statements"),
];

const PREPARE: &[Row<PrepareError>] = &[
    row!(PrepareError::ConnectionPoolError(_), Unknown, "no connection"),
    row!(
        PrepareError::AllAttemptsFailed { first_attempt },
        of_attempt(first_attempt),
        "every node that was tried failed; the driver reports one of the failures"
    ),
    row!(
        PrepareError::PreparedStatementIdsMismatch,
        Unknown,
        "nodes of different versions, as during an upgrade"
    ),
];

const ATTEMPT: &[Row<RequestAttemptError>] = &[
    row!(
        RequestAttemptError::SerializationError(_),
        Refused,
        "before it was sent: the values do not fit the statement"
    ),
    row!(
        RequestAttemptError::CqlRequestSerialization(_),
        Refused,
        "before it was sent: larger than the maximum frame"
    ),
    row!(
        RequestAttemptError::UnableToAllocStreamId,
        Unknown,
        "too many requests in flight on one connection; a later retry can succeed"
    ),
    row!(RequestAttemptError::BrokenConnectionError(_), Unknown, "the request may have been sent"),
    row!(
        RequestAttemptError::BodyExtensionsParseError(_),
        Unknown,
        "a response that cannot be parsed may be the acknowledgement"
    ),
    row!(RequestAttemptError::CqlResultParseError(_), Unknown, "likewise"),
    row!(RequestAttemptError::CqlErrorParseError(_), Unknown, "likewise"),
    row!(RequestAttemptError::UnexpectedResponse(_), Unknown, "likewise"),
    row!(RequestAttemptError::DbError(error, message), of_server(error, message), ""),
    row!(RequestAttemptError::RepreparedIdChanged { .. }, Unknown, "the nodes differ, as during an upgrade"),
    row!(RequestAttemptError::RepreparedIdMissingInBatch, Unknown, "likewise"),
    row!(RequestAttemptError::NonfinishedPagingState, Unknown, "not a response to this request"),
];

/// Messages about an unknown table, column or keyspace: Cassandra 4.1 and 5.0, then ScyllaDB.
const MISSING: [&str; 6] = [
    "does not exist",
    "unconfigured table",
    "undefined column",
    "unknown identifier",
    "can't find a column family",
    "unrecognized name",
];

/// The start of Cassandra's message that it could not read the user's permissions.
pub(super) const NO_LOOK_UP: &str = "unable to perform auth";

const SERVER: &[Row<DbError>] = &[
    row!(DbError::SyntaxError, Refused, "invalid CQL; the same on every node"),
    row!(
        DbError::Invalid,
        "of a table, column or keyspace that the node does not know",
        |message| MISSING.iter().any(|text| message.contains(text)),
        Unknown,
        "it has not received the schema change yet"
    ),
    row!(
        DbError::Invalid,
        "of anything else",
        |_| true,
        Refused,
        "the request is invalid, or larger than the maximum mutation, or forbidden by a guardrail"
    ),
    row!(
        DbError::AlreadyExists { .. },
        Refused,
        "returned for schema changes only, and the store makes none"
    ),
    row!(DbError::FunctionFailure { .. }, Unknown, "the store calls no functions"),
    row!(DbError::AuthenticationError, Unknown, "returned when a connection is opened, not for a request"),
    row!(
        DbError::Unauthorized,
        "because permissions could not be read",
        |message| message.starts_with(NO_LOOK_UP),
        Unknown,
        "reading them may succeed later"
    ),
    row!(DbError::Unauthorized, "for any other reason", |_| true, Refused, "the user lacks the permission"),
    row!(DbError::ConfigError, Refused, "the request contradicts the server's configuration"),
    row!(DbError::Unavailable { .. }, Unknown, "of several mutations, some may have been applied"),
    row!(DbError::Overloaded, Unknown, "load shedding, possibly after it reached replicas"),
    row!(DbError::IsBootstrapping, Unknown, "the coordinator is starting"),
    row!(DbError::TruncateError, Unknown, "the store truncates nothing"),
    row!(
        DbError::ReadTimeout { .. },
        Unknown,
        "too few responses in time; a read repair may have been written"
    ),
    row!(
        DbError::WriteTimeout { .. },
        Unknown,
        "some replicas have applied it; others may apply it hours later"
    ),
    row!(DbError::ReadFailure { .. }, Unknown, "replicas failed"),
    row!(DbError::WriteFailure { .. }, Unknown, "some replicas failed, others have applied it"),
    row!(DbError::Unprepared { .. }, Unknown, "the node keeps evicting the statement"),
    row!(DbError::ServerError, Unknown, "a bug or a full disk; it may or may not have been applied"),
    row!(
        DbError::ProtocolError,
        Unknown,
        "the server could not parse the request, or is not a Cassandra server"
    ),
    row!(
        DbError::RateLimitReached { .. },
        Unknown,
        "ScyllaDB's rate limit per partition; a later retry can succeed"
    ),
    row!(DbError::Other(_), Unknown, "an error code that the driver does not know"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use scylla::errors::{
        ConnectionPoolError, CqlResponseKind, OperationType, SerializationError, WriteType,
    };
    use scylla::frame::types::Consistency::Quorum;

    use super::*;

    /// Every error of a server, with an example of its message.
    fn of_servers() -> Vec<(DbError, &'static str, ErrorClass)> {
        let counts = (3, 2, 1);
        let (received, required, numfailures) = counts;
        let (keyspace, table) = ("k".to_owned(), "t".to_owned());
        vec![
            (DbError::SyntaxError, "line 1:0 no viable alternative", Refused),
            (DbError::Invalid, "Rejected an oversized mutation (5243023/4194304) for keyspace: k", Refused),
            (DbError::Invalid, "Expected 8 or 0 byte long for date (4)", Refused),
            (DbError::Invalid, "table events does not exist", Unknown),
            (DbError::Invalid, "unconfigured table events", Unknown),
            (DbError::Invalid, "Undefined column name health in table k.events", Unknown),
            (DbError::Invalid, "Can't find a column family events in keyspace k", Unknown),
            (DbError::AlreadyExists { keyspace: keyspace.clone(), table }, "", Refused),
            (DbError::FunctionFailure { keyspace, function: "f".to_owned(), arg_types: vec![] }, "", Unknown),
            (DbError::AuthenticationError, "Provided username x and/or password are incorrect", Unknown),
            (DbError::Unauthorized, "User x has no MODIFY permission on <table k.events>", Refused),
            (DbError::Unauthorized, "Unable to perform authorization of permissions: timed out", Unknown),
            (DbError::ConfigError, "", Refused),
            (DbError::Unavailable { consistency: Quorum, required, alive: 1 }, "", Unknown),
            (DbError::Overloaded, "", Unknown),
            (DbError::IsBootstrapping, "", Unknown),
            (DbError::TruncateError, "", Unknown),
            (
                DbError::ReadTimeout { consistency: Quorum, received, required, data_present: true },
                "",
                Unknown,
            ),
            (
                DbError::WriteTimeout {
                    consistency: Quorum,
                    received,
                    required,
                    write_type: WriteType::UnloggedBatch,
                },
                "",
                Unknown,
            ),
            (
                DbError::ReadFailure {
                    consistency: Quorum,
                    received,
                    required,
                    numfailures,
                    data_present: false,
                },
                "",
                Unknown,
            ),
            (
                DbError::WriteFailure {
                    consistency: Quorum,
                    received,
                    required,
                    numfailures,
                    write_type: WriteType::Cas,
                },
                "",
                Unknown,
            ),
            (DbError::Unprepared { statement_id: Default::default() }, "", Unknown),
            (DbError::ServerError, "java.lang.NullPointerException", Unknown),
            (DbError::ProtocolError, "", Unknown),
            (
                DbError::RateLimitReached { op_type: OperationType::Write, rejected_by_coordinator: true },
                "",
                Unknown,
            ),
            (DbError::Other(0x7777), "", Unknown),
        ]
    }

    #[test]
    fn an_error_of_a_server_has_its_outcome_however_it_reaches_the_client() {
        for (error, message, class) in of_servers() {
            assert_eq!(of_server(&error, message), class, "{error:?} {message}");
            let attempt = RequestAttemptError::DbError(error.clone(), message.to_owned());
            assert_eq!(of_attempt(&attempt), class, "{error:?} {message}");
            let preparing = PrepareError::AllAttemptsFailed { first_attempt: attempt.clone() };
            assert_eq!(of_prepare(&preparing), class, "{error:?} {message}");
            assert_eq!(of_execution(&ExecutionError::PrepareError(preparing)), class, "{error:?} {message}");
            assert_eq!(
                of_execution(&ExecutionError::LastAttemptError(attempt)),
                class,
                "{error:?} {message}"
            );
        }
    }

    #[test]
    fn an_error_before_the_request_was_sent_is_refused() {
        let serialization = || SerializationError::new(std::io::Error::other("too long"));
        for error in [
            BadQuery::PartitionKeyExtraction,
            BadQuery::SerializationError(serialization()),
            BadQuery::ValuesTooLongForKey(70_000, 65_535),
            BadQuery::TooManyQueriesInBatchStatement(65_536),
        ] {
            assert_eq!(of_execution(&ExecutionError::BadQuery(error.clone())), Refused, "{error:?}");
        }
        assert_eq!(of_attempt(&RequestAttemptError::SerializationError(serialization())), Refused);
    }

    #[test]
    fn a_request_without_a_response_is_unknown() {
        for error in [
            ExecutionError::EmptyPlan,
            ExecutionError::ConnectionPoolError(ConnectionPoolError::Initializing),
            ExecutionError::RequestTimeout(Duration::from_secs(12)),
            ExecutionError::PrepareError(PrepareError::PreparedStatementIdsMismatch),
        ] {
            assert_eq!(of_execution(&error), Unknown, "{error:?}");
        }
        for error in [
            RequestAttemptError::UnableToAllocStreamId,
            RequestAttemptError::UnexpectedResponse(CqlResponseKind::Ready),
            RequestAttemptError::RepreparedIdMissingInBatch,
            RequestAttemptError::NonfinishedPagingState,
        ] {
            assert_eq!(of_attempt(&error), Unknown, "{error:?}");
        }
    }

    #[test]
    fn an_error_that_no_table_knows_is_unknown() {
        assert_eq!(look_up(&[], &DbError::SyntaxError, ""), Unknown);
    }

    #[test]
    fn every_row_about_servers_is_the_first_about_an_example() {
        let first_row = |(error, message, _): &(DbError, &str, ErrorClass)| {
            let message = message.to_ascii_lowercase();
            SERVER.iter().position(|row| (row.class)(error, &message).is_some())
        };
        let met: BTreeSet<Option<usize>> = of_servers().iter().map(first_row).collect();
        assert_eq!(met, (0..SERVER.len()).map(Some).collect());
    }

    /// A table of `docs/outcomes.md`.
    fn documented<E>(table: &[Row<E>]) -> String {
        let mut text = "| error | outcome | why |\n|---|---|---|\n".to_owned();
        for row in table {
            let name = row.errors.split([' ', '(']).next().unwrap();
            let which = if row.which.is_empty() { String::new() } else { format!(", {}", row.which) };
            let outcome = match row.outcome {
                "Refused" => "refused",
                "Unknown" => "unknown",
                _ => "see below",
            };
            let why = if row.why.is_empty() { String::new() } else { format!(" {}", row.why) };
            text += &format!("| `{name}`{which} | {outcome} |{why} |\n");
        }
        text
    }

    #[test]
    fn the_documentation_has_these_tables_and_no_other_rows() {
        let tables = [
            documented(EXECUTION),
            documented(BAD_QUERY),
            documented(PREPARE),
            documented(ATTEMPT),
            documented(SERVER),
        ];
        let document = include_str!("../../../docs/outcomes.md");
        for table in &tables {
            assert!(document.contains(table.as_str()), "docs/outcomes.md lacks this table:\n{table}");
        }
        let rows = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(rows(document), rows(&tables.concat()), "docs/outcomes.md has more tables");
    }
}
