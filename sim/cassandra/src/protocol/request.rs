//! Requests.

use bytes::Bytes;

use super::frame::FLAG_CUSTOM_PAYLOAD;
use super::{BoundValue, EventKind, Reader, ServerError, WireError};
use crate::coordinator::Consistency;

/// A body that is no request. The messages are Cassandra's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No message has this opcode.
    #[error("Unknown opcode {0}")]
    Opcode(u8),
    /// Only nodes send messages with this opcode.
    #[error("Wrong protocol direction (expected RESPONSE, got REQUEST) for opcode {opcode} ({name})")]
    Direction {
        /// The opcode.
        opcode: u8,
        /// The name of the message.
        name: &'static str,
    },
    /// Versions before 4 have this message.
    #[error("Unsupported message")]
    Unsupported,
    /// The body does not fit its opcode.
    #[error(transparent)]
    Malformed(#[from] WireError),
}

impl From<RequestError> for ServerError {
    /// Where numbers are cut off, Cassandra responds with the exception of its buffer, as an error of the server.
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed(WireError::Truncated { .. }) => {
                ServerError::Request(crate::coordinator::RequestError::internal_error(&format!(
                    "IndexOutOfBoundsException: {error}"
                )))
            }
            other => ServerError::Protocol(other.to_string()),
        }
    }
}

/// The messages of the protocol, requests and responses, by their opcodes.
const MESSAGES: [&str; 17] = [
    "ERROR",
    "STARTUP",
    "READY",
    "AUTHENTICATE",
    "CREDENTIALS",
    "OPTIONS",
    "SUPPORTED",
    "QUERY",
    "RESULT",
    "PREPARE",
    "EXECUTE",
    "REGISTER",
    "EVENT",
    "BATCH",
    "AUTH_CHALLENGE",
    "AUTH_RESPONSE",
    "AUTH_SUCCESS",
];

/// The name of the message with this opcode; `None` if there is no such message.
pub fn message_name(opcode: u8) -> Option<&'static str> {
    MESSAGES.get(usize::from(opcode)).copied()
}

/// The parameters of a QUERY or an EXECUTE in addition to the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameters {
    /// How many replicas take part.
    pub consistency: Consistency,
    /// Values of the markers, by position or, if there are `names`, by name.
    pub values: Vec<BoundValue>,
    /// Names of the values, as many as `values`.
    pub names: Option<Vec<String>>,
    /// Whether the client knows the result's columns already.
    pub skip_metadata: bool,
    /// Rows that a page has at most; without pages if `None` or not positive.
    pub page_size: Option<i32>,
    /// Where the next page begins, from the page before.
    pub paging_state: Option<Bytes>,
    /// Level at which a conditional statement is agreed on.
    pub serial_consistency: Option<Consistency>,
    /// Timestamp of what is written, in microseconds; the coordinator's clock if `None`.
    pub timestamp: Option<i64>,
    /// The keyspace of names without one, instead of the session's. Version 5 has it; Cassandra takes it in any.
    pub keyspace: Option<String>,
}

/// The kinds of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Through the batchlog: if any of it is stored, all of it will be.
    Logged,
    /// Without it.
    Unlogged,
    /// Of counters.
    Counter,
}

/// One statement of a BATCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchStatement {
    /// The statement.
    pub query: BatchQuery,
    /// Values of its markers.
    pub values: Vec<BoundValue>,
}

/// A statement as text or by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchQuery {
    /// Text.
    Text(String),
    /// A prepared statement.
    Prepared(Bytes),
}

/// The body of a BATCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its kind.
    pub kind: BatchKind,
    /// Its statements.
    pub statements: Vec<BatchStatement>,
    /// How many replicas take part.
    pub consistency: Consistency,
    /// Level at which conditions are agreed on.
    pub serial_consistency: Option<Consistency>,
    /// Timestamp of statements that have none of their own.
    pub timestamp: Option<i64>,
    /// The keyspace of names without one, instead of the session's.
    pub keyspace: Option<String>,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first message of a connection, with options.
    Startup(Vec<(String, String)>),
    /// Which options there are.
    Options,
    /// One statement as text.
    Query(String, QueryParameters),
    /// A statement to be known by an id.
    Prepare(String),
    /// A prepared statement, by its id.
    Execute(Bytes, QueryParameters),
    /// Register for events.
    Register(Vec<EventKind>),
    /// Several statements.
    Batch(Batch),
    /// The response to AUTHENTICATE or AUTH_CHALLENGE.
    AuthResponse(Option<Bytes>),
}

impl Request {
    /// The request in an uncompressed body.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(opcode: u8, flags: u8, body: Bytes) -> Result<Request, RequestError> {
        match opcode {
            0x01 | 0x05 | 0x07 | 0x09 | 0x0A | 0x0B | 0x0D | 0x0F => {}
            0x04 => return Err(RequestError::Unsupported),
            _ => {
                return Err(match message_name(opcode) {
                    Some(name) => RequestError::Direction { opcode, name },
                    None => RequestError::Opcode(opcode),
                });
            }
        }
        // What follows a whole message is not looked at, as in Cassandra.
        Ok(decode(opcode, flags, &mut Reader::new(body))?)
    }

    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Startup(_) => "STARTUP",
            Request::Options => "OPTIONS",
            Request::Query(..) => "QUERY",
            Request::Prepare(_) => "PREPARE",
            Request::Execute(..) => "EXECUTE",
            Request::Register(_) => "REGISTER",
            Request::Batch(_) => "BATCH",
            Request::AuthResponse(_) => "AUTH_RESPONSE",
        }
    }
}

fn decode(opcode: u8, flags: u8, reader: &mut Reader) -> Result<Request, WireError> {
    if flags & FLAG_CUSTOM_PAYLOAD != 0 {
        // Cassandra passes it to a custom query handler; the default one ignores it.
        reader.bytes_map("custom payload")?;
    }
    Ok(match opcode {
        0x01 => Request::Startup(reader.string_map("option")?),
        0x05 => Request::Options,
        0x07 => {
            let query = reader.long_string("query")?;
            Request::Query(query, parameters(reader)?)
        }
        0x09 => Request::Prepare(reader.long_string("query")?),
        0x0A => {
            let id = reader.short_bytes("statement id")?;
            Request::Execute(id, parameters(reader)?)
        }
        0x0B => {
            let names = reader.string_list("event")?;
            let mut kinds = Vec::new();
            for name in names {
                match EventKind::from_name(&name) {
                    Some(kind) => kinds.push(kind),
                    // Tracing is not simulated.
                    None if name.eq_ignore_ascii_case("TRACE_COMPLETE") => {}
                    None => return Err(WireError::UnknownName { name, of: "Type" }),
                }
            }
            Request::Register(kinds)
        }
        0x0D => Request::Batch(batch(reader)?),
        0x0F => Request::AuthResponse(reader.bytes("token")?),
        // `Request::decode` lets no other through.
        other => {
            return Err(WireError::Unknown { what: "Unknown opcode", value: i64::from(other), after: "" });
        }
    })
}

/// Consistency, flags and what the flags announce: the same in QUERY, EXECUTE and BATCH (`QueryOptions.codec`).
fn parameters(reader: &mut Reader) -> Result<QueryParameters, WireError> {
    let consistency = reader.consistency()?;
    let flags = reader.byte("flags")?;
    let mut values = Vec::new();
    let mut names = None;
    if flags & 0x01 != 0 {
        let count = reader.short("count of values")?;
        let named = flags & 0x40 != 0;
        let mut all = Vec::new();
        for _ in 0..count {
            if named {
                all.push(reader.string("name of a value")?);
            }
            values.push(reader.value("value")?);
        }
        names = named.then_some(all);
    }
    let page_size = if flags & 0x04 != 0 { Some(reader.int("page size")?) } else { None };
    let paging_state = if flags & 0x08 != 0 { reader.bytes("paging state")? } else { None };
    // Whether it is a serial level matters, and is checked, only where a statement is conditional.
    let serial_consistency = if flags & 0x10 != 0 { Some(reader.consistency()?) } else { None };
    let timestamp = if flags & 0x20 != 0 { Some(timestamp(reader)?) } else { None };
    let keyspace = if flags & 0x80 != 0 { Some(reader.string("keyspace")?) } else { None };
    Ok(QueryParameters {
        consistency,
        values,
        names,
        skip_metadata: flags & 0x02 != 0,
        page_size,
        paging_state,
        serial_consistency,
        timestamp,
        keyspace,
    })
}

fn timestamp(reader: &mut Reader) -> Result<i64, WireError> {
    match reader.long("timestamp")? {
        // Inside Cassandra it means "no timestamp", so Cassandra refuses it.
        i64::MIN => Err(WireError::Timestamp),
        timestamp => Ok(timestamp),
    }
}

fn batch(reader: &mut Reader) -> Result<Batch, WireError> {
    let kind = match reader.byte("batch type")? {
        0 => BatchKind::Logged,
        1 => BatchKind::Unlogged,
        2 => BatchKind::Counter,
        other => {
            let value = i64::from(other as i8);
            return Err(WireError::Unknown { what: "Invalid BATCH message type", value, after: "" });
        }
    };
    let count = reader.short("count of statements")?;
    let mut statements = Vec::new();
    for _ in 0..count {
        let query = match reader.byte("statement kind")? {
            0 => BatchQuery::Text(reader.long_string("query")?),
            1 => BatchQuery::Prepared(reader.short_bytes("statement id")?),
            other => {
                let what = "Invalid query kind in BATCH messages. Must be 0 or 1 but got";
                return Err(WireError::Unknown { what, value: i64::from(other as i8), after: "" });
            }
        };
        let values = reader.short("count of values")?;
        let values = (0..values).map(|_| reader.value("value")).collect::<Result<_, _>>()?;
        statements.push(BatchStatement { query, values });
    }
    let QueryParameters { consistency, serial_consistency, timestamp, keyspace, paging_state, .. } =
        parameters(reader)?;
    if paging_state.is_some() {
        return Err(WireError::PagingState);
    }
    Ok(Batch { kind, statements, consistency, serial_consistency, timestamp, keyspace })
}
