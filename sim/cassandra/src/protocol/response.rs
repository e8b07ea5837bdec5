//! Responses.

use std::sync::Arc;

use bytes::Bytes;

use super::{Notice, SchemaNotice, ServerError, Writer};
use crate::types::DataType;

/// A column of a result, or a marker of a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Keyspace of its table.
    pub keyspace: Arc<str>,
    /// Its table.
    pub table: Arc<str>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

/// The metadata of the columns of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultMetadata {
    /// The columns.
    pub columns: Vec<ColumnSpec>,
    /// Where the next page begins, if there is one.
    pub paging_state: Option<Bytes>,
}

/// Rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Their columns.
    pub metadata: ResultMetadata,
    /// Whether to leave out the columns, which the client knows.
    pub skip_metadata: bool,
    /// The values, row by row, as many as columns.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

/// A statement that was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What it is executed by.
    pub id: Bytes,
    /// Its markers.
    pub markers: Vec<ColumnSpec>,
    /// Which markers make up the partition key, in the key's order; empty if they do not.
    pub partition_key: Vec<u16>,
    /// Columns of its result; empty if it has none.
    pub result: ResultMetadata,
}

/// A response to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The request was refused or failed.
    Error(ServerError),
    /// The connection is open.
    Ready,
    /// The connection needs a name and a password, for this class.
    Authenticate(String),
    /// The options there are.
    Supported(Vec<(String, Vec<String>)>),
    /// Success without a result.
    Void,
    /// Rows.
    Rows(Rows),
    /// The connection's keyspace is this one now.
    SetKeyspace(String),
    /// A statement was prepared.
    Prepared(Prepared),
    /// The schema is another one now.
    SchemaChange(SchemaNotice),
    /// Something that happened; its stream is -1.
    Event(Notice),
    /// The connection is open, after a name and a password.
    AuthSuccess(Option<Bytes>),
}

impl Response {
    /// Which message it is.
    pub fn opcode(&self) -> u8 {
        match self {
            Response::Error(_) => 0x00,
            Response::Ready => 0x02,
            Response::Authenticate(_) => 0x03,
            Response::Supported(_) => 0x06,
            Response::Void
            | Response::Rows(_)
            | Response::SetKeyspace(_)
            | Response::Prepared(_)
            | Response::SchemaChange(_) => 0x08,
            Response::Event(_) => 0x0C,
            Response::AuthSuccess(_) => 0x10,
        }
    }

    /// Writes its body.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Response::Error(error) => error.encode(out),
            Response::Ready => {}
            Response::Authenticate(class) => out.string(class),
            Response::Supported(options) => {
                out.short(u16::try_from(options.len()).unwrap_or(u16::MAX));
                for (name, values) in options.iter().take(usize::from(u16::MAX)) {
                    out.string(name);
                    out.string_list(values.iter().map(String::as_str));
                }
            }
            Response::Void => out.int(0x0001),
            Response::Rows(rows) => {
                out.int(0x0002);
                encode_rows(rows, out);
            }
            Response::SetKeyspace(name) => {
                out.int(0x0003);
                out.string(name);
            }
            Response::Prepared(prepared) => {
                out.int(0x0004);
                encode_prepared(prepared, out);
            }
            Response::SchemaChange(change) => {
                out.int(0x0005);
                change.encode(out);
            }
            Response::Event(event) => event.encode(out),
            Response::AuthSuccess(token) => out.bytes(token.as_deref()),
        }
    }
}

const GLOBAL_TABLES: i32 = 0x0001;
const HAS_MORE_PAGES: i32 = 0x0002;
const NO_METADATA: i32 = 0x0004;

/// The table of all columns, if they have the same.
fn common_table(columns: &[ColumnSpec]) -> Option<(&str, &str)> {
    let (first, rest) = columns.split_first()?;
    let same = |other: &ColumnSpec| other.keyspace == first.keyspace && other.table == first.table;
    rest.iter().all(same).then_some((&*first.keyspace, &*first.table))
}

fn encode_columns(columns: &[ColumnSpec], common: Option<(&str, &str)>, out: &mut Writer) {
    if let Some((keyspace, table)) = common {
        out.string(keyspace);
        out.string(table);
    }
    for column in columns {
        if common.is_none() {
            out.string(&column.keyspace);
            out.string(&column.table);
        }
        out.string(&column.name);
        encode_type(&column.data_type, out);
    }
}

fn encode_metadata(metadata: &ResultMetadata, skip: bool, out: &mut Writer) {
    let common = common_table(&metadata.columns);
    let mut flags = 0;
    if metadata.paging_state.is_some() {
        flags |= HAS_MORE_PAGES;
    }
    if skip {
        flags |= NO_METADATA;
    } else if common.is_some() {
        flags |= GLOBAL_TABLES;
    }
    out.int(flags);
    out.count(metadata.columns.len());
    if let Some(state) = &metadata.paging_state {
        out.bytes(Some(state));
    }
    if !skip {
        encode_columns(&metadata.columns, common, out);
    }
}

fn encode_rows(rows: &Rows, out: &mut Writer) {
    encode_metadata(&rows.metadata, rows.skip_metadata, out);
    out.count(rows.rows.len());
    for value in rows.rows.iter().flatten() {
        out.bytes(value.as_deref());
    }
}

fn encode_prepared(prepared: &Prepared, out: &mut Writer) {
    out.short_bytes(&prepared.id);
    let common = common_table(&prepared.markers);
    out.int(if common.is_some() { GLOBAL_TABLES } else { 0 });
    out.count(prepared.markers.len());
    out.count(prepared.partition_key.len());
    for index in &prepared.partition_key {
        out.short(*index);
    }
    encode_columns(&prepared.markers, common, out);
    // A statement without a result says "no metadata", as Cassandra does.
    encode_metadata(&prepared.result, prepared.result.columns.is_empty(), out);
}

/// Writes an `[option]` that names a type.
fn encode_type(data_type: &DataType, out: &mut Writer) {
    let id = match data_type {
        DataType::Ascii => 0x0001,
        DataType::BigInt => 0x0002,
        DataType::Blob => 0x0003,
        DataType::Boolean => 0x0004,
        DataType::Counter => 0x0005,
        DataType::Decimal => 0x0006,
        DataType::Double => 0x0007,
        DataType::Float => 0x0008,
        DataType::Int => 0x0009,
        DataType::Timestamp => 0x000B,
        DataType::Uuid => 0x000C,
        DataType::Text => 0x000D,
        DataType::VarInt => 0x000E,
        DataType::TimeUuid => 0x000F,
        DataType::Inet => 0x0010,
        DataType::Date => 0x0011,
        DataType::Time => 0x0012,
        DataType::SmallInt => 0x0013,
        DataType::TinyInt => 0x0014,
        // Version 5 has a number for it; before, it is encoded as the name of its class.
        DataType::Duration => {
            out.short(0x0000);
            out.string("org.apache.cassandra.db.marshal.DurationType");
            return;
        }
        DataType::List(element) => {
            out.short(0x0020);
            return encode_type(element, out);
        }
        DataType::Map(key, value) => {
            out.short(0x0021);
            encode_type(key, out);
            return encode_type(value, out);
        }
        DataType::Set(element) => {
            out.short(0x0022);
            return encode_type(element, out);
        }
        DataType::Tuple(types) => {
            out.short(0x0031);
            out.short(u16::try_from(types.len()).unwrap_or(u16::MAX));
            types.iter().for_each(|component| encode_type(component, out));
            return;
        }
    };
    out.short(id);
}
