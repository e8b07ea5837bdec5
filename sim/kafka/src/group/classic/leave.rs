//! Heartbeat and LeaveGroup.

use super::{ClassicGroup, State};
use crate::cluster::observe::Removal;
use crate::error::ErrorCode;
use crate::group::env::Env;
use crate::protocol::messages::HeartbeatRequest;
use crate::protocol::messages::leave_group_request::MemberIdentity;

impl ClassicGroup {
    /// Handles a heartbeat: the session goes on, and the member learns of a rebalance.
    pub(crate) fn heartbeat(&mut self, env: &Env<'_>, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.validate(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.heard_of(env, &request.member_id);
        if self.state == State::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Prolongs a session.
    pub(crate) fn heard_of(&mut self, env: &Env<'_>, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.expires = Some(env.after_ms(member.session_timeout));
        }
    }

    /// Removes members on their own request, and begins one rebalance for all. One result for each.
    pub(crate) fn leave(
        &mut self,
        env: &mut Env<'_>,
        members: &[MemberIdentity],
    ) -> Vec<Result<(), ErrorCode>> {
        let results: Vec<_> = members.iter().map(|member| self.leave_one(env, member)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance_or_complete(env),
                State::PreparingRebalance => self.maybe_complete_join(env),
                State::Empty => {}
            }
        }
        results
    }

    fn leave_one(&mut self, env: &mut Env<'_>, member: &MemberIdentity) -> Result<(), ErrorCode> {
        let (id, instance) = (member.member_id.as_str(), member.group_instance_id.as_deref());
        if id.is_empty() {
            // An administrator removes a static member.
            let existing = instance.and_then(|instance| self.static_members.get(instance)).cloned();
            let existing = existing.ok_or(ErrorCode::UnknownMemberId)?;
            self.remove_member(env, &existing, Removal::Left);
        } else if self.pending_join.contains_key(id) {
            self.remove(id);
        } else {
            self.validate(id, instance)?;
            self.remove_member(env, id, Removal::Left);
        }
        Ok(())
    }
}
