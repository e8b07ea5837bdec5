//! Runs scenarios in processes of their own where their world needs that.

use std::time::Duration;

use simulation::Report;
use simulation::campaign::{Isolation, play};
use simulation::scenario::Scenario;

/// Each run in a process of its own.
pub fn processes() -> Isolation {
    Isolation::Processes {
        program: env!("CARGO_BIN_EXE_simulation").into(),
        time_limit: Duration::from_secs(300),
    }
}

/// Runs a scenario.
pub fn played(scenario: Scenario) -> Report {
    let isolation = if scenario.world().isolated() { processes() } else { Isolation::Threads };
    play(scenario, &isolation)
}
