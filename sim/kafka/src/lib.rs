#![doc = include_str!("../README.md")]

pub mod cluster;
pub mod controller;
pub mod coordinator;
pub mod error;
pub mod group;
pub mod log;
pub mod metadata;
pub mod protocol;
pub mod quota;
mod replica;
pub mod sasl;
pub mod serve;
pub mod server;
pub mod transaction;
pub mod types;
