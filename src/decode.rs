//! Decodes a record into its row; the pipeline's implementation.
//!
//! The rule, identified by [`DECODER_VERSION`]: the value is one JSON object by RFC 8259 with the five fields of
//! [`Event`], each exactly once and of its type; other names are ignored, however often they occur and whatever their
//! values. An integer is written without fraction and exponent (`-0` is 0). A record that violates the rule becomes a
//! [`DeadLetter`] with the first [`Reason`] that applies, and processing continues.
//!
//! There are two passes: a fast one that accepts only valid events, and, if it fails, a careful one that determines the
//! reason. Both use serde_json's iterative scanner, so nesting costs a byte per level and no stack, and neither
//! allocates more than a small multiple of the record's size. The ground truth has an independent decoder
//! ([`crate::truth`]), and a property test compares the two.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::event::{Body, CLIENT_BYTES, DeadLetter, Event, Field, Health, Reason, Record, Row, SOURCE_BYTES};
use crate::window::WindowSpec;

/// Version of the decoding rule. `init` binds it to a keyspace: a changed rule would turn records into different rows
/// than those stored, so it requires a new version and a new keyspace.
pub const DECODER_VERSION: i32 = 1;

/// Decodes records for one binding.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// For [`Reason::WindowOverflow`].
    pub window: WindowSpec,
    /// For [`Reason::TooLarge`], in bytes.
    pub max_mutation_bytes: usize,
}

impl Decoder {
    /// The record's row. Takes the record by value, so that a dead letter keeps its bytes without a copy.
    pub fn row(&self, record: Record) -> Row {
        match self.event(&record) {
            Ok(event) => Row::Event(event),
            Err(reason) => Row::DeadLetter(DeadLetter {
                reason,
                timestamp: record.timestamp,
                body: match reason {
                    Reason::TooLarge => digest(&record),
                    _ => Body::Whole { key: record.key, value: record.value },
                },
            }),
        }
    }

    /// Decodes the record's event.
    ///
    /// # Errors
    /// The reason why the record is not a valid event.
    pub fn event(&self, record: &Record) -> Result<Event, Reason> {
        if record.len() > self.max_mutation_bytes {
            return Err(Reason::TooLarge);
        }
        let bytes = record.value.as_deref().ok_or(Reason::NullValue)?;
        if bytes.is_empty() {
            return Err(Reason::Empty);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
        let event = match fast(text) {
            Some(event) => event,
            None => careful(text)?,
        };
        check(event, &self.window)
    }
}

/// Checks the ranges that JSON does not express.
fn check(event: Event, window: &WindowSpec) -> Result<Event, Reason> {
    if event.source.len() < *SOURCE_BYTES.start() {
        return Err(Reason::TooShort(Field::Source));
    }
    if event.source.len() > *SOURCE_BYTES.end() {
        return Err(Reason::TooLong(Field::Source));
    }
    if event.client.len() > *CLIENT_BYTES.end() {
        return Err(Reason::TooLong(Field::Client));
    }
    match window.ends(event.ts) {
        Some(_) => Ok(event),
        None => Err(Reason::WindowOverflow),
    }
}

fn digest(record: &Record) -> Body {
    let mut hash = Sha256::new();
    let mut length = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| {
            hash.update(bytes);
            bytes.len() as i64
        })
    };
    let key_length = length(&record.key);
    let value_length = length(&record.value);
    Body::Digest { key_length, value_length, sha256: hash.finalize().into() }
}

/// A valid event, or `None` for anything that needs the careful pass.
fn fast(text: &str) -> Option<Event> {
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let event = deserializer.deserialize_map(FastVisitor).ok()?;
    deserializer.end().ok()?;
    Some(event)
}

struct FastVisitor;

impl<'de> Visitor<'de> for FastVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut id, mut ts, mut source, mut client, mut health) = (None, None, None, None, None);
        fn once<T, E: serde::de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
            match slot.replace(value) {
                None => Ok(()),
                Some(_) => Err(E::custom("duplicate")),
            }
        }
        while let Some(FieldName(name)) = map.next_key()? {
            match name {
                Some(Field::Id) => once(&mut id, map.next_value::<Integer>()?.0)?,
                Some(Field::Ts) => once(&mut ts, map.next_value::<Integer>()?.0)?,
                Some(Field::Source) => once(&mut source, map.next_value()?)?,
                Some(Field::Client) => once(&mut client, map.next_value()?)?,
                Some(Field::Health) => once(&mut health, map.next_value::<Integer>()?.0)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = || A::Error::custom("missing");
        Ok(Event {
            id: id.ok_or_else(missing)?,
            ts: ts.ok_or_else(missing)?,
            source: source.ok_or_else(missing)?,
            client: client.ok_or_else(missing)?,
            health: health.and_then(Health::from_code).ok_or_else(missing)?,
        })
    }
}

/// A key of the object, recognised without a copy.
struct FieldName(Option<Field>);

impl<'de> serde::Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = FieldName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_str<E>(self, name: &str) -> Result<FieldName, E> {
                Ok(FieldName(Field::ALL.into_iter().find(|field| field.name() == name)))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

/// An integer. If Serde's own i64 finds a string instead, it puts that string, escaped and so several times as long, into
/// an error that is not read.
struct Integer(i64);

impl<'de> serde::Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Integer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Integer, E> {
                i64::try_from(number).map(Integer).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Integer, E> {
                Err(E::custom("a string"))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// The event of a text that the fast pass did not take, or its fault.
fn careful(text: &str) -> Result<Event, Reason> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| Reason::NotJson)?;
    if !whole.get().starts_with('{') {
        return Err(Reason::NotAnObject);
    }
    // The text is known to be JSON, so an error below can only be a key that is not Unicode (handled by
    // taking keys raw) or a defect; the safe answer to a defect is a dead letter.
    let fields = serde_json::Deserializer::from_str(text)
        .deserialize_map(CarefulVisitor)
        .map_err(|_| Reason::NotJson)?;
    if let Some(field) = Field::ALL.into_iter().find(|f| fields[*f as usize].1) {
        return Err(Reason::DuplicateField(field));
    }
    let raw = |field: Field| fields[field as usize].0.ok_or(Reason::MissingField(field));
    let id = raw(Field::Id).and_then(|raw| integer(Field::Id, raw));
    let ts = raw(Field::Ts).and_then(|raw| integer(Field::Ts, raw));
    let source = raw(Field::Source).and_then(|raw| string(Field::Source, raw));
    let client = raw(Field::Client).and_then(|raw| string(Field::Client, raw));
    let health = raw(Field::Health).and_then(|raw| integer(Field::Health, raw));
    let health = health.and_then(|code| Health::from_code(code).ok_or(Reason::UnknownHealth));
    // Of several faults the first in the order of `Reason`, not the one of the first field.
    let faults = [
        id.as_ref().err(),
        ts.as_ref().err(),
        source.as_ref().err(),
        client.as_ref().err(),
        health.as_ref().err(),
    ];
    if let Some(first) = faults.into_iter().flatten().min() {
        return Err(*first);
    }
    Ok(Event { id: id?, ts: ts?, source: source?, client: client?, health: health? })
}

/// For each field its raw text, and whether it came again.
type RawFields<'de> = [(Option<&'de str>, bool); Field::ALL.len()];

struct CarefulVisitor;

impl<'de> Visitor<'de> for CarefulVisitor {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields<'de>, A::Error> {
        let mut fields = RawFields::default();
        while let Some(key) = map.next_key::<&RawValue>()? {
            // A key with a lone surrogate is not a known name.
            let name = serde_json::from_str::<Cow<'_, str>>(key.get()).ok();
            let value = map.next_value::<&RawValue>()?.get();
            if let Some(field) = Field::ALL.into_iter().find(|f| name.as_deref() == Some(f.name())) {
                let slot = &mut fields[field as usize];
                slot.1 = slot.0.is_some();
                slot.0 = Some(value);
            }
        }
        Ok(fields)
    }
}

fn integer(field: Field, raw: &str) -> Result<i64, Reason> {
    let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !number || raw.contains(['.', 'e', 'E']) {
        return Err(Reason::WrongType(field));
    }
    raw.parse().map_err(|_| Reason::OutOfRange(field))
}

fn string(field: Field, raw: &str) -> Result<String, Reason> {
    if !raw.starts_with('"') {
        return Err(Reason::WrongType(field));
    }
    serde_json::from_str(raw).map_err(|_| Reason::NotUnicode(field))
}
