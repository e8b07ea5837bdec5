//! The target `cql`: the lexer and the parser of the simulated Cassandra.

mod print;

use simulated_cassandra::cql::{Parsed, parse};

use crate::allocations::peak;

pub(crate) use print::{Names, literal, printed};

/// Parses a text, in memory in proportion to it. What is parsed and printed is parsed as the same; what is refused has a
/// message.
///
/// # Panics
/// If it is not so.
pub fn cql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (parsed, bytes) = peak(|| parse(text));
    assert!(bytes <= (64 << 10) + 512 * text.len(), "{bytes} bytes for a text of {}", text.len());
    match parsed {
        Ok(parsed) => [Names::Quoted, Names::Plain].into_iter().for_each(|names| check(&parsed, names)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check(parsed: &Parsed, names: Names) {
    let Some(text) = printed(parsed, names) else { return };
    match parse(&text) {
        Ok(again) => assert_eq!(again, *parsed, "printed as {text}"),
        Err(error) => panic!("{error}: printed as {text}, from {parsed:?}"),
    }
}
