//! Dates, times of day and timestamps, as `SimpleDateSerializer`, `TimeSerializer` and `TimestampSerializer` of Cassandra
//! 5.0 read and write them.

use std::time::Duration;

use super::ValueError;

const MILLIS_OF_DAY: i64 = 86_400_000;

/// Years of `java.time` lie between this and its negative.
const LAST_YEAR: i64 = 999_999_999;

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the leap day.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Takes digits from the front: as many as there are, at least `least` and at most `most`.
fn digits(text: &mut &str, least: usize, most: usize) -> Option<i64> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (number, rest) = text.split_at(count);
    *text = rest;
    number.parse().ok()
}

/// Takes a sign from the front.
fn sign<'a>(text: &mut &'a str, sign: &str) -> Option<&'a str> {
    let (found, rest) = text.split_at_checked(sign.len())?;
    (found == sign).then(|| *text = rest).map(|()| found)
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `2020-01-02`, and what follows: four digits of a year or more, which must have a sign then, two of a month, two of a
/// day (`DateTimeFormatter.ISO_LOCAL_DATE`).
fn iso_date(mut text: &str, most_of_year: usize) -> Option<(i64, i64, i64, &str)> {
    let negative = sign(&mut text, "-").is_some();
    let positive = !negative && sign(&mut text, "+").is_some();
    let before = text.len();
    let year = digits(&mut text, 4, most_of_year)?;
    let length = before - text.len();
    if !negative && positive != (length > 4) || (negative && year == 0) || year > LAST_YEAR {
        return None;
    }
    sign(&mut text, "-")?;
    let month = digits(&mut text, 2, 2)?;
    sign(&mut text, "-")?;
    let day = digits(&mut text, 2, 2)?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    fits.then_some((if negative { -year } else { year }, month, day, text))
}

/// A date as CQL stores it: days, with 2^31 as 1970-01-01.
pub(super) fn date(text: &str) -> Result<u32, ValueError> {
    if is_number(text) {
        // A number is taken as the stored form.
        let days = text.parse::<i64>().ok().and_then(|days| u32::try_from(days).ok());
        return days.ok_or_else(|| {
            ValueError::Invalid(format!("Unable to make unsigned int (for date) from: '{text}'"))
        });
    }
    let Some((year, month, day, "")) =
        iso_date(text, 10).filter(|(year, month, day, _)| *day <= days_of_month(*year, *month))
    else {
        return Err(ValueError::Invalid(format!("Unable to coerce '{text}' to a formatted date (long)")));
    };
    let days = days(year, month, day);
    u32::try_from(days + (1 << 31)).map_err(|_| {
        let (which, limit) = if days < 0 {
            ("less than min", "-5877641-06-23T00:00Z[UTC]")
        } else {
            ("greater than max", "+5881580-07-11T00:00Z[UTC]")
        };
        ValueError::Invalid(format!("Input date {text} is {which} supported date {limit}"))
    })
}

/// The date on which a moment in milliseconds since 1970 lies, as CQL stores it.
pub fn date_of_millis(millis: i64) -> Option<u32> {
    u32::try_from(millis.div_euclid(MILLIS_OF_DAY) + (1 << 31)).ok()
}

/// The first moment of a date, in milliseconds since 1970.
pub fn millis_of_date(date: u32) -> i64 {
    (i64::from(date) - (1 << 31)) * MILLIS_OF_DAY
}

/// A date as `LocalDate` prints it.
fn shown_date(days: i64) -> String {
    let (year, month, day) = civil(days);
    match year {
        ..0 => format!("-{:04}-{month:02}-{day:02}", -year),
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("+{year}-{month:02}-{day:02}"),
    }
}

/// A date as CQL stores it, as text.
pub fn text_of_date(date: u32) -> String {
    shown_date(i64::from(date) - (1 << 31))
}

/// A moment in milliseconds since 1970, as JSON and casts show it: `2020-01-02 03:04:05.678Z`, with `separator` between
/// date and time.
pub fn text_of_millis(millis: i64, separator: char) -> String {
    let (days, of_day) = (millis.div_euclid(MILLIS_OF_DAY), millis.rem_euclid(MILLIS_OF_DAY));
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    let date = shown_date(days);
    format!("{date}{separator}{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// Nanoseconds since midnight, as text.
pub fn text_of_time(nanos: i64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:09}", seconds % 60, nanos % 1_000_000_000)
}

/// `01:02:03.456`, in nanoseconds. Each part is what Java's `Integer.parseInt` takes.
pub(super) fn time(text: &str) -> Result<i64, ValueError> {
    if is_number(text) {
        let nanos = text.parse::<i64>().ok().filter(|nanos| (0..MILLIS_OF_DAY * 1_000_000).contains(nanos));
        return nanos
            .ok_or_else(|| ValueError::Invalid(format!("Unable to make long (for time) from: '{text}'")));
    }
    clock(text.trim_matches(|c| c <= ' ')).ok_or_else(|| {
        ValueError::Invalid(format!("(TimeType) Unable to coerce '{text}' to a formatted time (long)"))
    })
}

fn clock(text: &str) -> Option<i64> {
    let (hours, rest) = text.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    let (seconds, nanos) = match seconds.split_once('.') {
        Some((seconds, fraction)) => {
            let fits =
                (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
            (seconds, format!("{fraction:0<9}").parse::<i64>().ok().filter(|_| fits)?)
        }
        None => (seconds, 0),
    };
    let part =
        |text: &str, limit: i32| text.parse::<i32>().ok().filter(|it| (0..limit).contains(it)).map(i64::from);
    let seconds = (part(hours, 24)? * 60 + part(minutes, 60)?) * 60 + part(seconds, 60)?;
    Some(seconds * 1_000_000_000 + nanos)
}

/// `2020-01-02`, `2020-1-2 3:04`, `2020-01-02T03:04:05.678+01:00` or milliseconds, in milliseconds since 1970. A text
/// without a zone is taken as UTC. Of zones with names only those of UTC are known.
pub(super) fn timestamp(text: &str) -> Result<i64, ValueError> {
    if is_number(text) {
        return text
            .parse()
            .map_err(|_| ValueError::Invalid(format!("Unable to make long (for date) from: '{text}'")));
    }
    let (days, nanos, zone, is_local) = match moment(text) {
        Some(found) => found,
        None => return Err(ValueError::Invalid(format!("Unable to parse a date/time from '{text}'"))),
    };
    let offset = match offset(zone, is_local) {
        Some(offset) => offset,
        // Cassandra knows the names of regions, and all their abbreviations.
        None if is_zone_name(zone) => {
            return Err(ValueError::Invalid(format!(
                "the time zone '{}' in the timestamp '{text}' is not simulated, nor is any but UTC and offsets",
                zone.trim_start()
            )));
        }
        None => return Err(ValueError::Invalid(format!("Unable to parse a date/time from '{text}'"))),
    };
    let millis = days.checked_mul(MILLIS_OF_DAY);
    let millis = millis.and_then(|millis| millis.checked_add(nanos / 1_000_000 - offset * 1000));
    millis.ok_or_else(|| ValueError::Internal("ArithmeticException: long overflow".to_owned()))
}

/// Days since 1970, nanoseconds of the day, the zone as it is written, and whether there is no time of day.
fn moment(text: &str) -> Option<(i64, i64, &str, bool)> {
    if let Some(found) = date_and_clock(text) {
        return Some(found);
    }
    let (year, month, day, zone) = iso_date(text, 19)?;
    if !zone.is_empty() && year < 1 {
        // Only `ISO_DATE` takes such years, and only with some offsets: none of that is worth more.
        return None;
    }
    // A day after the month's last is the month's last (`ResolverStyle.SMART`).
    let day = day.min(days_of_month(year, month));
    Some((days(year, month, day), 0, zone, true))
}

/// `y-M-d'T'H:m[:s]`, with a fraction if there are seconds: numbers of any length.
fn date_and_clock(mut text: &str) -> Option<(i64, i64, &str, bool)> {
    let text = &mut text;
    let year = digits(text, 1, 19).filter(|year| (1..=LAST_YEAR).contains(year))?;
    sign(text, "-")?;
    let month = digits(text, 1, 19).filter(|month| (1..=12).contains(month))?;
    sign(text, "-")?;
    let day = digits(text, 1, 19).filter(|day| (1..=31).contains(day))?;
    sign(text, "T").or_else(|| sign(text, " "))?;
    let hours = digits(text, 1, 19).filter(|hours| (0..=24).contains(hours))?;
    sign(text, ":")?;
    let minutes = digits(text, 1, 19).filter(|minutes| (0..60).contains(minutes))?;
    let mut seconds = 0;
    let mut nanos = 0;
    let mut after = *text;
    if sign(&mut after, ":").is_some()
        && let Some(found) = digits(&mut after, 1, 19)
    {
        seconds = Some(found).filter(|seconds| (0..60).contains(seconds))?;
        *text = after;
        if sign(text, ".").is_some() {
            let before = text.len();
            let fraction = digits(text, 0, 9).unwrap_or(0);
            let length = before - text.len();
            // Of milliseconds, what is less is cut off.
            nanos = fraction * 10_i64.pow(9 - u32::try_from(length).ok()?) / 1_000_000 * 1_000_000;
        }
    }
    let of_day = (hours * 60 + minutes) * 60 + seconds;
    if hours == 24 && (minutes, seconds, nanos) != (0, 0, 0) {
        return None;
    }
    let day = day.min(days_of_month(year, month));
    // The end of a day is the start of the next.
    Some((days(year, month, day), of_day * 1_000_000_000 + nanos, *text, false))
}

/// Names of UTC that Java has, besides `UTC`, `UT` and `GMT`, which may have an offset after them.
const UTC_NAMES: [&str; 14] = [
    "Coordinated Universal Time",
    "Etc/GMT",
    "Etc/GMT+0",
    "Etc/GMT-0",
    "Etc/GMT0",
    "Etc/Greenwich",
    "Etc/UCT",
    "Etc/UTC",
    "Etc/Universal",
    "Etc/Zulu",
    "GMT0",
    "Greenwich Mean Time",
    "Zulu",
    "UCT",
];

/// The offset of a zone, in seconds; `None` if it is none that is known. The patterns are ` z`, ` X`, `X` and `XXX`.
fn offset(zone: &str, without_clock: bool) -> Option<i64> {
    if zone.is_empty() || zone == "Z" || (without_clock && zone == "z") {
        return Some(0);
    }
    let Some(named) = zone.strip_prefix(' ') else {
        return offset_of_digits(zone, false);
    };
    if named == "Z" || UTC_NAMES.contains(&named) {
        return Some(0);
    }
    let digits = ["UTC", "GMT", "UT"].into_iter().find_map(|prefix| named.strip_prefix(prefix));
    match digits {
        Some("") => Some(0),
        Some(digits) => offset_of_digits(digits, true).filter(|_| digits.as_bytes().get(3) == Some(&b':')),
        None => offset_of_digits(named, false).or_else(|| offset_of_digits(named, true)),
    }
}

/// `+01`, `+0130`, `+01:30` and, where seconds may follow, `+01:30:15`.
fn offset_of_digits(mut text: &str, with_seconds: bool) -> Option<i64> {
    let text = &mut text;
    let negative = sign(text, "-").is_some();
    if !negative {
        sign(text, "+")?;
    }
    let part = |text: &mut &str| digits(text, 2, 2).filter(|part| *part < 60);
    let mut seconds = part(text)? * 3600;
    if sign(text, ":").is_some() {
        seconds += part(text)? * 60;
        if with_seconds && sign(text, ":").is_some() {
            seconds += part(text)?;
        }
    } else if !text.is_empty() {
        seconds += part(text)? * 60;
    }
    let fits = text.is_empty() && seconds <= 18 * 3600;
    fits.then_some(if negative { -seconds } else { seconds })
}

/// Whether it may be a name of a zone: of a region, an abbreviation, or a display name.
fn is_zone_name(zone: &str) -> bool {
    zone.strip_prefix(' ').is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.len() > 2
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" /_+-'".contains(&byte))
    })
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

    /// What Cassandra 5.0.5 makes of each.
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
            ("2016-09-27 16:10:00 UTC", 0x0157_6c68_f3c0),
            ("2016-02-30", 0x0153_2a53_1000),
            ("2015-02-29", 0x014b_cd7b_8800),
            ("2016-09-27 24:00", 0x0157_6e17_4000),
            ("2016-09-27 24:00:00", 0x0157_6e17_4000),
            ("2016-04-31 01:01", 0x0154_64ae_d4e0),
            ("2016-01-01 01:01 UTC+01:00", 0x0151_fa7c_c660),
            ("2016-001-01 01:001", 0x0151_fab3_b4e0),
            ("+10000-01-01", 0xe677_d21f_dc00),
            ("16-02-28 0:59:5 UTC", i64::from_be_bytes(0xffff_c7ec_4b8e_bfa8_u64.to_be_bytes())),
            ("2016-02-30 23:59:1.999999Z", 0x0153_2f78_896f),
            ("2016-1-30T0:59:1. GMT", 0x0152_900a_5008),
        ] {
            assert_eq!(timestamp(text), Ok(millis), "{text}");
        }
        for text in [
            "2016-9-7",
            "10000-01-01",
            "2016-1-1",
            "2020-1",
            "2020-01-02 24:01",
            "x",
            "",
            "2020-01-02 01:02:03+1",
            "2016-01-01 01:01.5",
            "2016-01-01 01:01+18:01",
            "2016-01-01 01:01+19",
            "-1-01-01",
            "-2016-01-01 01:01",
            "0-01-01 01:01",
            "16-01-01",
            "2016-01-01 ",
            "2016-01-01T",
            "2016-01-01  01:01",
            "+12345",
            "2016-13-01 01:01",
            "2016-01-32",
            "2016-01-01 01:01 +1",
            "9223372036854775808",
            "2016-01-01 23:59:60",
        ] {
            let error = timestamp(text).unwrap_err().to_string();
            assert!(error.starts_with("Unable to "), "{text}: {error}");
        }
    }

    #[test]
    fn zones_with_names_other_than_those_of_utc_are_not_simulated_and_say_so() {
        for text in ["2016-01-01 01:01 CET", "2016-01-01 01:01 Europe/Berlin", "2016-01-01 PST"] {
            let error = timestamp(text).unwrap_err().to_string();
            assert!(error.contains("is not simulated"), "{text}: {error}");
        }
    }

    #[test]
    fn dates_and_times_of_day_are_read() {
        assert_eq!(date("1970-01-01"), Ok(1 << 31));
        assert_eq!(date("1969-12-31"), Ok((1 << 31) - 1));
        assert_eq!(date("+10000-01-01"), Ok(0x802c_c0a1));
        assert_eq!(date("+5881580-07-11"), Ok(u32::MAX));
        for text in [
            "2016-1-1",
            "2016-01-1",
            "10000-01-01",
            "2016-02-30",
            "16-01-01",
            "+2016-01-01",
            "+1",
            "-1",
            "4294967296",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
        assert_eq!(time("01:02:03.5"), Ok(3_723_500_000_000));
        assert_eq!(time(" +1:002:3 "), Ok(3_723_000_000_000));
        for text in ["24:00:00", "01:02", "01:02:03.", "01:02:03.1234567890", "01:02:03.+5", "+1", "-1:00:00"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for millis in [0, -1, 1_577_930_645_678, -62_135_596_800_000] {
            assert_eq!(
                timestamp(&text_of_millis(millis, ' ')),
                Ok(millis),
                "{}",
                text_of_millis(millis, ' ')
            );
        }
        for days in [0, 1 << 31, u32::MAX, 0x802c_c0a1] {
            assert_eq!(date(&text_of_date(days)), Ok(days), "{}", text_of_date(days));
        }
        assert_eq!(text_of_time(3_723_500_000_000), "01:02:03.500000000");
    }

    #[test]
    fn a_time_uuid_tells_its_moment() {
        let uuid = time_uuid(1_577_930_645_678_000, 7);
        assert_eq!((uuid >> 76) & 0xf, 1);
        assert_eq!(time_uuid_millis(uuid), 1_577_930_645_678);
        assert_ne!(uuid, time_uuid(1_577_930_645_678_000, 8));
    }
}
