//! How the simulated services behave, case by case: the files of `tests/contract`, in which the cases are, run here in
//! simulations, and what is observed is the column *simulated* of `docs/contract.md`.
//!
//! ```text
//! cargo test --test simulation simulated::cassandra
//! EXACTLYONCE_CONTRACT_WRITE=1 cargo test --test simulation simulated::cassandra
//! ```
//!
//! The second command writes the document.

mod cassandra;
#[path = "../../../tests/contract/document.rs"]
#[allow(dead_code)] // tests/contract runs its tests
mod document;
#[path = "../../../tests/contract/runner.rs"]
#[allow(dead_code)] // what only real services need
mod runner;
#[path = "../../../tests/contract/suite.rs"]
#[allow(dead_code)] // tests/contract runs its tests
mod suite;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let mode = runner::Mode::simulated(&mut arguments);
    let mut trials: Vec<Trial> = Vec::new();
    let backends = vec![runner::add(
        &mut trials,
        mode,
        runner::Plan {
            service: "cassandra",
            backend: "simulated",
            column: "simulated",
            needs_services: false,
            cases: cassandra::cases::all(),
            not_applicable: include_str!("../../../tests/contract/not-applicable/simulated-cassandra.txt"),
            not_applicable_at_most: 0,
            runner: cassandra::simulated::Simulations,
        },
    )];
    let conclusion = libtest_mimic::run(&arguments, trials);
    let finished = runner::finish(backends);
    if conclusion.has_failed() || !finished { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
