//! Tests of the protocol: messages are read as they were written, and damaged ones are refused.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{self, FLAG_COMPRESSED, Incoming, Limits};
use super::*;
use crate::coordinator::{Consistency, FailureReason, RequestError, WriteType};

/// What is read from these bytes, one frame after another, until the end or an error.
fn read_all(bytes: &[u8], compression: Option<Compression>) -> Vec<Incoming> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut rest = bytes;
        let mut all = Vec::new();
        loop {
            match frame::read(&mut rest, compression, Limits { body: 1 << 16 }).await {
                Ok(Incoming::End) | Err(_) => return all,
                Ok(incoming) => {
                    let stop = matches!(
                        incoming,
                        Incoming::WrongVersion(_) | Incoming::Refused { is_fatal: true, .. }
                    );
                    all.push(incoming);
                    if stop {
                        return all;
                    }
                }
            }
        }
    })
}

fn header(version: u8, flags: u8, opcode: u8, length: i32) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u8(version);
    bytes.put_u8(flags);
    bytes.put_i16(7);
    bytes.put_u8(opcode);
    bytes.put_i32(length);
    bytes
}

fn framed(flags: u8, opcode: u8, body: &[u8]) -> BytesMut {
    let mut bytes = header(4, flags, opcode, body.len() as i32);
    bytes.put_slice(body);
    bytes
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes, None);
        read_all(&bytes, Some(Compression::Lz4));
    }

    #[test]
    fn no_body_makes_decoding_panic(
        opcode in prop::sample::select(vec![0x01u8, 0x05, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0F, 0x02]),
        flags in prop::sample::select(vec![0u8, 0x01, 0x02, 0x04]),
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let found = read_all(&framed(flags, opcode, &body), Some(Compression::Snappy));
        prop_assert_eq!(found.len(), 1, "each frame is understood or refused");
    }

    #[test]
    fn a_batch_comes_through_as_it_was_written(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..5)), 0..5),
        timestamp: i64,
    ) {
        let timestamp = timestamp.max(i64::MIN + 1);
        let mut body = Writer::new();
        body.byte(1);
        body.short(1);
        body.byte(1);
        body.short_bytes(b"id");
        body.short(values.len() as u16);
        values.iter().for_each(|value| body.bytes(value.as_deref()));
        body.consistency(Consistency::Quorum);
        body.byte(0x20);
        body.long(timestamp);
        let found = read_all(&framed(0, 0x0D, &body.finish()), None);
        let [Incoming::Request { request: Request::Batch(batch), stream: 7, .. }] = found.as_slice() else {
            return Err(TestCaseError::fail(format!("{found:?}")));
        };
        prop_assert_eq!(batch.timestamp, Some(timestamp));
        let read: Vec<_> = values.into_iter().map(|value| match value {
            Some(value) => BoundValue::Value(Bytes::from(value)),
            None => BoundValue::Null,
        }).collect();
        prop_assert_eq!(&batch.statements[0].values, &read);
    }
}

#[test]
fn a_client_of_another_version_gets_the_supported_one_on_stream_0() {
    let found = read_all(&header(5, 0, 0x05, 0), None);
    assert!(matches!(found.as_slice(), [Incoming::WrongVersion(5), ..]), "{found:?}");
    let frame = frame::encode_version_error(5);
    let text = "Invalid or unsupported protocol version (5); supported versions are (4/v4)";
    assert_eq!(frame[..5], [0x84, 0, 0, 0, 0], "version 4, stream 0, ERROR");
    assert!(frame.ends_with(text.as_bytes()), "drivers search for this text");
    // The header of these has eight bytes, and it is not waited for.
    for version in [1, 2] {
        assert!(matches!(read_all(&[version], None).as_slice(), [Incoming::WrongVersion(_)]));
        let frame = frame::encode_version_error(version);
        assert_eq!(frame[..4], [version | 0x80, 0, 0, 0]);
        assert_eq!(frame[4..8], (frame.len() as i32 - 8).to_be_bytes());
        assert_eq!(frame[8..12], 0x000A_i32.to_be_bytes());
    }
}

#[test]
fn a_body_over_the_limit_is_passed_over_and_the_connection_lives_on() {
    let mut bytes = framed(0, 0x07, &vec![0; (1 << 16) + 1]);
    bytes.extend_from_slice(&framed(0, 0x05, &[]));
    let found = read_all(&bytes, None);
    let [
        Incoming::Refused { error, is_fatal: false, .. },
        Incoming::Request { request: Request::Options, .. },
    ] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!(error.to_string(), "Request is too big: length 65537 exceeds maximum allowed length 65536.");
}

#[test]
fn a_frame_that_ends_within_its_body_is_no_request() {
    // 64 KiB are announced and one byte comes.
    let mut bytes = header(4, 0, 0x07, 1 << 16);
    bytes.put_u8(0);
    assert!(read_all(&bytes, None).is_empty());
}

#[test]
fn the_compression_flag_is_ignored_without_a_negotiated_compression() {
    let found = read_all(&framed(FLAG_COMPRESSED, 0x05, &[]), None);
    assert!(matches!(found.as_slice(), [Incoming::Request { request: Request::Options, .. }]), "{found:?}");
}

#[test]
fn errors_carry_the_fields_of_their_codes() {
    let body = |error: ServerError| {
        let mut out = Writer::new();
        error.encode(&mut out);
        let mut reader = Reader::new(out.finish());
        let code = reader.int("code").unwrap();
        reader.string("message").unwrap();
        (code, reader)
    };
    let (code, mut rest) = body(ServerError::Request(RequestError::WriteTimeout {
        consistency: Consistency::Quorum,
        received: 1,
        block_for: 2,
        write_type: WriteType::UnloggedBatch,
    }));
    assert_eq!(code, 0x1100);
    assert_eq!(rest.consistency().unwrap(), Consistency::Quorum);
    assert_eq!((rest.int("received").unwrap(), rest.int("block for").unwrap()), (1, 2));
    assert_eq!(rest.string("write type").unwrap(), "UNLOGGED_BATCH");
    let (code, mut rest) = body(ServerError::Request(RequestError::Unavailable {
        consistency: Consistency::All,
        required: 3,
        alive: 2,
    }));
    assert_eq!(code, 0x1000);
    rest.consistency().unwrap();
    assert_eq!((rest.int("required").unwrap(), rest.int("alive").unwrap()), (3, 2));
    let failures = std::collections::BTreeMap::from([
        (std::net::Ipv4Addr::new(127, 0, 0, 1).into(), FailureReason::Unknown),
        (std::net::Ipv4Addr::new(127, 0, 0, 2).into(), FailureReason::Timeout),
    ]);
    let (code, mut rest) = body(ServerError::Request(RequestError::WriteFailure {
        consistency: Consistency::LocalQuorum,
        received: 1,
        block_for: 2,
        failures: failures.clone(),
        write_type: WriteType::BatchLog,
    }));
    assert_eq!((code, rest.consistency().unwrap()), (0x1500, Consistency::LocalQuorum));
    assert_eq!((rest.int("received").unwrap(), rest.int("block for").unwrap()), (1, 2));
    assert_eq!(rest.int("failures").unwrap(), 2, "version 4 has their number alone");
    assert_eq!((rest.string("write type").unwrap().as_str(), rest.left()), ("BATCH_LOG", 0));
    let (code, mut rest) = body(ServerError::Request(RequestError::ReadFailure {
        consistency: Consistency::One,
        received: 0,
        block_for: 1,
        failures,
        data_present: true,
    }));
    assert_eq!((code, rest.consistency().unwrap()), (0x1300, Consistency::One));
    assert_eq!((rest.int("received").unwrap(), rest.int("block for").unwrap()), (0, 1));
    assert_eq!((rest.int("failures").unwrap(), rest.byte("data present").unwrap(), rest.left()), (2, 1, 0));
    let (code, mut rest) = body(ServerError::Request(RequestError::ReadTimeout {
        consistency: Consistency::Serial,
        received: 1,
        block_for: 2,
        data_present: false,
    }));
    assert_eq!((code, rest.consistency().unwrap()), (0x1200, Consistency::Serial));
    assert_eq!((rest.int("received").unwrap(), rest.int("block for").unwrap()), (1, 2));
    assert_eq!((rest.byte("data present").unwrap(), rest.left()), (0, 0));
    let (code, mut rest) =
        body(ServerError::AlreadyExists { keyspace: "k".to_owned(), table: "t".to_owned() });
    assert_eq!((code, rest.string("keyspace").unwrap().as_str()), (0x2400, "k"));
    assert_eq!((rest.string("table").unwrap().as_str(), rest.left()), ("t", 0));
    let (code, mut rest) = body(ServerError::FunctionFailure {
        keyspace: "k".to_owned(),
        function: "f".to_owned(),
        arguments: vec!["int".to_owned()],
        message: "no".to_owned(),
    });
    assert_eq!((code, rest.string("keyspace").unwrap().as_str()), (0x1400, "k"));
    assert_eq!(rest.string("function").unwrap(), "f");
    assert_eq!((rest.string_list("arguments").unwrap(), rest.left()), (vec!["int".to_owned()], 0));
    for (error, expected) in [
        (RequestError::Overloaded("busy".to_owned()), 0x1001),
        (RequestError::IsBootstrapping, 0x1002),
        (RequestError::Truncate("no".to_owned()), 0x1003),
        (RequestError::Invalid("no".to_owned()), 0x2200),
        (RequestError::Configuration("no".to_owned()), 0x2300),
        (RequestError::Server("no".to_owned()), 0x0000),
    ] {
        let (code, rest) = body(ServerError::Request(error));
        assert_eq!((code, rest.left()), (expected, 0), "nothing but code and text");
    }
    let (code, mut rest) = body(ServerError::Unprepared { id: Bytes::from_static(b"abc") });
    assert_eq!(code, 0x2500);
    assert_eq!(rest.short_bytes("id").unwrap(), "abc");
    assert_eq!(rest.left(), 0);
}
