//! SyncGroup: the leader assigns, and each member receives its assignment.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ClassicGroup, State};
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::group::env::{Action, Env, optional};
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};

impl ClassicGroup {
    /// Handles a SyncGroup request to a classic group.
    pub(crate) fn sync(&mut self, env: &mut Env<'_>, token: Token, request: &SyncGroupRequest) {
        if let Err(error) = self.validate_sync(request) {
            env.reply_now(token, SyncGroupResponse::default().with_error_code(error.code()));
            return;
        }
        let id = request.member_id.as_str();
        match self.state {
            State::CompletingRebalance => {
                let earlier = self.members.get_mut(id).and_then(|member| member.awaiting_sync.replace(token));
                if let Some(earlier) = earlier {
                    // Kafka never answers the earlier request, whose connection is gone.
                    let code = ErrorCode::RebalanceInProgress.code();
                    env.reply_now(earlier, SyncGroupResponse::default().with_error_code(code));
                }
                self.synced(id);
                if self.is_leader(id) {
                    self.assign(env, request);
                }
            }
            State::Stable => {
                self.synced(id);
                self.see_assignment(env, id);
                let assignment = self.members.get(id).map(|member| member.assignment.clone());
                let response = SyncGroupResponse::default()
                    .with_protocol_type(optional(self.protocol_type.as_deref()))
                    .with_protocol_name(optional(self.protocol.as_deref()))
                    .with_assignment(assignment.unwrap_or_default());
                env.reply_now(token, response);
            }
            State::Empty | State::PreparingRebalance => {
                let code = ErrorCode::RebalanceInProgress.code();
                env.reply_now(token, SyncGroupResponse::default().with_error_code(code));
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs =
            |asked: Option<&str>, own: Option<&str>| asked.zip(own).is_some_and(|(asked, own)| asked != own);
        if differs(request.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    /// Stores the leader's assignment.
    fn assign(&mut self, env: &mut Env<'_>, request: &SyncGroupRequest) {
        let assigned = request.assignments.iter().map(|a| (a.member_id.to_string(), a.assignment.clone()));
        let assignments: BTreeMap<_, _> = assigned.collect();
        let record = self.record(|member| assignments.get(&member.id).cloned().unwrap_or_default());
        let action = Action::Assign { generation: self.generation, assignments };
        env.write_then(&self.id, vec![record], action);
    }

    /// A record of the group is committed, or has taken too long.
    pub(crate) fn stored(&mut self, env: &mut Env<'_>, action: Action, result: Result<(), ErrorCode>) {
        match action {
            Action::Assign { generation, assignments } => {
                if self.state != State::CompletingRebalance || self.generation != generation {
                    return;
                }
                match result {
                    Ok(()) => self.assigned(env, &assignments),
                    Err(error) => {
                        self.reset_assignment(env, error);
                        self.rebalance_or_complete(env);
                    }
                }
            }
            Action::Replaced { member, leader } => match result {
                Ok(()) => self.replaced(env, &member, leader.as_deref()),
                Err(error) => {
                    // The old member does not get its place back, as it would in Kafka: it is gone.
                    let waiting =
                        self.members.get_mut(&member).and_then(|member| member.awaiting_join.take());
                    if let Some(waiting) = waiting {
                        let refused =
                            crate::group::refusal::join_group(waiting.version, Default::default(), error);
                        env.reply_now(waiting.token, refused);
                    }
                }
            },
        }
    }

    fn assigned(&mut self, env: &mut Env<'_>, assignments: &BTreeMap<String, Bytes>) {
        for member in self.members.values_mut() {
            member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
        }
        self.propagate_assignment(env);
        self.enter(env, State::Stable);
    }
}
