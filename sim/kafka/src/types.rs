//! Identifiers that every layer uses.

use std::fmt;

use uuid::Uuid;

/// The offset of a record in its partition, from 0.
pub type Offset = i64;

/// Milliseconds since 1970.
pub type Timestamp = i64;

/// No leader, no epoch, no offset or no timestamp, as the protocol writes it.
pub const NONE: i32 = -1;

/// The id of a broker (`node.id`), from 0; -1 where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a topic, which no other topic ever gets (KIP-516).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// Whether it is the id that the protocol writes for none.
    pub fn is_none(self) -> bool {
        self.0.is_nil()
    }
}

/// A partition of a topic, whatever the topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// The place of the partition in it, from 0.
    pub index: i32,
}

/// Which records a reader requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, with the list of aborted transactions.
    ReadCommitted,
}

impl Isolation {
    /// The isolation level of a request.
    pub fn of(level: i8) -> Self {
        if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }
}
