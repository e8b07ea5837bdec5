//! The Kafka driver: on librdkafka's mock cluster, which requires no services, and on real brokers.

#[path = "../common/cluster.rs"]
mod cluster;
mod members;
mod mock;
mod real;
#[cfg(feature = "tls")]
mod security;
#[path = "../common/kafka.rs"]
mod services;
