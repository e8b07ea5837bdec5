//! The log: what the pipeline asks of a broker.
//!
//! A topic has partitions; a partition is a sequence of records with ascending, not necessarily dense
//! offsets. Workers of a group share a topic's partitions among them. Three traits, by who needs them:
//! [`Broker`] (looking at the log), [`Consumer`] (being a member of a group), [`Producer`] (making topics
//! and records; the pipeline itself never writes to the log).
//!
//! Contract of every implementation:
//! - start positions come from the caller, never from offsets that the broker keeps for a group;
//! - a consumer never skips or resets by itself: a position that the log does not have is
//!   [`BrokerError::OutOfRange`];
//! - only committed records are delivered (`read_committed`): the log's end is the last stable offset;
//! - every delivery carries the incarnation that its [`Consumer::start`] named, so that what was fetched for
//!   an older one can be told and dropped.

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

/// Why a broker did not do what it was asked.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// It may go well when asked again: the broker is away, a leader moved, a request timed out.
    #[error("the broker did not answer: {what}")]
    Retriable {
        /// What was asked, and of which topic and partition.
        what: String,
        /// The broker's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// The log does not have the offset that was asked for: it lies below the log's start or past its end.
    #[error("topic {topic} partition {partition} does not have offset {offset}")]
    OutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
    },
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// The topic exists already.
    #[error("topic {0} exists already")]
    TopicExists(String),
    /// The cluster does not have what the options ask for.
    #[error("the broker cannot {what}")]
    Unsupported {
        /// What was asked, and what to do instead.
        what: String,
        /// The broker's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// The broker does not let this client do it: a login or a certificate that is not accepted, a right that is
    /// missing, a group whose members work in another way. Somebody has to change the configuration.
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
    /// Asking again will not help: misconfigured, damaged.
    #[error("the broker cannot go on: {what}")]
    Fatal {
        /// What was asked, and of which topic, partition or file.
        what: String,
        /// The broker's own words.
        #[source]
        cause: Option<Cause>,
    },
}

impl BrokerError {
    /// True if the same request may go well later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, BrokerError::Retriable { .. })
    }
}

/// A topic as the broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// The id that tells a topic from another one of the same name, created after the first was deleted
    /// (Kafka: a UUID, KIP-516).
    pub id: String,
    /// Number of partitions, numbered from 0. It can grow.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i16,
    /// True if `cleanup.policy` holds `compact`: its records change between two readings.
    pub compacted: bool,
}

/// Where a partition's log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that the log may still have.
    pub start: i64,
    /// The offset after the last committed record (or marker): where a reader waits for more.
    pub end: i64,
}

/// A piece of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Records by ascending offset.
    pub records: Vec<Record>,
    /// Where to read on: past the last record, and past any gap behind it. Equal to the offset that was
    /// asked for if the log ends there.
    pub next_offset: i64,
}

/// Looks at the log. Cheap to clone; every clone speaks to the same broker.
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
    /// `max_records` and, after the first, about `max_bytes`. Does not wait for records to come.
    ///
    /// # Errors
    /// [`BrokerError::OutOfRange`] if `offset` lies outside the log; else as [`Broker::topic`].
    fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Fetched, BrokerError>> + Send;

    /// Checks what the guarantee requires of this topic and its broker; see [`crate::guarantee`]. An embedded log
    /// promises by construction what it must, so it has nothing to check.
    ///
    /// # Errors
    /// As [`Broker::topic`]. A check that the caller has no right to make is a finding and not an error.
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
    /// Grows with every start in a worker; what carries an older one is of the past.
    pub incarnation: u64,
}

/// What a consumer hands over.
#[derive(Debug)]
pub enum Delivery {
    /// These partitions are this worker's from now on. Nothing of them comes before [`Consumer::start`].
    /// A worker that joins and gets none is told so, with an empty list.
    Assigned(Vec<i32>),
    /// The group wants these partitions back. The worker finishes or abandons what it does with them and
    /// then calls [`Consumer::release`]; until then nobody else gets them. No records of them follow.
    Revoked(Vec<i32>),
    /// These partitions are gone: somebody else may own them already. No records of them follow.
    Lost(Vec<i32>),
    /// Records of one partition, by ascending offset, following on what came before.
    Records {
        /// The start that this belongs to.
        assignment: Assignment,
        /// At least one record.
        records: Vec<Record>,
        /// Where the consumer reads on: past the last record and any gap behind it that it knows of.
        next_offset: i64,
    },
    /// The reader is at the end of the partition's log, having delivered everything before. It comes again
    /// when the end has moved.
    End {
        /// The start that this belongs to.
        assignment: Assignment,
        /// The end's offset; it may lie past the last record (transaction markers, aborted records).
        offset: i64,
    },
    /// A partition's delivery has stopped; [`Consumer::start`] begins it anew.
    Failed {
        /// The start that this belongs to.
        assignment: Assignment,
        /// The offset that was asked for.
        offset: i64,
        /// Why; mostly [`BrokerError::OutOfRange`].
        error: BrokerError,
    },
}

/// A member of a group. Dropping it without [`Consumer::leave`] is a crash: the group finds out by itself.
pub trait Consumer: Send {
    /// Waits for what comes next. Cancel safe: a future that is dropped loses nothing. It must be called
    /// again and again, also while every partition is paused: that is what keeps the membership alive.
    ///
    /// # Errors
    /// [`BrokerError::Retriable`] (call again), or one that ends the membership.
    fn poll(&mut self) -> impl Future<Output = Result<Delivery, BrokerError>> + Send;

    /// Begins delivery of an assigned partition at `offset`, or begins it anew; a pause is over with it. What
    /// is delivered for it from now on carries the assignment's incarnation.
    fn start(&mut self, assignment: Assignment, offset: i64);

    /// Stops fetching for a partition; what was fetched may still be delivered once.
    fn pause(&mut self, partition: i32);

    /// Goes on where [`Consumer::pause`] stopped.
    fn resume(&mut self, partition: i32);

    /// Gives a revoked partition back.
    fn release(&mut self, partition: i32);

    /// Says how far a partition is durable. For the eyes of lag dashboards only: nobody starts there.
    fn report(&mut self, partition: i32, next_offset: i64);

    /// Leaves the group, so that others get the partitions at once.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Decides the partition, see [`partition_of_key`].
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Overrides the key's choice of a partition.
    pub partition: Option<i32>,
}

/// Makes topics and records.
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

    /// Appends records in order and says where each is: partition and offset. When it returns they are
    /// durable; with an error, any of them may be.
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
