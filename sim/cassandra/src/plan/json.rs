//! Values as JSON: what `to_json` returns (`AbstractType.toJSONString`).

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use bytes::Bytes;
use num_bigint::BigInt;

use crate::cql::value::{
    nullable_elements, text_of_date, text_of_duration, text_of_millis, text_of_time, whole,
};
use crate::schema::TableId;
use crate::types::DataType;

/// A value as JSON. An invalid value of the type is `null`.
pub(super) fn json(data_type: &DataType, bytes: &Bytes) -> String {
    written(data_type, bytes).unwrap_or_else(|| "null".to_owned())
}

fn written(data_type: &DataType, bytes: &Bytes) -> Option<String> {
    let quoted = |text: String| Some(format!("\"{text}\""));
    if bytes.is_empty() && !matches!(data_type, DataType::Ascii | DataType::Blob | DataType::Text) {
        return quoted(String::new());
    }
    Some(match data_type {
        DataType::Ascii | DataType::Text => quote(std::str::from_utf8(bytes).ok()?),
        DataType::Blob => return quoted(format!("0x{}", hex::encode(bytes))),
        DataType::Boolean => (bytes[0] != 0).to_string(),
        DataType::BigInt | DataType::Counter | DataType::Int | DataType::SmallInt | DataType::TinyInt => {
            whole(bytes)?.to_string()
        }
        DataType::VarInt => BigInt::from_signed_bytes_be(bytes).to_string(),
        DataType::Decimal => {
            let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
            decimal(&BigInt::from_signed_bytes_be(unscaled), i64::from(i32::from_be_bytes(*scale)))
        }
        DataType::Float => {
            let number = f32::from_be_bytes(bytes.as_ref().try_into().ok()?);
            java_float(f64::from(number), &format!("{number:e}"))
        }
        DataType::Double => {
            let number = f64::from_be_bytes(bytes.as_ref().try_into().ok()?);
            java_float(number, &format!("{number:e}"))
        }
        DataType::Date => return quoted(text_of_date(u32::from_be_bytes(bytes.as_ref().try_into().ok()?))),
        DataType::Time => return quoted(text_of_time(whole(bytes)?)),
        DataType::Timestamp => return quoted(text_of_millis(whole(bytes)?, ' ')),
        DataType::Duration => return quoted(text_of_duration(bytes)?),
        DataType::Uuid | DataType::TimeUuid => {
            return quoted(TableId(u128::from_be_bytes(bytes.as_ref().try_into().ok()?)).to_string());
        }
        DataType::Inet => return quoted(address(bytes)?),
        DataType::List(inner) | DataType::Set(inner) => {
            let all: Vec<String> = nullable_elements(bytes)?
                .into_iter()
                .map(|element| element.map_or_else(|| "null".to_owned(), |it| json(inner, &it)))
                .collect();
            format!("[{}]", all.join(", "))
        }
        DataType::Map(key, value) => {
            let all = crate::cql::value::elements(data_type, bytes)?;
            let entries = all.chunks_exact(2).map(|entry| {
                // Keys are strings.
                let name = json(key, &entry[0]);
                let name = if name.starts_with('"') { name } else { quote(&name) };
                format!("{name}: {}", json(value, &entry[1]))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        DataType::Tuple(_) => return None,
    })
}

/// A text with quotes around it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An address as `InetAddress.getHostAddress` prints it: all eight parts of version 6.
fn address(bytes: &[u8]) -> Option<String> {
    if let Ok([a, b, c, d]) = <[u8; 4]>::try_from(bytes) {
        return Some(format!("{a}.{b}.{c}.{d}"));
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(address.segments().map(|part| format!("{part:x}")).join(":"))
}

/// A decimal as `BigDecimal.toString` prints it.
fn decimal(unscaled: &BigInt, scale: i64) -> String {
    let digits = unscaled.magnitude().to_string();
    let sign = if unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let length = digits.len() as i64;
    let exponent = length - 1 - scale;
    if scale > 0 && exponent >= -6 {
        let point = length - scale;
        return if point > 0 {
            let (whole, fraction) = digits.split_at(point as usize);
            format!("{sign}{whole}.{fraction}")
        } else {
            format!("{sign}0.{}{digits}", "0".repeat((-point) as usize))
        };
    }
    let (first, others) = digits.split_at(1);
    let point = if others.is_empty() { "" } else { "." };
    let exponent = match exponent {
        0 => String::new(),
        exponent => format!("E{exponent:+}"),
    };
    format!("{sign}{first}{point}{others}{exponent}")
}

/// A number as `Double.toString` prints it, given the shortest digits that make it, as `1.5e3`; what JSON has no number
/// for is `null`.
fn java_float(number: f64, shortest: &str) -> String {
    if !number.is_finite() {
        return "null".to_owned();
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let or_zero = |digits: &str| if digits.is_empty() { "0".to_owned() } else { digits.to_owned() };
    match exponent {
        _ if number == 0.0 => format!("{sign}0.0"),
        0..=6 => {
            let whole = exponent as usize + 1;
            let digits = format!("{digits:0<whole$}");
            let (whole, fraction) = digits.split_at(whole);
            format!("{sign}{whole}.{}", or_zero(fraction))
        }
        -3..=-1 => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => {
            let (first, others) = digits.split_at(1);
            format!("{sign}{first}.{}E{exponent}", or_zero(others))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of Java 17.
    #[test]
    fn numbers_are_printed_as_java_prints_them() {
        let double = |number: f64| java_float(number, &format!("{number:e}"));
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.5, "2.5"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (1e300, "1.0E300"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(double(number), expected);
        }
        for (digits, scale, expected) in [
            (-150, 2, "-1.50"),
            (0, 3, "0.000"),
            (1, -10, "1E+10"),
            (123, -2, "1.23E+4"),
            (5, 6, "0.000005"),
            (5, 7, "5E-7"),
        ] {
            assert_eq!(decimal(&BigInt::from(digits), scale), expected);
        }
    }

    #[test]
    fn texts_are_escaped_and_keys_are_strings() {
        assert_eq!(
            json(&DataType::Text, &Bytes::from("h\u{e9}\"\\llo\n\u{1}")),
            "\"h\u{e9}\\\"\\\\llo\\n\\u0001\""
        );
        let map = DataType::Map(Box::new(DataType::Int), Box::new(DataType::Text));
        let bytes = crate::cql::value::collection(1, &[Bytes::from_static(&[0, 0, 0, 7]), Bytes::from("x")]);
        assert_eq!(json(&map, &bytes), "{\"7\": \"x\"}");
    }
}
