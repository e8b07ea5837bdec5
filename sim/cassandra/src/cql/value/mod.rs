//! Values: from constants of a statement to bytes, and whether bytes are a value of a type.

mod duration;
mod time;

pub use duration::text_of_duration;
pub use time::{
    date_of_millis, millis_of_date, text_of_date, text_of_millis, text_of_time, time_uuid, time_uuid_millis,
};

use bytes::{BufMut, Bytes, BytesMut};
use num_bigint::BigInt;

use super::ast::LiteralKind;
use super::type_name;
use crate::coordinator::RequestError;
use crate::protocol::ServerError;
use crate::types::DataType;

/// Why a text or bytes are no value of a type, with Cassandra's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// They are none (`MarshalException`, `InvalidRequestException`).
    #[error("{0}")]
    Invalid(String),
    /// They are none that Cassandra expects: an exception of `java.lang` reaches the client.
    #[error("{0}")]
    Internal(String),
}

impl From<String> for ValueError {
    fn from(message: String) -> Self {
        ValueError::Invalid(message)
    }
}

impl From<ValueError> for ServerError {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Invalid(message) => ServerError::invalid(message),
            ValueError::Internal(message) => RequestError::internal_error(&message).into(),
        }
    }
}

/// Whether a constant of this kind can be a value of this type (Cassandra's `Constants.Literal.testAssignment`).
pub fn fits(kind: LiteralKind, data_type: &DataType) -> bool {
    use DataType as T;
    match kind {
        LiteralKind::String => {
            matches!(data_type, T::Ascii | T::Text | T::Inet | T::Date | T::Time | T::Timestamp)
        }
        LiteralKind::Integer => matches!(
            data_type,
            T::BigInt
                | T::Counter
                | T::Date
                | T::Decimal
                | T::Double
                | T::Duration
                | T::Float
                | T::Int
                | T::SmallInt
                | T::Time
                | T::Timestamp
                | T::TinyInt
                | T::VarInt
        ),
        LiteralKind::Uuid => matches!(data_type, T::Uuid | T::TimeUuid),
        LiteralKind::Float => matches!(data_type, T::Decimal | T::Double | T::Float),
        LiteralKind::Boolean => matches!(data_type, T::Boolean),
        // Bytes are bytes and a byte (`Constants.Type.HEX`).
        LiteralKind::Hex => matches!(data_type, T::Blob | T::TinyInt),
        LiteralKind::Duration => matches!(data_type, T::Duration),
    }
}

/// The bytes of a constant of a kind that [`fits`] the type.
///
/// # Errors
/// Cassandra's message, if the text is not such a value.
pub fn parse(data_type: &DataType, text: &str) -> Result<Bytes, ValueError> {
    fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, String> {
        text.parse().map_err(|_| format!("Unable to make {name} from '{text}'"))
    }
    let bytes = match data_type {
        DataType::Ascii => {
            if !text.is_ascii() {
                return Err(ValueError::Invalid(
                    "Invalid ASCII character in string literal: \
                            java.nio.charset.UnmappableCharacterException: Input length = 1"
                        .to_owned(),
                ));
            }
            text.as_bytes().to_vec()
        }
        DataType::Text => text.as_bytes().to_vec(),
        DataType::BigInt | DataType::Counter => number::<i64>("long", text)?.to_be_bytes().to_vec(),
        DataType::Int => number::<i32>("int", text)?.to_be_bytes().to_vec(),
        DataType::SmallInt => number::<i16>("short", text)?.to_be_bytes().to_vec(),
        DataType::TinyInt => number::<i8>("byte", text)?.to_be_bytes().to_vec(),
        DataType::VarInt => number::<BigInt>("int", text)?.to_signed_bytes_be(),
        DataType::Double => match float(text) {
            Some(value) => value.to_be_bytes().to_vec(),
            None => return Err(format!("Unable to make double from '{text}'").into()),
        },
        DataType::Float => match text.parse::<f32>() {
            Ok(value) => value.to_be_bytes().to_vec(),
            Err(_) => return Err(format!("Unable to make float from '{text}'").into()),
        },
        DataType::Decimal => {
            decimal(text).ok_or_else(|| format!("unable to make BigDecimal from '{text}'"))?
        }
        DataType::Boolean => vec![u8::from(text.eq_ignore_ascii_case("true"))],
        DataType::Blob => blob(text)?,
        DataType::Uuid | DataType::TimeUuid => {
            let uuid = uuid(text).ok_or_else(|| format!("Unable to make UUID from '{text}'"))?;
            if *data_type == DataType::TimeUuid && (uuid >> 76) & 0xf != 1 {
                return Err(ValueError::Invalid("TimeUUID supports only version 1 UUIDs".to_owned()));
            }
            uuid.to_be_bytes().to_vec()
        }
        // Of these types the empty text is the empty value.
        DataType::Inet | DataType::Timestamp if text.is_empty() => Vec::new(),
        DataType::Inet => inet(text).ok_or_else(|| format!("Unable to make inet address from '{text}'"))?,
        DataType::Timestamp => time::timestamp(text)?.to_be_bytes().to_vec(),
        DataType::Date => time::date(text)?.to_be_bytes().to_vec(),
        DataType::Time => time::time(text)?.to_be_bytes().to_vec(),
        DataType::Duration => duration::duration(text)?,
        DataType::List(_) | DataType::Set(_) | DataType::Map(..) | DataType::Tuple(_) => {
            return Err(format!("Unable to make {} from '{text}'", type_name(data_type)).into());
        }
    };
    Ok(Bytes::from(bytes))
}

/// An address as Java's `InetAddress.getByName` reads it. Of names only `localhost` is known: there is no resolver here.
fn inet(text: &str) -> Option<Vec<u8>> {
    if text == "localhost" {
        return Some(vec![127, 0, 0, 1]);
    }
    if !text.contains(':') {
        return four_bytes(text);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // A scope by number; those with names are of this machine.
    let bare = match bare.split_once('%') {
        Some((address, scope)) => {
            scope.parse::<u32>().ok()?;
            address
        }
        None => bare,
    };
    let address: std::net::Ipv6Addr = bare.parse().ok()?;
    match address.to_ipv4_mapped() {
        Some(mapped) => Some(mapped.octets().to_vec()),
        None => Some(address.octets().to_vec()),
    }
}

/// `1.2.3.4`, or fewer parts, the last of which fills what is left.
fn four_bytes(text: &str) -> Option<Vec<u8>> {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() > 4 || text.len() > 15 || !parts.iter().all(is_number) {
        return None;
    }
    let (last, first) = parts.split_last()?;
    let mut bytes = first.iter().map(|part| part.parse::<u8>().ok()).collect::<Option<Vec<u8>>>()?;
    let last = last.parse::<u32>().ok()?.to_be_bytes();
    let (above, low) = last.split_at(bytes.len());
    bytes.extend(low);
    above.iter().all(|byte| *byte == 0).then_some(bytes)
}

/// A number as Java's `Double.valueOf` reads it, which knows Infinity and NaN by these names only.
fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn blob(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    hex::decode(digits).map_err(|_| format!("cannot parse '{digits}' as hex bytes"))
}

/// The number of a UUID in text.
pub fn uuid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    let digits: String = text.split('-').collect();
    if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None }
}

/// The greatest exponent of a decimal. Java allows more, with as many digits in memory.
const GREATEST_EXPONENT: i64 = 100_000;

/// A decimal: its scale, and the number without point.
fn decimal(text: &str) -> Option<Vec<u8>> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    if exponent.abs() > GREATEST_EXPONENT {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = i32::try_from(fraction.len() as i64 - exponent).ok()?;
    let unscaled: BigInt = format!("{whole}{fraction}").parse().ok()?;
    let mut bytes = scale.to_be_bytes().to_vec();
    bytes.extend(unscaled.to_signed_bytes_be());
    Some(bytes)
}

/// The bytes of a collection with these elements (of a map: its keys and values in turn).
pub fn collection(count: usize, elements: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
    for element in elements {
        bytes.put_i32(i32::try_from(element.len()).unwrap_or(i32::MAX));
        bytes.put_slice(element);
    }
    bytes.freeze()
}

/// The elements of a collection (of a map: its keys and values in turn), if the bytes are one.
pub fn elements(data_type: &DataType, bytes: &Bytes) -> Option<Vec<Bytes>> {
    let per_entry = if matches!(data_type, DataType::Map(..)) { 2 } else { 1 };
    let head = bytes.first_chunk::<4>().copied()?;
    let count = usize::try_from(i32::from_be_bytes(head)).ok()?.checked_mul(per_entry)?;
    let mut all = Vec::new();
    let mut rest = bytes.slice(4..);
    for _ in 0..count {
        let head = rest.first_chunk::<4>().copied()?;
        let length = usize::try_from(i32::from_be_bytes(head)).ok()?;
        if rest.len() - 4 < length {
            return None;
        }
        all.push(rest.slice(4..4 + length));
        rest = rest.slice(4 + length..);
    }
    rest.is_empty().then_some(all)
}

/// The components of a tuple, if the bytes are one; `None` for null ones, and for those that are left out at its end.
pub fn components(types: &[DataType], bytes: &Bytes) -> Option<Vec<Option<Bytes>>> {
    let mut all = Vec::new();
    let mut rest = bytes.clone();
    while all.len() < types.len() && !rest.is_empty() {
        let head = rest.first_chunk::<4>().copied()?;
        rest = rest.slice(4..);
        match usize::try_from(i32::from_be_bytes(head)) {
            Ok(length) if length > rest.len() => return None,
            Ok(length) => all.push(Some(rest.split_to(length))),
            Err(_) => all.push(None),
        }
    }
    all.resize(types.len(), None);
    rest.is_empty().then_some(all)
}

/// Checks that bytes are a value of a type.
///
/// # Errors
/// Cassandra's message (`TypeSerializer.validate`).
pub fn validate(data_type: &DataType, bytes: &Bytes) -> Result<(), ValueError> {
    let length = bytes.len();
    let invalid = |message: String| Err(ValueError::Invalid(message));
    let sized = |size: usize, name: &str| {
        if length == size || length == 0 {
            Ok(())
        } else {
            invalid(format!("Expected {size} or 0 byte {name} ({length})"))
        }
    };
    match data_type {
        DataType::Ascii => match bytes.iter().find(|byte| !byte.is_ascii()) {
            None => Ok(()),
            Some(byte) => invalid(format!("Invalid byte for ascii: {}", *byte as i8)),
        },
        DataType::Text => match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(_) => invalid("String didn't validate.".to_owned()),
        },
        DataType::BigInt | DataType::Counter => sized(8, "long"),
        DataType::Int => sized(4, "int"),
        DataType::Timestamp => sized(8, "long for date"),
        DataType::Float => sized(4, "value for a float"),
        DataType::Double => sized(8, "value for a double"),
        DataType::Boolean if length <= 1 => Ok(()),
        DataType::Boolean => invalid(format!("Expected 1 or 0 byte value ({length})")),
        DataType::SmallInt if length == 2 => Ok(()),
        DataType::SmallInt => invalid(format!("Expected 2 bytes for a smallint ({length})")),
        DataType::TinyInt if length == 1 => Ok(()),
        DataType::TinyInt => invalid(format!("Expected 1 byte for a tinyint ({length})")),
        DataType::Date if length == 4 => Ok(()),
        DataType::Date => invalid(format!("Expected 4 byte long for date ({length})")),
        DataType::Time if length == 8 => Ok(()),
        DataType::Time => invalid(format!("Expected 8 byte long for time ({length})")),
        DataType::Uuid | DataType::TimeUuid if length != 16 && length != 0 => {
            invalid(format!("UUID should be 16 or 0 bytes ({length})"))
        }
        DataType::Uuid => Ok(()),
        DataType::TimeUuid if length == 16 && bytes[6] >> 4 != 1 => {
            invalid("Invalid version for TimeUUID type.".to_owned())
        }
        DataType::TimeUuid => Ok(()),
        DataType::Inet if matches!(length, 0 | 4 | 16) => Ok(()),
        DataType::Inet => invalid("bytes for inet must be of length 4 or 16".to_owned()),
        DataType::Decimal if length == 0 || length >= 4 => Ok(()),
        DataType::Decimal => invalid(format!("Expected 0 or at least 4 bytes ({length})")),
        DataType::Duration => duration::validate(bytes),
        DataType::Blob | DataType::VarInt => Ok(()),
        DataType::List(element) => validate_elements(data_type, bytes, &[element]),
        DataType::Set(element) => validate_elements(data_type, bytes, &[element]),
        DataType::Map(key, value) => validate_elements(data_type, bytes, &[key, value]),
        DataType::Tuple(types) => {
            let all =
                components(types, bytes).ok_or_else(|| "Not enough bytes to read a tuple".to_owned())?;
            types.iter().zip(&all).try_for_each(|(data_type, component)| match component {
                Some(bytes) => validate(data_type, bytes),
                None => Ok(()),
            })
        }
    }
}

/// Takes the next element of a collection; `Some(None)` for a null one, `None` if there is no whole one.
fn take_element(rest: &mut Bytes) -> Option<Option<Bytes>> {
    let head = rest.first_chunk::<4>().copied()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(head)) else {
        *rest = rest.slice(4..);
        return Some(None);
    };
    if rest.len() - 4 < length {
        return None;
    }
    let element = rest.slice(4..4 + length);
    *rest = rest.slice(4 + length..);
    Some(Some(element))
}

/// The elements of a list as a client may send it: some may be null.
pub fn nullable_elements(bytes: &Bytes) -> Option<Vec<Option<Bytes>>> {
    let head = bytes.first_chunk::<4>().copied()?;
    let count = usize::try_from(i32::from_be_bytes(head)).ok()?;
    let mut rest = bytes.slice(4..);
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take_element(&mut rest)?);
    }
    rest.is_empty().then_some(all)
}

/// Whether the empty value of this type is the same as none (`TypeSerializer.deserialize`).
pub fn is_null_if_empty(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Ascii | DataType::Blob | DataType::Text)
}

/// The bytes of a list with these elements.
pub fn list(elements: &[Option<Bytes>]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i32(i32::try_from(elements.len()).unwrap_or(i32::MAX));
    for element in elements {
        match element {
            Some(element) => {
                bytes.put_i32(i32::try_from(element.len()).unwrap_or(i32::MAX));
                bytes.put_slice(element);
            }
            None => bytes.put_i32(-1),
        }
    }
    bytes.freeze()
}

/// Checks the elements of a collection, whose types come in turn, one after another as they are read: what is wrong first
/// is reported.
fn validate_elements(data_type: &DataType, bytes: &Bytes, types: &[&DataType]) -> Result<(), ValueError> {
    let broken = || ValueError::Invalid(broken_collection(data_type));
    let count = bytes.first_chunk::<4>().and_then(|head| usize::try_from(i32::from_be_bytes(*head)).ok());
    let count = count.and_then(|count| count.checked_mul(types.len())).ok_or_else(broken)?;
    let mut rest = bytes.slice(4..);
    for (_, element_type) in (0..count).zip(types.iter().cycle()) {
        match take_element(&mut rest).ok_or_else(broken)? {
            Some(element) => {
                validate(element_type, &element)?;
                let is_ordered = matches!(data_type, DataType::Set(_));
                if is_ordered && **element_type == DataType::Decimal && element.len() == 4 {
                    // A scale and no number is a value, and Cassandra fails as soon as it orders it.
                    return Err(ValueError::Internal(
                        "NumberFormatException: Zero length BigInteger".to_owned(),
                    ));
                }
            }
            None if matches!(data_type, DataType::List(_)) => {}
            None => return Err(ValueError::Invalid("Null value read when not allowed".to_owned())),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(broken()) }
}

/// An element of a collection as Cassandra writes it after it has read it: numbers without superfluous bytes, durations
/// without what follows them.
pub fn rewritten(data_type: &DataType, bytes: &Bytes) -> Bytes {
    match data_type {
        DataType::Boolean if bytes.len() == 1 => Bytes::copy_from_slice(&[u8::from(bytes[0] != 0)]),
        DataType::VarInt if !bytes.is_empty() => {
            Bytes::from(BigInt::from_signed_bytes_be(bytes).to_signed_bytes_be())
        }
        DataType::Decimal if bytes.len() > 4 => {
            let digits = BigInt::from_signed_bytes_be(&bytes[4..]).to_signed_bytes_be();
            Bytes::from([&bytes[..4], &digits].concat())
        }
        DataType::Duration => duration::rewritten(bytes).map_or_else(|| bytes.clone(), Bytes::from),
        _ => bytes.clone(),
    }
}

fn broken_collection(data_type: &DataType) -> String {
    let kind = match data_type {
        DataType::List(_) => "list",
        DataType::Set(_) => "set",
        _ => "map",
    };
    format!("Not enough bytes to read a {kind}")
}

/// A whole number of any of the types that have 1, 2, 4 or 8 bytes.
pub fn whole(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        1 => i64::from(i8::from_be_bytes(bytes.try_into().ok()?)),
        2 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
        4 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
        8 => i64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(parse(&DataType::Decimal, "1.50e3").unwrap(), &b"\xff\xff\xff\xff\x00\x96"[..]);
        assert_eq!(parse(&DataType::Decimal, "-1.5").unwrap(), &b"\x00\x00\x00\x01\xf1"[..]);
        assert_eq!(parse(&DataType::VarInt, "-129").unwrap(), &b"\xff\x7f"[..]);
    }

    /// The messages are those of Cassandra 5.0.5.
    #[test]
    fn a_text_that_is_no_value_is_refused_in_the_words_of_cassandra() {
        for (data_type, text, message) in [
            (DataType::Int, "2147483648", "Unable to make int from '2147483648'"),
            (DataType::TinyInt, "300", "Unable to make byte from '300'"),
            (DataType::Blob, "0xabc", "cannot parse 'abc' as hex bytes"),
            (DataType::Blob, "0x+1", "cannot parse '+1' as hex bytes"),
            (DataType::Date, "2020-13-01", "Unable to coerce '2020-13-01' to a formatted date (long)"),
            (DataType::Timestamp, "nope", "Unable to parse a date/time from 'nope'"),
            (
                DataType::TimeUuid,
                "123e4567-e89b-42d3-a456-426655440000",
                "TimeUUID supports only version 1 UUIDs",
            ),
            (DataType::Time, "25:00:00", "(TimeType) Unable to coerce '25:00:00' to a formatted time (long)"),
        ] {
            assert_eq!(parse(&data_type, text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn bytes_of_the_wrong_length_are_no_value() {
        let bytes = |length: usize| Bytes::from(vec![0; length]);
        assert_eq!(
            validate(&DataType::Int, &bytes(2)).unwrap_err().to_string(),
            "Expected 4 or 0 byte int (2)"
        );
        assert_eq!(
            validate(&DataType::BigInt, &bytes(4)).unwrap_err().to_string(),
            "Expected 8 or 0 byte long (4)"
        );
        assert!(validate(&DataType::Int, &bytes(0)).is_ok());
        let list = DataType::List(Box::new(DataType::Int));
        assert!(validate(&list, &bytes(4)).is_ok());
        assert!(validate(&list, &Bytes::from_static(b"\x7f\xff\xff\xff")).is_err());
        assert!(validate(&list, &Bytes::new()).is_err());
        let wrong_element = collection(1, &[bytes(3)]);
        assert!(validate(&list, &wrong_element).is_err());
    }

    #[test]
    fn a_collection_is_taken_apart_as_it_was_put_together() {
        let map = DataType::Map(Box::new(DataType::Text), Box::new(DataType::Int));
        let parts = [Bytes::from("a"), Bytes::from_static(&[0, 0, 0, 1])];
        assert_eq!(elements(&map, &collection(1, &parts)).unwrap(), parts);
    }
}
