//! Responses that refuse a request as a whole, as `getErrorResponse` of Kafka's request classes builds them.

use super::{GroupRequest, GroupResponse};
use crate::error::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use crate::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::protocol::messages::{
    ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse, DeleteGroupsResponse,
    DescribeGroupsResponse, GroupId, HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
    consumer_group_describe_response, describe_groups_response,
};

/// The response to a request that fails as a whole.
pub(crate) fn refuse(request: &GroupRequest, version: i16, error: ErrorCode) -> GroupResponse {
    let code = error.code();
    match request {
        GroupRequest::JoinGroup(_) => join_group(version, StrBytes::default(), error).into(),
        GroupRequest::SyncGroup(_) => SyncGroupResponse::default().with_error_code(code).into(),
        // A heartbeat is answered with success while the coordinator loads (`GroupCoordinatorService.heartbeat`).
        GroupRequest::Heartbeat(_) if error == ErrorCode::CoordinatorLoadInProgress => {
            HeartbeatResponse::default().into()
        }
        GroupRequest::Heartbeat(_) => HeartbeatResponse::default().with_error_code(code).into(),
        GroupRequest::LeaveGroup(_) => LeaveGroupResponse::default().with_error_code(code).into(),
        GroupRequest::ConsumerGroupHeartbeat(_) => {
            ConsumerGroupHeartbeatResponse::default().with_error_code(code).into()
        }
        GroupRequest::OffsetCommit(request) => offset_commit(request, error).into(),
        GroupRequest::OffsetFetch(request) => offset_fetch(request, version, error).into(),
        GroupRequest::OffsetDelete(_) => OffsetDeleteResponse::default().with_error_code(code).into(),
        GroupRequest::TxnOffsetCommit(request) => txn_offset_commit(request, error).into(),
        GroupRequest::DeleteGroups(request) => {
            let result = |group: &GroupId| {
                DeletableGroupResult::default().with_group_id(group.clone()).with_error_code(code)
            };
            DeleteGroupsResponse::default()
                .with_results(request.groups_names.iter().map(result).collect())
                .into()
        }
        GroupRequest::ListGroups(_) => ListGroupsResponse::default().with_error_code(code).into(),
        GroupRequest::DescribeGroups(request) => {
            let group = |group: &GroupId| {
                describe_groups_response::DescribedGroup::default()
                    .with_group_id(group.clone())
                    .with_error_code(code)
            };
            DescribeGroupsResponse::default().with_groups(request.groups.iter().map(group).collect()).into()
        }
        GroupRequest::ConsumerGroupDescribe(request) => {
            let group = |group: &GroupId| {
                consumer_group_describe_response::DescribedGroup::default()
                    .with_group_id(group.clone())
                    .with_error_code(code)
            };
            let groups = request.group_ids.iter().map(group).collect();
            ConsumerGroupDescribeResponse::default().with_groups(groups).into()
        }
    }
}

/// Makes a response into the one that refuses its request. What it says is not true, as its records are lost.
pub(crate) fn retract(response: GroupResponse, error: ErrorCode) -> GroupResponse {
    let code = error.code();
    match response {
        GroupResponse::JoinGroup(response) => {
            let name = response.protocol_name.is_some().then(StrBytes::default);
            JoinGroupResponse::default()
                .with_error_code(code)
                .with_generation_id(-1)
                .with_protocol_name(name)
                .with_member_id(response.member_id)
                .into()
        }
        GroupResponse::SyncGroup(_) => SyncGroupResponse::default().with_error_code(code).into(),
        GroupResponse::Heartbeat(_) => HeartbeatResponse::default().with_error_code(code).into(),
        GroupResponse::LeaveGroup(_) => LeaveGroupResponse::default().with_error_code(code).into(),
        GroupResponse::ConsumerGroupHeartbeat(_) => {
            ConsumerGroupHeartbeatResponse::default().with_error_code(code).into()
        }
        GroupResponse::OffsetCommit(mut response) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|partition| partition.error_code == 0).for_each(|p| p.error_code = code);
            response.into()
        }
        GroupResponse::OffsetFetch(mut response) => {
            response.error_code = code;
            for group in &mut response.groups {
                group.error_code = code;
                group.topics.clear();
            }
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                (partition.error_code, partition.committed_offset) = (code, -1);
            }
            response.into()
        }
        GroupResponse::OffsetDelete(_) => OffsetDeleteResponse::default().with_error_code(code).into(),
        GroupResponse::TxnOffsetCommit(mut response) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|partition| partition.error_code == 0).for_each(|p| p.error_code = code);
            response.into()
        }
        GroupResponse::DeleteGroups(mut response) => {
            response.results.iter_mut().for_each(|result| result.error_code = code);
            response.into()
        }
        GroupResponse::ListGroups(_) => ListGroupsResponse::default().with_error_code(code).into(),
        GroupResponse::DescribeGroups(mut response) => {
            for group in &mut response.groups {
                *group = describe_groups_response::DescribedGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(code);
            }
            response.into()
        }
        GroupResponse::ConsumerGroupDescribe(mut response) => {
            for group in &mut response.groups {
                *group = consumer_group_describe_response::DescribedGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(code);
            }
            response.into()
        }
    }
}

/// A JoinGroup response that refuses; its protocol is null from version 7, and empty before.
pub(crate) fn join_group(version: i16, member_id: StrBytes, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name((version < 7).then(StrBytes::default))
        .with_member_id(member_id)
}

/// An OffsetCommit response with the same error for all partitions.
pub(crate) fn offset_commit(request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partition = |index: i32| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        };
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// A TxnOffsetCommit response with the same error for all partitions.
pub(crate) fn txn_offset_commit(
    request: &TxnOffsetCommitRequest,
    error: ErrorCode,
) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partition = |index: i32| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error.code())
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn offset_fetch(request: &OffsetFetchRequest, version: i16, error: ErrorCode) -> OffsetFetchResponse {
    let code = error.code();
    if version >= 8 {
        let groups = request.groups.iter().map(|group| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(code)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    if version >= 2 {
        return OffsetFetchResponse::default().with_error_code(code);
    }
    let topics = request.topics.iter().flatten().map(|topic| {
        let partition = |&index: &i32| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(code)
        };
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}
