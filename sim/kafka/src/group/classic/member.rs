//! A member of a classic group.

use bytes::Bytes;

use crate::coordinator::Token;
use crate::group::records::GroupMemberValue;

/// A JoinGroup request that waits for the generation to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) token: Token,
    pub(crate) version: i16,
}

/// A member of a classic group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// In milliseconds.
    pub(crate) rebalance_timeout: i32,
    /// In milliseconds.
    pub(crate) session_timeout: i32,
    pub(crate) protocol_type: String,
    /// Names and metadata, in the order of preference.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(crate) awaiting_join: Option<Waiting>,
    pub(crate) awaiting_sync: Option<Token>,
    /// Whether it has not yet been in a generation.
    pub(crate) is_new: bool,
    /// When the session ends, unless it is heard of. `None` while it waits for a response.
    pub(crate) expires: Option<i64>,
}

impl Member {
    /// The member of a record.
    pub(crate) fn load(value: GroupMemberValue, protocol_type: &str, protocol: Option<&str>) -> Self {
        Self {
            id: value.id,
            instance_id: value.instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout: value.rebalance_timeout,
            session_timeout: value.session_timeout,
            protocol_type: protocol_type.to_owned(),
            protocols: vec![(protocol.unwrap_or_default().to_owned(), value.subscription)],
            assignment: value.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            expires: None,
        }
    }

    /// The metadata of a protocol that it supports.
    pub(crate) fn metadata(&self, protocol: &str) -> Option<Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata.clone())
    }

    /// Whether a session that is over ends the membership. New members may expire while they wait; others that wait
    /// for a response are not asked for heartbeats.
    pub(crate) fn may_expire(&self) -> bool {
        self.is_new || (self.awaiting_join.is_none() && self.awaiting_sync.is_none())
    }
}
