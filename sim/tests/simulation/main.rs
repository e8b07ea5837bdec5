//! The simulation's tests: `cargo test --test simulation` in the folder above runs them.

mod alarm;
mod determinism;
mod seeds;
mod shim;
