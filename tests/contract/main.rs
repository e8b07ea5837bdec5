//! The behaviour of the services, case by case: the pipeline relies on it, and the simulation must reproduce it.
//!
//! A case is a sentence, written once against the traits of a service (`cassandra/backend.rs`, `kafka/backend.rs`) and run
//! on every backend (real or simulated services) that supports the verbs that it needs. This program runs them on real
//! services, and those of Kafka on the simulated one, with the same clients and over sockets:
//!
//! ```text
//! docker/local/cluster up --kafka 3 --cassandra 3
//! cargo test --test contract -- --ignored [PART OF A NAME]
//! cargo test --test contract simulated::kafka
//! ```
//!
//! On simulated Cassandra, `sim/tests/contract` runs the same files: `cargo sim simulated::`.
//!
//! What a case observes must equal its text in `docs/contract.md`. With `EXACTLYONCE_CONTRACT_WRITE=1` in the
//! environment, the document is written instead.

mod cassandra;
#[cfg(feature = "cassandra")]
#[path = "../common/cluster.rs"]
mod cluster;
mod document;
#[cfg(feature = "kafka")]
mod kafka;
mod runner;
#[cfg(any(feature = "kafka", feature = "cassandra"))]
#[cfg_attr(not(feature = "kafka"), allow(dead_code))] // services of each case's own
mod services;
#[cfg(feature = "kafka")]
#[path = "../common/simulated_kafka.rs"]
mod simulated_kafka;
mod suite;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let mode = runner::Mode::of(&mut arguments);
    let mut trials: Vec<Trial> = Vec::new();
    let mut backends: Vec<Box<dyn runner::Finish>> = Vec::new();
    if mode.plain {
        trials.extend(runner::plain("suite", suite::tests()));
        trials.extend(runner::plain("document", document::tests()));
    }
    #[cfg(feature = "cassandra")]
    backends.push(runner::add(
        &mut trials,
        mode,
        runner::Plan {
            service: "cassandra",
            backend: "real",
            column: "Apache Cassandra 5.0.5",
            needs_services: true,
            cases: cassandra::cases::all(),
            not_applicable: include_str!("not-applicable/real-cassandra.txt"),
            not_applicable_at_most: 6,
            runner: services::Services::new(cassandra::real::Real::start),
        },
    ));
    #[cfg(feature = "kafka")]
    backends.push(runner::add(
        &mut trials,
        mode,
        runner::Plan {
            service: "kafka",
            backend: "real",
            column: "Apache Kafka 4.1.0",
            needs_services: true,
            cases: kafka::cases::all(),
            not_applicable: include_str!("not-applicable/real-kafka.txt"),
            not_applicable_at_most: 0,
            runner: services::Services::new(kafka::real::Real::start),
        },
    ));
    #[cfg(feature = "kafka")]
    backends.push(runner::add(
        &mut trials,
        mode,
        runner::Plan {
            service: "kafka",
            backend: "simulated",
            column: "simulated",
            needs_services: false,
            cases: kafka::cases::all(),
            not_applicable: include_str!("not-applicable/simulated-kafka.txt"),
            not_applicable_at_most: 0,
            runner: services::Separate(kafka::simulated::Simulated::start),
        },
    ));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let finished = runner::finish(backends);
    if !mode.services && !arguments.list {
        println!("the cases on real services need them: docker/local/cluster up --kafka 3 --cassandra 3");
        println!("then: cargo test --test contract -- --ignored");
    }
    if conclusion.has_failed() || !finished { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
