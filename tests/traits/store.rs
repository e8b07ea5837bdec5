//! The cases of every store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exactlyonce::event::{Body, DeadLetter, Event, Health, Reason, Row};
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Layout, Outcome, Progress, SCHEMA_VERSION, Store,
    WindowKey,
};
use exactlyonce::window::{HealthSet, WindowSpec};
use futures_util::future::join_all;

crate::on_every_implementation!(
    [
        (on_memory: exactlyonce::store::memory::MemoryStore::new()),
        #[cfg(feature = "embedded")]
        (on_embedded in_folder: crate::embedded::store_in),
        #[cfg(feature = "embedded")]
        (on_embedded_in_buckets in_folder: crate::embedded::bucketed_store_in),
        #[cfg(feature = "cassandra")]
        (on_cassandra on_services: crate::cassandra::test_keyspace),
        #[cfg(feature = "cassandra")]
        (on_cassandra_in_buckets on_services: crate::cassandra::bucketed_test_keyspace),
    ],
    [
        a_new_store_is_empty,
        a_binding_is_read_as_written_and_never_changed,
        of_many_concurrent_bindings_one_wins_and_the_others_get_it,
        progress_resolves_by_timestamp_whatever_the_order,
        the_origin_and_the_next_offset_resolve_independently,
        progress_of_all_has_every_partition_with_a_row,
        counts_resolve_by_timestamp_whatever_the_order,
        counts_are_returned_in_the_requested_order,
        counts_of_different_partitions_and_windows_are_separate,
        sums_include_exactly_the_requested_partitions_and_windows,
        a_sum_beyond_i64_is_i64_max,
        thousands_of_counts_are_each_returned_for_their_window,
        a_few_of_many_counts_are_returned_and_no_others,
        the_registry_keeps_the_greatest_partition_whatever_the_order,
        a_window_may_end_anywhere_in_i64,
        the_greater_event_count_of_an_alert_wins_whatever_the_order,
        alerts_are_returned_page_by_page_each_once,
        counts_of_all_partitions_are_returned_page_by_page_each_once,
        a_foreign_cursor_is_refused,
        events_are_returned_byte_for_byte,
        dead_letters_are_returned_byte_for_byte,
        two_events_at_one_position_resolve_cell_by_cell,
        two_dead_letters_at_one_position_resolve_cell_by_cell,
        a_call_may_contain_a_position_twice,
        stored_events_among_the_new_ones_of_a_call_resolve_as_if_written_alone,
        an_offset_in_both_tables_is_returned_twice,
        rows_below_are_the_last_of_both_tables,
        a_range_of_rows_includes_its_start_and_not_its_end,
        rows_of_many_buckets_are_returned_in_order_and_page_by_page,
        partitions_returns_those_with_events_or_dead_letters,
        progress_makes_a_store_hold_rows,
        a_count_makes_a_store_hold_rows,
        a_registration_makes_a_store_hold_rows,
        an_alert_makes_a_store_hold_rows,
        an_event_makes_a_store_hold_rows,
        a_dead_letter_makes_a_store_hold_rows,
        a_binding_does_not_make_a_store_hold_rows,
        repeating_every_call_changes_nothing,
        calls_may_overlap_and_a_clone_reads_acknowledged_writes,
        writing_nothing_is_acknowledged,
    ]
);

pub(crate) fn known<T>(outcome: Outcome<T>) -> T {
    outcome.into_result().unwrap()
}

pub(crate) fn binding(topic: &str) -> Binding {
    Binding {
        topic: topic.to_owned(),
        topic_id: "an id".to_owned(),
        window: WindowSpec {
            size_ms: 10_000,
            slide_ms: 2_500,
            threshold: 3,
            health: HealthSet::of(&[Health::Warning, Health::Critical]),
        },
        max_mutation_bytes: i64::MAX,
        decoder_version: 1,
        layout: Layout::ORIGINAL,
        schema_version: SCHEMA_VERSION,
        consistency: BoundConsistency::Quorum,
        origins: BTreeMap::from([(0, 0), (1, 17), (2, i64::MAX)]),
    }
}

pub(crate) fn event(id: i64, source: &str) -> Event {
    Event { id, ts: 5, source: source.to_owned(), client: "a client".to_owned(), health: Health::Critical }
}

fn letter(reason: Reason, key: Option<&[u8]>, value: Option<&[u8]>) -> DeadLetter {
    let body = Body::Whole { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec) };
    DeadLetter { reason, timestamp: -1, body }
}

fn window(source: &str, end: i64) -> WindowKey {
    WindowKey { source: source.into(), end }
}

fn alert(source: &str, ts: i64, event_count: i32) -> Alert {
    Alert { source: source.into(), ts, event_count }
}

async fn all_alerts<S: Store>(store: &S, limit: usize) -> Vec<Alert> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = known(store.alerts(after, limit).await);
        assert!(page.rows.len() <= limit);
        all.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// All permutations.
fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    if things.len() < 2 {
        return vec![things.to_vec()];
    }
    let mut all = Vec::new();
    for first in 0..things.len() {
        let mut rest = things.to_vec();
        let thing = rest.remove(first);
        all.extend(orders(&rest).into_iter().map(|order| [vec![thing.clone()], order].concat()));
    }
    all
}

async fn a_new_store_is_empty<S: Store>(store: S) {
    assert_eq!(known(store.binding().await), None);
    assert!(!known(store.holds_rows().await));
    assert_eq!(known(store.progress_of_all().await), BTreeMap::new());
    assert_eq!(known(store.progress(0).await), None);
    assert_eq!(known(store.counts(0, &[window("a", 5)]).await), [None]);
    assert_eq!(known(store.registered().await), 0);
    assert_eq!(known(store.rows_below(0, 0, i64::MAX, 10).await), []);
    assert_eq!(known(store.events(0, 0, i64::MAX, 10).await), []);
    assert_eq!(known(store.dead_letters(0, 0, i64::MAX, 10).await), []);
    assert_eq!(known(store.partitions().await), Vec::<i32>::new());
    assert_eq!(all_alerts(&store, 10).await, []);
}

async fn a_binding_is_read_as_written_and_never_changed<S: Store>(store: S) {
    assert_eq!(known(store.bind(&binding("first")).await), Bound::Now);
    assert_eq!(known(store.binding().await), Some(binding("first")));
    assert_eq!(known(store.bind(&binding("second")).await), Bound::Before(binding("first")));
    assert_eq!(known(store.bind(&binding("first")).await), Bound::Before(binding("first")));
    assert_eq!(known(store.binding().await), Some(binding("first")));
}

async fn of_many_concurrent_bindings_one_wins_and_the_others_get_it<S: Store>(store: S) {
    // With this much contention some requests time out; like the pipeline, the test retries them.
    let bind = |i: i32| {
        let (store, own) = (store.clone(), binding(&format!("topic {i}")));
        async move {
            for requested in 0..20 {
                match store.bind(&own).await {
                    Outcome::Unknown(_) => {}
                    outcome => return (own, known(outcome), requested),
                }
            }
            panic!("{own:?}: no attempt has a known outcome");
        }
    };
    let outcomes = join_all((0..8).map(bind)).await;
    let winner = known(store.binding().await).unwrap();
    let mut now = 0;
    for (own, outcome, requested) in &outcomes {
        match outcome {
            Bound::Now => {
                now += 1;
                assert_eq!(*own, winner, "{outcomes:?}");
            }
            Bound::Before(existing) => {
                assert_eq!(*existing, winner, "{outcomes:?}");
                assert!(*own != winner || *requested > 0, "{outcomes:?}");
            }
        }
    }
    let any_unknown = outcomes.iter().any(|(own, _, requested)| *own == winner && *requested > 0);
    assert!(now == 1 || (now == 0 && any_unknown), "{outcomes:?}");
}

async fn progress_resolves_by_timestamp_whatever_the_order<S: Store>(store: S) {
    let writes = [0, 7, 9].map(|next_offset| Progress { origin: 3, next_offset });
    for (partition, order) in (0..).zip(orders(&writes)) {
        for progress in order {
            known(store.write_progress(partition, progress).await);
        }
        let expected = Some(Progress { origin: 3, next_offset: 9 });
        assert_eq!(known(store.progress(partition).await), expected, "partition {partition}");
    }
    // Both are written at the greatest timestamp, so the greater bytes win.
    for (partition, ends) in [(100, [i64::MAX, i64::MAX - 1]), (101, [i64::MAX - 1, i64::MAX])] {
        for next_offset in ends {
            known(store.write_progress(partition, Progress { origin: 0, next_offset }).await);
        }
        assert_eq!(known(store.progress(partition).await).map(|p| p.next_offset), Some(i64::MAX));
    }
}

async fn the_origin_and_the_next_offset_resolve_independently<S: Store>(store: S) {
    // The origin is always written at timestamp 1: the greater bytes win, and a negative number's are greater.
    for (origin, next_offset, expected) in
        [(5, 9, (5, 9)), (4, 20, (5, 20)), (6, 10, (6, 20)), (-1, 1, (-1, 20)), (7, 21, (-1, 21))]
    {
        known(store.write_progress(0, Progress { origin, next_offset }).await);
        let expected = Progress { origin: expected.0, next_offset: expected.1 };
        assert_eq!(known(store.progress(0).await), Some(expected));
    }
}

async fn progress_of_all_has_every_partition_with_a_row<S: Store>(store: S) {
    let all = BTreeMap::from(
        [(2, (0, 5)), (0, (1, 1)), (77, (4, 9))]
            .map(|(p, (o, n))| (p, Progress { origin: o, next_offset: n })),
    );
    for (&partition, &progress) in &all {
        known(store.write_progress(partition, progress).await);
    }
    assert_eq!(known(store.progress_of_all().await), all);
    assert_eq!(known(store.progress(77).await), all.get(&77).copied());
    assert_eq!(known(store.progress(1).await), None);
}

async fn counts_resolve_by_timestamp_whatever_the_order<S: Store>(store: S) {
    // The second and third tie.
    let writes = [(50, 10), (2, 30), (7, 30)];
    for (end, order) in (0..).zip(orders(&writes)) {
        for (count, through_offset) in order {
            let count = Count { count, through_offset };
            known(store.write_counts(1, &[(window("a", end), count)]).await);
        }
        let stored = known(store.counts(1, &[window("a", end)]).await);
        assert_eq!(stored, [Some(Count { count: 7, through_offset: 30 })], "order {end}");
    }
    // At a tie each cell takes the greater bytes, so the row may be one that was never written as such.
    for (end, order) in (100..).zip(orders(&[(12, i64::MAX - 1), (-10, i64::MAX)])) {
        for (count, through_offset) in order {
            let count = Count { count, through_offset };
            known(store.write_counts(1, &[(window("a", end), count)]).await);
        }
        let stored = known(store.counts(1, &[window("a", end)]).await);
        assert_eq!(stored, [Some(Count { count: -10, through_offset: i64::MAX })]);
    }
}

async fn counts_are_returned_in_the_requested_order<S: Store>(store: S) {
    let count = |n| Count { count: n, through_offset: n };
    let written = [(window("b", 5), count(1)), (window("a", 5), count(2)), (window("a", 10), count(3))];
    known(store.write_counts(4, &written).await);
    let requested =
        [window("a", 10), window("c", 5), window("b", 5), window("a", 5), window("b", 10), window("a", 10)];
    let own = [Some(count(3)), None, Some(count(1)), Some(count(2)), None, Some(count(3))];
    assert_eq!(known(store.counts(4, &requested).await), own);
    assert_eq!(known(store.counts(5, &requested).await), [None; 6]);
    assert_eq!(known(store.counts(4, &[]).await), []);
}

async fn counts_of_different_partitions_and_windows_are_separate<S: Store>(store: S) {
    let count = |n| Count { count: n, through_offset: n };
    for partition in [300, 0, 2] {
        known(store.write_counts(partition, &[(window("a", 5), count(i64::from(partition) + 1))]).await);
    }
    for (source, end) in [("a", 4), ("a", 6), ("ab", 5), ("", 5), ("A", 5), ("a\0", 5), ("a\0b", 5)] {
        known(store.write_counts(1, &[(window(source, end), count(1000))]).await);
    }
    let requested = [window("a", 5), window("a\0b", 5)];
    for (partition, expected) in [
        (0, [Some(count(1)), None]),
        (1, [None, Some(count(1000))]),
        (2, [Some(count(3)), None]),
        (300, [Some(count(301)), None]),
        (3, [None, None]),
    ] {
        assert_eq!(known(store.counts(partition, &requested).await), expected, "partition {partition}");
    }
}

/// More partitions than one request of any store has, most of them without rows; other rows between the windows, so that
/// some partitions are dense and some sparse; and some windows requested twice.
async fn sums_include_exactly_the_requested_partitions_and_windows<S: Store>(store: S) {
    // In three blocks of the layout of these tests.
    let source = |n: i64| window(&format!("source {n:04}"), 5 + n % 3 * 15_000);
    let mut written: BTreeMap<(i32, WindowKey), i64> = BTreeMap::new();
    for (partition, step) in [(0, 1), (3, 7), (21, 2), (40, 1), (90, 1)] {
        let keys = (0..400).step_by(step).map(source);
        let between = (0..1_200i64).filter(|_| partition == 40);
        let between = between.map(|n| {
            let WindowKey { source, end } = source(n / 3);
            window(&format!("{source}{}", "+".repeat(n as usize % 3 + 1)), end)
        });
        let rows: Vec<(WindowKey, Count)> = keys
            .chain(between)
            .zip(1..)
            .map(|(key, n)| (key, Count { count: n + i64::from(partition), through_offset: n }))
            .collect();
        known(store.write_counts(partition, &rows).await);
        written.extend(rows.into_iter().map(|(key, count)| ((partition, key), count.count)));
    }
    let partitions: Vec<i32> = (0..50).filter(|partition| *partition != 3).collect();
    // The first ones list their windows, the others are slices in a store that supports them.
    for requested in
        [(0..5).collect(), (0..400).rev().collect::<Vec<i64>>(), (0..400).step_by(11).collect(), vec![7; 40]]
    {
        let requested: Vec<WindowKey> =
            requested.into_iter().map(source).chain([window("none", 5)]).collect();
        for partitions in [&partitions[..], &[3], &[90, 1], &[]] {
            let count = |partition: &i32, key: &WindowKey| written.get(&(*partition, key.clone())).copied();
            let expected: Vec<i64> = requested
                .iter()
                .map(|key| partitions.iter().filter_map(|partition| count(partition, key)).sum())
                .collect();
            assert_eq!(
                known(store.sums(partitions, &requested).await),
                expected,
                "{} of {partitions:?}",
                requested.len()
            );
        }
    }
    assert_eq!(known(store.sums(&partitions, &[]).await), [0i64; 0]);
}

async fn a_sum_beyond_i64_is_i64_max<S: Store>(store: S) {
    for partition in 0..3 {
        let count = Count { count: i64::MAX / 2, through_offset: 1 };
        known(store.write_counts(partition, &[(window("a", 5), count)]).await);
    }
    assert_eq!(known(store.sums(&[0, 1, 2], &[window("a", 5)]).await), [i64::MAX]);
    assert_eq!(known(store.sums(&[0, 2], &[window("a", 5)]).await), [i64::MAX - 1]);
}

/// More counts than one request of any store has, over many blocks and shards, unordered, some of them requested twice.
async fn thousands_of_counts_are_each_returned_for_their_window<S: Store>(store: S) {
    let written: Vec<(WindowKey, Count)> = (0..3_000i64)
        .map(|n| (window(&format!("source {}", n * 7 % 411), n * 7_919 % 400_000 - 200_000), n))
        .map(|(key, n)| (key, Count { count: n, through_offset: n }))
        .collect();
    let written: BTreeMap<WindowKey, Count> = written.into_iter().collect();
    let rows: Vec<(WindowKey, Count)> = written.clone().into_iter().collect();
    known(store.write_counts(3, &rows).await);
    let mut requested: Vec<WindowKey> = written.keys().rev().cloned().collect();
    requested.extend((0..50).map(|n| window("source 1", 1_000_000 + n)));
    requested.extend(written.keys().step_by(17).cloned());
    let expected: Vec<Option<Count>> = requested.iter().map(|key| written.get(key).copied()).collect();
    assert_eq!(known(store.counts(3, &requested).await), expected);
}

/// Requests a few of many adjacent rows, then nearly all, then a few again, and some that do not exist.
async fn a_few_of_many_counts_are_returned_and_no_others<S: Store>(store: S) {
    let all: Vec<WindowKey> =
        (0..3_000).map(|n| window(&format!("source {:04}", n / 3), 5 * (1 + n % 3))).collect();
    let written: BTreeMap<WindowKey, Count> =
        all.iter().zip(0..).map(|(key, n)| (key.clone(), Count { count: n, through_offset: n })).collect();
    let rows: Vec<(WindowKey, Count)> = written.clone().into_iter().collect();
    known(store.write_counts(1, &rows).await);
    for step in [7, 1, 5, 7] {
        let mut requested: Vec<WindowKey> = all.iter().step_by(step).cloned().collect();
        requested.extend((0..300).map(|n| window(&format!("source {n:04}+"), 10)));
        let expected: Vec<Option<Count>> = requested.iter().map(|key| written.get(key).copied()).collect();
        assert_eq!(known(store.counts(1, &requested).await), expected, "every {step}th");
    }
}

async fn the_registry_keeps_the_greatest_partition_whatever_the_order<S: Store>(store: S) {
    for (partition, expected) in [(0, 1), (2, 3), (1, 3), (2, 3), (47, 48), (0, 48)] {
        known(store.register(partition).await);
        assert_eq!(known(store.registered().await), expected, "after partition {partition}");
    }
}

async fn a_registration_makes_a_store_hold_rows<S: Store>(store: S) {
    assert!(!known(store.holds_rows().await));
    known(store.register(0).await);
    assert!(known(store.holds_rows().await));
}

async fn a_window_may_end_anywhere_in_i64<S: Store>(store: S) {
    let ends = [i64::MIN, -5_000, -1, 0, 1, i64::MAX];
    let count = |n: usize| Count { count: n as i64, through_offset: 8 };
    for (i, end) in ends.into_iter().enumerate() {
        known(store.write_counts(0, &[(window("a", end), count(i))]).await);
        known(store.write_alerts(&[alert("a", end, 10)]).await);
    }
    let stored = known(store.counts(0, &ends.map(|end| window("a", end))).await);
    assert_eq!(stored, (0..ends.len()).map(|i| Some(count(i))).collect::<Vec<_>>());
    let alerts: BTreeSet<i64> = all_alerts(&store, 2).await.into_iter().map(|alert| alert.ts).collect();
    assert_eq!(alerts, ends.into());
}

async fn the_greater_event_count_of_an_alert_wins_whatever_the_order<S: Store>(store: S) {
    for (ts, order) in (0..).zip(orders(&[10, 11, i32::MAX])) {
        for event_count in order {
            known(store.write_alerts(&[alert("a", ts, event_count)]).await);
        }
    }
    let alerts = all_alerts(&store, 100).await;
    assert_eq!(alerts.len(), 6);
    assert!(alerts.iter().all(|alert| alert.event_count == i32::MAX), "{alerts:?}");
}

async fn alerts_are_returned_page_by_page_each_once<S: Store>(store: S) {
    let long = "x".repeat(1024);
    let sources = ["a", "a\0", "a\0b", "ab", "b", "ü", &long];
    let written: Vec<Alert> = sources
        .iter()
        .flat_map(|source| [i64::MIN, -5, 0, 5, i64::MAX].map(|ts| alert(source, ts, 10)))
        .collect();
    known(store.write_alerts(&written).await);
    let expected: BTreeSet<Alert> = written.iter().cloned().collect();
    for limit in [1, 2, 5, written.len() - 1, written.len(), 1000] {
        let all = all_alerts(&store, limit).await;
        assert_eq!(all.len(), expected.len(), "limit {limit}");
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected, "limit {limit}");
    }
}

async fn counts_of_all_partitions_are_returned_page_by_page_each_once<S: Store>(store: S) {
    let sources = ["a", "a\0", "ab", "ü"];
    let mut expected = BTreeMap::new();
    for partition in [0, 1, 7] {
        let ends = [i64::MIN, -5, 0, 5, 60_000, i64::MAX];
        let windows = sources.iter().flat_map(|source| ends.map(|end| window(source, end)));
        let counts: Vec<(WindowKey, Count)> =
            windows.zip(1..).map(|(window, n)| (window, Count { count: n, through_offset: 2 * n })).collect();
        known(store.register(partition).await);
        known(store.write_counts(partition, &counts).await);
        expected.extend(counts.into_iter().map(|(window, count)| ((partition, window), count)));
    }
    let layout = store.layout().counts;
    for limit in [1, 2, 5, expected.len() - 1, expected.len(), 1000] {
        let (mut found, mut rows, mut after) = (BTreeMap::new(), 0, None);
        loop {
            let page = known(store.all_counts(after, limit).await);
            assert!(page.rows.len() <= limit);
            for row in page.rows {
                assert!(row.place.is_none_or(|place| place == layout.place(&row.window)), "{row:?}");
                found.insert((row.partition, row.window), row.count.expect("not damaged"));
                rows += 1;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((rows, &found), (expected.len(), &expected), "limit {limit}");
    }
}

async fn a_foreign_cursor_is_refused<S: Store>(store: S) {
    let outcome = store.all_counts(Some(Cursor(vec![1])), 10).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    let outcome = store.alerts(Some(Cursor(vec![1])), 10).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

async fn events_are_returned_byte_for_byte<S: Store>(store: S) {
    let base = event(1, "a");
    let long = "s".repeat(1024);
    let events = [
        Event { id: i64::MIN, ts: i64::MIN, health: Health::Nominal, ..base.clone() },
        Event { id: i64::MAX, ts: i64::MAX, health: Health::Warning, ..base.clone() },
        Event { source: long, client: "c".repeat(1024), ..base.clone() },
        Event { source: "a\0b".into(), client: "\0".into(), ..base.clone() },
        Event { source: "'; DROP TABLE events; --".into(), client: "\u{10ffff}ü\n".into(), ..base.clone() },
        Event { client: String::new(), ..base },
    ];
    let rows: Vec<(i64, Event)> = (0..).zip(events).collect();
    let written: Vec<(i64, Row)> = rows.iter().cloned().map(|(o, event)| (o, Row::Event(event))).collect();
    known(store.write_rows(2, &written).await);
    assert_eq!(known(store.events(2, 0, i64::MAX, 100).await), rows);
    assert_eq!(known(store.rows_below(2, 0, i64::MAX, 100).await), written);
    assert_eq!(known(store.dead_letters(2, 0, i64::MAX, 100).await), []);
}

async fn dead_letters_are_returned_byte_for_byte<S: Store>(store: S) {
    let digest = |key_length, value_length| DeadLetter {
        reason: Reason::TooLarge,
        timestamp: i64::MAX,
        body: Body::Digest { key_length, value_length, sha256: [0xff; 32] },
    };
    let bytes: Vec<u8> = (0..=255).collect();
    let mut letters: Vec<DeadLetter> = Reason::all().map(|reason| letter(reason, None, None)).collect();
    letters.extend([
        letter(Reason::NotUtf8, Some(b""), Some(&bytes)),
        letter(Reason::NotJson, Some(&bytes), Some(b"")),
        letter(Reason::NotJson, None, Some(&[0; 100_000])),
        DeadLetter { timestamp: i64::MIN, ..letter(Reason::Empty, Some(b"k"), Some(b"")) },
        digest(None, Some(i64::MAX)),
        digest(Some(0), None),
    ]);
    let rows: Vec<(i64, DeadLetter)> = (0..).zip(letters).collect();
    let written: Vec<(i64, Row)> =
        rows.iter().cloned().map(|(o, letter)| (o, Row::DeadLetter(letter))).collect();
    known(store.write_rows(0, &written).await);
    assert_eq!(known(store.dead_letters(0, 0, i64::MAX, 1000).await), rows);
    assert_eq!(known(store.rows_below(0, 0, i64::MAX, 1000).await), written);
    assert_eq!(known(store.events(0, 0, i64::MAX, 1000).await), []);
}

async fn two_events_at_one_position_resolve_cell_by_cell<S: Store>(store: S) {
    let a = Event { id: -1, ts: 3, source: "b".into(), client: String::new(), health: Health::Nominal };
    let b = Event { id: 1, ts: 4, source: "ab".into(), client: "c".into(), health: Health::Critical };
    let both = Event { id: -1, ts: 4, source: "b".into(), client: "c".into(), health: Health::Critical };
    for (offset, order) in [(0, [&a, &b]), (1, [&b, &a])] {
        for event in order {
            known(store.write_rows(0, &[(offset, Row::Event(event.clone()))]).await);
        }
    }
    assert_eq!(known(store.events(0, 0, 9, 9).await), [(0, both.clone()), (1, both)]);
}

async fn two_dead_letters_at_one_position_resolve_cell_by_cell<S: Store>(store: S) {
    let a = letter(Reason::NotJson, Some(b"k"), None);
    let b = DeadLetter { timestamp: 5, ..letter(Reason::Empty, None, Some(b"")) };
    let both = letter(Reason::NotJson, Some(b"k"), Some(b""));
    for (offset, order) in [(0, [&a, &b]), (1, [&b, &a])] {
        for letter in order {
            known(store.write_rows(0, &[(offset, Row::DeadLetter(letter.clone()))]).await);
        }
    }
    assert_eq!(known(store.dead_letters(0, 0, 9, 9).await), [(0, both.clone()), (1, both)]);
}

async fn a_call_may_contain_a_position_twice<S: Store>(store: S) {
    let rows = [(7, Row::Event(event(1, "a"))), (7, Row::Event(event(2, "a")))];
    known(store.write_rows(0, &rows).await);
    assert_eq!(known(store.events(0, 0, 9, 9).await), [(7, event(2, "a"))]);
    let count = |count, through_offset| (window("a", 5), Count { count, through_offset });
    known(store.write_counts(0, &[count(2, 9), count(1, 4), count(3, 9)]).await);
    assert_eq!(known(store.counts(0, &[window("a", 5)]).await), [Some(count(3, 9).1)]);
    known(store.write_alerts(&[alert("a", 5, 11), alert("a", 5, 12), alert("a", 5, 10)]).await);
    assert_eq!(all_alerts(&store, 9).await, [alert("a", 5, 12)]);
}

/// More events than any store writes with one statement; sources of different lengths show that none is confused with
/// its neighbours.
async fn stored_events_among_the_new_ones_of_a_call_resolve_as_if_written_alone<S: Store>(store: S) {
    let source = |offset: i64| "s".repeat(1 + offset as usize % 7);
    let rows = |ids: fn(i64) -> i64, step| -> Vec<(i64, Row)> {
        (0..100)
            .step_by(step)
            .map(|offset| (offset, Row::Event(event(ids(offset), &source(offset)))))
            .collect()
    };
    known(store.write_rows(0, &rows(|offset| 5 * (offset % 2), 11)).await);
    known(store.write_rows(0, &rows(|_| 3, 1)).await);
    let id = |offset: i64| if offset % 22 == 11 { 5 } else { 3 };
    let expected: Vec<_> = (0..100).map(|offset| (offset, event(id(offset), &source(offset)))).collect();
    assert_eq!(known(store.events(0, 0, 100, 1000).await), expected);
}

async fn an_offset_in_both_tables_is_returned_twice<S: Store>(store: S) {
    let rows = [(3, Row::Event(event(1, "a"))), (3, Row::DeadLetter(letter(Reason::Empty, None, Some(b""))))];
    known(store.write_rows(0, &rows).await);
    let below = known(store.rows_below(0, 0, 4, 9).await);
    assert_eq!(below.len(), 2);
    assert!(rows.iter().all(|row| below.contains(row)), "{below:?}");
}

async fn rows_below_are_the_last_of_both_tables<S: Store>(store: S) {
    let row = |offset: i64| {
        let row = match offset % 3 {
            0 => Row::DeadLetter(letter(Reason::NullValue, None, None)),
            _ => Row::Event(event(offset, "a")),
        };
        (offset, row)
    };
    // With a gap, as left by a transaction marker.
    let rows: Vec<(i64, Row)> = (0..10).chain(20..25).map(row).collect();
    known(store.write_rows(1, &rows).await);
    known(store.write_rows(0, &[row(21)]).await);
    known(store.write_rows(2, &[row(22)]).await);
    for (below, limit) in [(24, 3), (24, 8), (25, 100), (i64::MAX, usize::MAX), (15, 4), (0, 5), (9, 0)] {
        for from in [0, 4, 9, 10, 15, 21, 24, i64::MAX] {
            let range: Vec<(i64, Row)> =
                rows.iter().filter(|row| from <= row.0 && row.0 < below).cloned().collect();
            let expected = &range[range.len().saturating_sub(limit)..];
            let found = known(store.rows_below(1, from, below, limit).await);
            assert_eq!(found, expected, "{from} to {below}, {limit} of them");
        }
    }
}

async fn rows_of_many_buckets_are_returned_in_order_and_page_by_page<S: Store>(store: S) {
    // Buckets that are empty, that have one row, and that are far from the others.
    let offsets: Vec<i64> = (0..23).chain([40, 41, 63, 64, 1 << 40]).collect();
    for partition in [0, 1] {
        let rows: Vec<_> = offsets.iter().map(|&o| (o, Row::Event(event(o, "a")))).collect();
        for part in rows.chunks(7).rev() {
            known(store.write_rows(partition, part).await);
        }
    }
    let ids = |rows: Vec<(i64, Event)>| {
        rows.into_iter()
            .map(|(offset, event)| {
                assert_eq!(offset, event.id);
                offset
            })
            .collect::<Vec<_>>()
    };
    let bounds = [i64::MIN, 0, 1, 3, 4, 5, 22, 23, 41, 64, 65, 1 << 40, i64::MAX];
    for from in bounds {
        for to in bounds {
            let range: Vec<i64> = offsets.iter().copied().filter(|o| (from..to).contains(o)).collect();
            for limit in [0, 1, 4, 5, 100] {
                let first = ids(known(store.events(1, from, to, limit).await));
                assert_eq!(first, range[..limit.min(range.len())], "the first {limit} of {from}..{to}");
                let last = known(store.rows_below(1, from, to, limit).await);
                let last: Vec<i64> = last.into_iter().map(|row| row.0).collect();
                let expected = &range[range.len().saturating_sub(limit)..];
                assert_eq!(last, expected, "the last {limit} of {from}..{to}");
            }
        }
    }
    let (mut paged, mut next) = (Vec::new(), 0);
    while let Some(&last) = {
        let page = ids(known(store.events(0, next, i64::MAX, 3).await));
        paged.extend(page);
        paged.last().filter(|&&last| last >= next)
    } {
        next = last + 1;
    }
    assert_eq!(paged, offsets);
}

async fn a_range_of_rows_includes_its_start_and_not_its_end<S: Store>(store: S) {
    let offsets = [0, 1, 2, 5, 9, i64::MAX];
    let events = offsets.map(|offset| (offset, event(offset, "a")));
    let letters = offsets.map(|offset| (offset, letter(Reason::NullValue, None, None)));
    for partition in [3, 4, 5] {
        let rows: Vec<_> = events.iter().cloned().map(|(o, event)| (o, Row::Event(event))).collect();
        known(store.write_rows(partition, &rows).await);
        let rows: Vec<_> = letters.iter().cloned().map(|(o, letter)| (o, Row::DeadLetter(letter))).collect();
        known(store.write_rows(partition, &rows).await);
    }
    for (from, to, limit, expected) in [
        (0, i64::MAX, 100, &offsets[..5]),
        (1, 9, 100, &offsets[1..4]),
        (1, 10, 2, &offsets[1..3]),
        (3, 5, 100, &[]),
        (5, 5, 100, &[]),
        (9, 1, 100, &[]),
        (i64::MIN, 1, usize::MAX, &offsets[..1]),
        (0, 9, 0, &[]),
    ] {
        let found = known(store.events(4, from, to, limit).await);
        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), expected, "{from}..{to}");
        let found = known(store.dead_letters(4, from, to, limit).await);
        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), expected, "{from}..{to}");
    }
}

async fn partitions_returns_those_with_events_or_dead_letters<S: Store>(store: S) {
    let progress = Progress { origin: 0, next_offset: 5 };
    known(store.write_progress(8, progress).await);
    for partition in [5, 0, 1000] {
        known(store.write_rows(partition, &[(3, Row::Event(event(1, "a")))]).await);
    }
    for partition in [2, 5] {
        let row = Row::DeadLetter(letter(Reason::NullValue, None, None));
        known(store.write_rows(partition, &[(4, row)]).await);
    }
    assert_eq!(known(store.partitions().await), [0, 2, 5, 1000]);
}

async fn progress_makes_a_store_hold_rows<S: Store>(store: S) {
    known(store.write_progress(0, Progress { origin: 0, next_offset: 0 }).await);
    assert!(known(store.holds_rows().await));
}

async fn a_count_makes_a_store_hold_rows<S: Store>(store: S) {
    known(store.write_counts(0, &[(window("a", 5), Count { count: 0, through_offset: 0 })]).await);
    assert!(known(store.holds_rows().await));
}

async fn an_alert_makes_a_store_hold_rows<S: Store>(store: S) {
    known(store.write_alerts(&[alert("a", 5, 10)]).await);
    assert!(known(store.holds_rows().await));
}

async fn an_event_makes_a_store_hold_rows<S: Store>(store: S) {
    known(store.write_rows(0, &[(0, Row::Event(event(1, "a")))]).await);
    assert!(known(store.holds_rows().await));
}

async fn a_dead_letter_makes_a_store_hold_rows<S: Store>(store: S) {
    let row = Row::DeadLetter(letter(Reason::NullValue, None, None));
    known(store.write_rows(0, &[(0, row)]).await);
    assert!(known(store.holds_rows().await));
}

async fn a_binding_does_not_make_a_store_hold_rows<S: Store>(store: S) {
    known(store.bind(&binding("topic")).await);
    assert!(!known(store.holds_rows().await));
}

async fn repeating_every_call_changes_nothing<S: Store>(store: S) {
    let rows = [
        (0, Row::Event(event(1, "a"))),
        (1, Row::DeadLetter(letter(Reason::NotJson, Some(b"k"), Some(b"{")))),
    ];
    let count = (window("a", 5), Count { count: 10, through_offset: 0 });
    let progress = Progress { origin: 0, next_offset: 2 };
    for _ in 0..3 {
        known(store.write_counts(0, std::slice::from_ref(&count)).await);
        known(store.write_alerts(&[alert("a", 5, 10)]).await);
        known(store.write_rows(0, &rows).await);
        known(store.write_progress(0, progress).await);
        assert_eq!(known(store.rows_below(0, 0, 9, 9).await), rows);
        assert_eq!(known(store.counts(0, std::slice::from_ref(&count.0)).await), [Some(count.1)]);
        assert_eq!(all_alerts(&store, 9).await, [alert("a", 5, 10)]);
        assert_eq!(known(store.progress_of_all().await), BTreeMap::from([(0, progress)]));
    }
}

async fn calls_may_overlap_and_a_clone_reads_acknowledged_writes<S: Store>(store: S) {
    let sources: Vec<Arc<str>> = (0..10).map(|i| format!("source {i}").into()).collect();
    let write = |n: i64| {
        let (store, sources) = (store.clone(), sources.clone());
        async move {
            let partition = (n % 3) as i32;
            let rows: Vec<_> = (0..50).map(|i| (n * 50 + i, Row::Event(event(n * 50 + i, "a")))).collect();
            let counts: Vec<_> = sources
                .iter()
                .map(|source| WindowKey { source: source.clone(), end: 5 })
                .map(|key| (key, Count { count: n + 1, through_offset: n }))
                .collect();
            known(store.write_rows(partition, &rows).await);
            known(store.write_counts(partition, &counts).await);
            // It reads its own writes, whatever other requests are in flight.
            let seen = known(store.clone().events(partition, n * 50, n * 50 + 50, 100).await);
            assert_eq!(seen.len(), 50);
            let keys: Vec<WindowKey> = counts.into_iter().map(|(key, _)| key).collect();
            for count in known(store.counts(partition, &keys).await) {
                assert!(count.is_some_and(|count| count.through_offset >= n));
            }
        }
    };
    join_all((0..30).map(write)).await;
    for partition in 0..3 {
        let rows = known(store.events(partition, 0, i64::MAX, usize::MAX).await);
        assert_eq!(rows.len(), 500);
        let expected = Count { count: 28 + i64::from(partition), through_offset: 27 + i64::from(partition) };
        let own = known(store.counts(partition, &[window("source 4", 5)]).await);
        assert_eq!(own, [Some(expected)]);
    }
}

async fn writing_nothing_is_acknowledged<S: Store>(store: S) {
    known(store.write_rows(0, &[]).await);
    known(store.write_counts(0, &[]).await);
    known(store.write_alerts(&[]).await);
    assert!(!known(store.holds_rows().await));
}
