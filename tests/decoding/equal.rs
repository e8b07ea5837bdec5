//! Property tests: both decoders return the same row for any bytes.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use exactlyonce::event::{Record, Row};
use exactlyonce::store::Binding;
use exactlyonce::window::{HealthSet, WindowSpec};

use crate::{binding, cost, row};

const NAMES: [&str; 5] = ["id", "ts", "source", "client", "health"];

/// Integers in JSON, mostly near a limit.
fn integer() -> impl Strategy<Value = String> {
    let borders = [0, 1, 2, 3, -1, 5_000, -5_000, i64::MAX, i64::MAX - 5_000, i64::MIN];
    prop_oneof![
        4 => select(borders.to_vec()).prop_map(|number| number.to_string()),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => (select(borders.to_vec()), -2..3i128).prop_map(|(n, by)| (i128::from(n) + by).to_string()),
    ]
}

/// Number tokens, including some that JSON does not allow.
fn number() -> impl Strategy<Value = String> {
    let odd = ["-0", "-", "01", "1.", ".1", "+1", "1.0", "0e0", "1E+9", "1e-9", "1e999999", "-0.0", "0x1"];
    prop_oneof![
        integer(),
        select(odd.to_vec()).prop_map(str::to_owned),
        "-?[0-9]{1,40}(\\.[0-9]{0,5})?([eE][+-]?[0-9]{0,5})?",
    ]
}

/// The contents of string tokens, mostly valid JSON.
fn characters() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z ]{0,6}",
        2 => any::<char>().prop_map(|c| c.to_string()),
        3 => select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\r", "\\t", "\\u0000", "\\u00E9"])
            .prop_map(str::to_owned),
        2 => select(vec!["\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\uD83D\\u0041", "\\ud83d😀", "😀"])
            .prop_map(str::to_owned),
        1 => select(vec!["\0", "\n", "\u{1f}", "\u{7f}", "\\", "\\x", "\\u12", "\\u+123", "\"", "\\u", "\u{feff}"])
            .prop_map(str::to_owned),
        1 => (select(vec!["x", "é", "\\u20ac", "\\n"]), 250..1_100usize).prop_map(|(text, n)| text.repeat(n)),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number(),
        characters().prop_map(|text| format!("\"{text}\"")),
        select(vec!["null", "true", "false", "{}", "[]", "[ ]", "{ }", "", "nul", "\"", "[", "}", "[1,]"])
            .prop_map(str::to_owned),
        (1..300usize).prop_map(|levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(","))),
            vec((name(), inner), 0..3).prop_map(|members| object(&members, "")),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let odd = ["\\u0069d", "\\u0074s", "ID", "", "x", "\\ud800", "id\\u0000", "hea\\u006Cth", "id ", "i\0d"];
    prop_oneof![
        select(NAMES.to_vec()).prop_map(str::to_owned),
        select(odd.to_vec()).prop_map(str::to_owned),
        characters(),
    ]
}

fn whitespace() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => select(vec!["", "", " ", "\n", "\t\r\n "]),
        1 => select(vec!["\u{b}", "\u{c}", "\u{a0}", "\u{feff}", "\0"]),
    ]
    .prop_map(str::to_owned)
}

fn object(members: &[(String, String)], whitespace: &str) -> String {
    let w = whitespace;
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{w}\"{name}\"{w}:{w}{value}{w}")).collect();
    format!("{{{}{w}}}", members.join(","))
}

/// Changes of members; positions are taken modulo the number of members.
#[derive(Clone, Debug)]
enum Change {
    Drop(usize),
    Duplicate(usize, usize),
    Retype(usize, String),
    /// Gives the field of this name a value of its type.
    Refit(&'static str, String),
    Rename(usize, String),
    Add(usize, String, String),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        1 => at().prop_map(Change::Drop),
        1 => (at(), at()).prop_map(|(from, to)| Change::Duplicate(from, to)),
        4 => (at(), any_value()).prop_map(|(at, value)| Change::Retype(at, value)),
        5 => (select(vec!["id", "ts", "health"]), integer()).prop_map(|(name, value)| Change::Refit(name, value)),
        5 => (select(vec!["source", "client"]), characters())
            .prop_map(|(name, text)| Change::Refit(name, format!("\"{text}\""))),
        1 => (at(), name()).prop_map(|(at, name)| Change::Rename(at, name)),
        2 => (at(), name(), any_value()).prop_map(|(at, name, value)| Change::Add(at, name, value)),
        1 => (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn apply(change: Change, members: &mut Vec<(String, String)>) {
    let n = members.len();
    match change {
        Change::Add(at, name, value) => members.insert(at % (n + 1), (name, value)),
        _ if n == 0 => {}
        Change::Drop(at) => {
            members.remove(at % n);
        }
        Change::Duplicate(from, to) => members.insert(to % (n + 1), members[from % n].clone()),
        Change::Retype(at, value) => members[at % n].1 = value,
        Change::Refit(name, value) => {
            let mut same = members.iter_mut().filter(|member| member.0 == name);
            if let Some(member) = same.next() {
                member.1 = value;
            }
        }
        Change::Rename(at, name) => members[at % n].0 = name,
        Change::Swap(a, b) => members.swap(a % n, b % n),
    }
}

/// Changes of bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u32),
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Truncate(usize),
    Append(String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    let byte = || prop_oneof![any::<u8>(), select(b"{}[]:,\"\\0-.eE \0".to_vec())];
    prop_oneof![
        (at(), 0..8u32).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        at().prop_map(Damage::Truncate),
        select(vec![" ", "\n", "x", "{}", ",", "\0", "null", "}", "\u{feff}", "\u{c}"])
            .prop_map(|text| Damage::Append(text.to_owned())),
    ]
}

fn damage_bytes(damage: Damage, bytes: &mut Vec<u8>) {
    let n = bytes.len();
    match damage {
        Damage::Insert(at, byte) => bytes.insert(at % (n + 1), byte),
        Damage::Append(text) => bytes.extend(text.into_bytes()),
        _ if n == 0 => {}
        Damage::Flip(at, bit) => bytes[at % n] ^= 1 << bit,
        Damage::Set(at, byte) => bytes[at % n] = byte,
        Damage::Remove(at) => {
            bytes.remove(at % n);
        }
        Damage::Truncate(at) => bytes.truncate(at % n),
    }
}

/// A valid event with a few changes and damages, mostly none.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let good = (any::<i64>(), -1_000_000..1_000_000i64, "[a-zé]{1,8}", "[a-zé]{0,8}", 0..3i32);
    let changes = prop_oneof![Just(Vec::new()), vec(change(), 1..4)];
    let damages = prop_oneof![3 => Just(Vec::new()), 1 => vec(damage(), 1..3)];
    (good, changes, whitespace(), damages).prop_map(
        |((id, ts, source, client, health), changes, space, damages)| {
            let values = [
                id.to_string(),
                ts.to_string(),
                format!("\"{source}\""),
                format!("\"{client}\""),
                health.to_string(),
            ];
            let mut members: Vec<_> = NAMES.map(str::to_owned).into_iter().zip(values).collect();
            for change in changes {
                apply(change, &mut members);
            }
            let mut bytes = object(&members, &space).into_bytes();
            for damage in damages {
                damage_bytes(damage, &mut bytes);
            }
            bytes
        },
    )
}

fn any_record(value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Record> {
    let key = proptest::option::of(vec(any::<u8>(), 0..20));
    let other = any_value().prop_map(String::into_bytes);
    let value = prop_oneof![1 => Just(None), 1 => other.prop_map(Some), 30 => value.prop_map(Some)];
    (key, value, any::<i64>()).prop_map(|(key, value, timestamp)| Record {
        partition: 0,
        offset: 7,
        timestamp,
        key,
        value,
    })
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let size = prop_oneof![4 => 1..20_000i64, 1 => 1..=i64::MAX];
    let limit = prop_oneof![1 => 0..200usize, 6 => Just(1 << 20)];
    (size, 1..20i64, limit).prop_map(|(size_ms, parts, limit)| {
        let slide_ms = (size_ms / parts).max(1);
        let window = WindowSpec {
            size_ms,
            slide_ms,
            threshold: 1,
            health: HealthSet::of(&exactlyonce::event::Health::ALL),
        };
        assert_eq!(window.check(), Ok(()));
        binding(window, limit)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn on_arbitrary_bytes_both_decoders_agree(
        record in any_record(vec(any::<u8>(), 0..200)),
        binding in any_binding(),
    ) {
        row(&record, &binding);
        cost::check(&record, &binding);
    }

    #[test]
    fn on_arbitrary_pieces_of_json_both_decoders_agree(
        record in any_record(vec(select(b"{}[]:,\"\\ud8c0019-.eE \ntrufalsn".to_vec()), 0..40)),
        binding in any_binding(),
    ) {
        row(&record, &binding);
        cost::check(&record, &binding);
    }

    #[test]
    fn on_arbitrary_values_of_an_unknown_field_both_decoders_agree(value in any_value()) {
        let text = format!(r#"{{"x":{value},"id":1,"ts":1,"source":"s","client":"","health":0}}"#);
        let record = crate::record(text);
        row(&record, &crate::default_binding());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn on_nearly_valid_json_both_decoders_agree(
        record in any_record(nearly_valid()),
        binding in any_binding(),
    ) {
        row(&record, &binding);
        cost::check(&record, &binding);
    }
}

#[test]
fn nearly_valid_json_makes_events_and_every_kind_of_dead_letter() {
    let mut runner = TestRunner::deterministic();
    let strategy = (any_record(nearly_valid()), any_binding());
    let (mut events, mut kinds) = (0, BTreeSet::new());
    for _ in 0..4_000 {
        let (record, binding) = strategy.new_tree(&mut runner).expect("a value").current();
        match row(&record, &binding) {
            Row::Event(_) => events += 1,
            Row::DeadLetter(letter) => {
                kinds.insert(letter.reason.kind());
            }
        }
    }
    assert!(events > 500, "{events} events of 4,000");
    let expected: BTreeSet<&str> = exactlyonce::event::Reason::all().map(|reason| reason.kind()).collect();
    let missing: Vec<_> = expected.difference(&kinds).filter(|kind| **kind != "empty").collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}
