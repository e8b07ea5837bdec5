//! Coordinators of groups, driven without a broker: each rule of the protocols as the shortest scenario.

mod classic;
mod consumer;
mod harness;
mod migration;
mod observer;
mod offsets;
#[path = "../recorder/mod.rs"]
mod recorder;
mod static_members;
