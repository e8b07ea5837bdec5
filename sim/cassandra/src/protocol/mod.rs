//! The native protocol, version 4, as Cassandra implements it: frames, requests, responses, errors, events.
//!
//! Input is validated before it is used: a length is never used to allocate more than the
//! bytes that are there, a frame is never larger than [`frame::Limits::body`], and nothing here panics on bytes.
//! Version 5 is not supported; a client that offers it gets the supported versions, and retries with version 4.
//!
//! Source: `doc/native_protocol_v4.spec` and `org.apache.cassandra.transport` of Cassandra 5.0.

mod compression;
mod consistency;
mod error;
mod event;
pub mod frame;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod wire;

pub use compression::{Compression, CompressionError};
pub use consistency::{consistency_code, consistency_of, is_serial};
pub use error::ServerError;
pub use event::{EventKind, Notice, SchemaNotice};
pub use request::{
    Batch, BatchKind, BatchQuery, BatchStatement, QueryParameters, Request, RequestError, message_name,
};
pub use response::{ColumnSpec, Prepared, Response, ResultMetadata, Rows};
pub use wire::{BoundValue, Reader, WireError, Writer};
