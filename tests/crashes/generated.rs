//! Property test: random logs, faults and options.

use std::collections::BTreeMap;

use exactlyonce::event::Health;
use exactlyonce::window::{HealthSet, WindowSpec};
use proptest::prelude::*;

use crate::faulty::Fault;
use crate::harness::{Entry, PARTITIONS, Scenario, event};

fn entry() -> impl Strategy<Value = Entry> {
    let partition = 0..PARTITIONS;
    let critical = (partition.clone(), -15i64..40, 0usize..3, 0i64..6).prop_map(|(p, ts, source, id)| {
        Entry::Value(p, event(id, ts, ["a", "b", "a source with a longer name"][source], 2))
    });
    let other = (partition.clone(), any::<i64>(), 0..4)
        .prop_map(|(p, ts, health)| Entry::Value(p, event(1, ts, "a", health)));
    let malformed = (partition.clone(), proptest::option::of(".{0,12}"))
        .prop_map(|(p, value)| Entry::Value(p, value.map(String::into_bytes)));
    let gap = (partition, 1i64..4).prop_map(|(p, offsets)| Entry::Gap(p, offsets));
    prop_oneof![10 => critical, 2 => other, 1 => malformed, 1 => gap]
}

fn window() -> impl Strategy<Value = WindowSpec> {
    let spans = prop_oneof![Just((10, 10)), Just((10, 5)), Just((9, 4)), Just((40, 1))];
    (spans, 1i32..6, any::<bool>()).prop_map(|((size_ms, slide_ms), threshold, warnings)| WindowSpec {
        size_ms,
        slide_ms,
        threshold,
        health: match warnings {
            true => HealthSet::of(&[Health::Warning, Health::Critical]),
            false => HealthSet::of(&[Health::Critical]),
        },
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let log = proptest::collection::vec(entry(), 0..90);
    let fault = proptest::sample::select(&Fault::ALL[..]);
    let faults = proptest::collection::btree_map(0u64..220, fault, 0..14);
    let delays = proptest::collection::vec((0u64..9, 0u64..9), 1..12);
    let cache = prop_oneof![Just(300usize), Just(1_000), Just(1 << 20)];
    let sizes = (1usize..3, 1usize..9, 1usize..9, 1usize..5, cache);
    (log, window(), sizes, faults, delays).prop_map(
        |(log, window, (workers, fetch_records, batch_records, in_flight_batches, cache), faults, delays)| {
            Scenario {
                log,
                window,
                workers,
                fetch_records,
                batch_records,
                in_flight_batches,
                counts_cache_bytes: cache,
                faults,
                delays,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_log_with_any_crashes_ends_in_the_ground_truth(scenario in scenario()) {
        let result = scenario.run();
        prop_assert_eq!(result.stored, result.truth);
    }
}

#[test]
fn every_kind_of_fault_is_injected() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut injected: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let scenario = scenario().new_tree(&mut runner).unwrap().current();
        for fault in scenario.run().injected {
            *injected.entry(format!("{fault:?}")).or_default() += 1;
        }
    }
    println!("{injected:?}");
    assert_eq!(injected.len(), Fault::ALL.len(), "{injected:?}");
}
