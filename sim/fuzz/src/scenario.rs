//! The target `scenario`.

use simulation::run;

use crate::states::States;
use crate::{Genome, counters};

/// Runs the scenario of an input in the fast world. The states of the protocol that it reaches are counted for libFuzzer.
///
/// # Panics
/// If the run has a violation.
pub fn scenario(data: &[u8]) {
    let scenario = Genome::decode(data).scenario();
    let report = run(scenario, false);
    counters::set(&States::of(&report));
    if let Some(violation) = &report.violation {
        let seed = report.scenario.seed;
        panic!("seed {seed}: {violation:?}, of the scenario\n{}", report.scenario.to_toml());
    }
}
