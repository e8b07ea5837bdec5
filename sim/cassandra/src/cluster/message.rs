//! The messages between nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{NodeId, Verb};
use crate::coordinator::FailureReason;
use crate::schema::{Table, TableId};
use crate::storage::{
    Ballot, DecoratedKey, Mutation, Partition, ReadCommand, ReplicaRows, SchemaEntry, StoredBatch, Timestamp,
    Token,
};

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The number of its request.
    pub(crate) request: u64,
    pub(crate) sent: Instant,
    /// When its sender stops waiting, after `sent`.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) body: Body,
}

/// The rows of a table.
pub(crate) type Partitions = BTreeMap<DecoratedKey, Arc<Partition>>;

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Request(Request),
    Response(Verb, Response),
}

/// The newest heartbeat of a node (`EndpointState`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    /// Which run of the node it is from.
    pub(crate) generation: u32,
    /// The number of the heartbeat in its run.
    pub(crate) version: u64,
    pub(crate) schema_version: u128,
    pub(crate) joining: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Write(Arc<Mutation>),
    ReadRepair(Arc<Mutation>),
    Hint(Arc<Mutation>, Timestamp),
    /// A read, of a table as its sender knows it.
    Read {
        command: Arc<ReadCommand>,
        digest: bool,
        table: Arc<Table>,
    },
    StoreBatch(u128, StoredBatch),
    RemoveBatch(u128),
    Prepare {
        table: TableId,
        key: DecoratedKey,
        ballot: Ballot,
    },
    Propose {
        table: TableId,
        key: DecoratedKey,
        ballot: Ballot,
        mutation: Option<Arc<Mutation>>,
    },
    Commit {
        table: TableId,
        key: DecoratedKey,
        ballot: Ballot,
        mutation: Arc<Mutation>,
    },
    Truncate(TableId),
    /// What the sender knows of itself and of others.
    Gossip(BTreeMap<NodeId, Heartbeat>),
    Echo,
    Schema(Vec<SchemaEntry>),
    SchemaPull,
    RepairRead {
        table: TableId,
        after: Token,
        up_to: Token,
    },
    RepairWrite {
        table: TableId,
        rows: Partitions,
    },
}

/// A ballot and what it proposes: nothing, where a condition did not hold.
pub(crate) type Proposal = Option<(Ballot, Option<Arc<Mutation>>)>;

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Done,
    Failed(FailureReason),
    Data(ReplicaRows),
    Digest(u128),
    Promise { promised: bool, highest: Ballot, accepted: Proposal, committed: Proposal },
    Accepted { accepted: bool, highest: Ballot },
    Rows(Partitions),
}

impl Request {
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Write(_) => Verb::Write,
            Self::ReadRepair(_) => Verb::ReadRepair,
            Self::Hint(..) => Verb::Hint,
            Self::Read { digest: false, .. } => Verb::Read,
            Self::Read { digest: true, .. } => Verb::ReadDigest,
            Self::StoreBatch(..) => Verb::StoreBatch,
            Self::RemoveBatch(_) => Verb::RemoveBatch,
            Self::Prepare { .. } => Verb::Prepare,
            Self::Propose { .. } => Verb::Propose,
            Self::Commit { .. } => Verb::Commit,
            Self::Truncate(_) => Verb::Truncate,
            Self::Gossip(_) => Verb::Gossip,
            Self::Echo => Verb::Echo,
            Self::Schema(_) => Verb::Schema,
            Self::SchemaPull => Verb::SchemaPull,
            Self::RepairRead { .. } => Verb::RepairRead,
            Self::RepairWrite { .. } => Verb::RepairWrite,
        }
    }
}
