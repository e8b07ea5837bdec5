//! Records from the user's own data: each line of a text is a record's value, unchanged.

use std::io::{self, BufRead, BufReader, Read};

use thiserror::Error;

use crate::broker::NewRecord;

/// Maximum length of a line, in bytes. It exceeds what any store accepts as one row, so that records which are too large
/// for the pipeline can be generated.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Why reading lines ended early. The lines before it were returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is longer than a record may be.
    #[error("line {line} of the input is longer than {limit} bytes")]
    TooLong {
        /// Number of the line, from 1.
        line: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The input cannot be read.
    #[error("cannot read line {line} of the input")]
    Read {
        /// Number of the line, from 1.
        line: u64,
        /// The system's error.
        source: io::Error,
    },
}

/// Records of the lines of `reader`: a line's bytes without its line feed are the value (an empty line is an empty
/// value). Keeps one line in memory. Ends after an error.
pub struct Lines<R, C> {
    reader: BufReader<R>,
    clock: C,
    key: Option<Vec<u8>>,
    limit: usize,
    line: u64,
    ended: bool,
}

impl<R: Read, C: FnMut() -> i64> Lines<R, C> {
    /// All records get this key, or none. `clock` returns the milliseconds since the epoch and is read once
    /// for each; `limit` is the length of the longest line, in bytes ([`MAX_LINE_BYTES`]).
    pub fn new(reader: R, key: Option<Vec<u8>>, limit: usize, clock: C) -> Self {
        Self { reader: BufReader::new(reader), clock, key, limit, line: 0, ended: false }
    }

    /// True if the next line is buffered, so that taking it does not block.
    pub fn has_buffered_line(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        self.line += 1;
        let line = self.line;
        let mut value = Vec::new();
        let most = (self.limit as u64).saturating_add(1);
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut value);
        if read.map_err(|source| LineError::Read { line, source })? == 0 {
            return Ok(None);
        }
        if value.last() == Some(&b'\n') {
            value.pop();
        } else if value.len() > self.limit {
            return Err(LineError::TooLong { line, limit: self.limit });
        }
        Ok(Some(value))
    }
}

impl<R: Read, C: FnMut() -> i64> Iterator for Lines<R, C> {
    type Item = Result<NewRecord, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        let value = read.transpose()?;
        Some(value.map(|value| NewRecord {
            key: self.key.clone(),
            value: Some(value),
            timestamp: (self.clock)(),
            partition: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<LineError>) {
        let mut lines = Lines::new(text, None, limit, || 5);
        let mut values = Vec::new();
        for line in lines.by_ref() {
            match line {
                Ok(record) => values.push(record.value.unwrap()),
                Err(error) => {
                    assert!(lines.next().is_none(), "it continues after an error");
                    return (values, Some(error));
                }
            }
        }
        assert!(lines.next().is_none());
        (values, None)
    }

    #[test]
    fn a_line_becomes_a_value_unchanged() {
        let (values, error) = values(b"{\"id\":1}\r\n\n\xff\0\nlast", 100);
        assert!(error.is_none());
        assert_eq!(values, [b"{\"id\":1}\r".to_vec(), b"".to_vec(), b"\xff\0".to_vec(), b"last".to_vec()]);
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_by_number_and_those_before_it_are_returned() {
        assert!(values(b"1234\n1234", 4).1.is_none());
        for text in [&b"1234\n12345\n1\n"[..], b"1234\n12345"] {
            let (values, error) = values(text, 4);
            assert_eq!(values, [b"1234".to_vec()]);
            assert_eq!(error.unwrap().to_string(), "line 2 of the input is longer than 4 bytes");
        }
    }

    #[test]
    fn a_read_error_is_reported_with_the_number_of_the_line() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("unplugged"))
            }
        }
        let mut lines = Lines::new(b"one\n".chain(Broken), None, 100, || 0);
        assert!(lines.next().unwrap().is_ok());
        let error = lines.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "cannot read line 2 of the input");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "unplugged");
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_complete_line_in_the_buffer_can_be_taken_without_blocking_and_half_a_line_cannot() {
        let mut lines = Lines::new(b"one\ntwo\nhal".chain(&b"f\n"[..]), None, 100, || 0);
        assert!(!lines.has_buffered_line());
        for buffered in [true, false, false] {
            lines.next().unwrap().unwrap();
            assert_eq!(lines.has_buffered_line(), buffered);
        }
        assert!(lines.next().is_none());
    }

    #[test]
    fn the_caller_determines_key_and_timestamp() {
        let mut lines = Lines::new(&b"x\n"[..], Some(b"key".to_vec()), 100, || 5);
        let record = lines.next().unwrap().unwrap();
        assert_eq!((record.key, record.timestamp), (Some(b"key".to_vec()), 5));
    }
}
