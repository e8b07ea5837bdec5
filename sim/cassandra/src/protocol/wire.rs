//! The notations that messages consist of: `[int]`, `[string]`, `[bytes]`, `[string map]` and so on.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{consistency_code, consistency_of};
use crate::coordinator::Consistency;

/// The error of bytes that are not a message. The texts are those of Cassandra's `CBUtil`, except for truncated numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The body ends within a number or a value.
    #[error("{what} needs {needed} bytes and {left} are left")]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// How many bytes it has.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// The body ends within a text, or its length is negative.
    #[error("Not enough bytes to read an UTF8 serialized string preceded by its {0} bytes length")]
    Text(u8),
    /// The body ends within bytes with a length of two bytes.
    #[error("Not enough bytes to read a byte array preceded by its 2 bytes length")]
    ShortBytes,
    /// A value with an invalid negative length.
    #[error("Invalid ByteBuf length {0}")]
    ValueLength(i32),
    /// Text that is not UTF-8.
    #[error(
        "Cannot decode string as UTF8: '{0}'; java.nio.charset.MalformedInputException: Input length = 1"
    )]
    NotUtf8(String),
    /// An unknown number.
    #[error("{what} {value}{after}")]
    Unknown {
        /// The message before the number.
        what: &'static str,
        /// The number.
        value: i64,
        /// The message after it.
        after: &'static str,
    },
    /// An unknown name.
    #[error("Invalid value '{name}' for {of}")]
    UnknownName {
        /// The text.
        name: String,
        /// What it should name.
        of: &'static str,
    },
    /// A paging state of another kind.
    #[error("Invalid value for the paging state")]
    PagingState,
    /// The number that means no timestamp inside Cassandra.
    #[error(
        "Out of bound timestamp, must be in [-9223372036854775807, 9223372036854775807] (got -9223372036854775808)"
    )]
    Timestamp,
}

/// A value bound to a marker of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundValue {
    /// `null`.
    Null,
    /// Left out: the column is not touched.
    Unset,
    /// The bytes of a value, in the format of its type.
    Value(Bytes),
}

/// Reads notations from the front of a message's body; what it returns shares the body's memory.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `body`.
    pub fn new(body: Bytes) -> Reader {
        Reader { rest: body }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn need(&self, what: &'static str, needed: usize) -> Result<(), WireError> {
        let left = self.rest.len();
        if left < needed { Err(WireError::Truncated { what, needed, left }) } else { Ok(()) }
    }

    fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes, WireError> {
        self.need(what, length)?;
        Ok(self.rest.split_to(length))
    }

    /// `[byte]`
    pub fn byte(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.need(what, 1)?;
        Ok(self.rest.get_u8())
    }

    /// `[short]`
    pub fn short(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.need(what, 2)?;
        Ok(self.rest.get_u16())
    }

    /// `[int]`
    pub fn int(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.need(what, 4)?;
        Ok(self.rest.get_i32())
    }

    /// `[long]`
    pub fn long(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.need(what, 8)?;
        Ok(self.rest.get_i64())
    }

    /// A text of `length` bytes; the length precedes it in `of` bytes.
    fn text(&mut self, length: usize, of: u8) -> Result<String, WireError> {
        if self.rest.len() < length {
            return Err(WireError::Text(of));
        }
        let bytes = self.rest.split_to(length);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let wrong = &bytes[error.valid_up_to()..];
                Err(WireError::NotUtf8(hex::encode(&wrong[..wrong.len().min(16)])))
            }
        }
    }

    /// `[string]`
    pub fn string(&mut self, what: &'static str) -> Result<String, WireError> {
        let length = self.short(what).map_err(|_| WireError::Text(2))?;
        self.text(usize::from(length), 2)
    }

    /// `[long string]`
    pub fn long_string(&mut self, what: &'static str) -> Result<String, WireError> {
        let length = self.int(what).map_err(|_| WireError::Text(4))?;
        self.text(usize::try_from(length).map_err(|_| WireError::Text(4))?, 4)
    }

    /// `[bytes]`; `None` for a negative length.
    pub fn bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, WireError> {
        match usize::try_from(self.int(what)?) {
            Ok(length) => self.take(what, length).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// `[short bytes]`
    pub fn short_bytes(&mut self, what: &'static str) -> Result<Bytes, WireError> {
        let length = self.short(what).map_err(|_| WireError::ShortBytes)?;
        self.take(what, usize::from(length)).map_err(|_| WireError::ShortBytes)
    }

    /// `[value]`
    pub fn value(&mut self, what: &'static str) -> Result<BoundValue, WireError> {
        match self.int(what)? {
            -1 => Ok(BoundValue::Null),
            -2 => Ok(BoundValue::Unset),
            length => match usize::try_from(length) {
                Ok(length) => self.take(what, length).map(BoundValue::Value),
                Err(_) => Err(WireError::ValueLength(length)),
            },
        }
    }

    /// `[string list]`
    pub fn string_list(&mut self, what: &'static str) -> Result<Vec<String>, WireError> {
        let count = self.short(what)?;
        (0..count).map(|_| self.string(what)).collect()
    }

    /// `[string map]`, in the order of the message.
    pub fn string_map(&mut self, what: &'static str) -> Result<Vec<(String, String)>, WireError> {
        let count = self.short(what)?;
        (0..count).map(|_| Ok((self.string(what)?, self.string(what)?))).collect()
    }

    /// `[bytes map]`, in the order of the message.
    pub fn bytes_map(&mut self, what: &'static str) -> Result<Vec<(String, Option<Bytes>)>, WireError> {
        let count = self.short(what)?;
        (0..count).map(|_| Ok((self.string(what)?, self.bytes(what)?))).collect()
    }

    /// `[consistency]`
    pub fn consistency(&mut self) -> Result<Consistency, WireError> {
        let code = self.short("consistency level")?;
        consistency_of(code).ok_or(WireError::Unknown {
            what: "Unknown code",
            value: i64::from(code),
            after: " for a consistency level",
        })
    }
}

/// Writes notations to a growing buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
}

/// The longest text whose length fits into a `[short]`.
const MAX_STRING_BYTES: usize = u16::MAX as usize;

/// The start of `text` that fits into `limit` bytes, ending between characters.
fn shortened(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }

    /// How many bytes were written.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// `[byte]`
    pub fn byte(&mut self, value: u8) {
        self.buffer.put_u8(value);
    }

    /// `[short]`
    pub fn short(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// `[int]`
    pub fn int(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// `[int]` of a count or a length. None can be larger: a frame ends long before.
    pub fn count(&mut self, value: usize) {
        self.buffer.put_i32(i32::try_from(value).unwrap_or(i32::MAX));
    }

    /// `[long]`
    pub fn long(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// `[string]`; what is longer than 65535 bytes is cut there.
    pub fn string(&mut self, text: &str) {
        let text = shortened(text, MAX_STRING_BYTES);
        self.buffer.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        self.buffer.put_slice(text.as_bytes());
    }

    /// `[bytes]`
    pub fn bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.count(bytes.len());
                self.buffer.put_slice(bytes);
            }
            None => self.buffer.put_i32(-1),
        }
    }

    /// `[short bytes]`; what is longer than 65535 bytes is cut there.
    pub fn short_bytes(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(MAX_STRING_BYTES)];
        self.buffer.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.buffer.put_slice(bytes);
    }

    /// `[string list]`
    pub fn string_list<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.buffer.put_u16(u16::try_from(texts.len()).unwrap_or(u16::MAX));
        for text in texts.take(MAX_STRING_BYTES) {
            self.string(text);
        }
    }

    /// `[inet]`
    pub fn inet(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.byte(4);
                self.raw(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.byte(16);
                self.raw(&ip.octets());
            }
        }
        self.int(i32::from(address.port()));
    }

    /// `[consistency]`
    pub fn consistency(&mut self, level: Consistency) {
        self.short(consistency_code(level));
    }
}
