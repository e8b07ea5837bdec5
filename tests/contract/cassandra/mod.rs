//! How Cassandra behaves.

pub mod cases;
pub mod client;
pub mod real;
pub mod world;
