//! What a shard has asked of its runtime, and the responses that wait for it.

use std::collections::BTreeMap;

use super::{Batch, BatchId, Effects, Markers, Producer, Record, Token};
use crate::error::ErrorCode;

/// Collects the effects of a call, and keeps responses until their records are committed.
#[derive(Debug)]
pub(crate) struct Outbox<R> {
    next: u64,
    /// Until when responses wait that begin to wait now.
    deadline: i64,
    /// The batches that are not committed, with the responses that wait for them, and until when.
    open: BTreeMap<BatchId, Vec<(i64, Token, R)>>,
    effects: Effects<R>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { next: 0, deadline: i64::MAX, open: BTreeMap::new(), effects: Effects::default() }
    }
}

impl<R> Outbox<R> {
    /// Begins a call: responses wait until `deadline` at most.
    pub(crate) fn begin(&mut self, deadline: i64) {
        self.deadline = deadline;
    }

    /// What was asked for since the last call.
    pub(crate) fn take(&mut self) -> Effects<R> {
        std::mem::take(&mut self.effects)
    }

    /// The id of the batch that is written next.
    pub(crate) fn next_batch(&self) -> BatchId {
        BatchId(self.next)
    }

    /// Lets responses wait for a batch that the log had already.
    pub(crate) fn wait_for_loaded(&mut self) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        self.open.insert(id, Vec::new());
        id
    }

    /// Has records appended as one batch.
    pub(crate) fn write(&mut self, now: i64, records: Vec<Record>, producer: Option<Producer>) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        self.open.insert(id, Vec::new());
        self.effects.batches.push(Batch { id, records, producer, timestamp: now });
        id
    }

    /// Responds at once.
    pub(crate) fn reply_now(&mut self, token: Token, response: R) {
        self.effects.replies.push((token, response));
    }

    /// Responds when all that was written so far is committed.
    pub(crate) fn reply(&mut self, token: Token, response: R) {
        match self.open.last_entry() {
            Some(mut last) => last.get_mut().push((self.deadline, token, response)),
            None => self.reply_now(token, response),
        }
    }

    pub(crate) fn send(&mut self, markers: Markers) {
        self.effects.markers.push(markers);
    }

    /// Sends the responses that waited for a batch and those before it.
    pub(crate) fn committed(&mut self, batch: BatchId) {
        let later = self.open.split_off(&BatchId(batch.0.saturating_add(1)));
        for (_, open) in std::mem::replace(&mut self.open, later) {
            self.effects.replies.extend(open.into_iter().map(|(_, token, reply)| (token, reply)));
        }
    }

    /// Refuses the responses that waited for a batch and those after it, and asks to be loaded from the log.
    pub(crate) fn failed(&mut self, batch: BatchId, error: ErrorCode, refuse: impl Fn(R, ErrorCode) -> R) {
        for (_, open) in self.open.split_off(&batch) {
            let refused = open.into_iter().map(|(_, token, reply)| (token, refuse(reply, error)));
            self.effects.replies.extend(refused);
        }
        self.effects.reload = true;
    }

    /// Refuses the responses that have waited too long. Their records may still be committed.
    pub(crate) fn expire(&mut self, now: i64, error: ErrorCode, refuse: impl Fn(R, ErrorCode) -> R) {
        for open in self.open.values_mut() {
            let late = open.extract_if(.., |(deadline, ..)| *deadline <= now);
            self.effects.replies.extend(late.map(|(_, token, reply)| (token, refuse(reply, error))));
        }
    }

    /// When [`Self::expire`] is to be called.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.open.values().flatten().map(|(deadline, ..)| *deadline).min()
    }

    /// The responses that still wait.
    pub(crate) fn drain(&mut self) -> Vec<(Token, R)> {
        let open = std::mem::take(&mut self.open).into_values().flatten();
        open.map(|(_, token, reply)| (token, reply)).collect()
    }
}
