//! A cluster in paused time: what its clients observe, and what faults do to it.

mod administration;
mod committed;
mod determinism;
mod durability;
mod elections;
mod frames;
mod groups;
mod harness;
mod logs;
mod observer;
mod operators;
mod producers;
mod quotas;
mod racks;
#[path = "../recorder/mod.rs"]
mod recorder;
mod replication;
mod security;
mod sessions;
mod topics;
mod transactions;
