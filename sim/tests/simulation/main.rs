//! The simulation's tests: `cargo test --test simulation` in the folder above runs them.

mod alarm;
mod cassandra;
mod damage;
mod datacenters;
mod determinism;
mod network;
mod regressions;
mod seeds;
mod shim;
mod shrinking;
mod sweep;
