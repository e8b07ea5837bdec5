//! What brokers ask the controller for.

use std::sync::Arc;

use crate::error::ErrorCode;
use crate::metadata::{Image, PartitionImage};
use crate::protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use crate::quota::tokens::Requester;
use crate::types::{NodeId, PartitionId};

/// A broker that has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) node: NodeId,
    /// What distinguishes its process from earlier ones.
    pub(crate) incarnation: u128,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    /// The epoch of its last run, if that ended gracefully.
    pub(crate) clean_epoch: Option<i64>,
}

/// An in-sync set that a leader proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) partition: PartitionId,
    pub(crate) leader_epoch: i32,
    pub(crate) partition_epoch: i32,
    /// The replicas, and the broker epochs that the leader knows of them; -1 if it knows none.
    pub(crate) in_sync: Vec<(NodeId, i64)>,
}

#[derive(Debug, Clone)]
pub(crate) enum ControlRequest {
    Register(Registration),
    Heartbeat {
        epoch: i64,
        /// The version of its metadata.
        version: i64,
        wants_to_end: bool,
    },
    /// The metadata, when it is newer than this.
    Metadata {
        have: i64,
    },
    AlterPartition {
        epoch: i64,
        proposals: Vec<Proposal>,
    },
    ProducerIds {
        epoch: i64,
    },
    CreateTopics(CreateTopicsRequest, Requester),
    DeleteTopics(DeleteTopicsRequest, Requester),
    CreatePartitions(CreatePartitionsRequest, Requester),
    AlterConfigs(IncrementalAlterConfigsRequest),
    /// The old request, which replaces all configurations of a resource.
    ReplaceConfigs(IncrementalAlterConfigsRequest),
    ElectLeaders(ElectLeadersRequest),
    AlterCredentials(AlterUserScramCredentialsRequest),
    AlterQuotas(AlterClientQuotasRequest),
}

#[derive(Debug, Clone)]
pub(crate) enum ControlResponse {
    Refused(ErrorCode),
    Registered {
        epoch: i64,
    },
    Heartbeat {
        fenced: bool,
        may_end: bool,
    },
    Metadata(Arc<Image>),
    AlterPartition(Vec<(PartitionId, Result<PartitionImage, ErrorCode>)>),
    /// The first of a thousand.
    ProducerIds(i64),
    CreateTopics(CreateTopicsResponse),
    DeleteTopics(DeleteTopicsResponse),
    CreatePartitions(CreatePartitionsResponse),
    AlterConfigs(IncrementalAlterConfigsResponse),
    ElectLeaders(ElectLeadersResponse),
    AlterCredentials(AlterUserScramCredentialsResponse),
    AlterQuotas(AlterClientQuotasResponse),
}
