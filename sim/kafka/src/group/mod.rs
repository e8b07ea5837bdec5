//! The coordinator of groups: both group protocols, and committed offsets.
//!
//! [`GroupShard`] is the state machine of one partition of `__consumer_offsets`. How a runtime drives it is written
//! in [`coordinator`](crate::coordinator).
//!
//! A change of state that is recorded (offsets, members of the `consumer` protocol, generations of the classic one)
//! is made at once, by the same code that reads it from the log, and its record is appended; the response waits
//! until it is committed. If an append fails, the state is ahead of the log, and the shard asks to be loaded again
//! ([`Effects::reload`](crate::coordinator::Effects::reload)). What is not recorded (who waits for a rebalance, sessions) is lost with the shard, as in
//! Kafka: members find out with their next request.
//!
//! Responses without records of their own wait for the records before them, so that nothing is read that may
//! still be lost; Kafka's `CoordinatorRuntime` does so for requests that may write. (It answers OffsetFetch and the
//! requests that describe groups from the state as of the last commit instead.)

mod classic;
mod config;
mod consumer;
mod describe;
mod env;
mod handle;
mod observe;
mod offsets;
mod records;
mod refusal;
mod request;
mod shard;
mod subscription;

pub use config::{Assignor, GroupConfig, MigrationPolicy};
pub use request::{GroupRequest, GroupResponse};
pub use shard::GroupShard;

pub(crate) use shard::Group;
