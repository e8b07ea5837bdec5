//! Values as constants of CQL.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use num_bigint::BigInt;
use simulated_cassandra::cql::ast::LiteralKind;
use simulated_cassandra::cql::value::{
    components, elements, text_of_date, text_of_duration, text_of_millis, text_of_time, whole,
};
use simulated_cassandra::types::DataType;

use crate::cql::literal;

/// Nanoseconds of a day.
const DAY: i64 = 86_400_000_000_000;

/// The milliseconds of the years that have a text with four digits, from 1 to 9999.
const YEARS: std::ops::Range<i64> = -62_135_596_800_000..253_402_300_800_000;

/// Exponents of decimals that are parsed, at most.
const MOST_EXPONENT: i32 = 100_000;

/// A valid value as a constant; `None` if it has none.
pub fn of(data_type: &DataType, bytes: &Bytes) -> Option<String> {
    let quoted = |text: &str| Some(literal(LiteralKind::String, text));
    if bytes.is_empty() {
        return match data_type {
            DataType::Ascii | DataType::Text | DataType::Inet | DataType::Timestamp => quoted(""),
            DataType::Blob => Some("0x".to_owned()),
            _ => None,
        };
    }
    match data_type {
        DataType::Ascii | DataType::Text => quoted(std::str::from_utf8(bytes).ok()?),
        DataType::Blob => Some(format!("0x{}", hex::encode(bytes))),
        DataType::Boolean => Some((bytes[0] != 0).to_string()),
        DataType::BigInt | DataType::Counter | DataType::Int | DataType::SmallInt | DataType::TinyInt => {
            Some(whole(bytes)?.to_string())
        }
        DataType::VarInt => Some(BigInt::from_signed_bytes_be(bytes).to_string()),
        DataType::Double => Some(float(f64::from_be_bytes(bytes.as_ref().try_into().ok()?))),
        DataType::Float => {
            let number = f32::from_be_bytes(bytes.as_ref().try_into().ok()?);
            // As short as it is as a float.
            Some(if number.is_finite() { format!("{number:?}") } else { float(number.into()) })
        }
        DataType::Decimal => decimal(bytes),
        DataType::Date => quoted(&text_of_date(u32::from_be_bytes(bytes.as_ref().try_into().ok()?))),
        DataType::Time => quoted(&text_of_time(whole(bytes).filter(|nanos| (0..DAY).contains(nanos))?)),
        DataType::Timestamp => {
            let millis = whole(bytes)?;
            match YEARS.contains(&millis) {
                true => quoted(&text_of_millis(millis, ' ')),
                false => Some(millis.to_string()),
            }
        }
        DataType::Uuid | DataType::TimeUuid => {
            let digits = hex::encode(bytes);
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            Some(parts.join("-"))
        }
        DataType::Inet => match <[u8; 4]>::try_from(bytes.as_ref()) {
            Ok(four) => quoted(&Ipv4Addr::from(four).to_string()),
            Err(_) => {
                let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_ref()).ok()?);
                // The text of such a one is an address of version 4.
                address.to_ipv4_mapped().is_none().then(|| quoted(&address.to_string()))?
            }
        },
        // The smallest numbers have no text, and zero has an empty one.
        DataType::Duration => text_of_duration(bytes).filter(|text| !text.is_empty() && !has_smallest(text)),
        DataType::List(element) => {
            let all = elements(data_type, bytes)?;
            let all = all.iter().map(|bytes| of(element, bytes)).collect::<Option<Vec<_>>>()?;
            Some(format!("[{}]", all.join(", ")))
        }
        DataType::Set(element) => {
            let all = elements(data_type, bytes)?;
            let all = all.iter().map(|bytes| of(element, bytes)).collect::<Option<Vec<_>>>()?;
            Some(format!("{{{}}}", all.join(", ")))
        }
        DataType::Map(key, value) => {
            let all = elements(data_type, bytes)?;
            let entry = |entry: &[Bytes]| Some(format!("{}: {}", of(key, &entry[0])?, of(value, &entry[1])?));
            let all = all.chunks_exact(2).map(entry).collect::<Option<Vec<_>>>()?;
            Some(format!("{{{}}}", all.join(", ")))
        }
        DataType::Tuple(types) => {
            let all = components(types, bytes)?;
            let component = |(data_type, bytes): (&DataType, &Option<Bytes>)| match bytes {
                Some(bytes) => of(data_type, bytes),
                None => Some("null".to_owned()),
            };
            let all = types.iter().zip(&all).map(component).collect::<Option<Vec<_>>>()?;
            Some(format!("({})", all.join(", ")))
        }
    }
}

fn float(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        number => format!("{number:?}"),
    }
}

fn decimal(bytes: &[u8]) -> Option<String> {
    let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
    let scale = i32::from_be_bytes(*scale);
    if unscaled.is_empty() || !(-MOST_EXPONENT..=MOST_EXPONENT).contains(&scale) {
        return None;
    }
    let unscaled = BigInt::from_signed_bytes_be(unscaled);
    let text = if scale == 0 { unscaled.to_string() } else { format!("{unscaled}E{}", -scale) };
    // With an exponent it must be finite as a double, even as a decimal.
    let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    (scale == 0 || is_finite).then_some(text)
}

/// True if months, days or nanoseconds are the smallest number.
fn has_smallest(text: &str) -> bool {
    // 2^31 months or days, or 2^63 nanoseconds.
    text.starts_with("-178956970y8mo")
        || text.contains("2147483648d")
        || text.contains("2562047h47m16s854ms775us808ns")
}
