//! The simulation's tests: `cargo test --test simulation` in the folder above runs them.

mod alarm;
mod browser;
mod cassandra;
mod commands;
mod damage;
mod datacenters;
mod determinism;
mod isolation;
mod network;
mod played;
mod profiles;
mod regressions;
mod seeds;
mod shim;
mod shrinking;
mod sweep;
mod timeline;
