//! Traces the frames of a CQL connection.

use std::fmt;
use std::hash::Hasher as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use fnv::FnvHasher;
use simulated_cassandra::protocol::message_name;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Frame, Notes};

/// Bytes before a frame's body: version, flags, stream (2), opcode, length (4).
const HEADER: usize = 9;

/// How much of a statement's text is traced.
const TEXT: usize = 160;

/// A connection that traces every frame of protocol v4.
pub(super) struct Tap {
    connection: TcpStream,
    name: String,
    /// The node, the client, and the connection's number at the node.
    place: (u8, IpAddr, u64),
    notes: Notes,
    requests: Frames,
    responses: Frames,
}

impl Tap {
    pub fn new(connection: TcpStream, name: String, place: (u8, IpAddr, u64), notes: Notes) -> Self {
        Self { connection, name, place, notes, requests: Frames::default(), responses: Frames::default() }
    }
}

/// A frame that is not compressed.
fn frame<'a>(
    (node, client, connection): (u8, IpAddr, u64),
    header: &[u8],
    body: &'a [u8],
) -> Option<Frame<'a>> {
    let stream = u16::from_be_bytes([header[2], header[3]]);
    (header[1] & 1 == 0).then_some(Frame { node, client, connection, stream, opcode: header[4], body })
}

/// Reassembles the frames of one direction.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    /// The beginning of the body.
    beginning: Vec<u8>,
    /// FNV-1a of the body.
    hash: u64,
    /// Bytes of the body that have not arrived yet.
    missing: usize,
}

impl Frames {
    /// Consumes bytes, and reports each frame that they complete.
    fn take(&mut self, mut bytes: &[u8], is_hashed: bool, mut report: impl FnMut(&[u8], &[u8], u64)) {
        while !bytes.is_empty() {
            if self.header.len() < HEADER {
                let count = bytes.len().min(HEADER - self.header.len());
                self.header.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                if self.header.len() < HEADER {
                    return;
                }
                let length =
                    self.header[5..HEADER].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                (self.missing, self.hash) = (length, FnvHasher::default().finish());
                self.beginning.clear();
            }
            let count = bytes.len().min(self.missing);
            let (body, remaining) = bytes.split_at(count);
            if is_hashed {
                let mut hasher = FnvHasher::with_key(self.hash);
                hasher.write(body);
                self.hash = hasher.finish();
            }
            let kept = body.len().min((TEXT + 4).saturating_sub(self.beginning.len()));
            self.beginning.extend_from_slice(&body[..kept]);
            self.missing -= count;
            bytes = remaining;
            if self.missing == 0 {
                report(&self.header, &self.beginning, self.hash);
                self.header.clear();
            }
        }
    }
}

/// The name of a frame's message.
fn name_of(header: &[u8]) -> &'static str {
    message_name(header[4]).unwrap_or("?")
}

/// The code of an ERROR that is neither compressed nor preceded by warnings.
fn error_code(header: &[u8], body: &[u8]) -> Option<u32> {
    let code = body.first_chunk().filter(|_| header[4] == 0 && header[1] == 0)?;
    Some(u32::from_be_bytes(*code))
}

/// The statement of a QUERY or PREPARE that is not compressed, up to the traced length: of a header and a body.
struct Statement<'a>(&'a [u8], &'a [u8]);

impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(header, body) = self;
        let has_text = matches!(header[4], 7 | 9) && header[1] & 1 == 0;
        match body.get(4..) {
            Some(text) if has_text => {
                let length = body[..4].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                f.write_str(&String::from_utf8_lossy(&text[..text.len().min(length)]))
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Tap { connection, name, place, notes, requests, .. } = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(connection).poll_read(context, buffer);
        requests.take(&buffer.filled()[before..], notes.reads_lines(), |header, body, hash| {
            let stream = u16::from_be_bytes([header[2], header[3]]);
            let text = Statement(header, body);
            notes.note(format_args!("{name} receives {stream}: {} {hash:016x} {text}", name_of(header)));
            frame(*place, header, body).iter().for_each(|frame| notes.frame(frame, true));
        });
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Tap { connection, name, place, notes, responses, .. } = &mut *self;
        let polled = Pin::new(connection).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            responses.take(&bytes[..count], notes.reads_lines(), |header, body, hash| {
                let stream = u16::from_be_bytes([header[2], header[3]]);
                let frame = frame(*place, header, body);
                match error_code(header, body) {
                    Some(code) => {
                        notes
                            .note(format_args!("{name} responds to {stream}: ERROR {code:#06x} {hash:016x}"));
                        notes.returned_error(code);
                    }
                    None => {
                        notes.note(format_args!(
                            "{name} responds to {stream}: {} {hash:016x}",
                            name_of(header)
                        ));
                    }
                }
                frame.iter().for_each(|frame| notes.frame(frame, false));
            });
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
