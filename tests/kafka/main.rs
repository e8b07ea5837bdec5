//! The Kafka driver: on librdkafka's mock cluster and on simulated brokers, which require no services, and on real brokers.

mod appends;
#[path = "../common/cluster.rs"]
mod cluster;
mod fenced;
mod late_metadata;
mod members;
mod mock;
mod real;
#[cfg(feature = "tls")]
mod security;
#[path = "../common/kafka.rs"]
mod services;
#[path = "../common/simulated_kafka.rs"]
mod simulated_kafka;
