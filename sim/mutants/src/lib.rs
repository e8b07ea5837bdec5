//! Finds known-bad pipelines by simulation. `README.md` describes how.

pub mod build;
pub mod combine;
pub mod difference;
pub mod page;
pub mod patch;
pub mod plain;
pub mod play;
pub mod processor;
pub mod program;
pub mod results;
pub mod searches;
pub mod source;
pub mod statistics;
pub mod switch;
pub mod tree;
pub mod worlds;
