//! The state machine of one partition of `__transaction_state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::add::Collected;
use super::end::{End, EndReply};
use super::records;
use super::state::{Metadata, State, Transaction};
use super::{ProducerIds, TransactionConfig, TransactionRequest, TransactionResponse};
use crate::cluster::observe::{Observed, Observer, Witness};
use crate::coordinator::{
    BatchId, Context, Effects, MarkerOutcome, Outbox, Producer, Record, RecordError, Token, Topics,
    append_error,
};
use crate::error::ErrorCode;
use crate::types::NodeId;

/// What happens when a record is committed, or cannot be.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// A producer learns its id and epoch.
    Init { token: Token, version: i16 },
    /// Partitions are part of the transaction.
    Add { token: Token, version: i16 },
    /// The end is decided: the client learns so, and markers are sent.
    End { reply: EndReply, commit: bool, producer: Producer, is_fence: bool, bumps: bool },
    /// The transaction is over.
    Complete,
    /// The ids are forgotten.
    Forget,
}

/// Records that are being appended.
#[derive(Clone, Debug)]
pub(super) struct Append {
    pub(super) next: Vec<(String, Metadata)>,
    /// When it is given up.
    deadline: i64,
    pub(super) then: Then,
}

/// The coordinator of the transactional ids of one partition of `__transaction_state`.
#[derive(Debug)]
pub struct TransactionShard {
    pub(super) config: TransactionConfig,
    /// The leader epoch of the partition.
    pub(super) epoch: i32,
    pub(super) topics: Arc<Topics>,
    pub(super) out: Outbox<TransactionResponse>,
    pub(super) transactions: BTreeMap<String, Transaction>,
    appends: BTreeMap<BatchId, Append>,
    pub(super) collected: BTreeMap<Token, Collected>,
    next_abort_check: i64,
    next_expiry_check: i64,
    pub(super) observed: Observed,
}

impl TransactionShard {
    /// An empty shard, to be loaded with [`Self::replay`]. `coordinator_epoch` is the leader epoch of its partition.
    pub fn new(config: TransactionConfig, coordinator_epoch: i32, topics: Arc<Topics>) -> Self {
        Self {
            config,
            epoch: coordinator_epoch,
            topics,
            out: Outbox::default(),
            transactions: BTreeMap::new(),
            appends: BTreeMap::new(),
            collected: BTreeMap::new(),
            next_abort_check: i64::MAX,
            next_expiry_check: i64::MAX,
            observed: Observed::default(),
        }
    }

    /// Reports what happens to transactions from now on, as of this broker.
    #[must_use]
    pub fn observed(mut self, broker: NodeId, observer: Option<Arc<dyn Observer>>) -> Self {
        self.observed = Observed::new(broker, Witness::new(observer));
        self
    }

    /// Takes a record of the log.
    ///
    /// # Errors
    /// If the record cannot be read; the shard is unchanged then.
    pub fn replay(&mut self, record: &Record) -> Result<(), RecordError> {
        match records::read(record)? {
            Some((id, Some(metadata))) => {
                self.transactions.insert(id, Transaction::new(metadata));
            }
            Some((id, None)) => {
                self.transactions.remove(&id);
            }
            None => {}
        }
        Ok(())
    }

    /// Begins to serve, after the last record of the log: transactions that were about to be ended are ended.
    pub fn loaded(&mut self, now: i64) -> Effects<TransactionResponse> {
        self.next_abort_check = now.saturating_add(self.config.abort_check_interval);
        self.next_expiry_check = now.saturating_add(self.config.id_expiration_check_interval);
        let prepared =
            self.transactions.iter().filter(|(_, transaction)| transaction.metadata.state.is_prepared());
        let prepared: Vec<String> = prepared.map(|(id, _)| id.clone()).collect();
        for id in prepared {
            self.send_markers(now, &id);
        }
        self.out.take()
    }

    /// Handles a request. The response is part of these effects or of those of a later call.
    pub fn handle(
        &mut self,
        now: i64,
        ids: &mut dyn ProducerIds,
        token: Token,
        context: &Context,
        request: TransactionRequest,
    ) -> Effects<TransactionResponse> {
        let version = context.api_version;
        // Its record could not be written.
        if request.transactional_ids(version).iter().any(|id| id.len() > i16::MAX as usize) {
            self.out.reply_now(token, request.refuse(version, ErrorCode::UnknownServerError));
            return self.out.take();
        }
        match request {
            TransactionRequest::InitProducerId(request) => {
                self.init_producer_id(now, ids, token, version, &request)
            }
            TransactionRequest::AddPartitionsToTxn(request) => {
                self.add_partitions(now, token, version, &request)
            }
            TransactionRequest::AddOffsetsToTxn(request) => self.add_offsets(now, token, version, &request),
            TransactionRequest::EndTxn(request) => {
                let end = End {
                    id: request.transactional_id.to_string(),
                    producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
                    commit: request.committed,
                    is_from_client: true,
                    // `TransactionVersion.transactionVersionForEndTxn`.
                    version: if version > 4 { 2 } else { 0 },
                    reply: EndReply::Client { token, version },
                };
                self.end(now, ids, end);
            }
            TransactionRequest::DescribeTransactions(request) => {
                let response = self.describe(&request);
                self.out.reply_now(token, response.into());
            }
            TransactionRequest::ListTransactions(request) => {
                let response = self.list(now, &request);
                self.out.reply_now(token, response.into());
            }
        }
        self.out.take()
    }

    /// Does what is due: aborts transactions past their timeout, sends markers again, forgets unused ids.
    pub fn tick(&mut self, now: i64, ids: &mut dyn ProducerIds) -> Effects<TransactionResponse> {
        let late = self.appends.iter().filter(|(_, append)| append.deadline <= now);
        let late: Vec<BatchId> = late.map(|(batch, _)| *batch).collect();
        for batch in late {
            self.finish(now, batch, Err(append_error(ErrorCode::RequestTimedOut)));
        }
        self.retry(now);
        if pass(&mut self.next_abort_check, self.config.abort_check_interval, now) {
            self.abort_timed_out(now, ids);
        }
        if pass(&mut self.next_expiry_check, self.config.id_expiration_check_interval, now) {
            self.forget_unused(now);
        }
        self.out.take()
    }

    /// When [`Self::tick`] is to be called, in milliseconds since the epoch. To be asked after each call.
    pub fn next_deadline(&self) -> Option<i64> {
        let appends = self.appends.values().map(|append| append.deadline);
        let transactions = self.transactions.values();
        let resend = transactions.clone().filter_map(|t| t.resend.as_ref().map(|(at, _)| *at));
        let completion = transactions.clone().filter_map(|t| t.retry_completion);
        // Without a transaction or an id there is nothing to look for.
        let is_ongoing = transactions.clone().any(|t| t.metadata.state == State::Ongoing);
        let abort = is_ongoing.then_some(self.next_abort_check);
        let expiry = (!self.transactions.is_empty()).then_some(self.next_expiry_check);
        appends.chain(resend).chain(completion).chain(abort).chain(expiry).min()
    }

    /// Reports that a batch is below the high watermark.
    pub fn committed(&mut self, now: i64, batch: BatchId) -> Effects<TransactionResponse> {
        self.out.committed(batch);
        self.finish(now, batch, Ok(()));
        self.out.take()
    }

    /// Reports that a batch could not be appended, and why.
    pub fn failed(&mut self, now: i64, batch: BatchId, error: ErrorCode) -> Effects<TransactionResponse> {
        self.out.committed(batch);
        self.finish(now, batch, Err(append_error(error)));
        self.out.take()
    }

    /// Reports what became of a marker: once for each partition of [`Markers`](crate::coordinator::Markers).
    pub fn marker_written(
        &mut self,
        now: i64,
        transactional_id: &str,
        producer: Producer,
        partition: (&str, i32),
        outcome: MarkerOutcome,
    ) -> Effects<TransactionResponse> {
        self.marker_outcome(now, transactional_id, producer, partition, outcome);
        self.out.take()
    }

    /// Reports new metadata.
    pub fn topics_changed(&mut self, topics: Arc<Topics>) {
        self.topics = topics;
    }

    /// Ends the shard, as the broker is no longer the coordinator. Returns the responses of all open requests:
    /// NOT_COORDINATOR.
    pub fn unload(mut self) -> Vec<(Token, TransactionResponse)> {
        for append in std::mem::take(&mut self.appends).into_values() {
            self.refuse(append.then, ErrorCode::NotCoordinator);
        }
        self.out.take().replies
    }

    /// Has the next state of an id recorded.
    pub(super) fn append(&mut self, now: i64, id: &str, next: Metadata, then: Then) {
        let record = records::write(id, &next, self.config.transaction_version);
        // Kafka waits for the replicas as long as the transaction may last.
        let deadline = now.saturating_add(i64::from(next.timeout));
        self.append_all(now, vec![record], vec![(id.to_owned(), next)], deadline, then);
    }

    pub(super) fn append_all(
        &mut self,
        now: i64,
        records: Vec<Record>,
        next: Vec<(String, Metadata)>,
        deadline: i64,
        then: Then,
    ) {
        let batch = self.out.write(now, records, None);
        self.appends.insert(batch, Append { next, deadline, then });
    }

    /// A batch is committed, or is given up.
    fn finish(&mut self, now: i64, batch: BatchId, result: Result<(), ErrorCode>) {
        let Some(Append { next, then, .. }) = self.appends.remove(&batch) else { return };
        if let Then::Forget = then {
            self.forgotten(&next, result);
            return;
        }
        let Some((id, next)) = next.into_iter().next() else { return };
        let Some(transaction) = self.transactions.get_mut(&id) else {
            self.refuse(then, ErrorCode::NotCoordinator);
            return;
        };
        match result {
            Ok(()) => {
                let before = transaction.complete(next.clone());
                self.see(&id, &before, &next, &then);
                self.accept(now, &id, next, then);
            }
            // The end of a transaction is written again until that succeeds.
            Err(ErrorCode::CoordinatorNotAvailable) if matches!(then, Then::Complete) => {
                transaction.completing = Some(next);
                transaction.retry_completion = Some(now.saturating_add(self.config.marker_retry_backoff));
            }
            Err(error) => {
                transaction.pending = None;
                if let Then::End { is_fence: true, bumps: false, .. } = &then {
                    transaction.failed_fence = true;
                }
                self.refuse(then, error);
            }
        }
    }

    /// What follows a committed record.
    fn accept(&mut self, now: i64, id: &str, next: Metadata, then: Then) {
        match then {
            Then::Init { token, version } => self.initialized(token, version, Ok(next.producer())),
            Then::Add { token, version } => self.added(token, version, id, Ok(())),
            Then::End { reply, commit, producer, bumps, .. } => {
                self.ended(now, id, reply, commit, producer, bumps);
            }
            Then::Complete | Then::Forget => {}
        }
    }

    /// Answers those who wait for a record that is not committed.
    fn refuse(&mut self, then: Then, error: ErrorCode) {
        match then {
            Then::Init { token, version } => self.initialized(token, version, Err(error)),
            Then::Add { token, version } => self.add_failed(token, version, error),
            Then::End { reply, .. } => self.reply_end(reply, Err(error)),
            Then::Complete | Then::Forget => {}
        }
    }
}

/// Whether a check at fixed times is due; moves on to the next time.
fn pass(next: &mut i64, interval: i64, now: i64) -> bool {
    if *next > now {
        return false;
    }
    let interval = interval.max(1);
    let missed = now.saturating_sub(*next).checked_div(interval).unwrap_or(0);
    *next = next.saturating_add(interval.saturating_mul(missed.saturating_add(1)));
    true
}
