//! The pipeline on an in-memory store: faults of the store and crashes of workers at every operation.

mod altered;
mod batching;
mod deliveries;
mod faulty;
mod generated;
mod harness;
mod polls;
mod refusals;
mod registry;
mod stopping;
mod sweep;
