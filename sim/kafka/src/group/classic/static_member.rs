//! Static members: a member that joins under the instance id of another takes its place.

use super::join::Join;
use super::{ClassicGroup, Member, State};
use crate::cluster::observe::Removal;
use crate::error::ErrorCode;
use crate::group::env::{Action, Env, optional, text};
use crate::group::refusal;
use crate::protocol::messages::SyncGroupResponse;

/// The first version in which a leader can be asked not to assign.
const SKIP_ASSIGNMENT: i16 = 9;

impl ClassicGroup {
    /// Puts a member in the place of one with the same instance id, without a rebalance if the group is stable and
    /// its protocol stays.
    pub(super) fn replace_static_member(&mut self, env: &mut Env<'_>, join: &Join<'_>, old: &str, new: &str) {
        let leader = self.leader.clone();
        self.take_place(env, old, new);
        self.update_member(env, join, new);
        match self.state {
            State::Stable => {
                if self.protocol == self.select_protocol() {
                    let record = self.record(|member| member.assignment.clone());
                    let action = Action::Replaced { member: new.to_owned(), leader };
                    env.write_then(&self.id, vec![record], action);
                } else {
                    self.rebalance_or_complete(env);
                }
            }
            State::CompletingRebalance => self.prepare_rebalance(env),
            State::PreparingRebalance => self.maybe_complete_join(env),
            State::Empty => join.refuse(env, new, ErrorCode::UnknownServerError),
        }
    }

    /// The old member is fenced.
    fn take_place(&mut self, env: &mut Env<'_>, old: &str, new: &str) {
        let Some(removed) = self.members.remove(old) else { return };
        if let Some(waiting) = removed.awaiting_join {
            let error = ErrorCode::FencedInstanceId;
            env.reply_now(waiting.token, refusal::join_group(waiting.version, text(old), error));
        }
        if let Some(token) = removed.awaiting_sync {
            let code = ErrorCode::FencedInstanceId.code();
            env.reply_now(token, SyncGroupResponse::default().with_error_code(code));
        }
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        // The old member's SyncGroup is still awaited, as in Kafka: if it was missing, the group rebalances when its time is over.
        if let Some(instance) = &removed.instance_id {
            self.static_members.insert(instance.clone(), new.to_owned());
        }
        let member = Member {
            id: new.to_owned(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            expires: Some(env.after_ms(removed.session_timeout)),
            ..removed
        };
        self.see_removed(env, old, Removal::Replaced);
        self.see_joined(env, &member);
        self.members.insert(new.to_owned(), member);
    }

    /// The record of the replacement is committed: the member gets the current generation.
    pub(super) fn replaced(&mut self, env: &mut Env<'_>, id: &str, leader: Option<&str>) {
        let is_leader = self.is_leader(id);
        let Some(waiting) = self.members.get_mut(id).and_then(|member| member.awaiting_join.take()) else {
            return;
        };
        let response = if waiting.version >= SKIP_ASSIGNMENT {
            self.joined(id, waiting.version, is_leader).with_skip_assignment(is_leader)
        } else {
            // It does not learn that it leads, so that it does not assign.
            let leader = optional(leader).unwrap_or_default();
            self.joined(id, waiting.version, false).with_leader(leader)
        };
        env.reply_now(waiting.token, response);
    }
}
