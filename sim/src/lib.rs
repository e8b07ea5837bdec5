//! The pipeline in a simulated world, where a seed decides everything that happens to it.
//!
//! [`run`] plays one seed: it draws a [`world::World`] (sizes, timeouts, windows), a workload and a
//! [`faults::Plan`], lets production code ([`exactlyonce::pipeline::run`]) work against a broker and a store
//! that are services on a simulated network, lets everything go wrong for a while, heals it, waits until the
//! workers have drained the log, and holds the tables against the ground truth. Time, tasks, network and
//! chance are madsim's; one seed gives one [`trace`], event by event, in any process.
//!
//! The services here are simple: one node each, nothing replicated, nothing that was acknowledged is lost.
//! What they do to a pipeline is said in [`broker`], [`store`] and [`faults`].

#[cfg(not(madsim))]
compile_error!("the simulation is built with `--cfg madsim`; `cargo sim` in the folder above does it");

pub mod broker;
pub mod cassandra;
pub mod dice;
pub mod faults;
mod injector;
mod network;
pub mod observed;
pub mod on_cassandra;
pub mod oracle;
mod run;
mod simulate;
mod stage;
pub mod store;
pub mod trace;
mod worker;
pub mod workload;
pub mod world;

pub use run::{Report, Seed, run, run_with};
pub use simulate::simulate;
