//! Every kind of invalid input, case by case.

use std::collections::BTreeSet;

use exactlyonce::event::{Body, DeadLetter, Event, Field, Health, Reason, Record, Row};
use exactlyonce::window::WindowSpec;

use crate::{binding, default_binding, record, row};

const NAMES: [&str; 5] = ["id", "ts", "source", "client", "health"];
const GOOD: [&str; 5] = ["1", "2", "\"s\"", "\"c\"", "2"];

fn object(members: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> String {
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{:?}:{}", name.as_ref(), value.as_ref())).collect();
    format!("{{{}}}", members.join(","))
}

/// A valid event except for these fields, given as raw JSON.
fn with(changes: &[(&str, &str)]) -> String {
    object(NAMES.into_iter().zip(GOOD).map(|(name, good)| {
        let changed = changes.iter().find(|(changed, _)| *changed == name);
        (name, changed.map_or(good, |(_, value)| value))
    }))
}

/// A valid event with members of other names before its fields.
fn extra(members: &str) -> String {
    format!("{{{members},{}", &with(&[])[1..])
}

fn without(names: &[&str]) -> String {
    object(NAMES.into_iter().zip(GOOD).filter(|(name, _)| !names.contains(name)))
}

fn text(characters: usize, character: &str) -> String {
    format!("\"{}\"", character.repeat(characters))
}

fn reason(record: &Record) -> String {
    match row(record, &default_binding()) {
        Row::Event(_) => "event".to_owned(),
        Row::DeadLetter(letter) => {
            assert_eq!(letter.timestamp, record.timestamp);
            let whole = Body::Whole { key: record.key.clone(), value: record.value.clone() };
            assert_eq!(letter.body == whole, letter.reason != Reason::TooLarge, "{record:?}");
            letter.reason.code()
        }
    }
}

/// Values and the codes of their dead letters. Each reason has a case with every field that it applies to.
fn dead_letters() -> Vec<(Vec<u8>, String)> {
    let mut cases: Vec<(Vec<u8>, String)> = Vec::new();
    let mut add = |value: &[u8], code: &str| cases.push((value.to_vec(), code.to_owned()));

    add(&vec![b' '; (1 << 20) - 2], "too_large");
    add(b"", "empty");

    add(b"\xff", "not_utf8");
    add(&[b"{\"id\":\"", b"\xc3\x28".as_slice(), b"\"}"].concat(), "not_utf8");
    // A surrogate and an overlong slash, as bytes.
    add(b"\"\xed\xa0\x80\"", "not_utf8");
    add(b"\"\xc0\xaf\"", "not_utf8");
    add(b"{\"unknown\":\"\xf5\"}", "not_utf8");

    let good = with(&[]);
    for value in ["nonsense", " ", "{", "}", "{]", "nul", "'a'", "\0", "NaN", "{'id':1}", "// c\n{}"] {
        add(value.as_bytes(), "not_json");
    }
    for (before, after) in [
        ("", "x"),
        ("", "{}"),
        ("", ","),
        ("", "\0"),
        ("\0", ""),
        ("\u{feff}", ""),
        ("\u{b}", ""),
        ("", "\u{c}"),
        ("", "\u{a0}"),
    ] {
        add(format!("{before}{good}{after}").as_bytes(), "not_json");
    }
    add(&good.as_bytes()[..good.len() - 1], "not_json");
    add(good.replace('}', ",}").as_bytes(), "not_json");
    for field in NAMES {
        // A raw NUL and other control characters in a string, in known fields and in unknown ones.
        for control in ['\0', '\u{1}', '\n', '\u{1f}'] {
            add(with(&[(field, &format!("\"a{control}b\""))]).as_bytes(), "not_json");
        }
        for value in ["01", "+1", "1.", ".5", "1e", "0x1", "--1", "\"\\x\"", "\"\\u12\"", "tru", "[1,]", ""] {
            add(with(&[(field, value)]).as_bytes(), "not_json");
        }
    }
    add(extra("\"unknown\":\"\0\"").as_bytes(), "not_json");
    add(extra("\"unknown\":[1,{\"a\":01}]").as_bytes(), "not_json");
    add(extra("\"un\0known\":1").as_bytes(), "not_json");

    for value in ["null", "true", "1", "-0.5e3", "\"{}\"", "[]", " [{}] ", "\"\\ud800\""] {
        add(value.as_bytes(), "not_an_object");
    }
    add(format!("[{good}]").as_bytes(), "not_an_object");

    for (field, good_value) in NAMES.into_iter().zip(GOOD) {
        for value in [good_value, "null", "{}", "99999999999999999999"] {
            let first = extra(&format!("\"{field}\":{value}"));
            add(first.as_bytes(), &format!("duplicate_field:{field}"));
        }
        add(extra(&format!("\"{field}\":1,\"{field}\":1")).as_bytes(), &format!("duplicate_field:{field}"));
        add(without(&[field]).as_bytes(), &format!("missing_field:{field}"));
        for value in ["null", "true", "false", "[]", "{}", "[1]"] {
            add(with(&[(field, value)]).as_bytes(), &format!("wrong_type:{field}"));
        }
    }
    // A name may be written with escapes, and is the same name.
    add(extra("\"\\u0069d\":1").as_bytes(), "duplicate_field:id");
    for field in ["id", "ts", "health"] {
        let numbers = ["1.0", "1e0", "1E5", "-0.0", "0.5", "1e999999", "1.7976931348623157e309"];
        for value in numbers.into_iter().chain(["\"1\"", "\"\"", "\"\\ud800\""]) {
            add(with(&[(field, value)]).as_bytes(), &format!("wrong_type:{field}"));
        }
        for value in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", &"9".repeat(400)]
        {
            add(with(&[(field, value)]).as_bytes(), &format!("out_of_range:{field}"));
        }
    }
    for field in ["source", "client"] {
        for value in ["1", "-1", "1.5", "99999999999999999999"] {
            add(with(&[(field, value)]).as_bytes(), &format!("wrong_type:{field}"));
        }
        for value in ["\\ud800", "\\udc00", "\\ud800a", "\\ud800\\u0041", "\\udc00\\ud800", "\\ud800\\ud800"]
        {
            add(with(&[(field, &format!("\"{value}\""))]).as_bytes(), &format!("not_unicode:{field}"));
        }
        for value in [text(1_025, "a"), text(513, "é"), text(342, "€"), text(257, "\\ud83d\\ude00")] {
            add(with(&[(field, &value)]).as_bytes(), &format!("too_long:{field}"));
        }
    }
    for value in ["3", "-1", "9223372036854775807", "-9223372036854775808"] {
        add(with(&[("health", value)]).as_bytes(), "unknown_health");
    }
    add(with(&[("source", "\"\"")]).as_bytes(), "too_short:source");
    for value in ["9223372036854775807", "9223372036854775000"] {
        add(with(&[("ts", value)]).as_bytes(), "window_overflow");
    }

    // Of several faults, the first one in the order of the reasons.
    add(b"{}", "missing_field:id");
    add(without(&["ts", "client"]).as_bytes(), "missing_field:ts");
    let several: [(&[(&str, &str)], &str); 6] = [
        (&[("health", "{}"), ("source", "1"), ("id", "99999999999999999999")], "wrong_type:source"),
        (&[("id", "99999999999999999999"), ("client", "\"\\ud800\"")], "not_unicode:client"),
        (&[("health", "3"), ("ts", "99999999999999999999")], "out_of_range:ts"),
        (&[("health", "3"), ("source", "\"\"")], "unknown_health"),
        (&[("client", &text(1_025, "a")), ("source", "\"\"")], "too_short:source"),
        (&[("ts", "9223372036854775807"), ("client", &text(1_025, "a"))], "too_long:client"),
    ];
    for (changes, code) in several {
        add(with(changes).as_bytes(), code);
    }
    add(object([("id", "\"1\""), ("source", "1")]).as_bytes(), "missing_field:ts");
    add(object([("health", "0"), ("health", "0")]).as_bytes(), "duplicate_field:health");
    add(&vec![0xff; 1 << 20], "too_large");
    cases
}

#[test]
fn every_invalid_value_makes_a_dead_letter_with_its_reason_and_its_bytes() {
    for (value, code) in dead_letters() {
        let record = record(value);
        assert_eq!(reason(&record), code, "{:.300}", format!("{record:?}"));
    }
}

#[test]
fn a_null_value_is_a_dead_letter_with_or_without_a_key() {
    for key in [None, Some(Vec::new()), Some(b"k".to_vec())] {
        assert_eq!(reason(&Record { key, value: None, ..record("") }), "null_value");
    }
}

#[test]
fn every_reason_that_can_occur_has_a_case() {
    let mut covered: BTreeSet<String> = dead_letters().into_iter().map(|case| case.1).collect();
    covered.insert("null_value".to_owned());
    let can_occur = |reason: &Reason| match reason {
        Reason::NotUnicode(field) | Reason::TooLong(field) => matches!(field, Field::Source | Field::Client),
        Reason::OutOfRange(field) => matches!(field, Field::Id | Field::Ts | Field::Health),
        Reason::TooShort(field) => *field == Field::Source,
        _ => true,
    };
    let expected: BTreeSet<String> = Reason::all().filter(can_occur).map(Reason::code).collect();
    assert_eq!(covered, expected);
}

#[test]
fn valid_events_are_decoded_unchanged() {
    let plain = Event { id: 1, ts: 2, source: "s".into(), client: "c".into(), health: Health::Critical };
    let longest = "x".repeat(1_024);
    let cases = [
        (with(&[]), plain.clone()),
        (format!(" \t\r\n{} \t\r\n", with(&[]).replace(':', " : ").replace(',', "\n,\t")), plain.clone()),
        (object(NAMES.into_iter().zip(GOOD).rev()), plain.clone()),
        (
            with(&[("id", "-0"), ("ts", "-9223372036854775808")]),
            Event { id: 0, ts: i64::MIN, ..plain.clone() },
        ),
        (with(&[("id", "9223372036854775807")]), Event { id: i64::MAX, ..plain.clone() }),
        (with(&[("id", "-9223372036854775808")]), Event { id: i64::MIN, ..plain.clone() }),
        (with(&[("ts", "0"), ("health", "0")]), Event { ts: 0, health: Health::Nominal, ..plain.clone() }),
        (with(&[("health", "1")]), Event { health: Health::Warning, ..plain.clone() }),
        (with(&[("health", "-0")]), Event { health: Health::Nominal, ..plain.clone() }),
        (with(&[("client", "\"\"")]), Event { client: String::new(), ..plain.clone() }),
        // The greatest ts whose window of 5 s ends within i64.
        (with(&[("ts", "9223372036854774999")]), Event { ts: 9_223_372_036_854_774_999, ..plain.clone() }),
        (
            with(&[("source", &text(1_024, "x")), ("client", &text(256, "\\uD83D\\uDE00"))]),
            Event { source: longest, client: "😀".repeat(256), ..plain.clone() },
        ),
        // Escapes of NUL and of other control characters are data.
        (
            with(&[("source", r#""\u0000\u001f\"\\\/\b\f\n\r\t""#)]),
            Event { source: "\0\u{1f}\"\\/\u{8}\u{c}\n\r\t".into(), ..plain.clone() },
        ),
        (
            with(&[("source", "\"\u{feff}\u{7f}é€😀\"")]),
            Event { source: "\u{feff}\u{7f}é€😀".into(), ..plain.clone() },
        ),
        (with(&[]).replace("\"id\"", r#""\u0069\u0064""#), plain.clone()),
    ];
    for (value, event) in cases {
        assert_eq!(row(&record(value), &default_binding()), Row::Event(event));
    }
}

#[test]
fn unknown_fields_are_ignored_whatever_their_value_and_number() {
    for members in [
        r#""x":1,"x":2,"x":null"#,
        r#""":{},"ID":"","Id":[],"id ":0"#,
        r#""x":1e999999,"y":-0.0e-99999999999,"z":123456789012345678901234567890"#,
        r#""x":"\ud800","\ud800":1,"\udc00":[{"\ud800":"\ud800"}]"#,
        r#""x":{"id":"not the event's","id":2},"y":[{"ts":null}]"#,
        r#""x":[ ] , "y" : { } ,"z":[[],{},"",0,true,false,null]"#,
    ] {
        let event = row(&record(extra(members)), &default_binding());
        assert_eq!(event, row(&record(with(&[])), &default_binding()), "{members}");
        assert!(matches!(event, Row::Event(_)), "{members}");
    }
}

#[test]
fn a_record_at_the_limit_is_whole_and_one_byte_more_is_a_digest() {
    let value = with(&[]);
    let at = record(value.clone());
    let limit = at.len();
    assert!(matches!(row(&at, &binding(WindowSpec::default(), limit)), Row::Event(_)));
    let Row::DeadLetter(DeadLetter { reason: Reason::TooLarge, timestamp: 3, body }) =
        row(&at, &binding(WindowSpec::default(), limit - 1))
    else {
        panic!("not too large")
    };
    let Body::Digest { key_length, value_length, .. } = body else { panic!("{body:?}") };
    assert_eq!((key_length, value_length), (Some(3), Some(value.len() as i64)));
    // Too large takes precedence, and null and empty values have different lengths.
    for (key, value, lengths) in [
        (Some(vec![0; 9]), None, (Some(9), None)),
        (None, Some(vec![0; 9]), (None, Some(9))),
        (Some(Vec::new()), Some(vec![0; 9]), (Some(0), Some(9))),
    ] {
        let large = Record { key, value, ..record("") };
        let Row::DeadLetter(letter) = row(&large, &binding(WindowSpec::default(), 8)) else {
            panic!("{large:?}")
        };
        let Body::Digest { key_length, value_length, .. } = letter.body else { panic!("{letter:?}") };
        assert_eq!((key_length, value_length), lengths);
    }
}

/// Runs on a stack that is too small for a recursive decoder with 100,000 levels.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(work);
    if let Err(panic) = thread.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_hundred_thousand_levels_neither_overflow_the_stack_nor_are_refused() {
    const LEVELS: usize = 100_000;
    let nested = |open: &str, inside: &str, close: &str| {
        format!("{}{inside}{}", open.repeat(LEVELS), close.repeat(LEVELS))
    };
    on_a_small_stack(move || {
        let arrays = nested("[", "", "]");
        let objects = nested("{\"a\":", "1", "}");
        let mixed = format!("{}{}", "[{\"a\":".repeat(LEVELS / 2), "null") + &"}]".repeat(LEVELS / 2);
        for value in [&arrays, &objects, &mixed] {
            assert_eq!(reason(&record(extra(&format!("\"x\":{value}")))), "event");
            assert_eq!(reason(&record(with(&[("source", value)]))), "wrong_type:source");
            assert_eq!(reason(&record(extra(&format!("\"x\":{}", &value[..value.len() - 1])))), "not_json");
        }
        assert_eq!(reason(&record(arrays)), "not_an_object");
        assert_eq!(reason(&record(objects)), "missing_field:id");
        assert_eq!(reason(&record("[".repeat(LEVELS))), "not_json");
        assert_eq!(reason(&record("{\"a\":".repeat(LEVELS))), "not_json");
    });
}
