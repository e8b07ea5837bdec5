//! The error codes of the protocol.

pub use crate::protocol::ErrorCode;

/// The outcome of what a broker does for a client or for another broker.
pub type Result<T> = std::result::Result<T, ErrorCode>;

/// The number that stands for an outcome in a response: 0 for success.
pub fn code<T>(result: &Result<T>) -> i16 {
    result.as_ref().err().map_or(0, ErrorCode::code)
}
