#![doc = include_str!("../README.md")]

pub mod cluster;
pub mod controller;
pub mod error;
pub mod log;
pub mod metadata;
pub mod protocol;
mod replica;
pub mod serve;
pub mod server;
pub mod types;

