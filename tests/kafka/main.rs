//! The Kafka driver: against librdkafka's own mock cluster, which needs no service, and against the real thing.

mod mock;
mod real;
#[path = "../common/kafka.rs"]
mod services;
