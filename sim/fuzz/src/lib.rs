//! Fuzz targets that need the simulation: [`scenario`] runs scenarios in the fast world, [`scenario_file`] reads their files.
//!
//! [`search`] is a search without libFuzzer, on any Rust: random seeds, or mutations of scenarios guided by the states of the
//! protocol that they reach ([`states`]).

mod counters;
mod edit;
mod genome;
mod options;
mod scenario;
mod scenario_file;
pub mod search;
pub mod states;

pub use genome::Genome;
pub use scenario::scenario;
pub use scenario_file::scenario_file;

use fuzz_runner::Target;

/// All targets.
pub const TARGETS: [Target; 2] = [
    Target { name: "scenario", run: scenario, longest: genome::LONGEST, limit_seconds: 120 },
    Target { name: "scenario_file", run: scenario_file, longest: 16 << 10, limit_seconds: 20 },
];
