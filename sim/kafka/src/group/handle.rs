//! From requests to the groups of a shard.

use rand_core::Rng;

use super::classic::{ClassicGroup, Join};
use super::{Group, GroupRequest, GroupShard};
use crate::coordinator::{Context, Token, code};
use crate::error::ErrorCode;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::leave_group_response::MemberResponse;
use crate::protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

impl GroupShard {
    pub(super) fn dispatch(
        &mut self,
        now: i64,
        rng: &mut dyn Rng,
        token: Token,
        context: &Context,
        request: &GroupRequest,
    ) {
        // Its record could not be written.
        if request.groups().iter().any(|group| group.len() > i16::MAX as usize) {
            self.out.reply(token, request.refuse(context.api_version, ErrorCode::UnknownServerError));
            return;
        }
        match request {
            GroupRequest::JoinGroup(request) => self.join_group(now, rng, token, context, request),
            GroupRequest::SyncGroup(request) => self.sync_group(now, token, request),
            GroupRequest::Heartbeat(request) => {
                let result = self.heartbeat(now, request);
                let response = HeartbeatResponse::default().with_error_code(code(result));
                self.out.reply(token, response.into());
            }
            GroupRequest::LeaveGroup(request) => self.leave_group(now, token, context, request),
            GroupRequest::ConsumerGroupHeartbeat(request) => {
                self.consumer_group_heartbeat(now, rng, token, context, request);
            }
            GroupRequest::OffsetCommit(request) => self.offset_commit(now, token, context, request),
            GroupRequest::OffsetFetch(request) => self.offset_fetch(token, context, request),
            GroupRequest::OffsetDelete(request) => self.offset_delete(now, token, request),
            GroupRequest::TxnOffsetCommit(request) => self.txn_offset_commit(now, token, context, request),
            GroupRequest::DeleteGroups(request) => self.delete(now, token, request),
            GroupRequest::ListGroups(request) => {
                let response = self.list_groups(request);
                self.out.reply(token, response.into());
            }
            GroupRequest::DescribeGroups(request) => {
                let response = self.describe_groups(context, request);
                self.out.reply(token, response.into());
            }
            GroupRequest::ConsumerGroupDescribe(request) => {
                let response = self.consumer_group_describe(request);
                self.out.reply(token, response.into());
            }
        }
    }

    fn join_group(
        &mut self,
        now: i64,
        rng: &mut dyn Rng,
        token: Token,
        context: &Context,
        request: &JoinGroupRequest,
    ) {
        let join = Join::new(context, token, request);
        let (id, member) = (request.group_id.as_str(), request.member_id.as_str());
        let timeouts = self.config.min_session_timeout..=self.config.max_session_timeout;
        let (groups, mut env) = self.split(now);
        if id.is_empty() {
            join.refuse(&mut env, member, ErrorCode::InvalidGroupId);
            return;
        }
        if !timeouts.contains(&request.session_timeout_ms) {
            join.refuse(&mut env, member, ErrorCode::InvalidSessionTimeout);
            return;
        }
        let is_empty = groups.get(id).is_some_and(Group::is_empty);
        match groups.get_mut(id) {
            Some(Group::Consumer(_)) if !is_empty => {
                self.join_consumer_group(now, rng, &join);
                return;
            }
            Some(Group::Classic(group)) => {
                group.join(&mut env, rng, &join);
                return;
            }
            // An empty group of the other protocol makes way.
            Some(Group::Consumer(group)) => {
                let tombstones = group.tombstones();
                self.write(now, tombstones, None);
            }
            None => {}
        }
        let (groups, mut env) = self.split(now);
        if !member.is_empty() {
            join.refuse(&mut env, member, ErrorCode::UnknownMemberId);
            return;
        }
        let mut group = ClassicGroup::new(id, Some(now));
        group.join(&mut env, rng, &join);
        // The record of a group that exists, so that another coordinator knows it.
        env.write(vec![ClassicGroup::new(id, Some(now)).record(|_| bytes::Bytes::new())]);
        groups.insert(id.to_owned(), Group::Classic(group));
    }

    fn sync_group(&mut self, now: i64, token: Token, request: &SyncGroupRequest) {
        let id = request.group_id.as_str();
        let (groups, mut env) = self.split(now);
        let error = match groups.get_mut(id) {
            _ if id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) => {
                group.sync(&mut env, token, request);
                return;
            }
            Some(Group::Consumer(group)) => match group.sync(&env, request) {
                Ok(response) => {
                    env.reply(token, response);
                    return;
                }
                Err(error) => error,
            },
            None => ErrorCode::UnknownMemberId,
        };
        env.reply_now(token, SyncGroupResponse::default().with_error_code(error.code()));
    }

    fn heartbeat(&mut self, now: i64, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let id = request.group_id.as_str();
        let (groups, env) = self.split(now);
        match groups.get_mut(id) {
            _ if id.is_empty() => Err(ErrorCode::InvalidGroupId),
            Some(Group::Classic(group)) => group.heartbeat(&env, request),
            Some(Group::Consumer(group)) => group.classic_heartbeat(&env, request),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn leave_group(&mut self, now: i64, token: Token, context: &Context, request: &LeaveGroupRequest) {
        let id = request.group_id.as_str();
        if id.is_empty() {
            let code = ErrorCode::InvalidGroupId.code();
            self.out.reply(token, LeaveGroupResponse::default().with_error_code(code).into());
            return;
        }
        // Before version 3 it is one member, and one error.
        let members = if context.api_version < 3 {
            vec![MemberIdentity::default().with_member_id(request.member_id.clone())]
        } else {
            request.members.clone()
        };
        let (groups, mut env) = self.split(now);
        let results = match groups.get_mut(id) {
            Some(Group::Classic(group)) => group.leave(&mut env, &members),
            Some(Group::Consumer(_)) => self.leave_consumer_group(now, id, &members),
            None => members.iter().map(|_| Err(ErrorCode::UnknownMemberId)).collect(),
        };
        let response = if context.api_version < 3 {
            let first = results.into_iter().next().unwrap_or(Ok(()));
            LeaveGroupResponse::default().with_error_code(code(first))
        } else {
            let member = |(member, result): (MemberIdentity, Result<(), ErrorCode>)| {
                MemberResponse::default()
                    .with_member_id(member.member_id)
                    .with_group_instance_id(member.group_instance_id)
                    .with_error_code(code(result))
            };
            LeaveGroupResponse::default().with_members(members.into_iter().zip(results).map(member).collect())
        };
        self.out.reply(token, response.into());
    }

    fn delete(&mut self, now: i64, token: Token, request: &DeleteGroupsRequest) {
        let names: Vec<&str> = request.groups_names.iter().map(|name| name.as_str()).collect();
        let results = self.delete_groups(now, &names);
        let results = request.groups_names.iter().zip(results).map(|(name, result)| {
            DeletableGroupResult::default().with_group_id(name.clone()).with_error_code(code(result))
        });
        let response = DeleteGroupsResponse::default().with_results(results.collect());
        self.out.reply(token, response.into());
    }
}
