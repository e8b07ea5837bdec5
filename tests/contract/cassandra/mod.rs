//! The behaviour of Cassandra.

pub mod backend;
pub mod cases;
pub mod client;
pub mod real;
