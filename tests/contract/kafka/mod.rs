//! How Kafka behaves.

pub mod cases;
pub mod real;
pub mod world;
