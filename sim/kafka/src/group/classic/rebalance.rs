//! From the first join to the beginning of a generation.

use bytes::Bytes;
use rand_core::Rng;

use super::{ClassicGroup, JoinTimer, State};
use crate::cluster::observe::Removal;
use crate::error::ErrorCode;
use crate::group::env::{Env, optional, text};
use crate::group::refusal;
use crate::protocol::messages::SyncGroupResponse;

impl ClassicGroup {
    /// Begins a rebalance, if none is being prepared; or else ends the join phase, if all have joined.
    pub(super) fn rebalance_or_complete(&mut self, env: &mut Env<'_>) {
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(env);
        } else {
            self.prepare_rebalance(env);
        }
    }

    /// Begins a rebalance.
    pub(crate) fn prepare_rebalance(&mut self, env: &mut Env<'_>) {
        if self.state == State::CompletingRebalance {
            self.reset_assignment(env, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.sync_timer = None;
        if self.state == State::Empty {
            // The first members of a group are given time to join together.
            let delay = env.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay).max(0);
            self.join_timer = Some(JoinTimer::Initial { at: env.after_ms(delay), delay, remaining });
            self.enter(env, State::PreparingRebalance);
            return;
        }
        self.enter(env, State::PreparingRebalance);
        if self.has_all_joined() {
            self.complete_join(env);
        } else {
            self.join_timer = Some(JoinTimer::End { at: env.after_ms(self.rebalance_timeout()) });
        }
    }

    /// Ends the join phase if all have joined. The first phase of an empty group ends by time only.
    pub(super) fn maybe_complete_join(&mut self, env: &mut Env<'_>) {
        if self.state == State::PreparingRebalance && !self.from_empty && self.has_all_joined() {
            self.complete_join(env);
        }
    }

    /// Ends the join phase: removes dynamic members that have not joined, and begins a generation.
    pub(super) fn complete_join(&mut self, env: &mut Env<'_>) {
        self.join_timer = None;
        let missing =
            |member: &&super::Member| member.awaiting_join.is_none() && member.instance_id.is_none();
        let missing: Vec<_> = self.members.values().filter(missing).map(|member| member.id.clone()).collect();
        for id in missing {
            self.remove(&id);
            self.see_removed(env, &id, Removal::RebalanceTimeout);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left, and none has joined.
            self.join_timer = Some(JoinTimer::End { at: env.after_ms(self.rebalance_timeout()) });
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.pending_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribed = self.subscribed_topics();
        if self.members.is_empty() {
            self.enter(env, State::Empty);
            let record = self.record(|_| Bytes::new());
            env.write(vec![record]);
            return;
        }
        self.enter(env, State::CompletingRebalance);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let is_leader = self.is_leader(&id);
            let waiting = self.members.get_mut(&id).and_then(|member| member.awaiting_join.take());
            if let Some(waiting) = waiting {
                env.reply_now(waiting.token, self.joined(&id, waiting.version, is_leader));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.expires = Some(env.after_ms(member.session_timeout));
                member.is_new = false;
            }
            self.pending_sync.insert(id);
        }
        self.sync_timer = Some(env.after_ms(self.rebalance_timeout()));
    }

    /// Makes another member the leader if the leader has not joined. Whether there is a leader that has.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let other = self.members.keys().find(|id| joined(id)).cloned();
        match (self.leader.is_some(), other) {
            (true, Some(other)) => {
                self.leader = Some(other);
                true
            }
            _ => false,
        }
    }

    /// Takes all assignments back, and refuses those who wait for one.
    pub(super) fn reset_assignment(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.awaiting_sync.take() {
                env.reply_now(token, SyncGroupResponse::default().with_error_code(error.code()));
                member.expires = Some(env.after_ms(member.session_timeout));
            }
        }
    }

    /// Gives those who wait for it their assignment.
    pub(super) fn propagate_assignment(&mut self, env: &mut Env<'_>) {
        for (id, _) in self.members.iter().filter(|(_, member)| member.awaiting_sync.is_some()) {
            self.see_assignment(env, id);
        }
        let (name, kind) = (optional(self.protocol.as_deref()), optional(self.protocol_type.as_deref()));
        for member in self.members.values_mut() {
            if let Some(token) = member.awaiting_sync.take() {
                let response = SyncGroupResponse::default()
                    .with_protocol_name(name.clone())
                    .with_protocol_type(kind.clone())
                    .with_assignment(member.assignment.clone());
                env.reply_now(token, response);
                member.expires = Some(env.after_ms(member.session_timeout));
            }
        }
    }

    /// Removes a member; refuses what it waits for.
    pub(super) fn remove_member(&mut self, env: &mut Env<'_>, id: &str, why: Removal) {
        let Some(member) = self.remove(id) else { return };
        self.see_removed(env, id, why);
        if let Some(waiting) = member.awaiting_join {
            let error = ErrorCode::UnknownMemberId;
            env.reply_now(waiting.token, refusal::join_group(waiting.version, text(""), error));
        }
        if let Some(token) = member.awaiting_sync {
            let code = ErrorCode::UnknownMemberId.code();
            env.reply_now(token, SyncGroupResponse::default().with_error_code(code));
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, env: &mut Env<'_>, _rng: &mut dyn Rng) {
        let pending: Vec<_> =
            self.pending_join.iter().filter(|(_, at)| **at <= env.now).map(|(id, _)| id.clone()).collect();
        for id in pending {
            self.remove(&id);
            // As `removePendingMemberAndUpdateClassicGroup`, which does not ask whether it is the first rebalance.
            if self.state == State::PreparingRebalance && self.has_all_joined() {
                self.complete_join(env);
            }
        }
        let due = |member: &&super::Member| member.expires.is_some_and(|at| at <= env.now);
        let due: Vec<_> = self.members.values().filter(due).map(|member| member.id.clone()).collect();
        for id in due {
            let Some(member) =
                self.members.get_mut(&id).filter(|m| m.expires.is_some_and(|at| at <= env.now))
            else {
                continue;
            };
            member.expires = None;
            if member.may_expire() {
                self.expire(env, &id);
            }
        }
        if self.sync_timer.is_some_and(|at| at <= env.now) {
            self.sync_timer = None;
            self.expire_sync(env);
        }
        match self.join_timer {
            Some(JoinTimer::End { at }) if at <= env.now => self.complete_join(env),
            Some(JoinTimer::Initial { at, delay, remaining }) if at <= env.now => {
                if self.new_member_added && remaining != 0 {
                    self.new_member_added = false;
                    let next = env.config.initial_rebalance_delay.min(remaining);
                    let remaining = remaining.saturating_sub(delay).max(0);
                    let at = env.after_ms(next);
                    self.join_timer = Some(JoinTimer::Initial { at, delay: next, remaining });
                } else {
                    self.complete_join(env);
                }
            }
            _ => {}
        }
    }

    fn expire(&mut self, env: &mut Env<'_>, id: &str) {
        self.remove_member(env, id, Removal::SessionExpired);
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance_or_complete(env),
            State::PreparingRebalance if self.has_all_joined() => self.complete_join(env),
            _ => {}
        }
    }

    /// Removes members that have not asked for their assignment in time.
    fn expire_sync(&mut self, env: &mut Env<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove_member(env, &id, Removal::RebalanceTimeout);
        }
        self.prepare_rebalance(env);
    }
}
