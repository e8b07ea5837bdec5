//! Threads in C and in Rust, in the simulation.

mod counter;
mod determinism;
mod failures;
mod harness;
mod kills;
mod machines;
mod names;
mod rust;
mod scheduling;
