//! Dates, times and durations.

use std::time::Duration;

const MILLIS_OF_DAY: i64 = 86_400_000;

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, if there is such a date.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if day < 1 || day > length {
        return None;
    }
    // Years that begin in March end with the leap day.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// A number of a given count of digits.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let fits = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// `2020-01-02`, as days since 1970.
fn calendar_date(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.split('-');
    let year = number(parts.next()?, 1..=9)?;
    let month = number(parts.next()?, 1..=2)?;
    let day = number(parts.next()?, 1..=2)?;
    if parts.next().is_some() {
        return None;
    }
    days(if negative { -year } else { year }, month, day)
}

/// A date as CQL stores it: days, with 2^31 as 1970-01-01.
pub(super) fn date(text: &str) -> Option<u32> {
    if let Ok(days) = text.parse::<i64>() {
        // A number is taken as the stored form.
        return u32::try_from(days).ok();
    }
    u32::try_from(calendar_date(text)? + (1 << 31)).ok()
}

/// The date on which a moment in milliseconds since 1970 lies, as CQL stores it.
pub fn date_of_millis(millis: i64) -> Option<u32> {
    u32::try_from(millis.div_euclid(MILLIS_OF_DAY) + (1 << 31)).ok()
}

/// The first moment of a date, in milliseconds since 1970.
pub fn millis_of_date(date: u32) -> i64 {
    (i64::from(date) - (1 << 31)) * MILLIS_OF_DAY
}

/// `01:02:03.456`, in nanoseconds.
pub(super) fn time(text: &str) -> Option<i64> {
    const NANOS_OF_DAY: i64 = MILLIS_OF_DAY * 1_000_000;
    if let Ok(nanos) = text.parse::<i64>() {
        return (0..NANOS_OF_DAY).contains(&nanos).then_some(nanos);
    }
    let mut parts = text.split(':');
    let hours = number(parts.next()?, 1..=2)?;
    let minutes = number(parts.next()?, 1..=2)?;
    let seconds = parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = match seconds.split_once('.') {
        Some((seconds, fraction)) => (seconds, number(&format!("{fraction:0<9}"), 9..=9)?),
        None => (seconds, 0),
    };
    let seconds = number(seconds, 1..=2)?;
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction)
}

/// `2020-01-02`, `2020-01-02 03:04`, `2020-01-02T03:04:05.678+01:00` or milliseconds, in milliseconds since 1970.
/// A text without a zone is taken as UTC.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse::<i64>() {
        return Some(millis);
    }
    if text.eq_ignore_ascii_case("now") {
        // It would need a clock; statements have now().
        return None;
    }
    let date_end =
        text.find(['T', ' ', 'Z']).or_else(|| text[10.min(text.len())..].find('+').map(|at| at + 10));
    let (date, rest) = text.split_at_checked(date_end.unwrap_or(text.len()))?;
    let day = calendar_date(date)?.checked_mul(MILLIS_OF_DAY)?;
    let rest = rest.strip_prefix(['T', ' ']).unwrap_or(rest);
    let zone_start = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_start);
    let zone = zone.trim();
    day.checked_add(clock_millis(clock.trim())?)?.checked_sub(zone_millis(zone)?)
}

fn clock_millis(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (text, millis) = match text.split_once('.') {
        Some((text, fraction)) => (text, number(&format!("{fraction:0<9}"), 9..=9)? / 1_000_000),
        None => (text, 0),
    };
    let mut parts = text.split(':');
    let hours = number(parts.next()?, 1..=2)?;
    let minutes = number(parts.next()?, 1..=2)?;
    let seconds = parts.next().map_or(Some(0), |seconds| number(seconds, 1..=2))?;
    let fits = parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 60;
    fits.then_some(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}

fn zone_millis(text: &str) -> Option<i64> {
    if text.is_empty() || text == "Z" {
        return Some(0);
    }
    let negative = text.starts_with('-');
    let digits: String = text.get(1..)?.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits, 2..=2)?, 0),
        4 => (number(&digits[..2], 2..=2)?, number(&digits[2..], 2..=2)?),
        _ => return None,
    };
    let millis = (hours * 60 + minutes) * 60_000;
    Some(if negative { -millis } else { millis })
}

/// A duration: months, days and nanoseconds, each as a variable-length number.
pub(super) fn duration(text: &str) -> Option<Vec<u8>> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (months, days, nanos) = match body.strip_prefix('P') {
        Some(iso) => iso_duration(iso)?,
        None => unit_duration(body)?,
    };
    i32::try_from(months).ok()?;
    i32::try_from(days).ok()?;
    let sign = if negative { -1 } else { 1 };
    let mut bytes = Vec::new();
    for part in [months, days, nanos] {
        variable_length(part * sign, &mut bytes);
    }
    Some(bytes)
}

const SECOND: i64 = 1_000_000_000;

fn unit_duration(text: &str) -> Option<(i64, i64, i64)> {
    let (mut months, mut days, mut nanos) = (0i64, 0i64, 0i64);
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = after[..unit_length].to_lowercase();
        let (part, factor) = match unit.as_str() {
            "y" => (&mut months, 12),
            "mo" => (&mut months, 1),
            "w" => (&mut days, 7),
            "d" => (&mut days, 1),
            "h" => (&mut nanos, 3600 * SECOND),
            "m" => (&mut nanos, 60 * SECOND),
            "s" => (&mut nanos, SECOND),
            "ms" => (&mut nanos, 1_000_000),
            "us" | "µs" => (&mut nanos, 1000),
            "ns" => (&mut nanos, 1),
            _ => return None,
        };
        *part = part.checked_add(count.checked_mul(factor)?)?;
        rest = &after[unit_length..];
    }
    Some((months, days, nanos))
}

fn iso_duration(text: &str) -> Option<(i64, i64, i64)> {
    let (date, clock) = text.split_once('T').unwrap_or((text, ""));
    if date.contains('-') {
        let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
        let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
        let months = date.next()??.checked_mul(12)?.checked_add(date.next()??)?;
        let days = date.next()??;
        let seconds = (clock.next()?? * 60 + clock.next()??) * 60 + clock.next()??;
        return Some((months, days, seconds * SECOND));
    }
    let part = |text: &str, units: &[(char, i64)]| -> Option<Vec<i64>> {
        let mut values = vec![0i64; units.len()];
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let count: i64 = rest[..digits].parse().ok()?;
            let unit = rest[digits..].chars().next()?;
            let at = units.iter().position(|(known, _)| *known == unit)?;
            values[at] = count.checked_mul(units[at].1)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        Some(values)
    };
    let dates = part(date, &[('Y', 12), ('M', 1), ('D', 1), ('W', 7)])?;
    let clocks = part(clock, &[('H', 3600), ('M', 60), ('S', 1)])?;
    let seconds = clocks.iter().try_fold(0i64, |sum, value| sum.checked_add(*value))?;
    Some((dates[0].checked_add(dates[1])?, dates[2].checked_add(dates[3])?, seconds.checked_mul(SECOND)?))
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

/// 100-nanosecond steps from 1582-10-15 to 1970.
const UUID_EPOCH: u64 = 0x01b2_1dd2_1381_4000;

/// A time-based UUID of a moment in microseconds since 1970; `unique` fills what the time leaves.
pub fn time_uuid(micros: i64, unique: u64) -> u128 {
    let steps = UUID_EPOCH.wrapping_add_signed(micros.wrapping_mul(10));
    let low = steps & 0xffff_ffff;
    let middle = (steps >> 32) & 0xffff;
    let high = (steps >> 48) & 0x0fff;
    let time = (low << 32) | (middle << 16) | 0x1000 | high;
    // Clock sequence and node: the variant, and the bit that says that no network card has this address.
    let rest = (unique & 0x3fff_ffff_ffff_ffff) | 0x8000_0100_0000_0000;
    (u128::from(time) << 64) | u128::from(rest)
}

/// The moment of a time-based UUID, in milliseconds since 1970.
pub fn time_uuid_millis(uuid: u128) -> i64 {
    let time = (uuid >> 64) as u64;
    let steps = ((time & 0x0fff) << 48) | (((time >> 16) & 0xffff) << 32) | (time >> 32);
    (steps as i64 - UUID_EPOCH as i64)
        / i64::try_from(Duration::from_millis(1).as_nanos() / 100).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_and_without_clock_and_zone() {
        for (text, millis) in [
            ("1970-01-01", 0),
            ("1969-12-31 23:59:59.999", -1),
            ("2020-01-02 03:04:05.678+0100", 1_577_930_645_678),
            ("2020-01-02T02:04:05.678Z", 1_577_930_645_678),
            ("2020-01-02 02:04", 1_577_930_640_000),
            ("2000-02-29", 951_782_400_000),
            ("12345", 12345),
            ("2020-01-02+0000", 1_577_923_200_000),
        ] {
            assert_eq!(timestamp(text), Some(millis), "{text}");
        }
        for text in ["2001-02-29", "2020-1", "2020-01-02 24:00", "x", "", "2020-01-02 01:02:03+1"] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times_of_day_are_read() {
        assert_eq!(date("1970-01-01"), Some(1 << 31));
        assert_eq!(date("1969-12-31"), Some((1 << 31) - 1));
        assert_eq!(time("01:02:03.5"), Some(3_723_500_000_000));
        assert_eq!(time("24:00:00"), None);
    }

    #[test]
    fn durations_are_three_numbers_of_variable_length() {
        assert_eq!(duration("1mo2d3ns").unwrap(), [2, 4, 6]);
        assert_eq!(duration("-1mo2d3ns").unwrap(), [1, 3, 5]);
        assert_eq!(duration("P1M2DT0S").unwrap(), [2, 4, 0]);
        assert_eq!(duration("1h").unwrap()[2..], [0xfc, 0x06, 0x8c, 0x61, 0x71, 0x40, 0x00]);
        assert_eq!(duration("P3W").unwrap(), [0, 42, 0]);
    }

    #[test]
    fn a_time_uuid_tells_its_moment() {
        let uuid = time_uuid(1_577_930_645_678_000, 7);
        assert_eq!((uuid >> 76) & 0xf, 1);
        assert_eq!(time_uuid_millis(uuid), 1_577_930_645_678);
        assert_ne!(uuid, time_uuid(1_577_930_645_678_000, 8));
    }
}
