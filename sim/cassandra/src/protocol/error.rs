//! Errors as the protocol encodes them.

use bytes::Bytes;

use super::Writer;
use crate::coordinator::{RequestError, WriteType};

/// An ERROR message: its code, its text and the fields that belong to the code. The texts are Cassandra's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The outcome of a request: Unavailable, timeouts and failures, Overloaded, Is_bootstrapping, Truncate_error,
    /// Invalid, Config_error and Server_error.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// 0x000A: not the protocol.
    #[error("{0}")]
    Protocol(String),
    /// 0x0100: wrong name or password.
    #[error("{0}")]
    BadCredentials(String),
    /// 0x1400: a function failed.
    #[error("{message}")]
    FunctionFailure {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        function: String,
        /// The types of its arguments.
        arguments: Vec<String>,
        /// What happened.
        message: String,
    },
    /// 0x2000: not CQL.
    #[error("{0}")]
    Syntax(String),
    /// 0x2100: not allowed to this user.
    #[error("{0}")]
    Unauthorized(String),
    /// 0x2400: the keyspace, or the table, exists.
    #[error("{}", already_exists(keyspace, table))]
    AlreadyExists {
        /// The keyspace.
        keyspace: String,
        /// The table; empty if it is the keyspace that exists.
        table: String,
    },
    /// 0x2500: this node does not know the prepared statement.
    #[error("{}", unprepared(id))]
    Unprepared {
        /// Its id.
        id: Bytes,
    },
}

fn already_exists(keyspace: &str, table: &str) -> String {
    if table.is_empty() {
        format!("Cannot add existing keyspace \"{keyspace}\"")
    } else {
        format!("Cannot add already existing table \"{table}\" to keyspace \"{keyspace}\"")
    }
}

fn unprepared(id: &[u8]) -> String {
    let id = hex::encode(id);
    format!(
        "Prepared query with ID {id} not found (either the query was not prepared on this host (maybe the host \
         has been restarted?) or you have prepared too many queries and it has been evicted from the internal cache)"
    )
}

impl ServerError {
    /// A statement that cannot be carried out.
    pub fn invalid(message: impl Into<String>) -> ServerError {
        ServerError::Request(RequestError::Invalid(message.into()))
    }

    /// A setting that cannot be.
    pub fn configuration(message: impl Into<String>) -> ServerError {
        ServerError::Request(RequestError::Configuration(message.into()))
    }

    /// Its code.
    pub fn code(&self) -> i32 {
        match self {
            ServerError::Request(error) => match error {
                RequestError::Server(_) => 0x0000,
                RequestError::Unavailable { .. } => 0x1000,
                RequestError::Overloaded(_) => 0x1001,
                RequestError::IsBootstrapping => 0x1002,
                RequestError::Truncate(_) => 0x1003,
                RequestError::WriteTimeout { .. } => 0x1100,
                RequestError::ReadTimeout { .. } => 0x1200,
                RequestError::ReadFailure { .. } => 0x1300,
                RequestError::WriteFailure { .. } => 0x1500,
                RequestError::Invalid(_) => 0x2200,
                RequestError::Configuration(_) => 0x2300,
            },
            ServerError::Protocol(_) => 0x000A,
            ServerError::BadCredentials(_) => 0x0100,
            ServerError::FunctionFailure { .. } => 0x1400,
            ServerError::Syntax(_) => 0x2000,
            ServerError::Unauthorized(_) => 0x2100,
            ServerError::AlreadyExists { .. } => 0x2400,
            ServerError::Unprepared { .. } => 0x2500,
        }
    }

    /// Writes the body of the ERROR message.
    pub fn encode(&self, out: &mut Writer) {
        out.int(self.code());
        out.string(&self.to_string());
        match self {
            ServerError::Request(error) => encode_request_error(error, out),
            ServerError::Protocol(_)
            | ServerError::BadCredentials(_)
            | ServerError::Syntax(_)
            | ServerError::Unauthorized(_) => {}
            ServerError::FunctionFailure { keyspace, function, arguments, .. } => {
                out.string(keyspace);
                out.string(function);
                out.string_list(arguments.iter().map(String::as_str));
            }
            ServerError::AlreadyExists { keyspace, table } => {
                out.string(keyspace);
                out.string(table);
            }
            ServerError::Unprepared { id } => out.short_bytes(id),
        }
    }
}

fn encode_request_error(error: &RequestError, out: &mut Writer) {
    match error {
        RequestError::Overloaded(_)
        | RequestError::IsBootstrapping
        | RequestError::Truncate(_)
        | RequestError::Invalid(_)
        | RequestError::Configuration(_)
        | RequestError::Server(_) => {}
        RequestError::Unavailable { consistency, required, alive } => {
            out.consistency(*consistency);
            out.count(*required);
            out.count(*alive);
        }
        RequestError::WriteTimeout { consistency, received, block_for, write_type } => {
            out.consistency(*consistency);
            out.count(*received);
            out.count(*block_for);
            write_type_name(*write_type, out);
        }
        RequestError::ReadTimeout { consistency, received, block_for, data_present } => {
            out.consistency(*consistency);
            out.count(*received);
            out.count(*block_for);
            out.byte(u8::from(*data_present));
        }
        RequestError::WriteFailure { consistency, received, block_for, failures, write_type } => {
            out.consistency(*consistency);
            out.count(*received);
            out.count(*block_for);
            out.count(failures.len());
            write_type_name(*write_type, out);
        }
        RequestError::ReadFailure { consistency, received, block_for, failures, data_present } => {
            out.consistency(*consistency);
            out.count(*received);
            out.count(*block_for);
            out.count(failures.len());
            out.byte(u8::from(*data_present));
        }
    }
}

fn write_type_name(write_type: WriteType, out: &mut Writer) {
    out.string(&write_type.to_string());
}
