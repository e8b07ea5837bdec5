//! The log: what the pipeline requires of a broker.
//!
//! A topic has partitions; a partition is a sequence of records with ascending, not necessarily dense
//! offsets. Workers of a group share a topic's partitions among them. There are three traits, by their users:
//! [`Broker`] (reads the log), [`Consumer`] (a member of a group), [`Producer`] (creates topics and appends records;
//! the pipeline itself never writes to the log).
//!
//! Contract of every implementation:
//! - start positions come from the caller, never from offsets that the broker keeps for a group;
//! - a consumer never skips or resets by itself: a position that the log does not have is
//!   [`BrokerError::OutOfRange`];
//! - only committed records are delivered (`read_committed`): the log's end is the last stable offset;
//! - every delivery carries the incarnation that its [`Consumer::start`] named, so that what was fetched for
//!   an older one can be recognised and dropped.

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;

use std::future::{self, Future};

use thiserror::Error;

use crate::error::Cause;
use crate::event::Record;
use crate::guarantee::Finding;

/// Why a request to a broker failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A retry may succeed: the broker is unavailable, a leader moved, a request timed out.
    #[error("request to the broker failed: {what}")]
    Retriable {
        /// What was requested, and of which topic and partition.
        what: String,
        /// The broker's error.
        #[source]
        cause: Option<Cause>,
    },
    /// The log does not have the requested offset: it is below the log's start or past its end.
    #[error("topic {topic} partition {partition} does not have offset {offset}")]
    OutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The requested offset.
        offset: i64,
    },
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// The topic exists already.
    #[error("topic {0} exists already")]
    TopicExists(String),
    /// The cluster does not support what the options require.
    #[error("the broker cannot {what}")]
    Unsupported {
        /// What was requested, and what to do instead.
        what: String,
        /// The broker's error.
        #[source]
        cause: Option<Cause>,
    },
    /// The broker does not allow it: credentials or a certificate were rejected, a permission is missing, the members of
    /// the group use another protocol or assignor. The configuration has to be changed.
    #[error("the broker refused to {what}: {reason}")]
    Refused {
        /// What was requested, and of which topic and partition.
        what: String,
        /// What is wrong, and what to do.
        reason: String,
        /// The driver's error.
        #[source]
        cause: Option<Cause>,
    },
    /// A retry will not help: the configuration is wrong, or data is damaged.
    #[error("broker error: {what}")]
    Fatal {
        /// What was requested, and of which topic, partition or file.
        what: String,
        /// The broker's error.
        #[source]
        cause: Option<Cause>,
    },
}

impl BrokerError {
    /// True if the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, BrokerError::Retriable { .. })
    }
}

/// A topic as the broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// The id that distinguishes a topic from another one of the same name, created after the first was deleted
    /// (Kafka: a UUID, KIP-516).
    pub id: String,
    /// Number of partitions, numbered from 0. It can grow.
    pub partitions: i32,
    /// Replication factor.
    pub replication: i16,
    /// True if `cleanup.policy` contains `compact`: records may be deleted between two reads.
    pub compacted: bool,
}

/// Start and end of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that the log may still have.
    pub start: i64,
    /// The offset after the last committed record (or marker), at which a reader waits for more.
    pub end: i64,
}

/// The result of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Records by ascending offset.
    pub records: Vec<Record>,
    /// The offset to continue at: past the last record, and past any gap after it. Equal to the requested offset if the
    /// log ends there.
    pub next_offset: i64,
}

/// Reads the log. Cheap to clone; every clone uses the same broker.
pub trait Broker: Clone + Send + Sync + 'static {
    /// A member of a group.
    type Consumer: Consumer;

    /// Describes a topic, from the broker and not from a cache.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`], [`BrokerError::Retriable`], [`BrokerError::Fatal`].
    fn topic(&self, topic: &str) -> impl Future<Output = Result<Topic, BrokerError>> + Send;

    /// Start and end of a partition's log.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`], [`BrokerError::Retriable`], [`BrokerError::Fatal`].
    fn offsets(
        &self,
        topic: &str,
        partition: i32,
    ) -> impl Future<Output = Result<LogOffsets, BrokerError>> + Send;

    /// Reads from `offset` on, outside any group: at least one record if the log has one there, at most
    /// `max_records` and, after the first, about `max_bytes`. Does not wait for new records.
    ///
    /// # Errors
    /// [`BrokerError::OutOfRange`] if `offset` is outside the log; else as [`Broker::topic`].
    fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Fetched, BrokerError>> + Send;

    /// Checks what the guarantee requires of this topic and its broker; see [`crate::guarantee`]. An embedded log
    /// meets the requirements by construction, so it has nothing to check.
    ///
    /// # Errors
    /// As [`Broker::topic`]. A check for which the caller lacks a permission is a finding and not an error.
    fn guarantees(&self, topic: &str) -> impl Future<Output = Result<Vec<Finding>, BrokerError>> + Send {
        let _ = topic;
        future::ready(Ok(Vec::new()))
    }

    /// Joins `group` and asks for a share of the topic's partitions.
    ///
    /// # Errors
    /// As [`Broker::topic`].
    fn subscribe(
        &self,
        group: &str,
        topic: &str,
    ) -> impl Future<Output = Result<Self::Consumer, BrokerError>> + Send;
}

/// One start of one partition's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assignment {
    /// The partition.
    pub partition: i32,
    /// Increases with every start in a worker; deliveries of an older one are outdated.
    pub incarnation: u64,
}

/// What a consumer delivers.
#[derive(Debug)]
pub enum Delivery {
    /// These partitions belong to this worker from now on. Nothing of them is delivered before [`Consumer::start`].
    /// A worker that joins and gets none receives an empty list.
    Assigned(Vec<i32>),
    /// The group revokes these partitions. The worker finishes or abandons its work on them and then calls
    /// [`Consumer::release`]; until then no other worker gets them. No records of them follow.
    Revoked(Vec<i32>),
    /// These partitions are lost: another worker may own them already. No records of them follow.
    Lost(Vec<i32>),
    /// Records of one partition, by ascending offset, that follow those delivered before.
    Records {
        /// The start that this belongs to.
        assignment: Assignment,
        /// At least one record.
        records: Vec<Record>,
        /// The offset at which the consumer continues: past the last record and any gap after it that it knows of.
        next_offset: i64,
    },
    /// The reader is at the end of the partition's log, having delivered everything before. It is delivered
    /// again when the end has moved.
    End {
        /// The start that this belongs to.
        assignment: Assignment,
        /// The end's offset; it may be past the last record (transaction markers, aborted records).
        offset: i64,
    },
    /// A partition's delivery has stopped; [`Consumer::start`] restarts it.
    Failed {
        /// The start that this belongs to.
        assignment: Assignment,
        /// The requested offset.
        offset: i64,
        /// Why; mostly [`BrokerError::OutOfRange`].
        error: BrokerError,
    },
}

/// A member of a group. Dropping it without [`Consumer::leave`] is equivalent to a crash: the group detects it by
/// itself.
pub trait Consumer: Send {
    /// Waits for the next delivery. Cancel safe: a future that is dropped loses nothing. It must be called regularly,
    /// also while every partition is paused, to keep the membership alive.
    ///
    /// # Errors
    /// [`BrokerError::Retriable`] (call again), or one that ends the membership.
    fn poll(&mut self) -> impl Future<Output = Result<Delivery, BrokerError>> + Send;

    /// Starts or restarts delivery of an assigned partition at `offset`, and ends a pause. Deliveries from now on carry
    /// the assignment's incarnation.
    fn start(&mut self, assignment: Assignment, offset: i64);

    /// Stops fetching for a partition; what was fetched already may still be delivered once.
    fn pause(&mut self, partition: i32);

    /// Continues where [`Consumer::pause`] stopped.
    fn resume(&mut self, partition: i32);

    /// Gives a revoked partition back.
    fn release(&mut self, partition: i32);

    /// Reports the durable position of a partition, for lag dashboards only: no worker starts there.
    fn report(&mut self, partition: i32, next_offset: i64);

    /// Leaves the group, so that others get the partitions immediately.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Determines the partition, see [`partition_of_key`].
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Overrides the partition that follows from the key.
    pub partition: Option<i32>,
}

/// Creates topics and appends records.
pub trait Producer: Clone + Send + Sync + 'static {
    /// Creates a topic.
    ///
    /// # Errors
    /// [`BrokerError::TopicExists`]; else as [`Broker::topic`].
    fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> impl Future<Output = Result<Topic, BrokerError>> + Send;

    /// Appends records in order and returns the partition and offset of each. When it returns they are durable; after
    /// an error, any of them may be.
    ///
    /// # Errors
    /// As [`Broker::topic`].
    fn append(
        &self,
        topic: &str,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<Vec<(i32, i64)>, BrokerError>> + Send;
}

/// The partition of a key: CRC-32 modulo the number of partitions, as librdkafka's `consistent` partitioner
/// has it, so that a key goes to the same partition with every broker of this project.
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    (crc32fast::hash(key) % partitions.max(1) as u32) as i32
}
