//! The pipeline in a deterministic simulation, where a seed determines everything that happens.
//!
//! [`run`] runs one seed: it draws a [`config::SimConfig`] (sizes, timeouts, windows), a workload and a [`faults::Plan`],
//! runs production code ([`exactlyonce::pipeline::run`]) against a broker and a store that are services on a simulated
//! network, injects the faults, ends them, waits until the workers have drained the log, and compares the tables with
//! the ground truth. Time, tasks, network and random numbers come from madsim; a seed has one [`trace`], event by event,
//! in any process.
//!
//! The services are simple: one node each, no replication, and nothing that was acknowledged is lost. [`broker`],
//! [`store`] and [`faults`] describe their behaviour. [`on_cassandra`] replaces the store by a simulated cluster.

#[cfg(not(madsim))]
compile_error!("the simulation is built with `--cfg madsim`; `cargo sim` in the folder above does it");

pub mod broker;
pub mod cassandra;
pub mod checker;
pub mod config;
mod context;
pub mod faults;
mod injector;
mod network;
pub mod observed;
pub mod on_cassandra;
pub mod random;
mod run;
mod simulate;
pub mod store;
pub mod trace;
mod worker;
pub mod workload;

pub use run::{Report, Seed, run, run_with};
pub use simulate::simulate;
