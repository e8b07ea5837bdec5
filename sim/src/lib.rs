//! The pipeline in a deterministic simulation, where a seed determines everything that happens.
//!
//! A [`scenario::Scenario`] is drawn from a seed or read from a file: options, records, faults. [`run`] runs it: it runs
//! production code ([`exactlyonce::pipeline::run`]) against a broker and a store that are services on a simulated
//! network, injects the faults, ends them, waits until the workers have drained the log, and compares the tables with
//! the ground truth. Time, tasks, network and random numbers come from madsim; a scenario has one [`trace`], event by
//! event, in any process.
//!
//! [`service`] describes the services: a simple log or a simulated Kafka cluster, and as the tables a simple store or a
//! simulated Cassandra cluster.

// What only the world `full` uses.
#![cfg_attr(not(feature = "full"), allow(dead_code))]

#[cfg(not(madsim))]
compile_error!("the simulation is built with `--cfg madsim`; `cargo sim` in the folder above does it");

pub mod campaign;
mod context;
pub mod explain;
mod injector;
mod links;
mod network;
pub mod observed;
mod operator;
pub mod oracle;
mod parties;
mod points;
pub mod random;
mod run;
pub mod scenario;
pub mod service;
pub mod shrink;
mod simulate;
pub mod timeline;
pub mod trace;
mod watch;
mod worker;

/// The commit that was checked out when this was built, or `unknown`. Uncommitted changes do not show.
pub const COMMIT: &str = env!("SIMULATION_COMMIT");

pub use parties::Service;
pub use run::{Report, Seed, run};
pub use simulate::simulate;
#[cfg(feature = "full")]
pub use simulate::simulate_with_threads;

/// A run allocates much, and all of it in one thread. With threads it must be the C library's allocator: what another one
/// calls, and how often, depends on what was allocated before, and each call would be one of the simulation.
#[cfg(not(feature = "full"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
