//! A scenario that fails is reduced to a small one that fails in the same way.

use std::time::{Duration, Instant};

use simulation::scenario::fault::{Fault, Kind, Target, Trigger};
use simulation::scenario::options::Begin;
use simulation::scenario::{Draft, Scenario, World};
use simulation::shrink::shrink;

/// A scenario with a store that drops acknowledged writes, among many other faults.
fn sabotaged(seed: u64) -> Scenario {
    let mut draft = Draft::new(seed, World::Simple);
    draft.options.begin = Begin::Start;
    let mut scenario = draft.scenario();
    scenario.faults.push(Fault {
        id: 999,
        trigger: Trigger::At { at_ms: 0 },
        target: Target::Anyone,
        kind: Kind::AcknowledgedWritesDropped { per_mille: 600 },
        duration_ms: scenario.options.chaos_ms,
    });
    scenario
}

#[test]
fn a_scenario_is_reduced_to_the_fault_that_matters_and_a_few_records() {
    let in_a_minute = || Instant::now() + Duration::from_secs(60);
    for seed in 0..5 {
        let shrunk = shrink(sabotaged(seed), in_a_minute(), |_| {}).expect("it fails");
        let Scenario { faults, records, .. } = &shrunk.scenario;
        println!(
            "seed {seed}: {} with {} faults, {} records after {} runs",
            shrunk.violation,
            faults.len(),
            records.len(),
            shrunk.runs
        );
        assert!(faults.len() <= 3 && records.len() <= 30, "seed {seed}: {:#?}", shrunk.scenario);
        assert!(faults.iter().any(|fault| fault.id == 999), "seed {seed}");
        let again = shrink(shrunk.scenario.clone(), in_a_minute(), |_| {}).expect("it still fails");
        assert_eq!((again.violation, again.scenario), (shrunk.violation, shrunk.scenario), "seed {seed}");
    }
}

#[test]
fn a_scenario_without_a_violation_is_not_reduced() {
    let scenario = Draft::new(2, World::Simple).without_faults();
    assert!(shrink(scenario, Instant::now() + Duration::from_secs(60), |_| {}).is_none());
}
