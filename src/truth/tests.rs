//! Expected tables, written by hand.

use std::fmt::Write;

use super::*;
use crate::decode::DECODER_VERSION;
use crate::event::Health;
use crate::store::{BoundConsistency, Layout, SCHEMA_VERSION};
use crate::window::HealthSet;

fn binding(window: WindowSpec) -> Binding {
    Binding {
        topic: "t".to_owned(),
        topic_id: "id".to_owned(),
        window,
        max_mutation_bytes: 1 << 20,
        decoder_version: DECODER_VERSION,
        layout: Layout::ORIGINAL,
        schema_version: SCHEMA_VERSION,
        consistency: BoundConsistency::Single,
        origins: BTreeMap::new(),
    }
}

fn record(partition: i32, offset: i64, value: impl Into<Vec<u8>>) -> Record {
    Record { partition, offset, timestamp: 1_000 + offset, key: None, value: Some(value.into()) }
}

/// An event whose id is its offset.
fn event(partition: i32, offset: i64, ts: i64, source: &str, health: i32) -> Record {
    let value = format!(r#"{{"id":{offset},"ts":{ts},"source":"{source}","client":"c","health":{health}}}"#);
    record(partition, offset, value)
}

fn critical(partition: i32, offset: i64, ts: i64) -> Record {
    event(partition, offset, ts, "s", Health::Critical.code())
}

/// Critical events of one partition, from offset 0 on.
fn criticals(times: impl IntoIterator<Item = i64>) -> Vec<Record> {
    times.into_iter().enumerate().map(|(offset, ts)| critical(0, offset as i64, ts)).collect()
}

fn alerts(records: &[Record], window: WindowSpec) -> String {
    let mut text = String::new();
    for (WindowKey { source, end }, count) in tables(records, &binding(window)).alerts {
        let _ = writeln!(text, "{source} until {end}: {count}");
    }
    text
}

fn everything(records: &[Record], binding: &Binding) -> String {
    let tables = tables(records, binding);
    let mut text = String::new();
    for ((partition, offset), e) in tables.events {
        let Event { id, ts, source, client, health } = e;
        let _ = writeln!(text, "event {partition}/{offset}: {id} {ts} {source} {client} {health:?}");
    }
    for ((partition, offset), letter) in tables.dead_letters {
        let _ = writeln!(text, "dead letter {partition}/{offset}: {} {}", letter.reason, letter.timestamp);
    }
    for (WindowKey { source, end }, count) in tables.alerts {
        let _ = writeln!(text, "alert {source} until {end}: {count}");
    }
    text
}

fn hopping(size_ms: i64, slide_ms: i64, threshold: i32) -> WindowSpec {
    WindowSpec { size_ms, slide_ms, threshold, ..WindowSpec::default() }
}

#[test]
fn nine_critical_events_are_no_alert_and_ten_and_eleven_are() {
    assert_eq!(alerts(&criticals([1; 9]), WindowSpec::default()), "");
    insta::assert_snapshot!(alerts(&criticals([1; 10]), WindowSpec::default()), @"s until 5000: 10");
    insta::assert_snapshot!(alerts(&criticals([1; 11]), WindowSpec::default()), @"s until 5000: 11");
}

#[test]
fn a_window_contains_its_first_millisecond_and_not_its_end() {
    let times = [4_999, 5_000, 5_001, 9_999, 10_000];
    insta::assert_snapshot!(alerts(&criticals(times), hopping(5_000, 5_000, 1)), @r"
    s until 5000: 1
    s until 10000: 3
    s until 15000: 1
    ");
}

#[test]
fn negative_and_zero_times_have_windows_like_all_others() {
    let times = [-5_001, -5_000, -1, 0, 4_999, i64::MIN];
    insta::assert_snapshot!(alerts(&criticals(times), hopping(5_000, 5_000, 1)), @r"
    s until -9223372036854775000: 1
    s until -5000: 1
    s until 0: 2
    s until 5000: 2
    ");
}

#[test]
fn an_event_is_counted_in_every_hopping_window_that_contains_it() {
    // Windows of 10 ms every 4 ms end at ... 4, 8, 12, 16, 20 ...
    insta::assert_snapshot!(alerts(&criticals([7, 8, -1]), hopping(10, 4, 1)), @r"
    s until 0: 1
    s until 4: 1
    s until 8: 2
    s until 12: 2
    s until 16: 2
    ");
    insta::assert_snapshot!(alerts(&criticals([7, 8, -1]), hopping(10, 4, 2)), @r"
    s until 8: 2
    s until 12: 2
    s until 16: 2
    ");
}

#[test]
fn the_events_of_a_window_may_be_in_several_partitions() {
    let records: Vec<Record> = (0..12).map(|i| critical(i % 3, i64::from(i / 3), 100)).collect();
    insta::assert_snapshot!(alerts(&records, WindowSpec::default()), @"s until 5000: 12");
}

#[test]
fn sources_are_counted_separately_and_only_events_of_the_configured_health() {
    let mut records: Vec<Record> = (0..10).map(|i| event(0, i, 0, "s", 2)).collect();
    records.extend((10..19).map(|i| event(0, i, 0, "other", 2)));
    records.extend((19..40).map(|i| event(0, i, 0, "s", 1)));
    records.extend((40..60).map(|i| event(0, i, 0, "other", 0)));
    insta::assert_snapshot!(alerts(&records, WindowSpec::default()), @"s until 5000: 10");
    let both = HealthSet::of(&[Health::Nominal, Health::Warning]);
    insta::assert_snapshot!(alerts(&records, WindowSpec { health: both, ..WindowSpec::default() }), @r"
    other until 5000: 20
    s until 5000: 21
    ");
}

#[test]
fn no_event_is_too_late_and_the_order_of_records_does_not_matter() {
    let mut records = criticals((0..9).map(|_| 0).chain([1_000_000_000]).chain([4_999]));
    let in_order = alerts(&records, WindowSpec::default());
    insta::assert_snapshot!(in_order, @"s until 5000: 10");
    records.reverse();
    assert_eq!(alerts(&records, WindowSpec::default()), in_order);
}

#[test]
fn events_with_the_same_id_are_separate_rows_and_all_are_counted() {
    let twice = r#"{"id":7,"ts":1,"source":"s","client":"c","health":2}"#;
    let records = [record(0, 0, twice), record(0, 1, twice), record(1, 0, twice)];
    insta::assert_snapshot!(everything(&records, &binding(hopping(5_000, 5_000, 3))), @r"
    event 0/0: 7 1 s c Critical
    event 0/1: 7 1 s c Critical
    event 1/0: 7 1 s c Critical
    alert s until 5000: 3
    ");
}

#[test]
fn records_below_an_origin_are_skipped() {
    let mut binding = binding(hopping(5_000, 5_000, 2));
    binding.origins = BTreeMap::from([(0, 2), (1, 0)]);
    let mut records: Vec<Record> = (0..4).map(|offset| critical(0, offset, 0)).collect();
    records.push(record(0, 1, "nonsense"));
    records.push(critical(1, 0, 0));
    // A partition that was added after the binding.
    records.push(critical(2, 0, 0));
    insta::assert_snapshot!(everything(&records, &binding), @r"
    event 0/2: 2 0 s c Critical
    event 0/3: 3 0 s c Critical
    event 1/0: 0 0 s c Critical
    event 2/0: 0 0 s c Critical
    alert s until 5000: 4
    ");
}

#[test]
fn an_invalid_record_is_a_dead_letter_and_is_not_counted() {
    let null = Record { value: None, ..record(0, 3, "") };
    let records = [
        critical(0, 0, 0),
        record(0, 1, r#"{"id":1,"ts":0,"source":"s","client":"c","health":3}"#),
        record(0, 2, ""),
        null,
        critical(0, 9, i64::MAX),
        critical(1, 0, 0),
    ];
    insta::assert_snapshot!(everything(&records, &binding(hopping(5_000, 5_000, 1))), @r"
    event 0/0: 0 0 s c Critical
    event 1/0: 0 0 s c Critical
    dead letter 0/1: unknown_health 1001
    dead letter 0/2: empty 1002
    dead letter 0/3: null_value 1003
    dead letter 0/9: window_overflow 1009
    alert s until 5000: 2
    ");
}

#[test]
fn the_dead_letter_of_a_record_that_is_too_large_has_lengths_and_a_hash() {
    let mut binding = binding(WindowSpec::default());
    binding.max_mutation_bytes = 3;
    let at_the_limit = Record { key: Some(b"k".to_vec()), ..record(0, 0, "{}") };
    let whole = Body::Whole { key: Some(b"k".to_vec()), value: Some(b"{}".to_vec()) };
    let missing = Reason::MissingField(crate::event::Field::Id);
    let letter = DeadLetter { reason: missing, timestamp: 1_000, body: whole };
    assert_eq!(row(&at_the_limit, &binding), Row::DeadLetter(letter));

    let above = Record { key: Some(b"a".to_vec()), ..record(0, 0, "bcd") };
    // SHA-256 of "abcd".
    let hash = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589";
    let Row::DeadLetter(DeadLetter { reason: Reason::TooLarge, timestamp: 1_000, body }) =
        row(&above, &binding)
    else {
        panic!("not too large")
    };
    let Body::Digest { key_length: Some(1), value_length: Some(3), sha256 } = body else {
        panic!("{body:?}")
    };
    assert_eq!(hex::encode(sha256), hash);
}

#[test]
fn a_window_end_outside_i64_is_not_a_window() {
    assert_eq!(window_ends(i64::MAX, &hopping(1, 1, 1)), None);
    assert_eq!(window_ends(i64::MAX - 1, &hopping(1, 1, 1)), Some(vec![i64::MAX]));
    assert_eq!(window_ends(i64::MAX - 2, &hopping(4, 1, 1)), None);
    assert_eq!(window_ends(i64::MIN, &hopping(i64::MAX, i64::MAX, 1)), Some(vec![-i64::MAX]));
    assert_eq!(window_ends(0, &hopping(i64::MAX, i64::MAX, 1)), Some(vec![i64::MAX]));
}

proptest::proptest! {
    #[test]
    fn the_windows_of_the_ground_truth_are_those_of_the_pipeline(
        ts in proptest::prop_oneof![
            -100..100i64,
            i64::MIN..i64::MIN + 100,
            i64::MAX - 100..=i64::MAX,
            proptest::num::i64::ANY,
        ],
        slide_ms in proptest::prop_oneof![1..50i64, 1..=i64::MAX],
        slides in 1..20i64,
        more in 0..50i64,
    ) {
        let size_ms = slide_ms.saturating_mul(slides).saturating_add(more % slide_ms);
        let window = hopping(size_ms, slide_ms, 1);
        proptest::prop_assert_eq!(window.check(), Ok(()));
        proptest::prop_assert_eq!(window_ends(ts, &window), window.ends(ts).map(Iterator::collect));
    }
}
