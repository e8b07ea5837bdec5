#![doc = include_str!("../README.md")]

pub mod error;
pub mod log;
pub mod protocol;
pub mod types;

