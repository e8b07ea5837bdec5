//! The domain types: records of the log, and the rows they become.
//!
//! A [`Record`] is what a broker delivered, unchanged. It becomes exactly one [`Row`]: an [`Event`] or a [`DeadLetter`].
//! Which of the two, and every byte of it, is a pure function of the record and of the
//! [binding](crate::store::Binding): see [`crate::decode`] for the rule.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Allowed length of an event's `source`, in bytes of UTF-8.
///
/// It is a Cassandra partition key, which may be neither empty nor longer than 65,535 bytes; the bound is
/// the same on every store, so that the result does not depend on the store.
pub const SOURCE_BYTES: RangeInclusive<usize> = 1..=1024;

/// Allowed length of an event's `client`, in bytes of UTF-8.
pub const CLIENT_BYTES: RangeInclusive<usize> = 0..=1024;

/// One record of the log as the broker delivered it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition of the topic, from 0.
    pub partition: i32,
    /// Offset in the partition, from 0. Offsets ascend but need not be dense.
    pub offset: i64,
    /// The broker's timestamp in milliseconds since the epoch (create or append time, depending on the topic's
    /// configuration); -1 if the record has none.
    pub timestamp: i64,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is Kafka's null value (a tombstone of a compacted topic).
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// Bytes of key and value together.
    pub fn len(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// True if key and value are empty or absent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| b.escape_ascii().to_string());
        f.debug_struct("Record")
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &text(&self.key))
            .field("value", &text(&self.value))
            .finish()
    }
}

/// The health of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Code 0.
    Nominal = 0,
    /// Code 1.
    Warning = 1,
    /// Code 2.
    Critical = 2,
}

impl Health {
    /// All levels, by code.
    pub const ALL: [Health; 3] = [Health::Nominal, Health::Warning, Health::Critical];

    /// The code on the wire and in the tables: 0, 1 or 2.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The level of a code; `None` for anything but 0, 1 and 2.
    pub fn from_code(code: i64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|i| Self::ALL.get(i).copied())
    }
}

/// A valid event: the content of one row of the table `events`, without its key `(partition, offset)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The producer's id. Not unique: a producer's retry may append an event twice, and both are rows.
    pub id: i64,
    /// Event time in milliseconds since the epoch; may be negative.
    pub ts: i64,
    /// The device that reports; [`SOURCE_BYTES`] long.
    pub source: String,
    /// The client that the source belongs to; [`CLIENT_BYTES`] long.
    pub client: String,
    /// The health of the source.
    pub health: Health,
}

/// A field of the event, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `id`
    Id,
    /// `ts`
    Ts,
    /// `source`
    Source,
    /// `client`
    Client,
    /// `health`
    Health,
}

impl Field {
    /// All fields, in the order in which they are checked.
    pub const ALL: [Field; 5] = [Field::Id, Field::Ts, Field::Source, Field::Client, Field::Health];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::Ts => "ts",
            Field::Source => "source",
            Field::Client => "client",
            Field::Health => "health",
        }
    }
}

/// Why a record is a dead letter.
///
/// A record has one reason: the smallest that applies, by `Ord`. That is the order of the variants here, and within a
/// variant the order of [`Field::ALL`]: a record whose `id` is a string and that has no `ts` is
/// `missing_field:ts`, one whose `id` and `ts` are both strings is `wrong_type:id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Key and value together are larger than the binding's `max_mutation_bytes`.
    TooLarge,
    /// The value is null.
    NullValue,
    /// The value has no bytes.
    Empty,
    /// The value is not UTF-8.
    NotUtf8,
    /// The value is not a single JSON text by RFC 8259. (This includes a raw NUL or another control character in a
    /// string, and anything after the text.)
    NotJson,
    /// The value is JSON, but not an object.
    NotAnObject,
    /// The object has the field more than once. (Unknown names may repeat.)
    DuplicateField(Field),
    /// The object lacks the field.
    MissingField(Field),
    /// The field has the wrong JSON type; a number with a fraction or an exponent is not an integer.
    WrongType(Field),
    /// The field is a string with an escape that is not a Unicode character (a lone surrogate).
    NotUnicode(Field),
    /// The field is an integer outside i64.
    OutOfRange(Field),
    /// `health` is an integer other than 0, 1 and 2.
    UnknownHealth,
    /// The field is shorter than its minimum length ([`SOURCE_BYTES`]).
    TooShort(Field),
    /// The field is longer than its maximum length ([`SOURCE_BYTES`], [`CLIENT_BYTES`]).
    TooLong(Field),
    /// A window that contains `ts` ends outside i64.
    WindowOverflow,
}

impl Reason {
    /// The fixed code that is stored, for example `missing_field:source`. Never a parser's message.
    pub fn code(self) -> String {
        match self {
            Reason::DuplicateField(f)
            | Reason::MissingField(f)
            | Reason::WrongType(f)
            | Reason::NotUnicode(f)
            | Reason::OutOfRange(f)
            | Reason::TooShort(f)
            | Reason::TooLong(f) => format!("{}:{}", self.kind(), f.name()),
            _ => self.kind().to_owned(),
        }
    }

    /// The code without the field.
    pub fn kind(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::NullValue => "null_value",
            Reason::Empty => "empty",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotJson => "not_json",
            Reason::NotAnObject => "not_an_object",
            Reason::DuplicateField(_) => "duplicate_field",
            Reason::MissingField(_) => "missing_field",
            Reason::WrongType(_) => "wrong_type",
            Reason::NotUnicode(_) => "not_unicode",
            Reason::OutOfRange(_) => "out_of_range",
            Reason::UnknownHealth => "unknown_health",
            Reason::TooShort(_) => "too_short",
            Reason::TooLong(_) => "too_long",
            Reason::WindowOverflow => "window_overflow",
        }
    }

    /// All reasons.
    pub fn all() -> impl Iterator<Item = Reason> {
        use Reason::*;
        let plain =
            [TooLarge, NullValue, Empty, NotUtf8, NotJson, NotAnObject, UnknownHealth, WindowOverflow];
        let of_fields = [DuplicateField, MissingField, WrongType, NotUnicode, OutOfRange, TooShort, TooLong];
        plain.into_iter().chain(of_fields.into_iter().flat_map(|reason| Field::ALL.map(reason)))
    }

    /// The reason with a stored code; `None` for an unknown code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code())
    }
}

/// An invalid record: the content of one row of the table `dead_letters`, without its key `(partition, offset)`. Nothing
/// of the record is lost, except with [`Reason::TooLarge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why the record is invalid.
    pub reason: Reason,
    /// The broker's timestamp of the record, in milliseconds.
    pub timestamp: i64,
    /// The record's key and value, or their digest.
    pub body: Body,
}

/// The contents of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Key and value.
    Whole {
        /// The record's key.
        key: Option<Vec<u8>>,
        /// The record's value.
        value: Option<Vec<u8>>,
    },
    /// The record is larger than a row may be: lengths and a hash instead of its bytes.
    Digest {
        /// Bytes of the key; `None` for no key.
        key_length: Option<i64>,
        /// Bytes of the value; `None` for a null value.
        value_length: Option<i64>,
        /// SHA-256 over the key's bytes followed by the value's.
        sha256: [u8; 32],
    },
}

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A row of `events`.
    Event(Event),
    /// A row of `dead_letters`.
    DeadLetter(DeadLetter),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_unique_code_and_is_found_by_it() {
        let codes: std::collections::BTreeSet<_> = Reason::all().map(Reason::code).collect();
        assert_eq!(codes.len(), Reason::all().count());
        for reason in Reason::all() {
            assert_eq!(Reason::from_code(&reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code("made up"), None);
    }

    #[test]
    fn health_has_three_codes() {
        for health in Health::ALL {
            assert_eq!(Health::from_code(i64::from(health.code())), Some(health));
        }
        for code in [-1, 3, i64::MIN, i64::MAX] {
            assert_eq!(Health::from_code(code), None);
        }
    }
}
