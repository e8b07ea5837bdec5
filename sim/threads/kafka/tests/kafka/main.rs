//! The unmodified librdkafka, and production's broker on it, with a simulated Kafka cluster.

mod clients;

#[path = "../../../tests/threads/harness.rs"]
#[allow(dead_code)]
mod harness;
mod memory;
mod production;
