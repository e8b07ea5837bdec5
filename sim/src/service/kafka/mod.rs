//! The log on a simulated Kafka cluster of three brokers, through the production broker and the unmodified librdkafka.
//!
//! Workers, the operator who creates the topic and binds the tables, and the producer of the records are machines with
//! clients of their own. What is true of the log is read from the leaders ([`mirror`]), so the outcome of a request to append
//! need not be known.

#[cfg(feature = "full")]
mod client;
#[cfg(feature = "full")]
mod damage;
pub(crate) mod declaration;
#[cfg(feature = "full")]
mod faults;
#[cfg(feature = "full")]
mod log;
#[cfg(feature = "full")]
mod mirror;
#[cfg(feature = "full")]
mod observe;
#[cfg(feature = "full")]
mod producer;
#[cfg(feature = "full")]
mod record;
#[cfg(feature = "full")]
mod threads;
#[cfg(feature = "full")]
mod transactions;

#[cfg(feature = "full")]
pub(crate) use log::KafkaLog;
#[cfg(feature = "full")]
pub(crate) use threads::Activity;

/// How many partitions the topic has, as the controller knows.
#[cfg(feature = "full")]
fn partitions(cluster: &simulated_kafka::cluster::Cluster) -> i32 {
    use crate::scenario::options::TOPIC;
    cluster.metadata().topic(TOPIC).map_or(0, |topic| topic.partitions.len() as i32)
}
