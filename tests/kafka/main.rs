//! The Kafka driver: against librdkafka's own mock cluster, which needs no service, and against the real thing.

#[path = "../common/cluster.rs"]
mod cluster;
mod mock;
mod real;
#[cfg(feature = "tls")]
mod security;
#[path = "../common/kafka.rs"]
mod services;
