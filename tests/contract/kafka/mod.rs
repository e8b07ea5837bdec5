//! How Kafka behaves.

pub mod backend;
pub mod cases;
pub mod real;
