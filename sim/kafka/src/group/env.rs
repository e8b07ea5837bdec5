//! What the code of groups has at hand while it handles one event.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{GroupConfig, GroupResponse};
use crate::cluster::observe::Observed;
use crate::coordinator::{BatchId, Outbox, Record, Token, Topics};
use crate::protocol::StrBytes;

/// The surroundings of a group in one call of a shard.
pub(crate) struct Env<'a> {
    /// In milliseconds since the epoch.
    pub(crate) now: i64,
    pub(crate) config: &'a GroupConfig,
    pub(crate) topics: &'a Topics,
    pub(crate) observed: &'a Observed,
    out: &'a mut Outbox<GroupResponse>,
    after: &'a mut BTreeMap<BatchId, After>,
}

/// What happens to a classic group when its record is committed.
#[derive(Clone, Debug)]
pub(crate) struct After {
    pub(crate) group: String,
    /// When it is given up, as the record takes too long.
    pub(crate) deadline: i64,
    pub(crate) action: Action,
}

/// See [`After`].
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Members receive the leader's assignment, if the group is still in this generation.
    Assign { generation: i32, assignments: BTreeMap<String, Bytes> },
    /// A static member that took the place of another learns about the group. `leader` was the leader before.
    Replaced { member: String, leader: Option<String> },
}

impl<'a> Env<'a> {
    pub(crate) fn new(
        now: i64,
        config: &'a GroupConfig,
        topics: &'a Topics,
        observed: &'a Observed,
        out: &'a mut Outbox<GroupResponse>,
        after: &'a mut BTreeMap<BatchId, After>,
    ) -> Self {
        Self { now, config, topics, observed, out, after }
    }

    /// The end of a period that begins now.
    pub(crate) fn after_ms(&self, period: i32) -> i64 {
        self.now.saturating_add(i64::from(period))
    }

    /// Has records appended, if there are any.
    pub(crate) fn write(&mut self, records: Vec<Record>) -> Option<BatchId> {
        (!records.is_empty()).then(|| self.out.write(self.now, records, None))
    }

    /// Has records appended, and something done to a group when they are committed.
    pub(crate) fn write_then(&mut self, group: &str, records: Vec<Record>, action: Action) {
        let deadline = self.now.saturating_add(self.config.commit_timeout);
        if let Some(batch) = self.write(records) {
            self.after.insert(batch, After { group: group.to_owned(), deadline, action });
        }
    }

    /// Responds when all that was written is committed.
    pub(crate) fn reply(&mut self, token: Token, response: impl Into<GroupResponse>) {
        self.out.reply(token, response.into());
    }

    /// Responds at once.
    pub(crate) fn reply_now(&mut self, token: Token, response: impl Into<GroupResponse>) {
        self.out.reply_now(token, response.into());
    }
}

/// A text for a message.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An optional text for a message.
pub(crate) fn optional(value: Option<&str>) -> Option<StrBytes> {
    value.map(text)
}
