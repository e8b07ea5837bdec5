//! Frames: a header of nine bytes and a body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::request::message_name;
use super::{Compression, Request, Response, ServerError, Writer};

/// Bytes of a frame's header.
pub const HEADER_LENGTH: usize = 9;

/// The supported version.
pub const VERSION: u8 = 4;

/// Flag: the body is compressed.
pub const FLAG_COMPRESSED: u8 = 0x01;
/// Flag: the request is to be traced.
pub const FLAG_TRACING: u8 = 0x02;
/// Flag: the body begins with a custom payload.
pub const FLAG_CUSTOM_PAYLOAD: u8 = 0x04;
/// Flag: the body begins with warnings.
pub const FLAG_WARNING: u8 = 0x08;

/// How much of one connection's bytes is kept in memory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body, compressed or not; Cassandra's `native_transport_max_frame_size`.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body: 16 << 20 }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version, without the bit that marks responses.
    pub version: u8,
    /// Whether that bit is set.
    pub is_response: bool,
    /// See the `FLAG_` constants.
    pub flags: u8,
    /// The stream id.
    pub stream: i16,
    /// Which message it is.
    pub opcode: u8,
    /// Bytes of the body.
    pub length: i32,
}

impl Header {
    /// The header in `bytes`.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Header {
        let mut bytes = &bytes[..];
        let version = bytes.get_u8();
        Header {
            version: version & 0x7f,
            is_response: version & 0x80 != 0,
            flags: bytes.get_u8(),
            stream: bytes.get_i16(),
            opcode: bytes.get_u8(),
            length: bytes.get_i32(),
        }
    }
}

/// Input from a client.
#[derive(Debug)]
pub enum Incoming {
    /// A frame, decompressed.
    Request {
        /// The stream id.
        stream: i16,
        /// Whether the client requests a trace.
        tracing: bool,
        /// The request.
        request: Request,
    },
    /// A frame to which the response is an error.
    Refused {
        /// The stream id.
        stream: i16,
        /// The response.
        error: ServerError,
        /// Whether the following bytes cannot be parsed.
        is_fatal: bool,
    },
    /// A frame of an unsupported version: the response is [`encode_version_error`]. Nothing that follows can be
    /// understood.
    WrongVersion(u8),
    /// The client has gone, between two frames.
    End,
}

/// Reads the next frame.
///
/// A body is read as it arrives: its stated length alone allocates nothing. One beyond the limit is skipped
/// and refused, and the connection stays open.
///
/// # Errors
/// If the connection breaks, or ends within a frame.
pub async fn read<R: AsyncRead + Unpin>(
    connection: &mut R,
    compression: Option<Compression>,
    limits: Limits,
) -> std::io::Result<Incoming> {
    let mut head = [0; HEADER_LENGTH];
    // Clients disconnect between two frames.
    let mut filled = connection.read(&mut head).await?;
    if filled == 0 {
        return Ok(Incoming::End);
    }
    if let version @ (1 | 2) = head[0] & 0x7f {
        // Their headers have eight bytes: waiting for a ninth could take forever.
        return Ok(Incoming::WrongVersion(version));
    }
    while filled < HEADER_LENGTH {
        let read = connection.read(&mut head[filled..]).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
    }
    let header = Header::decode(head);
    let stream = header.stream;
    let refused = |error| Ok(Incoming::Refused { stream, error, is_fatal: false });
    let fatal = |error| Ok(Incoming::Refused { stream, error, is_fatal: true });
    if header.version != VERSION {
        return Ok(Incoming::WrongVersion(header.version));
    }
    let Ok(length) = usize::try_from(header.length) else {
        return fatal(ServerError::Protocol(format!("Invalid frame body length: {}", header.length)));
    };
    if length > limits.body {
        let mut left = (&mut *connection).take(length as u64);
        let passed = tokio::io::copy(&mut left, &mut tokio::io::sink()).await?;
        if passed < length as u64 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        return refused(ServerError::invalid(format!(
            "Request is too big: length {length} exceeds maximum allowed length {}.",
            limits.body
        )));
    }
    let body = body(connection, length).await?;
    if header.is_response {
        let name = message_name(header.opcode).unwrap_or("unknown");
        return refused(ServerError::Protocol(format!(
            "Wrong protocol direction (expected REQUEST, got RESPONSE) for opcode {} ({name})",
            header.opcode
        )));
    }
    // Without a compression that was agreed on, Cassandra looks at no such flag.
    let body = match compression.filter(|_| header.flags & FLAG_COMPRESSED != 0) {
        None => body,
        Some(compression) => match compression.decompress(&body, limits.body) {
            Ok(body) => body,
            Err(error) => {
                return refused(ServerError::Protocol(format!("cannot decompress the body: {error}")));
            }
        },
    };
    match Request::decode(header.opcode, header.flags, body) {
        Ok(request) => Ok(Incoming::Request { stream, tracing: header.flags & FLAG_TRACING != 0, request }),
        Err(error) => refused(error.into()),
    }
}

/// The response to a frame of an unsupported version: a protocol error on stream 0 that names the supported ones, with
/// which drivers negotiate. Versions 1 and 2 get it with their own header of eight bytes
/// (`Envelope.Decoder`, `ErrorMessage`).
pub fn encode_version_error(version: u8) -> Bytes {
    let error = ServerError::Protocol(format!(
        "Invalid or unsupported protocol version ({version}); supported versions are (4/v4)"
    ));
    if !matches!(version, 1 | 2) {
        return encode(0, &Response::Error(error), &[], None);
    }
    let mut body = Writer::new();
    error.encode(&mut body);
    let body = body.finish();
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_slice(&[version | 0x80, 0, 0, 0]);
    frame.put_i32(i32::try_from(body.len()).unwrap_or(i32::MAX));
    frame.put_slice(&body);
    frame.freeze()
}

/// Reads a body, with memory for what has arrived.
async fn body<R: AsyncRead + Unpin>(connection: &mut R, length: usize) -> std::io::Result<Bytes> {
    const STEP: usize = 64 << 10;
    let mut body = BytesMut::with_capacity(length.min(STEP));
    while body.len() < length {
        let missing = length - body.len();
        body.reserve(missing.min(STEP));
        let mut part = (&mut *connection).take(missing as u64);
        if part.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body.freeze())
}

/// The bytes of a response, with `warnings` in front of its body.
///
/// A body that cannot be compressed is sent uncompressed.
pub fn encode(
    stream: i16,
    response: &Response,
    warnings: &[String],
    compression: Option<Compression>,
) -> Bytes {
    let mut body = Writer::new();
    let mut flags = 0;
    if !warnings.is_empty() {
        flags |= FLAG_WARNING;
        body.string_list(warnings.iter().map(String::as_str));
    }
    response.encode(&mut body);
    let mut body = body.finish();
    if let Some(compressed) = compression.and_then(|it| it.compress(&body).ok())
        && !body.is_empty()
    {
        flags |= FLAG_COMPRESSED;
        body = compressed;
    }
    let mut frame = BytesMut::with_capacity(HEADER_LENGTH + body.len());
    frame.put_u8(VERSION | 0x80);
    frame.put_u8(flags);
    frame.put_i16(stream);
    frame.put_u8(response.opcode());
    frame.put_i32(i32::try_from(body.len()).unwrap_or(i32::MAX));
    frame.put_slice(&body);
    frame.freeze()
}
