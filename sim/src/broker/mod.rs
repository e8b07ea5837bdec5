//! The simulated broker: two services, one with the log and one with the group.
//!
//! They are apart so that a worker may lose touch with its group and go on reading the log, as a consumer of
//! the real broker does: a zombie that does not know it. The log has gaps and a start past 0, may show its
//! end late, and hands out any number of records at once. The group hands partitions over in order where it
//! can; who is silent for too long, or does not give back what it is asked for, loses its partitions. Not
//! here: replicas, elections, transactions (but for the gaps they leave), retention during the run.

mod client;
pub(crate) mod group;
mod question;
mod service;

pub use client::{BrokerClient, GroupMember};
pub(crate) use service::{serve_group, serve_log};
