//! What an error of the driver means for the request: the table of `docs/outcomes.md`.
//!
//! *Refused* is only what certainly did not happen and never will. All else is *unknown*, also where today's
//! server surely did nothing: the pipeline then asks again, which is always right. Every variant of the pinned
//! driver has an arm; a variant of a later one, which `#[non_exhaustive]` makes us provide for, is unknown and
//! logged, so that it gets its arm.

use std::fmt::Debug;

use scylla::errors::{BadQuery, DbError, ExecutionError, PrepareError, RequestAttemptError};
use tracing::error;

/// Two of the three outcomes; the third is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// It certainly did not happen, and never will.
    Refused,
    /// It may have happened, or may yet.
    Unknown,
}

use ErrorClass::{Refused, Unknown};

/// A variant that the driver did not have when this was written.
fn not_in_the_table(error: &dyn Debug) -> ErrorClass {
    error!(?error, "an error of the driver that docs/outcomes.md does not know, taken for unknown");
    Unknown
}

/// The class of a request that ended in this error.
pub(super) fn of_execution(error: &ExecutionError) -> ErrorClass {
    match error {
        ExecutionError::BadQuery(error) => of_bad_query(error),
        // No node could be asked: none is up, or none of the datacenter. Nodes come back.
        ExecutionError::EmptyPlan => Unknown,
        ExecutionError::PrepareError(error) => of_prepare(error),
        // Nothing was sent, for want of a connection. Connections come back.
        ExecutionError::ConnectionPoolError(_) => Unknown,
        ExecutionError::LastAttemptError(error) => of_attempt(error),
        // The client stopped waiting; the request goes on.
        ExecutionError::RequestTimeout(_) => Unknown,
        // These three follow requests that the store does not make (USE, and changes of the schema).
        ExecutionError::UseKeyspaceError(_) => Unknown,
        ExecutionError::SchemaAgreementError(_) => Unknown,
        ExecutionError::MetadataError(_) => Unknown,
        other => not_in_the_table(other),
    }
}

/// Found in the client, before anything was sent.
fn of_bad_query(error: &BadQuery) -> ErrorClass {
    match error {
        // The statement's metadata do not fit its values: the same next time.
        BadQuery::PartitionKeyExtraction => Refused,
        // The values do not fit the statement's columns: the same next time.
        BadQuery::SerializationError(_) => Refused,
        // A key of more than 65,535 bytes.
        BadQuery::ValuesTooLongForKey(..) => Refused,
        // A batch of more than 65,535 statements.
        BadQuery::TooManyQueriesInBatchStatement(_) => Refused,
        other => not_in_the_table(other),
    }
}

/// The class of preparing a statement.
pub(super) fn of_prepare(error: &PrepareError) -> ErrorClass {
    match error {
        // Nothing was sent, for want of a connection.
        PrepareError::ConnectionPoolError(_) => Unknown,
        // Every node that was asked failed; of these, one is reported.
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        // Nodes of different versions, as in the middle of an upgrade.
        PrepareError::PreparedStatementIdsMismatch => Unknown,
        other => not_in_the_table(other),
    }
}

/// The class of one attempt, of which there is only one.
pub(super) fn of_attempt(error: &RequestAttemptError) -> ErrorClass {
    match error {
        // Both before anything was sent: the values do not fit, or the request is too large for a frame.
        RequestAttemptError::SerializationError(_) => Refused,
        RequestAttemptError::CqlRequestSerialization(_) => Refused,
        // Too many requests on one connection. Not sent, but some will end.
        RequestAttemptError::UnableToAllocStreamId => Unknown,
        // It may have been on its way already.
        RequestAttemptError::BrokenConnectionError(_) => Unknown,
        // There was an answer, which may have been the acknowledgement, but it could not be read.
        RequestAttemptError::BodyExtensionsParseError(_) => Unknown,
        RequestAttemptError::CqlResultParseError(_) => Unknown,
        RequestAttemptError::CqlErrorParseError(_) => Unknown,
        RequestAttemptError::UnexpectedResponse(_) => Unknown,
        RequestAttemptError::DbError(error, message) => of_server(error, message),
        // The node has forgotten the statement and knows it under another id now, or names one that was not
        // asked for: not carried out, but nodes are not all alike, and may be upgraded.
        RequestAttemptError::RepreparedIdChanged { .. } => Unknown,
        RequestAttemptError::RepreparedIdMissingInBatch => Unknown,
        // An answer in pages to a request that asked for none: not the answer.
        RequestAttemptError::NonfinishedPagingState => Unknown,
        other => not_in_the_table(other),
    }
}

/// What a server says of a table, a column or a keyspace that it does not know: Cassandra 4.1 and 5.0, then
/// ScyllaDB.
const MISSING: [&str; 6] = [
    "does not exist",
    "unconfigured table",
    "undefined column",
    "unknown identifier",
    "can't find a column family",
    "unrecognized name",
];

/// How Cassandra begins to say that it could not look up whether the user may do this.
pub(super) const NO_LOOK_UP: &str = "unable to perform auth";

/// The class of a request that a server answered with an error.
fn of_server(error: &DbError, message: &str) -> ErrorClass {
    let message = message.to_ascii_lowercase();
    match error {
        // The statement is no CQL: the same on every node, and next time.
        DbError::SyntaxError => Refused,
        // A node that has not heard of the schema yet, or no longer: the next one may know it.
        DbError::Invalid if MISSING.iter().any(|text| message.contains(text)) => Unknown,
        // The request itself is wrong, for example larger than a mutation may be, or a guardrail forbids it.
        DbError::Invalid => Refused,
        // Only changes of the schema are answered so, and the store makes none.
        DbError::AlreadyExists { .. } => Refused,
        // The store calls no functions.
        DbError::FunctionFailure { .. } => Unknown,
        // Said when a connection begins, not to a request.
        DbError::AuthenticationError => Unknown,
        // The table of permissions did not answer.
        DbError::Unauthorized if message.starts_with(NO_LOOK_UP) => Unknown,
        // The user may not do this.
        DbError::Unauthorized => Refused,
        // The request contradicts the server's configuration.
        DbError::ConfigError => Refused,
        // Not enough replicas up. A batch of several mutations may have been carried out in part.
        DbError::Unavailable { .. } => Unknown,
        // Shed, perhaps after it reached replicas.
        DbError::Overloaded => Unknown,
        // The coordinator is starting.
        DbError::IsBootstrapping => Unknown,
        // The store truncates nothing.
        DbError::TruncateError => Unknown,
        // Some replicas answered in time, fewer than asked for; a repair may have been written.
        DbError::ReadTimeout { .. } => Unknown,
        // Some replicas have it; the others may get it, by a hint hours later.
        DbError::WriteTimeout { .. } => Unknown,
        // Replicas failed; others may have answered, and been repaired.
        DbError::ReadFailure { .. } => Unknown,
        // Replicas failed; others have it.
        DbError::WriteFailure { .. } => Unknown,
        // Not carried out; the driver prepares it again by itself, so this is a node that keeps forgetting.
        DbError::Unprepared { .. } => Unknown,
        // A bug or a full disk; how far it came, nobody knows.
        DbError::ServerError => Unknown,
        // The server could not read the request, or is not the server that we think.
        DbError::ProtocolError => Unknown,
        // ScyllaDB's limit for one partition; later, there is capacity again.
        DbError::RateLimitReached { .. } => Unknown,
        // A number that neither Cassandra nor ScyllaDB had when the driver was written.
        DbError::Other(_) => Unknown,
        other => not_in_the_table(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use scylla::errors::{
        ConnectionPoolError, CqlResponseKind, OperationType, SerializationError, WriteType,
    };
    use scylla::frame::types::Consistency::Quorum;

    use super::*;

    const TABLE: &str = include_str!("../../../docs/outcomes.md");
    const CODE: &str = include_str!("outcomes.rs");

    /// Every error of a server, with a message that it comes with.
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
    fn what_was_found_before_it_was_sent_is_refused() {
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
    fn a_request_without_an_answer_is_unknown() {
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

    /// The lines of the tables: the error's name, and the outcomes that it may have.
    fn documented() -> BTreeMap<String, BTreeSet<String>> {
        let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in TABLE.lines().filter_map(|line| line.strip_prefix("| `")) {
            let (name, rest) = line.split_once('`').unwrap();
            let outcome = rest.split('|').nth(1).unwrap().trim();
            documented.entry(name.to_owned()).or_default().insert(outcome.to_owned());
        }
        documented
    }

    #[test]
    fn the_documented_table_names_every_error_of_the_code_and_no_other() {
        let enums = ["ExecutionError", "BadQuery", "PrepareError", "RequestAttemptError", "DbError"];
        let code = CODE.split("#[cfg(test)]").next().unwrap();
        let mut named = BTreeSet::new();
        for of in enums {
            for (place, _) in code.match_indices(&format!("{of}::")) {
                let name = code[place..].split(|c: char| !c.is_alphanumeric() && c != ':').next().unwrap();
                named.insert(name.to_owned());
            }
        }
        assert!(named.len() > 40, "{named:?}");
        assert_eq!(documented().into_keys().collect::<BTreeSet<_>>(), named);
    }

    /// The errors that the client finds or meets by itself cannot all be made here, so their arms are read.
    #[test]
    fn the_documented_outcomes_of_all_other_errors_are_those_of_the_arms() {
        let code = CODE.split("#[cfg(test)]").next().unwrap();
        let arms = code.lines().filter_map(|line| {
            let (error, outcome) = line.trim().split_once(" => ")?;
            let name = error.split(|c: char| !c.is_alphanumeric() && c != ':').next()?;
            let outcome = match outcome {
                "Refused," => "refused",
                "Unknown," => "unknown",
                "of_attempt(error)," | "of_bad_query(error)," | "of_prepare(error)," => "see below",
                "of_attempt(first_attempt)," => "as the attempt",
                "of_server(error, message)," => "see below",
                _ => return None,
            };
            (name.contains("::") && !name.starts_with("DbError::")).then_some((name, outcome))
        });
        let mut outcomes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, outcome) in arms {
            outcomes.entry(name.to_owned()).or_default().insert(outcome.to_owned());
        }
        let mut documented = documented();
        documented.retain(|name, _| !name.starts_with("DbError::"));
        assert_eq!(documented, outcomes);
    }

    #[test]
    fn the_documented_outcomes_of_servers_errors_are_those_of_the_code() {
        let mut outcomes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (error, _, class) in of_servers() {
            let name = format!("{error:?}");
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let outcome = format!("{class:?}").to_lowercase();
            outcomes.entry(format!("DbError::{name}")).or_default().insert(outcome);
        }
        let mut documented = documented();
        documented.retain(|name, _| name.starts_with("DbError::"));
        assert_eq!(documented, outcomes);
    }
}
