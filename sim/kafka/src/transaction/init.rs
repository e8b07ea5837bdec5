//! InitProducerId.

use super::end::{End, EndReply};
use super::shard::Then;
use super::state::{Metadata, NO_EPOCH, NO_ID, State, Transaction, is_exhausted};
use super::{ProducerIds, TransactionShard, idempotent_producer, refusal};
use crate::coordinator::{Producer, Token};
use crate::error::ErrorCode;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// The first version in which clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 4;

impl TransactionShard {
    pub(super) fn init_producer_id(
        &mut self,
        now: i64,
        ids: &mut dyn ProducerIds,
        token: Token,
        version: i16,
        request: &InitProducerIdRequest,
    ) {
        let Some(id) = request.transactional_id.as_ref().map(|id| id.to_string()) else {
            self.out.reply_now(token, idempotent_producer(request, ids).into());
            return;
        };
        let prepared = expected(request).and_then(|expected| {
            self.validate_init(&id, request)?;
            self.prepare_init(now, ids, &id, request.transaction_timeout_ms, expected)
        });
        match prepared {
            Err(error) => self.initialized(token, version, Err(error)),
            Ok(next) if next.state == State::PrepareEpochFence => {
                // The open transaction is aborted first, and the client asks again: then it gets an epoch.
                let end = End {
                    id,
                    producer: next.producer(),
                    commit: false,
                    is_from_client: false,
                    version: self.config.transaction_version,
                    reply: EndReply::Init { token, version },
                };
                self.end(now, ids, end);
            }
            Ok(next) => self.append(now, &id, next, Then::Init { token, version }),
        }
    }

    fn validate_init(&self, id: &str, request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        // Two-phase commit is off by default (`transaction.two.phase.commit.enable`), and not implemented in 4.1.
        if request.enable_2_pc {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if request.keep_prepared_txn {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if !(1..=self.config.max_timeout).contains(&request.transaction_timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        Ok(())
    }

    /// `TransactionCoordinator.prepareInitProducerIdTransit`.
    fn prepare_init(
        &mut self,
        now: i64,
        ids: &mut dyn ProducerIds,
        id: &str,
        timeout: i32,
        expected: Option<Producer>,
    ) -> Result<Metadata, ErrorCode> {
        if !self.transactions.contains_key(id) {
            let producer_id = ids.next().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            let metadata = Metadata::new(producer_id, timeout, now);
            self.transactions.insert(id.to_owned(), Transaction::new(metadata));
        }
        let transaction = self.transactions.get_mut(id).ok_or(ErrorCode::UnknownServerError)?;
        if transaction.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let current = &transaction.metadata;
        let epoch = current.epoch;
        let is_valid = |expected: Producer| {
            epoch == NO_EPOCH
                || expected.id == current.producer_id
                // A retry after the id was replaced because its epochs were used up.
                || (expected.id == current.previous_producer_id && is_exhausted(expected.epoch))
        };
        if !expected.is_none_or(is_valid) {
            return Err(ErrorCode::ProducerFenced);
        }
        match current.state {
            State::PrepareCommit | State::PrepareAbort => Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing => transaction.prepare_fence(),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                if is_exhausted(epoch) && expected.is_none_or(|expected| expected.epoch == epoch) {
                    let producer_id = ids.next().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
                    transaction.prepare_rotation(producer_id, timeout, now, expected.is_some())
                } else {
                    transaction.prepare_epoch(timeout, expected.map(|expected| expected.epoch), now)
                }
            }
            State::Dead | State::PrepareEpochFence => Err(ErrorCode::UnknownServerError),
        }
    }

    pub(super) fn initialized(&mut self, token: Token, version: i16, result: Result<Producer, ErrorCode>) {
        let response = match result {
            Ok(producer) => InitProducerIdResponse::default()
                .with_producer_id(producer.id.into())
                .with_producer_epoch(producer.epoch),
            Err(ErrorCode::ProducerFenced) if version < PRODUCER_FENCED => {
                refusal::init_producer_id(ErrorCode::InvalidProducerEpoch)
            }
            Err(error) => refusal::init_producer_id(error),
        };
        self.out.reply_now(token, response.into());
    }
}

/// The producer that the client says it is; `None` for a new one.
fn expected(request: &InitProducerIdRequest) -> Result<Option<Producer>, ErrorCode> {
    match (request.producer_id.0, request.producer_epoch) {
        (NO_ID, NO_EPOCH) => Ok(None),
        (NO_ID, _) | (_, NO_EPOCH) => Err(ErrorCode::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}
