//! The encoding of the keys and values of a coordinator's records.
//!
//! Kafka's message format: big-endian integers; strings, bytes and arrays with a length before them, of fixed size
//! in older versions, and as an unsigned varint of the length plus one in "flexible" ones, which end each structure
//! with tagged fields.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Why a record of a coordinator's partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end within a field.
    #[error("{record}: {field} ends after the last byte")]
    Short {
        /// The kind of record.
        record: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A length that is not possible.
    #[error("{record}: {field} has the length {length}")]
    Length {
        /// The kind of record.
        record: &'static str,
        /// The field.
        field: &'static str,
        /// The length as read.
        length: i64,
    },
    /// A text that is not UTF-8.
    #[error("{record}: {field} is not UTF-8")]
    Text {
        /// The kind of record.
        record: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field with a value that Kafka does not write.
    #[error("{record}: {field} has the value {value}")]
    Value {
        /// The kind of record.
        record: &'static str,
        /// The field.
        field: &'static str,
        /// The value as read.
        value: i64,
    },
    /// A version of the record that is not known.
    #[error("{record}: unknown version {version}")]
    Version {
        /// The kind of record.
        record: &'static str,
        /// The version as read.
        version: i16,
    },
}

/// Writes the fields of one record.
pub(crate) struct Writer {
    out: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Begins with the version (of a value) or the type (of a key).
    pub(crate) fn new(version: i16, flexible: bool) -> Self {
        let mut out = BytesMut::new();
        out.put_i16(version);
        Self { out, flexible }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.freeze()
    }

    pub(crate) fn i8(&mut self, value: i8) -> &mut Self {
        self.out.put_i8(value);
        self
    }

    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.out.put_i16(value);
        self
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.out.put_i32(value);
        self
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.out.put_i64(value);
        self
    }

    pub(crate) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.out.put_slice(value.as_bytes());
        self
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    pub(crate) fn str(&mut self, value: &str) -> &mut Self {
        self.nullable_str(Some(value))
    }

    pub(crate) fn nullable_str(&mut self, value: Option<&str>) -> &mut Self {
        let value = if self.flexible { value } else { value.map(cut) };
        let length = value.map(str::len);
        if self.flexible {
            self.compact_length(length);
        } else {
            self.out.put_i16(length.map_or(-1, |length| i16::try_from(length).unwrap_or(i16::MAX)));
        }
        self.out.put_slice(value.unwrap_or_default().as_bytes());
        self
    }

    fn compact_length(&mut self, length: Option<usize>) {
        self.varint(length.map_or(0, |length| u32::try_from(length).unwrap_or(u32::MAX - 1) + 1));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.length(Some(value.len()));
        self.out.put_slice(value);
        self
    }

    /// The length of an array or of bytes.
    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            self.out.put_i32(length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX)));
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.length(Some(items.len()));
        for item in items {
            write(self, item);
        }
        self
    }

    pub(crate) fn null_array(&mut self) -> &mut Self {
        self.length(None);
        self
    }

    /// The end of a structure without tagged fields.
    pub(crate) fn end(&mut self) -> &mut Self {
        if self.flexible {
            self.varint(0);
        }
        self
    }

    /// The end of a structure with tagged fields, ascending by tag.
    pub(crate) fn end_with(&mut self, fields: Vec<(u32, Bytes)>) -> &mut Self {
        self.varint(u32::try_from(fields.len()).unwrap_or(u32::MAX));
        for (tag, value) in fields {
            self.varint(tag);
            self.varint(u32::try_from(value.len()).unwrap_or(u32::MAX));
            self.out.put_slice(&value);
        }
        self
    }

    /// The bytes of one tagged field.
    pub(crate) fn field(write: impl FnOnce(&mut Self)) -> Bytes {
        let mut field = Self { out: BytesMut::new(), flexible: true };
        write(&mut field);
        field.finish()
    }
}

/// As much of a text as a length of two bytes can say. Ids of groups and transactions that are longer are refused
/// before they get here; names that clients give themselves are cut.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(i16::MAX as usize)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Reads the fields of one record.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    record: &'static str,
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(record: &'static str, bytes: &'a [u8]) -> Self {
        Self { bytes, record, flexible: false }
    }

    /// Whether lengths that follow are varints.
    pub(crate) fn flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) =
            self.bytes.split_at_checked(count).ok_or(RecordError::Short { record: self.record, field })?;
        self.bytes = tail;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let short = RecordError::Short { record: self.record, field };
        self.take(field, N)?.try_into().map_err(|_| short)
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, RecordError> {
        self.fixed(field).map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        self.fixed(field).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        self.fixed(field).map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, RecordError> {
        self.fixed(field).map(Uuid::from_bytes)
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed(field)?;
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length { record: self.record, field, length: i64::from(value) })
    }

    /// A length; `None` for null. At most the bytes that are left, as each element takes one or more.
    fn length(&mut self, field: &'static str, short: bool) -> Result<Option<usize>, RecordError> {
        let length = if self.flexible {
            i64::from(self.varint(field)?) - 1
        } else if short {
            i64::from(self.i16(field)?)
        } else {
            i64::from(self.i32(field)?)
        };
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() => Ok(Some(length)),
            _ => Err(RecordError::Length { record: self.record, field, length }),
        }
    }

    pub(crate) fn nullable_str(&mut self, field: &'static str) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(field, true)? else { return Ok(None) };
        let record = self.record;
        let text = std::str::from_utf8(self.take(field, length)?);
        text.map(|text| Some(text.to_owned())).map_err(|_| RecordError::Text { record, field })
    }

    pub(crate) fn str(&mut self, field: &'static str) -> Result<String, RecordError> {
        let null = RecordError::Length { record: self.record, field, length: -1 };
        self.nullable_str(field)?.ok_or(null)
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(field, false)?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(self.take(field, length)?))
    }

    pub(crate) fn array<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let length = self.length(field, false)?.unwrap_or(0);
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The end of a structure, with its tagged fields.
    pub(crate) fn end(&mut self) -> Result<Vec<(u32, Reader<'a>)>, RecordError> {
        let mut fields = Vec::new();
        if self.flexible {
            for _ in 0..self.varint("tagged fields")? {
                let tag = self.varint("tag")?;
                let size = self.varint("size of a tagged field")? as usize;
                let bytes = self.take("tagged field", size)?;
                fields.push((tag, Reader { bytes, record: self.record, flexible: true }));
            }
        }
        Ok(fields)
    }

    pub(crate) fn unknown_version(&self, version: i16) -> RecordError {
        RecordError::Version { record: self.record, version }
    }

    pub(crate) fn bad_value(&self, field: &'static str, value: i64) -> RecordError {
        RecordError::Value { record: self.record, field, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_both_encodings() {
        for flexible in [false, true] {
            let mut writer = Writer::new(3, flexible);
            writer.str("text").nullable_str(None).bytes(b"bytes").i64(-5).uuid(Uuid::from_u128(7));
            writer.array([1, 2].iter(), |writer, item| {
                writer.i32(*item).end();
            });
            writer.end();
            let bytes = writer.finish();
            let mut reader = Reader::new("a record", &bytes);
            assert_eq!(reader.i16("version"), Ok(3));
            reader.flexible(flexible);
            assert_eq!(reader.str("a"), Ok("text".to_owned()));
            assert_eq!(reader.nullable_str("b"), Ok(None));
            assert_eq!(reader.bytes("c"), Ok(Bytes::from_static(b"bytes")));
            assert_eq!(reader.i64("d"), Ok(-5));
            assert_eq!(reader.uuid("e"), Ok(Uuid::from_u128(7)));
            let item = |reader: &mut Reader<'_>| {
                let item = reader.i32("item")?;
                reader.end()?;
                Ok(item)
            };
            assert_eq!(reader.array("f", item), Ok(vec![1, 2]));
            assert!(reader.end().is_ok_and(|fields| fields.is_empty()));
        }
    }

    #[test]
    fn a_text_that_is_too_long_for_its_length_is_cut_between_characters() {
        let mut writer = Writer::new(0, false);
        writer.str(&format!("{}é", "x".repeat(i16::MAX as usize - 1)));
        let bytes = writer.finish();
        let mut reader = Reader::new("a record", &bytes);
        assert_eq!(reader.i16("version"), Ok(0));
        assert_eq!(reader.str("text").map(|text| text.len()), Ok(i16::MAX as usize - 1));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let mut reader = Reader::new("a record", &[0x7f, 0xff, 0xff, 0xff, 0]);
        let refused = reader.array("items", |reader| reader.i8("item"));
        assert_eq!(
            refused,
            Err(RecordError::Length { record: "a record", field: "items", length: 0x7fff_ffff })
        );
    }
}
