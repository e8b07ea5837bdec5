//! Requests and responses of groups.

use crate::error::ErrorCode;
use crate::protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

macro_rules! requests {
    ($($name:ident($request:ident, $response:ident),)*) => {
        /// A request to the coordinator of a group. Those that name several groups hold only groups of the shard's
        /// partition; the runtime splits them, and merges the responses.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum GroupRequest {
            $($name($request),)*
        }

        /// A response, of the kind of its request.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum GroupResponse {
            $($name($response),)*
        }

        $(
            impl From<$request> for GroupRequest {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }

            impl From<$response> for GroupResponse {
                fn from(response: $response) -> Self {
                    Self::$name(response)
                }
            }
        )*
    };
}

requests! {
    JoinGroup(JoinGroupRequest, JoinGroupResponse),
    SyncGroup(SyncGroupRequest, SyncGroupResponse),
    Heartbeat(HeartbeatRequest, HeartbeatResponse),
    LeaveGroup(LeaveGroupRequest, LeaveGroupResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse),
    OffsetCommit(OffsetCommitRequest, OffsetCommitResponse),
    OffsetFetch(OffsetFetchRequest, OffsetFetchResponse),
    OffsetDelete(OffsetDeleteRequest, OffsetDeleteResponse),
    TxnOffsetCommit(TxnOffsetCommitRequest, TxnOffsetCommitResponse),
    DeleteGroups(DeleteGroupsRequest, DeleteGroupsResponse),
    ListGroups(ListGroupsRequest, ListGroupsResponse),
    DescribeGroups(DescribeGroupsRequest, DescribeGroupsResponse),
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse),
}

impl GroupRequest {
    /// The groups that a request names: one for most; none for ListGroups, which asks all.
    pub fn groups(&self) -> Vec<&str> {
        match self {
            Self::JoinGroup(request) => vec![&request.group_id],
            Self::SyncGroup(request) => vec![&request.group_id],
            Self::Heartbeat(request) => vec![&request.group_id],
            Self::LeaveGroup(request) => vec![&request.group_id],
            Self::ConsumerGroupHeartbeat(request) => vec![&request.group_id],
            Self::OffsetCommit(request) => vec![&request.group_id],
            Self::OffsetFetch(request) if request.groups.is_empty() => vec![&request.group_id],
            Self::OffsetFetch(request) => {
                request.groups.iter().map(|group| group.group_id.as_str()).collect()
            }
            Self::OffsetDelete(request) => vec![&request.group_id],
            Self::TxnOffsetCommit(request) => vec![&request.group_id],
            Self::DeleteGroups(request) => request.groups_names.iter().map(|group| group.as_str()).collect(),
            Self::ListGroups(_) => Vec::new(),
            Self::DescribeGroups(request) => request.groups.iter().map(|group| group.as_str()).collect(),
            Self::ConsumerGroupDescribe(request) => {
                request.group_ids.iter().map(|group| group.as_str()).collect()
            }
        }
    }

    /// The response that refuses the whole request with an error, as Kafka's `getErrorResponse` of each API.
    pub fn refuse(&self, api_version: i16, error: ErrorCode) -> GroupResponse {
        super::refusal::refuse(self, api_version, error)
    }
}
