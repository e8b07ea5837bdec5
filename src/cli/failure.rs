//! How a command ends: its exit code, and an error that is printed once.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use thiserror::Error;

use super::stderr;
use crate::binding::BindingError;
use crate::broker::BrokerError;
use crate::config::layers::Problem;
use crate::demo::DemoError;
#[cfg(any(feature = "kafka", feature = "cassandra"))]
use crate::error::Cause;
use crate::generate::{LineError, MixedError};
use crate::pipeline::PipelineError;
use crate::sqlite::{FileError, LockError, is_damaged_file};
use crate::store::StoreError;
#[cfg(feature = "cassandra")]
use crate::store::cassandra::{ConnectError, Difference};
use crate::verify::VerifyError;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Success.
    Fine = 0,
    /// Differences were found.
    Differences = 1,
    /// Wrong usage or configuration, an unbound keyspace included.
    Usage = 2,
    /// Log and tables contradict each other.
    Refused = 3,
    /// A service is not available.
    Unavailable = 4,
    /// A file of the embedded services is damaged.
    Damaged = 5,
    /// Work was stopped because the reader of its output ended: 128 + SIGPIPE, as in shells.
    BrokenPipe = 141,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// All problems of the configuration.
    #[error("the configuration has {} problem(s)", .0.len())]
    Configuration(Vec<Problem>),
    /// Flags that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// This build has no driver for the service.
    #[error(
        "{key} is {value:?}, but this build has no driver for it: it was built without the feature `{feature}`"
    )]
    NotBuilt {
        /// The key that sets it.
        key: &'static str,
        /// Its value.
        value: &'static str,
        /// The missing feature.
        feature: &'static str,
    },
    /// A service did not respond until the deadline.
    #[cfg(any(feature = "kafka", feature = "cassandra"))]
    #[error("{service} is unavailable: no response within {seconds} s (services.start_deadline_ms)")]
    Unavailable {
        /// Its name and address.
        service: String,
        /// How long it was retried.
        seconds: u64,
        /// The error of the last attempt.
        source: Option<Cause>,
    },
    /// Kafka refuses the connection or the settings.
    #[cfg(feature = "kafka")]
    #[error("kafka at {servers} cannot be used")]
    Kafka {
        /// The bootstrap servers.
        servers: String,
        /// The driver's error.
        source: BrokerError,
    },
    /// Cassandra refuses the connection, or has other tables.
    #[cfg(feature = "cassandra")]
    #[error(transparent)]
    Cassandra(#[from] ConnectError),
    /// A service does not meet the requirements of the guarantee.
    #[error("{refused} requirement(s) of the guarantee are not met, see the list: nothing was bound")]
    Guarantee {
        /// The number of requirements.
        refused: usize,
    },
    /// The worker failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Nothing could be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The demonstration failed.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The records cannot be generated.
    #[error(transparent)]
    Mixed(#[from] MixedError),
    /// The standard input has a line that cannot be appended.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A signal ended the command.
    #[error("ended by {name}")]
    Interrupted {
        /// The signal.
        name: &'static str,
        /// Its number.
        number: i32,
    },
    /// The keyspace is not, or cannot be, bound.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store failed.
    #[error("could not {request}")]
    Store {
        /// The request.
        request: &'static str,
        /// Its error.
        source: StoreError,
    },
    /// A file of the embedded services cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another worker holds the lock, or the lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The result could not be written.
    #[error("cannot write to stdout")]
    Output(#[source] io::Error),
    /// A request to the operating system failed.
    #[error("cannot {what}")]
    System {
        /// The request.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The process could not be set up.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl Failure {
    /// The error of a request to the store that is not retried.
    pub(super) fn store(request: &'static str) -> impl Fn(StoreError) -> Failure {
        move |source| Failure::Store { request, source }
    }

    /// The exit code.
    fn code(&self) -> Code {
        // Damage may be the cause of any failed request.
        if is_damaged_file(self) || matches!(self, Failure::File(error) if is_damaged_file(error)) {
            return Code::Damaged;
        }
        match self {
            Failure::Configuration(_)
            | Failure::Usage(_)
            | Failure::NotBuilt { .. }
            | Failure::Mixed(_)
            | Failure::Line(LineError::TooLong { .. }) => Code::Usage,
            Failure::Pipeline(error) => match error {
                PipelineError::Binding(error) => of_binding(error),
                PipelineError::Broker { source, .. } => of_broker(source),
                PipelineError::StoreRefused { source, .. } => of_store(source),
                error if error.is_refusal() => Code::Refused,
                _ => Code::Unavailable,
            },
            Failure::Guarantee { .. } => Code::Refused,
            Failure::Binding(error) => of_binding(error),
            Failure::Broker(error) => of_broker(error),
            Failure::File(error) => of_file(error),
            Failure::Verify(error) => of_verification(error),
            Failure::Demo(error) => match error {
                DemoError::Folder { source, .. } => of_folder(source),
                DemoError::NotEmpty { .. } | DemoError::Mixed(_) => Code::Usage,
                DemoError::File(error) => of_file(error),
                DemoError::Broker(error) => of_broker(error),
                DemoError::Binding(error) => of_binding(error),
                DemoError::Verify(error) => of_verification(error),
                DemoError::Store { source, .. } => of_store(source),
                DemoError::Worker { .. }
                | DemoError::WorkerFailed { .. }
                | DemoError::EndedEarly { .. }
                | DemoError::Stopped => Code::Unavailable,
            },
            #[cfg(feature = "kafka")]
            Failure::Kafka { .. } => Code::Usage,
            #[cfg(any(feature = "kafka", feature = "cassandra"))]
            Failure::Unavailable { .. } => Code::Unavailable,
            #[cfg(feature = "cassandra")]
            Failure::Cassandra(error) => of_cassandra(error),
            Failure::Store { source, .. } => of_store(source),
            Failure::Lock(_)
            | Failure::Line(LineError::Read { .. })
            | Failure::Interrupted { .. }
            | Failure::Output(_)
            | Failure::System { .. }
            | Failure::Runtime(_) => Code::Unavailable,
        }
    }

    /// Prints the error once, a line for each cause.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Failure::Interrupted { number, .. } => {
                print(self);
                return ExitCode::from(128 + *number as u8);
            }
            Failure::Configuration(problems) => problems.iter().for_each(|problem| print(problem)),
            failure => print(failure),
        }
        if let Some(hint) = self.hint() {
            stderr::line(format_args!("hint: {hint}"));
        }
        self.code().into()
    }

    fn hint(&self) -> Option<&'static str> {
        let unknown_topic = |error: &BrokerError| matches!(error, BrokerError::UnknownTopic(_));
        let missing = match self {
            Failure::Broker(error)
            | Failure::Binding(BindingError::Broker { source: error, .. })
            | Failure::Pipeline(PipelineError::Broker { source: error, .. })
            | Failure::Pipeline(PipelineError::Binding(BindingError::Broker { source: error, .. })) => {
                unknown_topic(error)
            }
            _ => false,
        };
        missing.then_some("`exactlyonce topic create` creates it")
    }
}

fn of_binding(error: &BindingError) -> Code {
    match error {
        BindingError::Unbound { .. }
        | BindingError::OriginOutOfRange { .. }
        | BindingError::NoPartition { .. }
        | BindingError::Window(_) => Code::Usage,
        BindingError::Broker { source, .. } => of_broker(source),
        BindingError::StoreRefused { source, .. } => of_store(source),
        BindingError::StoreUnavailable { .. } => Code::Unavailable,
        BindingError::ForeignRows
        | BindingError::Differs { .. }
        | BindingError::OtherConsistency { .. }
        | BindingError::NotFrom { .. }
        | BindingError::Recreated { .. }
        | BindingError::Compacted { .. } => Code::Refused,
    }
}

/// The code of a store that refused: a damaged row remains until an operator repairs it, a missing permission until the
/// user gets it.
fn of_store(error: &StoreError) -> Code {
    #[cfg(feature = "cassandra")]
    if crate::store::cassandra::lacks_permission(error) {
        return Code::Usage;
    }
    match error.damaged() {
        Some(_) => Code::Refused,
        None => Code::Unavailable,
    }
}

/// True if `init` has not run.
#[cfg(feature = "cassandra")]
pub(super) fn is_missing(difference: &Difference) -> bool {
    matches!(difference, Difference::NoKeyspace { .. } | Difference::NoTable { .. })
}

#[cfg(feature = "cassandra")]
fn of_cassandra(error: &ConnectError) -> Code {
    match error {
        ConnectError::Unavailable { .. } => Code::Unavailable,
        ConnectError::Refused { .. } => Code::Usage,
        ConnectError::Schema(difference) if is_missing(difference) => Code::Usage,
        ConnectError::Schema(_) => Code::Refused,
    }
}

/// The code of a folder's error: a wrong name, or a disk that currently cannot be written.
fn of_folder(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            Code::Unavailable
        }
        _ => Code::Usage,
    }
}

fn of_file(error: &FileError) -> Code {
    match error {
        FileError::Folder { source, .. } => of_folder(source),
        FileError::Missing { .. } | FileError::Foreign { .. } | FileError::Newer { .. } => Code::Usage,
        FileError::Older { .. } => Code::Refused,
        FileError::Layout { .. } => Code::Refused,
        FileError::Damaged { .. } | FileError::NotSqlite { .. } => Code::Damaged,
        FileError::ReadOnly { .. } | FileError::Sqlite { .. } | FileError::Thread { .. } => Code::Unavailable,
    }
}

fn of_verification(error: &VerifyError) -> Code {
    match error {
        VerifyError::Unbound => Code::Usage,
        VerifyError::Binding(error) => of_binding(error),
        VerifyError::Broker { source, .. } => of_broker(source),
        VerifyError::Recreated { .. } => Code::Refused,
        VerifyError::Store { source, .. } => of_store(source),
        VerifyError::NothingDelivered { .. } | VerifyError::Folder { .. } | VerifyError::Spill { .. } => {
            Code::Unavailable
        }
    }
}

fn of_broker(error: &BrokerError) -> Code {
    match error {
        BrokerError::UnknownTopic(_)
        | BrokerError::TopicExists(_)
        | BrokerError::Unsupported { .. }
        | BrokerError::Refused { .. } => Code::Usage,
        BrokerError::OutOfRange { .. } => Code::Refused,
        BrokerError::Retriable { .. } | BrokerError::Fatal { .. } => Code::Unavailable,
    }
}

fn print(error: &dyn Error) {
    stderr::line(format_args!("error: {error}"));
    let mut cause = error.source();
    while let Some(error) = cause {
        stderr::line(format_args!("  caused by: {error}"));
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_distinguishes_refusal_unavailability_and_usage() {
        let store = || StoreError::of("the disk is full");
        let broker = || BrokerError::Retriable { what: "describe a topic".to_owned(), cause: None };
        let unknown = || BrokerError::UnknownTopic("t".to_owned());
        let lacking = || BrokerError::Unsupported { what: "join".to_owned(), cause: None };
        let refusing =
            || BrokerError::Refused { what: "join".to_owned(), reason: "no".to_owned(), cause: None };
        let topic = || "t".to_owned();
        let request = || "write events".to_owned();
        let cases: Vec<(Failure, Code)> = vec![
            (Failure::Configuration(Vec::new()), Code::Usage),
            (BindingError::Unbound { topic: topic() }.into(), Code::Usage),
            (PipelineError::from(BindingError::Unbound { topic: topic() }).into(), Code::Usage),
            (BindingError::Broker { topic: topic(), source: unknown() }.into(), Code::Usage),
            (unknown().into(), Code::Usage),
            (PipelineError::Broker { topic: topic(), source: lacking() }.into(), Code::Usage),
            (PipelineError::Broker { topic: topic(), source: refusing() }.into(), Code::Usage),
            (BindingError::Broker { topic: topic(), source: refusing() }.into(), Code::Usage),
            (BindingError::ForeignRows.into(), Code::Refused),
            (PipelineError::from(BindingError::Compacted { topic: topic() }).into(), Code::Refused),
            (
                PipelineError::CountOverflow { source_name: "s".to_owned(), window_end: 0, sum: 0 }.into(),
                Code::Refused,
            ),
            (PipelineError::StoreRefused { request: request(), source: store() }.into(), Code::Unavailable),
            (
                PipelineError::StoreUnavailable { request: request(), seconds: 1, source: store() }.into(),
                Code::Unavailable,
            ),
            (PipelineError::Broker { topic: topic(), source: broker() }.into(), Code::Unavailable),
            (BindingError::StoreRefused { request: "bind", source: store() }.into(), Code::Unavailable),
            (Failure::store("read events")(store()), Code::Unavailable),
            (LockError::Taken { folder: "data".into(), owner: "7".to_owned() }.into(), Code::Unavailable),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.code(), code, "{failure}");
        }
    }
}
