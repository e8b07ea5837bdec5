//! What a shard has asked of its runtime, and the responses that wait for it.

use std::collections::BTreeMap;

use proto_kafka::error::ResponseError;

use super::{Batch, BatchId, Effects, Markers, Producer, Record, Token};

/// Collects the effects of a call, and keeps responses until their records are committed.
#[derive(Debug)]
pub(crate) struct Outbox<R> {
    next: u64,
    /// The batches that are not committed, with the responses that wait for them.
    open: BTreeMap<BatchId, Open<R>>,
    effects: Effects<R>,
}

#[derive(Debug)]
struct Open<R> {
    /// When the responses are sent with an error.
    deadline: i64,
    replies: Vec<(Token, R)>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { next: 0, open: BTreeMap::new(), effects: Effects::default() }
    }
}

impl<R> Outbox<R> {
    /// What was asked for since the last call.
    pub(crate) fn take(&mut self) -> Effects<R> {
        std::mem::take(&mut self.effects)
    }

    /// Has records appended as one batch. Responses to it wait until `deadline`.
    pub(crate) fn write(
        &mut self,
        now: i64,
        deadline: i64,
        records: Vec<Record>,
        producer: Option<Producer>,
    ) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        self.open.insert(id, Open { deadline, replies: Vec::new() });
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
            Some(mut last) => last.get_mut().replies.push((token, response)),
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
            self.effects.replies.extend(open.replies);
        }
    }

    /// Refuses the responses that waited for a batch and those after it, and asks to be loaded from the log.
    pub(crate) fn failed(
        &mut self,
        batch: BatchId,
        error: ResponseError,
        refuse: impl Fn(R, ResponseError) -> R,
    ) {
        for (_, open) in self.open.split_off(&batch) {
            self.effects
                .replies
                .extend(open.replies.into_iter().map(|(token, reply)| (token, refuse(reply, error))));
        }
        self.effects.reload = true;
    }

    /// Refuses the responses that have waited too long. Their records may still be committed.
    pub(crate) fn expire(&mut self, now: i64, error: ResponseError, refuse: impl Fn(R, ResponseError) -> R) {
        for open in self.open.values_mut().filter(|open| open.deadline <= now) {
            let replies = std::mem::take(&mut open.replies);
            self.effects
                .replies
                .extend(replies.into_iter().map(|(token, reply)| (token, refuse(reply, error))));
        }
    }

    /// When [`Self::expire`] is to be called.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.open.values().filter(|open| !open.replies.is_empty()).map(|open| open.deadline).min()
    }

    /// The responses that still wait.
    pub(crate) fn drain(&mut self) -> Vec<(Token, R)> {
        std::mem::take(&mut self.open).into_values().flat_map(|open| open.replies).collect()
    }
}
