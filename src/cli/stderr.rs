//! Standard error: the only place of the command line that writes to it.
//!
//! Messages are informational. That one cannot be written (a full disk, a pipe whose reader ended, a
//! terminal that disconnected) must not stop the work or change its exit code, so errors of writing are dropped here.
//! `eprintln!` panics instead, and so does tracing-subscriber, which reports errors of its writer with it.

use std::fmt::Display;
use std::io::{self, Write};

/// Standard error as a writer that never fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to standard error, in one piece. Control characters other than line feed and tab are escaped:
/// a message may hold the name of a file.
pub(super) fn line(text: impl Display) {
    let mut line = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' | '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line.push('\n');
    let _ = Stderr.write_all(line.as_bytes());
}
