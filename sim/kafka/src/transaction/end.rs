//! The end of transactions: EndTxn, timeouts, and producers that are replaced.

use super::shard::Then;
use super::state::{Metadata, NO_EPOCH, NO_ID, State, Transaction, is_exhausted};
use super::{ProducerIds, TransactionShard};
use crate::coordinator::{Producer, Token};
use crate::error::ErrorCode;
use crate::protocol::messages::EndTxnResponse;

/// The first version in which clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 2;

/// Who learns of the end.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndReply {
    /// The client that asked for it.
    Client { token: Token, version: i16 },
    /// A new producer, which has to ask again.
    Init { token: Token, version: i16 },
    /// Nobody: the transaction was open for too long.
    Timeout,
}

/// The end of a transaction.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) id: String,
    pub(super) producer: Producer,
    pub(super) commit: bool,
    pub(super) is_from_client: bool,
    /// The version of the transaction protocol: with 2 the epoch is raised.
    pub(super) version: i16,
    pub(super) reply: EndReply,
}

/// What is to be done about it.
enum Decision {
    /// It was done before, and the client asks again.
    Done(Producer),
    /// This is to be recorded.
    Record { next: Metadata, is_fence: bool },
}

const NO_PRODUCER: Producer = Producer { id: NO_ID, epoch: NO_EPOCH };

impl TransactionShard {
    pub(super) fn end(&mut self, now: i64, ids: &mut dyn ProducerIds, end: End) {
        let bumps = end.version >= 2;
        let decision = if end.id.is_empty() {
            Err(ErrorCode::InvalidRequest)
        } else {
            match self.transactions.get_mut(&end.id) {
                None => Err(ErrorCode::InvalidProducerIdMapping),
                Some(transaction) if bumps => decide(transaction, now, ids, &end),
                Some(transaction) => decide_without_bump(transaction, now, &end),
            }
        };
        match decision {
            Err(error) => self.reply_end(end.reply, Err(error)),
            Ok(Decision::Done(producer)) => self.reply_end(end.reply, Ok(producer)),
            Ok(Decision::Record { next, is_fence }) => {
                let End { id, producer, commit, reply, .. } = end;
                self.append(now, &id, next, Then::End { reply, commit, producer, is_fence, bumps });
            }
        }
    }

    /// The decision is recorded: the client learns so at once, and markers are sent.
    pub(super) fn ended(
        &mut self,
        now: i64,
        id: &str,
        reply: EndReply,
        commit: bool,
        producer: Producer,
        bumps: bool,
    ) {
        let Some(transaction) = self.transactions.get(id) else {
            self.reply_end(reply, Err(ErrorCode::NotCoordinator));
            return;
        };
        let current = &transaction.metadata;
        let is_same = current.epoch == producer.epoch
            || (bumps && Some(current.epoch) == producer.epoch.checked_add(1));
        let expected = if commit { State::PrepareCommit } else { State::PrepareAbort };
        let error = if current.producer_id != producer.id {
            Some(ErrorCode::InvalidProducerIdMapping)
        } else if !is_same {
            Some(ErrorCode::ProducerFenced)
        } else if current.state != expected {
            Some(ErrorCode::InvalidTxnState)
        } else {
            None
        };
        if let Some(error) = error {
            self.reply_end(reply, Err(error));
            return;
        }
        // With the epoch bump the client goes on with what the transaction leaves behind.
        let next = match self.prepare_markers(now, id) {
            Ok(next) if bumps => Ok(next),
            Ok(_) => Ok(NO_PRODUCER),
            Err(error) => Err(error),
        };
        self.reply_end(reply, next);
        if next.is_ok() {
            self.emit_markers(now, id);
        }
    }

    pub(super) fn reply_end(&mut self, reply: EndReply, result: Result<Producer, ErrorCode>) {
        match reply {
            EndReply::Client { token, version } => {
                let response = match result {
                    Ok(producer) => EndTxnResponse::default()
                        .with_producer_id(producer.id.into())
                        .with_producer_epoch(producer.epoch),
                    Err(ErrorCode::ProducerFenced) if version < PRODUCER_FENCED => {
                        EndTxnResponse::default().with_error_code(ErrorCode::InvalidProducerEpoch.code())
                    }
                    Err(error) => EndTxnResponse::default().with_error_code(error.code()),
                };
                self.out.reply_now(token, response.into());
            }
            EndReply::Init { token, version } => {
                let error = result.err().unwrap_or(ErrorCode::ConcurrentTransactions);
                self.initialized(token, version, Err(error));
            }
            EndReply::Timeout => {}
        }
    }

    /// Aborts transactions that are open for longer than their timeout.
    pub(super) fn abort_timed_out(&mut self, now: i64, ids: &mut dyn ProducerIds) {
        let is_late = |transaction: &Transaction| {
            let current = &transaction.metadata;
            transaction.pending.is_none()
                && current.state == State::Ongoing
                // A timeout of the greatest number is that of two-phase commit: none.
                && current.timeout != i32::MAX
                && current.started.saturating_add(i64::from(current.timeout)) < now
        };
        let late = self.transactions.iter().filter(|(_, transaction)| is_late(transaction));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        for id in late {
            let fenced =
                self.transactions.get_mut(&id).and_then(|transaction| transaction.prepare_fence().ok());
            let Some(fenced) = fenced else { continue };
            let end = End {
                id,
                producer: fenced.producer(),
                commit: false,
                is_from_client: false,
                version: self.config.transaction_version,
                reply: EndReply::Timeout,
            };
            self.end(now, ids, end);
        }
    }
}

/// Without the epoch bump (`endTransactionWithTV1`): the epoch has to be the producer's, and a client that asks again
/// gets the same answer as long as no other transaction has begun.
fn decide_without_bump(transaction: &mut Transaction, now: i64, end: &End) -> Result<Decision, ErrorCode> {
    let current = &transaction.metadata;
    if current.producer_id != end.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if (end.is_from_client && end.producer.epoch != current.epoch) || end.producer.epoch < current.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    let is_fence = transaction.pending == Some(State::PrepareEpochFence);
    if transaction.pending.is_some() && !is_fence {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match (current.state, end.commit) {
        (State::Ongoing, commit) => {
            let state = if commit { State::PrepareCommit } else { State::PrepareAbort };
            let is_fence = is_fence && !commit;
            if is_fence {
                // The abort is written with the epoch that fences the producer.
                transaction.pending = None;
                transaction.metadata.epoch = end.producer.epoch;
                transaction.metadata.last_epoch = NO_EPOCH;
            }
            let next = transaction.prepare_end(state, 0, NO_ID, now, false)?;
            Ok(Decision::Record { next, is_fence })
        }
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Decision::Done(NO_PRODUCER)),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ErrorCode::ConcurrentTransactions),
        (State::Dead | State::PrepareEpochFence, _) => Err(ErrorCode::UnknownServerError),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// With the epoch bump (`endTransaction`): a request with the epoch before the last is a retry; an abort without a
/// transaction raises the epoch.
fn decide(
    transaction: &mut Transaction,
    now: i64,
    ids: &mut dyn ProducerIds,
    end: &End,
) -> Result<Decision, ErrorCode> {
    let current = &transaction.metadata;
    let (producer, epoch) = (current.producer(), end.producer.epoch);
    let is_fence = transaction.pending == Some(State::PrepareEpochFence);
    let is_retry_of_overflow = !is_fence
        && current.previous_producer_id == end.producer.id
        && epoch == i16::MAX - 1
        && current.epoch == 0;
    let is_retry_of_bump = !is_fence && epoch.checked_add(1) == Some(current.epoch);
    let is_retry = is_retry_of_bump || is_retry_of_overflow;
    let is_valid = if is_fence {
        (!end.is_from_client || epoch == current.epoch) && epoch >= current.epoch
    } else {
        match current.state {
            State::PrepareCommit | State::PrepareAbort => is_retry_of_bump,
            State::CompleteCommit | State::CompleteAbort => is_retry || epoch == current.epoch,
            State::Ongoing | State::Empty | State::Dead | State::PrepareEpochFence => epoch == current.epoch,
        }
    };
    if transaction.pending.is_some() && !is_fence {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if current.producer_id != end.producer.id && !is_retry_of_overflow {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if !is_valid {
        return Err(ErrorCode::ProducerFenced);
    }
    let (state, without_partitions) = match (current.state, end.commit) {
        (State::Ongoing, true) => (State::PrepareCommit, false),
        (State::Ongoing, false) => (State::PrepareAbort, false),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if is_retry => {
            return Ok(Decision::Done(producer));
        }
        (State::CompleteCommit | State::CompleteAbort, false) if !is_retry => (State::PrepareAbort, true),
        (State::Empty, false) => (State::PrepareAbort, true),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        (State::Dead | State::PrepareEpochFence, _) => return Err(ErrorCode::UnknownServerError),
        _ => return Err(ErrorCode::InvalidTxnState),
    };
    let next_id = if !is_fence && is_exhausted(current.epoch) {
        ids.next().ok_or(ErrorCode::CoordinatorLoadInProgress)?
    } else {
        NO_ID
    };
    let is_fence = is_fence && state == State::PrepareAbort;
    if is_fence {
        transaction.pending = None;
    }
    let next = transaction.prepare_end(state, end.version, next_id, now, without_partitions)?;
    Ok(Decision::Record { next, is_fence })
}
