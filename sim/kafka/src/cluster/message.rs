//! The messages between brokers.

use super::Verb;
use super::shards::MarkerToWrite;
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::Result;
use crate::protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use crate::replica::{Fetched, Position};
use crate::types::{NodeId, Offset, PartitionId};

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The number of its request.
    pub(crate) request: u64,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Request(Request),
    Response(Verb, Response),
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Control(ControlRequest),
    /// A follower fetches partitions.
    Replicate {
        broker_epoch: i64,
        partitions: Vec<(PartitionId, Position)>,
    },
    /// The range of a leader's log in an epoch.
    Range {
        partition: PartitionId,
        epoch: i32,
    },
    /// A transaction coordinator ends a transaction in partitions.
    WriteMarkers {
        marker: MarkerToWrite,
        partitions: Vec<PartitionId>,
    },
    /// A leader asks a transaction coordinator.
    VerifyTransaction {
        request: AddPartitionsToTxnRequest,
        /// The version of the request that it is.
        version: i16,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Control(ControlResponse),
    Replicate(Vec<(PartitionId, Result<Fetched>)>),
    Range(Result<(Offset, Offset)>),
    /// For each partition, in the order of the request.
    WriteMarkers(Vec<Result<()>>),
    VerifyTransaction(AddPartitionsToTxnResponse),
}

impl Request {
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Replicate { .. } => Verb::Replicate,
            Self::Range { .. } => Verb::Range,
            Self::WriteMarkers { .. } => Verb::WriteMarkers,
            Self::VerifyTransaction { .. } => Verb::VerifyTransaction,
            Self::Control(request) => match request {
                ControlRequest::Register(_) => Verb::Register,
                ControlRequest::Heartbeat { .. } => Verb::Heartbeat,
                ControlRequest::Metadata { .. } => Verb::Metadata,
                ControlRequest::AlterPartition { .. } => Verb::AlterPartition,
                ControlRequest::ProducerIds { .. } => Verb::ProducerIds,
                ControlRequest::CreateTopics(..)
                | ControlRequest::DeleteTopics(..)
                | ControlRequest::CreatePartitions(..)
                | ControlRequest::AlterConfigs(_)
                | ControlRequest::ReplaceConfigs(_)
                | ControlRequest::AlterCredentials(_)
                | ControlRequest::AlterQuotas(_)
                | ControlRequest::ElectLeaders(_) => Verb::Admin,
            },
        }
    }
}
