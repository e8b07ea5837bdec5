//! The decoder of the ground truth: a recogniser of RFC 8259 over bytes, optimised for readability.
//!
//! It is deliberately implemented differently from [`crate::decode`] (no serde; reasons are checked in the order of
//! [`Reason`]'s variants), so that a mistake stays undetected only if it is made in both. Nothing recurses: open
//! brackets take a byte per level on an explicit stack.
//!
//! A function named after a production of JSON's grammar takes the text and the position where it must start, and returns
//! the position where it ends, or `None` if it does not match.

use crate::event::{CLIENT_BYTES, Event, Field, Health, Reason, SOURCE_BYTES};
use crate::store::Binding;

/// The event in a record's value, or the first reason why it is invalid. (The caller checks the record's size.)
pub(super) fn event(value: Option<&[u8]>, binding: &Binding) -> Result<Event, Reason> {
    let text = value.ok_or(Reason::NullValue)?;
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    if std::str::from_utf8(text).is_err() {
        return Err(Reason::NotUtf8);
    }
    let start = whitespace(text, 0);
    let end = any_value(text, start).ok_or(Reason::NotJson)?;
    if whitespace(text, end) != text.len() {
        return Err(Reason::NotJson);
    }
    if text[start] != b'{' {
        return Err(Reason::NotAnObject);
    }

    let found = members(text, start).ok_or(Reason::NotJson)?;
    let values = |field: Field| found.iter().filter(move |(name, _)| *name == field).map(|(_, value)| *value);
    for field in Field::ALL {
        if values(field).count() > 1 {
            return Err(Reason::DuplicateField(field));
        }
    }
    for field in Field::ALL {
        if values(field).count() == 0 {
            return Err(Reason::MissingField(field));
        }
    }
    let [id, ts, source, client, health] = Field::ALL.map(|field| values(field).next().unwrap_or(b""));

    let integers = [(Field::Id, id), (Field::Ts, ts), (Field::Health, health)];
    let strings = [(Field::Source, source), (Field::Client, client)];
    for field in Field::ALL {
        let no_integer = integers.iter().any(|(f, value)| *f == field && !is_integer(value));
        let no_string = strings.iter().any(|(f, value)| *f == field && value[0] != b'"');
        if no_integer || no_string {
            return Err(Reason::WrongType(field));
        }
    }
    let source = characters(source).ok_or(Reason::NotUnicode(Field::Source))?;
    let client = characters(client).ok_or(Reason::NotUnicode(Field::Client))?;
    let id = integer(id).ok_or(Reason::OutOfRange(Field::Id))?;
    let ts = integer(ts).ok_or(Reason::OutOfRange(Field::Ts))?;
    let health = match integer(health).ok_or(Reason::OutOfRange(Field::Health))? {
        0 => Health::Nominal,
        1 => Health::Warning,
        2 => Health::Critical,
        _ => return Err(Reason::UnknownHealth),
    };
    if source.len() < *SOURCE_BYTES.start() {
        return Err(Reason::TooShort(Field::Source));
    }
    if source.len() > *SOURCE_BYTES.end() {
        return Err(Reason::TooLong(Field::Source));
    }
    if client.len() > *CLIENT_BYTES.end() {
        return Err(Reason::TooLong(Field::Client));
    }
    super::window_ends(ts, &binding.window).ok_or(Reason::WindowOverflow)?;
    Ok(Event { id, ts, source, client, health })
}

/// The members of an object that have an event's names, each with the bytes of its value, in order. Two of a name are
/// enough to know that it repeats, so no more are kept.
fn members(text: &[u8], at: usize) -> Option<Vec<(Field, &[u8])>> {
    let mut found: Vec<(Field, &[u8])> = Vec::new();
    let mut at = whitespace(text, at + 1);
    while *text.get(at)? != b'}' {
        let name = characters(&text[at..string(text, at)?]);
        let start = name_and_colon(text, at)?;
        let end = any_value(text, start)?;
        if let Some(field) = Field::ALL.into_iter().find(|f| name.as_deref() == Some(f.name()))
            && found.iter().filter(|(other, _)| *other == field).count() < 2
        {
            found.push((field, &text[start..end]));
        }
        at = whitespace(text, end);
        if *text.get(at)? == b',' {
            at = whitespace(text, at + 1);
        }
    }
    Some(found)
}

/// `value = false / null / true / object / array / number / string`
fn any_value(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    // The brackets that are open, outermost first.
    let mut open = Vec::new();
    loop {
        // A value starts here.
        at = match *text.get(at)? {
            b'{' => {
                let inside = whitespace(text, at + 1);
                if *text.get(inside)? != b'}' {
                    open.push(b'{');
                    at = name_and_colon(text, inside)?;
                    continue;
                }
                inside + 1
            }
            b'[' => {
                let inside = whitespace(text, at + 1);
                if *text.get(inside)? != b']' {
                    open.push(b'[');
                    at = inside;
                    continue;
                }
                inside + 1
            }
            b'"' => string(text, at)?,
            b'f' => literal(text, at, b"false")?,
            b'n' => literal(text, at, b"null")?,
            b't' => literal(text, at, b"true")?,
            _ => number(text, at)?,
        };
        // A value has ended here, and perhaps the array or object around it.
        loop {
            let Some(bracket) = open.last() else { return Some(at) };
            at = whitespace(text, at);
            match (*bracket, *text.get(at)?) {
                (b'{', b'}') | (b'[', b']') => {
                    open.pop();
                    at += 1;
                }
                (b'{', b',') => {
                    at = name_and_colon(text, whitespace(text, at + 1))?;
                    break;
                }
                (b'[', b',') => {
                    at = whitespace(text, at + 1);
                    break;
                }
                _ => return None,
            }
        }
    }
}

/// A member up to the start of its value.
fn name_and_colon(text: &[u8], at: usize) -> Option<usize> {
    let colon = whitespace(text, string(text, at)?);
    Some(whitespace(text, literal(text, colon, b":")?))
}

/// `ws`: always matches, possibly empty.
fn whitespace(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

fn literal(text: &[u8], at: usize, expected: &[u8]) -> Option<usize> {
    text[at..].starts_with(expected).then_some(at + expected.len())
}

/// `number = [ minus ] int [ frac ] [ exp ]`
fn number(text: &[u8], at: usize) -> Option<usize> {
    let digits = |at: usize| {
        let count = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let mut at = literal(text, at, b"-").unwrap_or(at);
    at = match literal(text, at, b"0") {
        Some(end) => end,
        None => digits(at)?,
    };
    if let Some(fraction) = literal(text, at, b".") {
        at = digits(fraction)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Some(at)
}

/// `string = quotation-mark *char quotation-mark`. The text is known to be UTF-8. Any four hexadecimal
/// digits may follow `\u`: the grammar allows lone surrogates.
fn string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = literal(text, at, b"\"")?;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' => {
                    unit(text, at)?;
                    at += 6;
                }
                _ => return None,
            },
            0x00..=0x1F => return None,
            _ => at += 1,
        }
    }
}

/// The UTF-16 code unit of `\uXXXX`, which starts at the backslash.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let mut unit = 0;
    for byte in text.get(at + 2..at + 6)? {
        unit = unit * 16 + char::from(*byte).to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

/// The value of a string of the grammar, assembled from UTF-16 code units as JSON's escapes are; `None` if they are not
/// valid Unicode.
fn characters(string: &[u8]) -> Option<String> {
    let mut units = Vec::new();
    let mut at = 1;
    while string[at] != b'"' {
        if string[at] != b'\\' {
            let plain = string[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
            units.extend(std::str::from_utf8(&string[at..at + plain]).ok()?.encode_utf16());
            at += plain;
            continue;
        }
        let (read, escaped) = match string[at + 1] {
            b'b' => (2, 0x08),
            b'f' => (2, 0x0C),
            b'n' => (2, 0x0A),
            b'r' => (2, 0x0D),
            b't' => (2, 0x09),
            b'u' => (6, unit(string, at)?),
            itself => (2, u16::from(itself)),
        };
        units.push(escaped);
        at += read;
    }
    String::from_utf16(&units).ok()
}

/// True for a number of the grammar without fraction and exponent.
fn is_integer(value: &[u8]) -> bool {
    let number = value[0] == b'-' || value[0].is_ascii_digit();
    number && !value.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// The value of an integer of the grammar; `None` if it is outside i64.
fn integer(value: &[u8]) -> Option<i64> {
    let (sign, digits) = match value {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    let mut sum: i128 = 0;
    for digit in digits {
        sum = sum * 10 + i128::from(digit - b'0');
        if sum > i128::from(u64::MAX) {
            return None;
        }
    }
    i64::try_from(sign * sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the JSON text at the start of the bytes, without whitespace around it.
    fn ends(text: &str) -> Option<usize> {
        any_value(text.as_bytes(), 0)
    }

    #[test]
    fn the_grammar_accepts_what_rfc_8259_allows() {
        for text in [
            "{}",
            "[]",
            "[ ]",
            "{ \t\r\n}",
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-1.5e+10",
            "1E5",
            "10",
            "0.0",
            r#""""#,
            r#""\"\\\/\b\f\n\r\t\u00e9""#,
            r#""\ud800""#,
            "\"\u{7f}é😀\"",
            "[1,[2,{}],3]",
            r#"{"a":{"b":[1]},"a":[]}"#,
            "[ 1 , 2 ]",
            r#"{ "a" : 1 , "b" : 2 }"#,
            "1e999999",
        ] {
            assert_eq!(ends(text), Some(text.len()), "{text}");
        }
    }

    #[test]
    fn the_grammar_accepts_nothing_else() {
        for text in [
            "",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            "{a:1}",
            "{1:1}",
            "[}",
            "{]",
            r#"{"a":1]"#,
            "[1}",
            "nul",
            "True",
            "-",
            "+1",
            ".5",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "-a",
            r#"""#,
            r#""\""#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\u+123""#,
            "\"\n\"",
            "\"\0\"",
            "\"\u{1f}\"",
            "\u{feff}1",
            "\u{b}1",
            "'a'",
            "NaN",
        ] {
            assert_eq!(ends(text), None, "{text:?}");
        }
        // A number ends where its grammar does; the caller rejects what follows.
        for (text, end) in [("01", 1), ("-01", 2), ("1 2", 1), ("{}}", 2), ("nullx", 4), ("1-", 1)] {
            assert_eq!(ends(text), Some(end), "{text}");
        }
    }

    #[test]
    fn strings_have_the_value_of_their_escapes() {
        for (string, value) in [
            (r#""""#, Some("")),
            (r#""a\u0000\n\/b""#, Some("a\0\n/b")),
            (r#""\u0069\u00E9\u00e9""#, Some("iéé")),
            (r#""\ud83d\ude00😀""#, Some("😀😀")),
            (r#""\ud83d""#, None),
            (r#""\ude00\ud83d""#, None),
            (r#""\ud83d\u0041""#, None),
            (r#""\ud83d😀""#, None),
        ] {
            assert_eq!(characters(string.as_bytes()).as_deref(), value, "{string}");
        }
    }

    #[test]
    fn integers_have_exactly_the_range_of_i64() {
        for (text, number) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(integer(text.as_bytes()), number, "{text}");
        }
    }
}
