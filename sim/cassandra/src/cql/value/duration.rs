//! Durations, as `org.apache.cassandra.cql3.Duration` and `DurationSerializer` of Cassandra 5.0 read and write them.

use super::ValueError;

const SECOND: i64 = 1_000_000_000;

/// The units in the order in which they must stand: their name in messages, the part of the duration that they count in,
/// and how much of it each is.
const UNITS: [(&str, Part, i64); 10] = [
    ("years", Part::Months, 12),
    ("months", Part::Months, 1),
    ("weeks", Part::Days, 7),
    ("days", Part::Days, 1),
    ("hours", Part::Nanos, 3600 * SECOND),
    ("minutes", Part::Nanos, 60 * SECOND),
    ("seconds", Part::Nanos, SECOND),
    ("milliseconds", Part::Nanos, 1_000_000),
    ("microseconds", Part::Nanos, 1000),
    ("nanoseconds", Part::Nanos, 1),
];

/// The signs of units, and their places in [`UNITS`]. None begins with one before it.
const SIGNS: [(&str, usize); 11] = [
    ("y", 0),
    ("mo", 1),
    ("w", 2),
    ("d", 3),
    ("h", 4),
    ("s", 6),
    ("ms", 7),
    ("us", 8),
    ("µs", 8),
    ("ns", 9),
    ("m", 5),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Months,
    Days,
    Nanos,
}

/// A duration that is put together unit by unit.
#[derive(Default)]
struct Builder {
    months: i64,
    days: i64,
    nanos: i64,
    /// The place of the last unit, plus one.
    last: usize,
}

impl Builder {
    /// Adds some units, given in digits.
    fn add(&mut self, unit: usize, digits: &str) -> Result<(), ValueError> {
        let number: i64 = digits.parse().map_err(|_| {
            ValueError::Internal(format!("NumberFormatException: For input string: \"{digits}\""))
        })?;
        let (name, part, each) = UNITS[unit];
        if unit + 1 == self.last {
            return Err(ValueError::Invalid(format!(
                "Invalid duration. The {name} are specified multiple times"
            )));
        }
        if unit < self.last {
            return Err(ValueError::Invalid(format!(
                "Invalid duration. The {} should be after {name}",
                UNITS[self.last - 1].0
            )));
        }
        self.last = unit + 1;
        let (total, most, of) = match part {
            Part::Months => (&mut self.months, i64::from(i32::MAX), "months"),
            Part::Days => (&mut self.days, i64::from(i32::MAX), "days"),
            Part::Nanos => (&mut self.nanos, i64::MAX, "nanoseconds"),
        };
        if number > (most - *total) / each {
            return Err(ValueError::Invalid(format!(
                "Invalid duration. The total number of {of} must be less or equal to {}",
                i32::MAX
            )));
        }
        *total += number * each;
        Ok(())
    }
}

/// The bytes of a duration: months, days and nanoseconds, each as a variable-length number.
pub(super) fn duration(text: &str) -> Result<Vec<u8>, ValueError> {
    let (sign, source) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let unable = || ValueError::Invalid(format!("Unable to convert '{source}' to a duration"));
    let mut built = Builder::default();
    match source.strip_prefix('P') {
        Some(iso) if source.ends_with('W') => {
            let weeks = iso.strip_suffix('W').filter(|digits| is_digits(digits)).ok_or_else(unable)?;
            built.add(2, weeks)?;
        }
        Some(iso) if source.contains('-') => {
            let parts = alternative(iso).ok_or_else(unable)?;
            for (unit, digits) in [0, 1, 3, 4, 5, 6].into_iter().zip(parts) {
                built.add(unit, digits)?;
            }
        }
        Some(iso) => {
            for (unit, digits) in designated(iso).ok_or_else(unable)? {
                built.add(unit, digits)?;
            }
        }
        None => with_units(source, &mut built, &unable)?,
    }
    let mut bytes = Vec::new();
    for part in [built.months, built.days, built.nanos] {
        variable_length(sign * part, &mut bytes);
    }
    Ok(bytes)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `1y2mo3w4d5h6m7s8ms9us10ns`
fn with_units(source: &str, built: &mut Builder, unable: &impl Fn() -> ValueError) -> Result<(), ValueError> {
    let mut rest = source;
    loop {
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest.split_at(count);
        let is_sign = |sign: &str| {
            after.get(..sign.len()).is_some_and(|found| found == sign || found.eq_ignore_ascii_case(sign))
        };
        let found = SIGNS.into_iter().find(|(sign, _)| is_sign(sign)).filter(|_| count > 0);
        let Some((sign, unit)) = found else { return Err(unable()) };
        built.add(unit, digits)?;
        rest = &after[sign.len()..];
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// `1Y2M3DT4H5M6S`, all of it optional: units and their digits.
fn designated(iso: &str) -> Option<Vec<(usize, &str)>> {
    let mut rest = iso;
    let mut found = Vec::new();
    for (designator, unit) in [('Y', 0), ('M', 1), ('D', 3)] {
        if let Some((digits, after)) = designated_part(rest, designator) {
            found.push((unit, digits));
            rest = after;
        }
    }
    if let Some(mut clock) = rest.strip_prefix('T') {
        for (designator, unit) in [('H', 4), ('M', 5), ('S', 6)] {
            if let Some((digits, after)) = designated_part(clock, designator) {
                found.push((unit, digits));
                clock = after;
            }
        }
        rest = clock;
    }
    rest.is_empty().then_some(found)
}

/// Digits before a designator, and what follows it.
fn designated_part(text: &str, designator: char) -> Option<(&str, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = text.split_at(count);
    let after = after.strip_prefix(designator)?;
    (count > 0).then_some((digits, after))
}

/// `0001-02-03T04:05:06`: its six numbers.
fn alternative(iso: &str) -> Option<[&str; 6]> {
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = iso.len() == shape.len()
        && iso.bytes().zip(shape).all(|(found, expected)| match expected {
            b'd' => found.is_ascii_digit(),
            other => found == *other,
        });
    fits.then(|| [&iso[..4], &iso[5..7], &iso[8..10], &iso[11..13], &iso[14..16], &iso[17..19]])
}

/// Checks that bytes are a duration (`DurationSerializer.validate`).
pub(super) fn validate(bytes: &[u8]) -> Result<(), ValueError> {
    if bytes.len() < 3 {
        return Err(ValueError::Invalid(format!(
            "Expected at least 3 bytes for a duration ({})",
            bytes.len()
        )));
    }
    let Some((months, days, nanos)) = parts(bytes) else {
        return Err(ValueError::Internal("AssertionError: Unexpected error".to_owned()));
    };
    for (name, part) in [("months", months), ("days", days)] {
        if i32::try_from(part).is_err() {
            return Err(ValueError::Invalid(format!(
                "The duration {name} must be a 32 bits integer but was: {part}"
            )));
        }
    }
    let all = [months, days, nanos];
    if all.iter().any(|part| *part > 0) && all.iter().any(|part| *part < 0) {
        return Err(ValueError::Invalid(format!(
            "The duration months, days and nanoseconds must be all of the same sign ({months}, {days}, {nanos})"
        )));
    }
    Ok(())
}

/// Months, days and nanoseconds; what follows them is ignored.
fn parts(mut bytes: &[u8]) -> Option<(i64, i64, i64)> {
    let bytes = &mut bytes;
    Some((read_variable_length(bytes)?, read_variable_length(bytes)?, read_variable_length(bytes)?))
}

/// The same duration, without what follows it.
pub(super) fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let (months, days, nanos) = parts(bytes)?;
    let mut written = Vec::new();
    [months, days, nanos].into_iter().for_each(|part| variable_length(part, &mut written));
    Some(written)
}

/// The text of a duration (`Duration.toString`).
pub fn text_of_duration(bytes: &[u8]) -> Option<String> {
    let (months, days, nanos) = parts(bytes)?;
    let mut text = String::new();
    if months < 0 || days < 0 || nanos < 0 {
        text.push('-');
    }
    let mut append = |rest: u64, each: u64, unit: &str| {
        if rest >= each {
            text.push_str(&format!("{}{unit}", rest / each));
        }
        rest % each
    };
    let months = append(months.unsigned_abs(), 12, "y");
    append(months, 1, "mo");
    append(days.unsigned_abs(), 1, "d");
    let mut nanos = nanos.unsigned_abs();
    for (each, unit) in [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1000, "us"),
        (1, "ns"),
    ] {
        nanos = append(nanos, each, unit);
    }
    Some(text)
}

/// Cassandra's `VIntCoding`: zigzag, and as many leading ones as there are bytes after the first.
fn variable_length(value: i64, out: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - zigzag.leading_zeros();
    let extra = (bits.saturating_sub(1) / 7).min(8) as usize;
    let bytes = zigzag.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
        out.extend(bytes);
        return;
    }
    let ones = !(0xffu32 >> extra) as u8;
    let start = 8 - extra - 1;
    out.push(bytes[start] | ones);
    out.extend(&bytes[start + 1..]);
}

/// Takes a number as [`variable_length`] writes it from the front.
fn read_variable_length(bytes: &mut &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    let extra = first.leading_ones() as usize;
    let more = rest.get(..extra)?;
    *bytes = &rest[extra..];
    let own = if extra < 8 { u64::from(first & (0xff >> extra)) } else { 0 };
    let zigzag = more.iter().fold(own, |value, byte| (value << 8) | u64::from(*byte));
    Some(((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_three_numbers_of_variable_length() {
        assert_eq!(duration("1mo2d3ns").unwrap(), [2, 4, 6]);
        assert_eq!(duration("-1mo2d3ns").unwrap(), [1, 3, 5]);
        assert_eq!(duration("P1M2DT0S").unwrap(), [2, 4, 0]);
        assert_eq!(duration("1h").unwrap()[2..], [0xfc, 0x06, 0x8c, 0x61, 0x71, 0x40, 0x00]);
        assert_eq!(duration("P3W").unwrap(), [0, 42, 0]);
        assert_eq!(duration("P0001-02-03T00:00:00").unwrap(), [28, 6, 0]);
        assert_eq!(duration("P").unwrap(), [0, 0, 0]);
    }

    #[test]
    fn units_stand_once_and_from_the_largest_to_the_smallest() {
        for (text, message) in [
            ("1h2h", "Invalid duration. The hours are specified multiple times"),
            ("1m1h", "Invalid duration. The minutes should be after hours"),
            ("10ns9us", "Invalid duration. The nanoseconds should be after microseconds"),
            ("2147483648d", "Invalid duration. The total number of days must be less or equal to 2147483647"),
            ("1x", "Unable to convert '1x' to a duration"),
            ("P1Y1Y", "Unable to convert 'P1Y1Y' to a duration"),
            ("P1M1Y", "Unable to convert 'P1M1Y' to a duration"),
        ] {
            assert_eq!(duration(text), Err(ValueError::Invalid(message.to_owned())), "{text}");
        }
        let error = duration("9223372036854775808ns");
        assert!(matches!(error, Err(ValueError::Internal(_))), "{error:?}");
    }

    #[test]
    fn parts_of_different_signs_and_cut_off_numbers_are_no_duration() {
        assert_eq!(validate(&[2, 4, 6, 99]), Ok(()), "what follows is not looked at");
        let error = validate(&[2, 3, 6]).unwrap_err().to_string();
        assert_eq!(
            error,
            "The duration months, days and nanoseconds must be all of the same sign (1, -2, 3)"
        );
        assert!(matches!(validate(&[0xff, 0xff, 0xff]), Err(ValueError::Internal(_))));
        let error = validate(&[0xf1, 0, 0, 0, 0, 0, 0]).unwrap_err().to_string();
        assert_eq!(error, "The duration months must be a 32 bits integer but was: 2147483648");
        assert_eq!(
            text_of_duration(&duration("1y2mo3d4h5m6s7ms8us9ns").unwrap()).unwrap(),
            "1y2mo3d4h5m6s7ms8us9ns"
        );
        assert_eq!(text_of_duration(&duration("-1s").unwrap()).unwrap(), "-1s");
    }
}
