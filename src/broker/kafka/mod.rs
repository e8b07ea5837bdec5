//! The log in Apache Kafka.

mod options;

pub use options::{GroupProtocol, KafkaOptions, Sasl, SaslMechanism, Security, Tls};
