//! One small log, and a crash at every single operation; then at every pair.

use std::collections::BTreeMap;

use exactlyonce::window::WindowSpec;

use crate::faulty::Fault;
use crate::harness::{Entry, Scenario, event};

/// Two partitions that share windows of one source, with a gap, a dead letter, and events out of order.
fn scenario() -> Scenario {
    let mut log = Vec::new();
    for i in 0..14 {
        let partition = (i % 2) as i32;
        log.push(Entry::Value(partition, event(i, i * 3 % 20, "a", 2)));
        if i == 5 {
            log.push(Entry::Gap(partition, 2));
            log.push(Entry::Value(partition, Some(b"{".to_vec())));
            log.push(Entry::Value(partition, event(i, 1, "b", 0)));
        }
    }
    log.push(Entry::Gap(1, 1));
    Scenario {
        log,
        window: WindowSpec { size_ms: 10, slide_ms: 10, threshold: 3, ..WindowSpec::default() },
        workers: 1,
        fetch_records: 3,
        batch_records: 3,
        in_flight_batches: 2,
        counts_cache_bytes: 200,
        faults: BTreeMap::new(),
        delays: vec![(0, 1), (2, 0), (0, 0), (1, 3)],
    }
}

#[test]
fn a_crash_after_any_operation_changes_nothing() {
    let operations = scenario().check().operations;
    let mut points = 0;
    for fault in Fault::ALL {
        for operation in 0..operations {
            let faults = BTreeMap::from([(operation, fault)]);
            let ended = Scenario { faults, ..scenario() }.check();
            assert_eq!(ended.met, [fault], "{fault:?} at operation {operation}");
            points += 1;
        }
    }
    println!("{operations} operations, {points} points: every fault at every operation");
}

#[test]
fn crashes_after_any_two_operations_change_nothing() {
    let operations = scenario().check().operations;
    let mut points = 0;
    for first in 0..operations {
        for second in first + 1..operations + 12 {
            for fault in [Fault::CrashAfter, Fault::CrashBefore] {
                let faults = BTreeMap::from([(first, Fault::CrashAfter), (second, fault)]);
                Scenario { faults, ..scenario() }.check();
                points += 1;
            }
        }
    }
    println!("{operations} operations, {points} pairs of crashes");
}
