//! JoinGroup.

use bytes::Bytes;
use rand_core::Rng;

use super::{ClassicGroup, Member, State, Waiting};
use crate::cluster::observe::Removal;
use crate::coordinator::{Context, Token};
use crate::error::ErrorCode;
use crate::group::env::{Env, text};
use crate::group::refusal;
use crate::protocol::messages::JoinGroupRequest;

/// The first version in which a new member is given an id, and has to join with it.
const MEMBER_ID_REQUIRED: i16 = 4;

/// A JoinGroup request, as read.
pub(crate) struct Join<'a> {
    pub(crate) context: &'a Context,
    pub(crate) token: Token,
    pub(crate) request: &'a JoinGroupRequest,
    pub(crate) protocols: Vec<(String, Bytes)>,
}

impl<'a> Join<'a> {
    pub(crate) fn new(context: &'a Context, token: Token, request: &'a JoinGroupRequest) -> Self {
        let protocols = request.protocols.iter().map(|p| (p.name.to_string(), p.metadata.clone()));
        Self { context, token, request, protocols: protocols.collect() }
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { token: self.token, version: self.context.api_version }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.request.group_instance_id.as_deref()
    }

    /// From version 1 the client says how long a rebalance may take; before, it is the session timeout.
    pub(crate) fn rebalance_timeout(&self) -> i32 {
        if self.context.api_version == 0 {
            self.request.session_timeout_ms
        } else {
            self.request.rebalance_timeout_ms
        }
    }

    pub(crate) fn refuse(&self, env: &mut Env<'_>, member: &str, error: ErrorCode) {
        env.reply_now(self.token, refusal::join_group(self.context.api_version, text(member), error));
    }
}

/// A new member id: what the client calls itself, and a random UUID.
pub(crate) fn member_id(rng: &mut dyn Rng, prefix: &str) -> String {
    format!("{prefix}-{}", random_uuid(rng))
}

/// A random UUID (version 4).
pub(crate) fn random_uuid(rng: &mut dyn Rng) -> uuid::Uuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

impl ClassicGroup {
    /// Handles a JoinGroup request to a classic group.
    pub(crate) fn join(&mut self, env: &mut Env<'_>, rng: &mut dyn Rng, join: &Join<'_>) {
        let member = join.request.member_id.as_str();
        if !self.accepts(member, env.config.max_size) {
            if self.remove(member).is_some() {
                self.see_removed(env, member, Removal::GroupFull);
            }
            join.refuse(env, "", ErrorCode::GroupMaxSizeReached);
        } else if member.is_empty() {
            self.join_new(env, rng, join);
        } else {
            self.join_existing(env, join, member);
        }
    }

    /// Whether there is a place for a member.
    fn accepts(&self, id: &str, max: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waiting = |member: &Member| member.awaiting_join.is_some();
                self.members.get(id).is_some_and(waiting)
                    || self.members.values().filter(|member| waiting(member)).count() < max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id) || self.members.len() < max
            }
        }
    }

    fn join_new(&mut self, env: &mut Env<'_>, rng: &mut dyn Rng, join: &Join<'_>) {
        if !self.supports(&join.request.protocol_type, &join.protocols) {
            join.refuse(env, "", ErrorCode::InconsistentGroupProtocol);
            return;
        }
        let id = member_id(rng, join.instance().unwrap_or(&join.context.client_id));
        if let Some(instance) = join.instance() {
            match self.static_members.get(instance).cloned() {
                Some(existing) => self.replace_static_member(env, join, &existing, &id),
                None => self.add_member(env, join, id),
            }
        } else if join.context.api_version >= MEMBER_ID_REQUIRED {
            let expires = env.after_ms(join.request.session_timeout_ms);
            self.pending_join.insert(id.clone(), expires);
            join.refuse(env, &id, ErrorCode::MemberIdRequired);
        } else {
            self.add_member(env, join, id);
        }
    }

    fn join_existing(&mut self, env: &mut Env<'_>, join: &Join<'_>, id: &str) {
        if !self.supports(&join.request.protocol_type, &join.protocols) {
            join.refuse(env, id, ErrorCode::InconsistentGroupProtocol);
            return;
        }
        if self.pending_join.contains_key(id) {
            if join.instance().is_some() {
                // Kafka throws an IllegalStateException here, and does not know any more whose request it was.
                join.refuse(env, "", ErrorCode::UnknownServerError);
            } else {
                self.add_member(env, join, id.to_owned());
            }
            return;
        }
        if let Err(error) = self.validate(id, join.instance()) {
            join.refuse(env, id, error);
            return;
        }
        let same = self.members.get(id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            State::PreparingRebalance => self.update_and_rebalance(env, join, id),
            // The response was lost: it gets it again.
            State::CompletingRebalance if same => {
                let response = self.joined(id, join.context.api_version, self.is_leader(id));
                env.reply_now(join.token, response);
            }
            State::CompletingRebalance => self.update_and_rebalance(env, join, id),
            // A leader joins again because it has seen a change that only it can see, such as new partitions.
            State::Stable if self.is_leader(id) || !same => self.update_and_rebalance(env, join, id),
            State::Stable => env.reply_now(join.token, self.joined(id, join.context.api_version, false)),
            State::Empty => join.refuse(env, id, ErrorCode::UnknownMemberId),
        }
    }

    fn add_member(&mut self, env: &mut Env<'_>, join: &Join<'_>, id: String) {
        let member = Member {
            id,
            instance_id: join.instance().map(str::to_owned),
            client_id: join.context.client_id.clone(),
            client_host: join.context.client_host.clone(),
            rebalance_timeout: join.rebalance_timeout(),
            session_timeout: join.request.session_timeout_ms,
            protocol_type: join.request.protocol_type.to_string(),
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(join.waiting()),
            awaiting_sync: None,
            is_new: true,
            expires: Some(env.after_ms(env.config.new_member_join_timeout)),
        };
        if self.state == State::PreparingRebalance && self.from_empty {
            self.new_member_added = true;
        }
        self.see_joined(env, &member);
        self.add(member);
        self.rebalance_or_complete(env);
    }

    fn update_and_rebalance(&mut self, env: &mut Env<'_>, join: &Join<'_>, id: &str) {
        self.update_member(env, join, id);
        self.rebalance_or_complete(env);
    }

    /// Takes what a member says of itself. Its request waits for the next generation.
    pub(super) fn update_member(&mut self, env: &mut Env<'_>, join: &Join<'_>, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout = join.rebalance_timeout();
        member.session_timeout = join.request.session_timeout_ms;
        if let Some(earlier) = member.awaiting_join.replace(join.waiting()) {
            // Kafka never answers the earlier request, whose connection is gone.
            let error = ErrorCode::RebalanceInProgress;
            env.reply_now(earlier.token, refusal::join_group(earlier.version, text(id), error));
        }
    }
}
