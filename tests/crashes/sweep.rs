//! A small log, with every fault at every operation, and with crashes at every pair of operations.

use std::collections::BTreeMap;

use exactlyonce::window::WindowSpec;

use crate::faulty::Fault;
use crate::harness::{Entry, Scenario, event};

/// Two partitions with events of the same windows, a gap, a dead letter, and events out of order.
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
fn a_fault_at_any_operation_does_not_change_the_tables() {
    let operations = scenario().check().operations;
    let mut points = 0;
    for fault in Fault::ALL {
        for operation in 0..operations {
            let faults = BTreeMap::from([(operation, fault)]);
            let result = Scenario { faults, ..scenario() }.check();
            assert_eq!(result.injected, [fault], "{fault:?} at operation {operation}");
            points += 1;
        }
    }
    println!("{operations} operations, {points} points: every fault at every operation");
}

#[test]
fn crashes_at_any_two_operations_do_not_change_the_tables() {
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
