//! The target `frame`: frames of CQL's protocol, as the simulated Cassandra reads and writes them, and as the driver does.

mod made;
mod requests;
mod responses;

use arbitrary::{Arbitrary, Result, Unstructured};
use futures_util::FutureExt;
use simulated_cassandra::protocol::frame::{self, FLAG_COMPRESSED, HEADER_LENGTH, Incoming, Limits, VERSION};
use simulated_cassandra::protocol::{Compression, Request};

use crate::allocations::peak;

/// Every request, an opcode of a response, and none.
const OPCODES: [u8; 10] = [0x01, 0x05, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0F, 0x08, 0x20];

const LIMITS: Limits = Limits { body: 64 << 10 };

/// Reads and writes frames, by the first byte:
///
/// - 0: all bytes are what a client sends. Reading takes memory in proportion to it, and each request that the driver could
///   send, too, is read from the driver's frame as the same;
/// - 1: the bytes are the body of one frame, with an opcode and flags;
/// - 2: a response is made from the bytes, which the driver reads as the same;
/// - 3: a request is made from the bytes, and read from the driver's frame as the same.
///
/// # Panics
/// If it is not so.
pub fn frame(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let source = &mut Unstructured::new(rest);
    // Bytes that make nothing are no defect.
    let _ = match mode % 4 {
        0 => stream(source),
        1 => body(source),
        2 => responses::response(source),
        _ => requests::request(source),
    };
}

fn compression(source: &mut Unstructured<'_>) -> Result<Option<Compression>> {
    Ok(*source.choose(&[None, Some(Compression::Lz4), Some(Compression::Snappy)])?)
}

fn stream(source: &mut Unstructured<'_>) -> Result<()> {
    let compression = compression(source)?;
    let bytes = source.bytes(source.len())?;
    read_all(bytes, compression);
    Ok(())
}

fn body(source: &mut Unstructured<'_>) -> Result<()> {
    let (compression, opcode) = (compression(source)?, *source.choose(&OPCODES)?);
    let (flags, is_packed) = (u8::arbitrary(source)?, bool::arbitrary(source)?);
    let body = source.bytes(source.len())?;
    let packed = compression.filter(|_| is_packed).and_then(|it| it.compress(body).ok());
    let flags = if packed.is_some() { flags | FLAG_COMPRESSED } else { flags };
    read_all(&framed(flags, opcode, packed.as_deref().unwrap_or(body)), compression);
    Ok(())
}

fn framed(flags: u8, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![VERSION, flags, 0, 7, opcode];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// What reading some bytes may take besides the bytes themselves: a statement of a batch, or a value, is larger in memory than
/// on the wire, where it has five bytes at least; and a compressed body may be a 256th of what it holds.
fn allowance(bytes: usize, compression: Option<Compression>) -> usize {
    let bytes = if compression.is_some() { (256 * bytes).min(LIMITS.body) + bytes } else { bytes };
    (256 << 10) + 32 * bytes
}

/// Reads frames up to the end, or up to one after which nothing can be understood.
fn read_all(bytes: &[u8], compression: Option<Compression>) {
    let mut rest = bytes;
    loop {
        let before = rest.len();
        let (incoming, taken) = peak(|| read(&mut rest, compression));
        assert!(
            taken <= allowance(before - rest.len(), compression),
            "{taken} bytes for {}",
            before - rest.len()
        );
        match incoming {
            Some(Incoming::Request { request, .. }) => requests::read_from_driver(&request),
            Some(Incoming::Refused { is_fatal: false, error, .. }) => assert!(!error.to_string().is_empty()),
            Some(Incoming::Refused { .. } | Incoming::WrongVersion(_) | Incoming::End) | None => return,
        }
        assert!(before - rest.len() >= HEADER_LENGTH, "a frame has a header");
    }
}

/// Reads a frame; `None` if the connection would break.
fn read(bytes: &mut &[u8], compression: Option<Compression>) -> Option<Incoming> {
    frame::read(bytes, compression, LIMITS).now_or_never().expect("all bytes are there").ok()
}

/// Reads the one request in a frame.
fn read_request(frame: &[u8], compression: Option<Compression>) -> (Request, i16, bool) {
    let mut rest = frame;
    match read(&mut rest, compression) {
        Some(Incoming::Request { stream, tracing, request }) if rest.is_empty() => (request, stream, tracing),
        other => panic!("{other:?} with {} bytes left, of {}", rest.len(), hex::encode(frame)),
    }
}
