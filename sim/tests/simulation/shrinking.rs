//! A scenario that fails is reduced to a small one that fails in the same way.

use simulation::campaign::Isolation;
use simulation::scenario::fault::Fault;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};
use simulation::shrink::shrink;

/// A scenario with a store that drops acknowledged writes, among many other faults.
fn sabotaged(seed: u64) -> Scenario {
    Scenario::draw(seed, World::Simple, Profile::Sabotaged)
}

#[test]
fn a_scenario_is_reduced_to_the_fault_that_matters_and_a_few_records() {
    let mut sizes = Vec::new();
    for seed in 0..5 {
        let shrunk = shrink(sabotaged(seed), &Isolation::Threads, |_| true).expect("it fails");
        let Scenario { faults, records, .. } = &shrunk.scenario;
        println!(
            "seed {seed}: {} with {} faults, {} records after {} runs",
            shrunk.violation,
            faults.len(),
            records.len(),
            shrunk.runs
        );
        sizes.push((faults.len(), records.len()));
        assert!(faults.iter().any(|fault| fault.id == Fault::ADDED), "seed {seed}");
        let again = shrink(shrunk.scenario.clone(), &Isolation::Threads, |_| true).expect("it still fails");
        assert_eq!((again.violation, again.scenario), (shrunk.violation, shrunk.scenario), "seed {seed}");
    }
    sizes.sort_unstable();
    assert!(
        sizes[2].0 <= 3 && sizes.iter().all(|(faults, records)| *faults <= 6 && *records <= 30),
        "{sizes:?}"
    );
}

#[test]
fn a_scenario_without_a_violation_is_not_reduced() {
    let scenario = Draft::new(2, World::Simple, Profile::Standard).without_faults();
    assert!(shrink(scenario, &Isolation::Threads, |_| true).is_none());
}

#[test]
fn a_reduction_that_is_ended_early_still_fails_in_the_same_way() {
    let shrunk = shrink(sabotaged(1), &Isolation::Threads, |shrunk| shrunk.runs < 5).expect("it fails");
    assert_eq!(shrunk.runs, 5);
    assert!(simulation::run(shrunk.scenario, false).has(shrunk.violation));
}
