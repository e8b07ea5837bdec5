//! The behaviour of Kafka.

pub mod backend;
pub mod cases;
pub mod real;
pub mod simulated;
mod sockets;
