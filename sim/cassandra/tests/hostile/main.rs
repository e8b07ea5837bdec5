//! What no client should send: it is refused, nothing panics, and it takes little memory.

mod memory;

use memory::most_of;
use proptest::prelude::*;
use simulated_cassandra::cql::parse;
use simulated_cassandra::protocol::frame::{self, FLAG_COMPRESSED, FLAG_CUSTOM_PAYLOAD, Incoming, Limits};
use simulated_cassandra::protocol::{Compression, Request};

/// Every request: STARTUP, OPTIONS, QUERY, PREPARE, EXECUTE, REGISTER, BATCH and AUTH_RESPONSE.
const OPCODES: [u8; 8] = [0x01, 0x05, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0F];

const LIMITS: Limits = Limits { body: 1 << 20 };

/// What reading and understanding some bytes may take besides the bytes themselves: a statement of a batch, or a value,
/// is larger in memory than on the wire, where it has five bytes at least.
fn allowance(bytes: usize) -> usize {
    (256 << 10) + 32 * bytes
}

fn framed(flags: u8, opcode: u8, length: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, flags, 0, 7, opcode];
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    frame
}

/// Reads one frame, and returns how much memory that took. None if the connection would have broken.
fn read(bytes: &[u8], compression: Option<Compression>) -> (Option<Incoming>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut rest = bytes;
    most_of(|| runtime.block_on(frame::read(&mut rest, compression, LIMITS)).ok())
}

/// Bodies that could be some: counts, lengths and texts in any order, some of them far too large.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![0u16, 1, 2, 0x7fff, 0xffff]).prop_map(|it| it.to_be_bytes().to_vec()),
        prop::sample::select(vec![0, 1, 3, -1, -2, -3, 1 << 20, i32::MAX, i32::MIN])
            .prop_map(|it| it.to_be_bytes().to_vec()),
        prop::sample::select(vec!["SELECT * FROM k.t", "CQL_VERSION", "3.0.0", "TOPOLOGY_CHANGE", ""])
            .prop_map(|text| {
                let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
                bytes.extend(text.as_bytes());
                bytes
            }),
        prop::sample::select(vec!["CQL_VERSION", "3.0.0", "STATUS_CHANGE", "COMPRESSION", "lz4"]).prop_map(
            |text| {
                let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
                bytes.extend(text.as_bytes());
                bytes
            }
        ),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_request_with_any_body_is_understood_or_refused_in_little_memory(
        opcode in prop::sample::select(OPCODES.to_vec()),
        payload: bool,
        body in body(),
    ) {
        let flags = if payload { FLAG_CUSTOM_PAYLOAD } else { 0 };
        let frame = framed(flags, opcode, body.len() as i32, &body);
        let (found, taken) = read(&frame, None);
        prop_assert!(found.is_some(), "it has a response");
        prop_assert!(taken <= allowance(frame.len()), "{taken} bytes for {} bytes", frame.len());
    }

    #[test]
    fn a_body_cut_anywhere_is_no_request_and_takes_no_more_than_what_arrived(
        opcode in prop::sample::select(OPCODES.to_vec()),
        body in body(),
        stated in 0..=1 << 20,
    ) {
        let stated = i32::max(stated, body.len() as i32 + 1);
        let (found, taken) = read(&framed(0, opcode, stated, &body), None);
        prop_assert!(found.is_none(), "{found:?}");
        prop_assert!(taken <= allowance(body.len()), "{taken} bytes for {} bytes of {stated}", body.len());
    }

    #[test]
    fn a_body_flagged_as_compressed_is_decompressed_or_refused_in_memory_bounded_by_its_length(
        compression in prop::sample::select(vec![Compression::Lz4, Compression::Snappy]),
        opcode in prop::sample::select(OPCODES.to_vec()),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let frame = framed(FLAG_COMPRESSED, opcode, body.len() as i32, &body);
        let (found, taken) = read(&frame, Some(compression));
        prop_assert!(found.is_some(), "it has a response");
        // Neither algorithm compresses by more than a factor of 256.
        prop_assert!(taken <= allowance(frame.len() * 256), "{taken} bytes for {} bytes", frame.len());
    }

    #[test]
    fn a_statement_takes_memory_in_proportion_to_its_text(
        open in prop::sample::select(vec!["(", "[", "{", "{1:", "f(", "frozen<", "-", "'", "\"", "/*", "$$", "a.", "?,"]),
        count in 0usize..4000,
        before in prop::sample::select(vec![
            "SELECT ", "SELECT * FROM t WHERE a = ", "SELECT * FROM t WHERE a IN (", "INSERT INTO t (a) VALUES (",
            "CREATE TABLE t (a ", "UPDATE t SET a = ", "BEGIN BATCH ", "DELETE FROM t WHERE (a, b) > ", "",
        ]),
    ) {
        let text = format!("{before}{}", open.repeat(count));
        let (_, taken) = most_of(|| parse(&text).is_ok());
        prop_assert!(taken <= (64 << 10) + 512 * text.len(), "{taken} bytes for a text of {}", text.len());
    }
}

#[test]
fn lengths_that_no_body_has_are_refused_without_memory_for_them() {
    let long = i32::MAX.to_be_bytes();
    for opcode in OPCODES {
        for head in [&[][..], &[1], &[0, 1], &[0xff, 0xff], &[1, 0xff, 0xff], &[1, 0, 1, 0]] {
            let body = [head, &long, b"x"].concat();
            let frame = framed(0, opcode, body.len() as i32, &body);
            let (found, taken) = read(&frame, None);
            assert!(found.is_some());
            assert!(taken <= allowance(frame.len()), "opcode {opcode}, {head:?}: {taken} bytes");
        }
    }
    // A frame that states more than is allowed is passed over.
    let (found, taken) = read(&framed(0, 0x07, i32::MAX, b"x"), None);
    assert!(found.is_none() && taken <= allowance(0), "{found:?}, {taken} bytes");
}

#[test]
fn a_body_beyond_the_limit_is_passed_over_and_what_follows_is_understood() {
    let long = framed(0, 0x09, LIMITS.body as i32 + 1, &vec![b'x'; LIMITS.body + 1]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let bytes = [&long[..], &framed(0, 0x05, 0, &[])].concat();
    let mut rest = &bytes[..];
    let (found, taken) = most_of(|| runtime.block_on(frame::read(&mut rest, None, LIMITS)));
    assert!(matches!(found, Ok(Incoming::Refused { is_fatal: false, stream: 7, .. })), "{found:?}");
    assert!(taken <= allowance(0), "{taken} bytes");
    let next = runtime.block_on(frame::read(&mut rest, None, LIMITS));
    assert!(matches!(next, Ok(Incoming::Request { request: Request::Options, .. })), "{next:?}");
}

#[test]
fn compressed_bodies_that_state_gigabytes_are_refused_without_memory_for_them() {
    let lz4 = [&0x7fff_ffff_u32.to_be_bytes()[..], &[0x10, b'x']].concat();
    // A length of 32 bits, seven at a time.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'x'];
    for (compression, body) in [(Compression::Lz4, &lz4[..]), (Compression::Snappy, &snappy[..])] {
        let frame = framed(FLAG_COMPRESSED, 0x07, body.len() as i32, body);
        let (found, taken) = read(&frame, Some(compression));
        assert!(matches!(found, Some(Incoming::Refused { is_fatal: false, .. })), "{found:?}");
        assert!(taken <= allowance(frame.len()), "{compression:?}: {taken} bytes");
    }
    // A bomb that is what it says: more than a body may be.
    let zeros = vec![0; LIMITS.body + 1];
    for compression in [Compression::Lz4, Compression::Snappy] {
        let body = compression.compress(&zeros).expect("it is compressed");
        let frame = framed(FLAG_COMPRESSED, 0x07, body.len() as i32, &body);
        let (found, taken) = read(&frame, Some(compression));
        assert!(matches!(found, Some(Incoming::Refused { .. })), "{found:?}");
        assert!(taken <= allowance(frame.len()), "{compression:?}: {taken} bytes");
    }
}

#[test]
fn values_nested_deeply_are_refused_and_do_not_use_up_the_stack() {
    // As much as tokio's threads have.
    let work = || {
        for (open, close) in
            [("(", ")"), ("[", "]"), ("{", "}"), ("{1:", "}"), ("f(", ")"), ("(int)", ""), ("frozen<", ">")]
        {
            let nested = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
            for text in [
                format!("SELECT * FROM t WHERE a = {nested}"),
                format!("SELECT {nested} FROM t"),
                format!("CREATE TABLE t (a {nested} PRIMARY KEY)"),
                format!("INSERT INTO t (a) VALUES ({nested})"),
            ] {
                assert!(parse(&text).is_err(), "{open}");
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).expect("a thread");
    assert!(thread.join().is_ok(), "the parser does not panic");
}

#[test]
fn a_statement_of_more_tokens_than_are_allowed_is_refused() {
    let text = format!("SELECT * FROM t WHERE a IN ({})", "1,".repeat(1 << 18));
    let error = parse(&text).expect_err("too long");
    assert!(error.to_string().contains("tokens"), "{error}");
}

#[test]
fn an_ordinary_request_is_understood_here_too() {
    let text = "SELECT 1";
    let body = [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let (found, _) = read(&framed(0, 0x09, body.len() as i32, &body), None);
    let Some(Incoming::Request { request: Request::Prepare(found), .. }) = found else { panic!("{found:?}") };
    assert_eq!(found, text);
}
