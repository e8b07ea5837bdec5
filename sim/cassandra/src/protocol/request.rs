//! Requests.

use bytes::Bytes;

use super::frame::FLAG_CUSTOM_PAYLOAD;
use super::{BoundValue, EventKind, Reader, WireError, is_serial};
use crate::coordinator::Consistency;

/// A body that is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No request has this opcode.
    #[error("Unknown opcode {0}")]
    Opcode(u8),
    /// The body does not fit its opcode.
    #[error("malformed {message}: {error}")]
    Malformed {
        /// The message.
        message: &'static str,
        /// What is wrong.
        error: WireError,
    },
    /// It fits, and something is left.
    #[error("malformed {message}: {left} bytes too many")]
    Trailing {
        /// The message.
        message: &'static str,
        /// How many bytes are left.
        left: usize,
    },
}

/// What belongs to a QUERY or an EXECUTE besides the statement.
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
}

/// What a client asks for.
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
    /// Events to be told.
    Register(Vec<EventKind>),
    /// Several statements.
    Batch(Batch),
    /// The answer to AUTHENTICATE or AUTH_CHALLENGE.
    AuthResponse(Option<Bytes>),
}

impl Request {
    /// The request in an unpacked body.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(opcode: u8, flags: u8, body: Bytes) -> Result<Request, RequestError> {
        let message = match opcode {
            0x01 => "STARTUP",
            0x05 => "OPTIONS",
            0x07 => "QUERY",
            0x09 => "PREPARE",
            0x0A => "EXECUTE",
            0x0B => "REGISTER",
            0x0D => "BATCH",
            0x0F => "AUTH_RESPONSE",
            _ => return Err(RequestError::Opcode(opcode)),
        };
        let mut reader = Reader::new(body);
        let request =
            decode(opcode, flags, &mut reader).map_err(|error| RequestError::Malformed { message, error })?;
        match reader.left() {
            0 => Ok(request),
            left => Err(RequestError::Trailing { message, left }),
        }
    }
}

fn decode(opcode: u8, flags: u8, reader: &mut Reader) -> Result<Request, WireError> {
    if flags & FLAG_CUSTOM_PAYLOAD != 0 {
        // Cassandra hands it to a query handler of one's own; the usual one looks at none of it.
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
            let kinds = names.into_iter().map(|name| {
                EventKind::from_name(&name).ok_or(WireError::UnknownName { what: "event", name })
            });
            Request::Register(kinds.collect::<Result<_, _>>()?)
        }
        0x0D => Request::Batch(batch(reader)?),
        0x0F => Request::AuthResponse(reader.bytes("token")?),
        other => return Err(WireError::Unknown { what: "opcode", value: i64::from(other) }),
    })
}

fn serial(reader: &mut Reader) -> Result<Consistency, WireError> {
    let level = reader.consistency()?;
    if is_serial(level) {
        Ok(level)
    } else {
        Err(WireError::UnknownName { what: "serial consistency level", name: level.to_string() })
    }
}

fn parameters(reader: &mut Reader) -> Result<QueryParameters, WireError> {
    let consistency = reader.consistency()?;
    let flags = reader.byte("flags")?;
    if flags & 0x80 != 0 {
        return Err(WireError::Unknown { what: "query flags", value: i64::from(flags) });
    }
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
    let serial_consistency = if flags & 0x10 != 0 { Some(serial(reader)?) } else { None };
    let timestamp = if flags & 0x20 != 0 { Some(timestamp(reader)?) } else { None };
    Ok(QueryParameters {
        consistency,
        values,
        names,
        skip_metadata: flags & 0x02 != 0,
        page_size,
        paging_state,
        serial_consistency,
        timestamp,
    })
}

fn timestamp(reader: &mut Reader) -> Result<i64, WireError> {
    match reader.long("timestamp")? {
        // It stands for "no timestamp" inside Cassandra, which refuses it for that reason.
        i64::MIN => Err(WireError::Unknown { what: "timestamp", value: i64::MIN }),
        timestamp => Ok(timestamp),
    }
}

fn batch(reader: &mut Reader) -> Result<Batch, WireError> {
    let kind = match reader.byte("batch type")? {
        0 => BatchKind::Logged,
        1 => BatchKind::Unlogged,
        2 => BatchKind::Counter,
        other => return Err(WireError::Unknown { what: "batch type", value: i64::from(other) }),
    };
    let count = reader.short("count of statements")?;
    let mut statements = Vec::new();
    for _ in 0..count {
        let query = match reader.byte("statement kind")? {
            0 => BatchQuery::Text(reader.long_string("query")?),
            1 => BatchQuery::Prepared(reader.short_bytes("statement id")?),
            other => return Err(WireError::Unknown { what: "statement kind", value: i64::from(other) }),
        };
        let values = reader.short("count of values")?;
        let values = (0..values).map(|_| reader.value("value")).collect::<Result<_, _>>()?;
        statements.push(BatchStatement { query, values });
    }
    let consistency = reader.consistency()?;
    let flags = reader.byte("flags")?;
    // Names of values would stand after the values of each statement, where nobody can tell them: the protocol's
    // own text calls this flag a mistake, and Cassandra refuses it as well.
    if flags & !0x30 != 0 {
        return Err(WireError::Unknown { what: "batch flags", value: i64::from(flags) });
    }
    let serial_consistency = if flags & 0x10 != 0 { Some(serial(reader)?) } else { None };
    let timestamp = if flags & 0x20 != 0 { Some(timestamp(reader)?) } else { None };
    Ok(Batch { kind, statements, consistency, serial_consistency, timestamp })
}
