//! The wire protocol: frames, versions, messages and record batches.
//!
//! Messages are those of the crate `proto-kafka`; nothing outside this module names it. Record batches stay bytes as a
//! producer sent them; [`batch`] reads and stamps them, [`records`] reads what is inside.

pub mod batch;
pub mod builder;
pub mod compression;
pub mod errors;
pub mod frame;
mod produce;
pub mod records;
pub mod versions;

pub use proto_kafka::messages;
pub use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// A string of a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
