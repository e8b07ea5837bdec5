#![doc = include_str!("../README.md")]

pub mod coordinator;
pub mod group;
pub mod transaction;
