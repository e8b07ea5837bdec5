//! Results on stdout: lines, tables and JSON Lines, without anything that could control a terminal.
//!
//! Text from records is untrusted. In lines and tables it is [`escaped`]; in JSON, control characters are `\u` escapes,
//! also those that JSON itself would allow.

use std::fmt::{self, Display, Write as _};
use std::io::{self, BufWriter, Stdout, Write};

use serde::{Serialize, Serializer};

use super::failure::Failure;
use crate::guarantee::Finding;

/// Stdout, buffered. [`Output::finish`] it, so that a failed write is reported.
///
/// A pipe whose reader has ended is not an error, as in `exactlyonce show events | head`: what is written after that is
/// dropped, so that a command ends with the exit code of its work. Long output stops early with [`Output::is_closed`].
#[derive(Debug)]
pub(super) struct Output {
    out: BufWriter<Pipe>,
}

/// Stdout, or nothing once its reader has ended.
#[derive(Debug)]
struct Pipe {
    stdout: Stdout,
    closed: bool,
}

impl Pipe {
    fn unless_closed<T>(&mut self, result: io::Result<T>, if_closed: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(if_closed)
            }
            result => result,
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let result = self.stdout.write(bytes);
        self.unless_closed(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.stdout.flush();
        self.unless_closed(result, ())
    }
}

impl Output {
    /// The process's stdout.
    pub(super) fn stdout() -> Self {
        Self { out: BufWriter::new(Pipe { stdout: io::stdout(), closed: false }) }
    }

    /// True if stdout is a pipe whose reader is known to have ended.
    pub(super) fn is_closed(&self) -> bool {
        self.out.get_ref().closed
    }

    /// Writes bytes unchanged.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::Output)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    /// Writes a value as one line of JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut self.out, Plain);
        value.serialize(&mut serializer).map_err(|error| Failure::Output(error.into()))?;
        self.line("")
    }

    /// Writes a line for each finding.
    pub(super) fn findings(&mut self, findings: &[Finding]) -> Result<(), Failure> {
        for finding in findings {
            self.line(format_args!("{:<10}{}", finding.verdict.label(), escaped(&finding.to_string())))?;
        }
        Ok(())
    }

    /// Writes the first line of a table.
    pub(super) fn header(&mut self, columns: &[Column]) -> Result<(), Failure> {
        let names: Vec<String> = columns.iter().map(|column| column.name.to_owned()).collect();
        self.row(columns, &names)
    }

    /// Writes a row of a table.
    pub(super) fn row(&mut self, columns: &[Column], cells: &[String]) -> Result<(), Failure> {
        let mut line = String::new();
        for (column, cell) in columns.iter().zip(cells) {
            let width = column.width;
            // Writing to a string cannot fail.
            let _ = match column.right {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        self.line(line.trim_end_matches(' '))
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// Writes what is buffered, at the end.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// A column of a table. Rows are written as they come, so a longer cell makes its own row longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    name: &'static str,
    width: usize,
    right: bool,
}

impl Column {
    /// A column of numbers.
    pub(super) const fn number(name: &'static str, width: usize) -> Self {
        Self { name, width, right: true }
    }

    /// A column of text.
    pub(super) const fn text(name: &'static str, width: usize) -> Self {
        Self { name, width, right: false }
    }
}

/// True for characters that could control a terminal or change the displayed order of text: control characters, line
/// separators and marks of writing direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unprintable(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

/// The text with `\n`, `\r`, `\t`, `\\` and `\u{...}` for unprintable characters.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(text, &mut out);
    out
}

/// The bytes as text, [`escaped`], with `\x..` for what is not UTF-8; `null` for none.
pub(super) fn escaped_bytes(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        escape_into(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Bytes in JSON: a string if they are UTF-8, else an object with their hexadecimal, `{"hex": "ff00"}`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("hex", hex::encode(self.0))]),
        }
    }
}

/// JSON without spaces, with `\u` escapes for unprintable characters.
struct Plain;

impl serde_json::ser::Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = from.chars();
            // All of them have 16 bits, see `is_unprintable`.
            for c in characters.by_ref().take(1) {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// A value, or `-` if there is none.
pub(super) fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A list separated by commas.
pub(super) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped_bytes(Some(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        text.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Plain)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_that_controls_a_terminal_is_left_in_text() {
        assert_eq!(escaped("a\\b\n\r\t"), "a\\\\b\\n\\r\\t");
        assert_eq!(escaped("\u{1b}[31m\u{9b}\0\u{7f}"), "\\u{1b}[31m\\u{9b}\\u{0}\\u{7f}");
        assert_eq!(escaped("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
        assert_eq!(escaped("Dr. Evil's \"Ä\" 漢"), "Dr. Evil's \"Ä\" 漢");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_distinguished_from_text() {
        assert_eq!(escaped_bytes(Some(b"a\xff\\xffb")), "a\\xff\\\\xffb");
        assert_eq!(escaped_bytes(None), "null");
        assert_eq!(serde_json::to_string(&Bytes(b"\xff\x00")).unwrap(), r#"{"hex":"ff00"}"#);
        assert_eq!(serde_json::to_string(&Bytes(b"hex")).unwrap(), r#""hex""#);
    }

    #[test]
    fn json_is_parsed_back_unchanged_and_contains_nothing_that_controls_a_terminal() {
        for text in ["\u{9b}1m", "\u{7f}", "x\u{202e}y", "\n\"\\", "", "\u{feff}a\u{85}", "漢 \u{1f600}"] {
            let line = json(text);
            assert!(!line.contains(|c: char| c.is_control() || "\u{202e}\u{feff}".contains(c)), "{line:?}");
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
