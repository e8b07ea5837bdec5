//! Markers: a transaction that is to be ended is ended in each of its partitions, one by one.

use std::collections::BTreeSet;

use super::TransactionShard;
use super::shard::Then;
use super::state::{Partition, State};
use crate::coordinator::{MarkerOutcome, Markers, Producer};
use crate::error::ErrorCode;

impl TransactionShard {
    /// Prepares what follows the markers, and sends them.
    pub(super) fn send_markers(&mut self, now: i64, id: &str) {
        if self.prepare_markers(now, id).is_ok() {
            self.emit_markers(now, id);
        }
    }

    /// Prepares what follows the markers. The producer as it is then.
    pub(super) fn prepare_markers(&mut self, now: i64, id: &str) -> Result<Producer, ErrorCode> {
        let transaction = self.transactions.get_mut(id).ok_or(ErrorCode::NotCoordinator)?;
        if transaction.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let next = transaction.prepare_completion(now)?;
        let producer = next.producer();
        transaction.completing = Some(next);
        Ok(producer)
    }

    /// Sends the markers of a transaction.
    pub(super) fn emit_markers(&mut self, now: i64, id: &str) {
        let partitions = self.transactions.get(id).map(|t| t.metadata.partitions.clone()).unwrap_or_default();
        self.emit(id, partitions);
        self.complete_if_done(now, id);
    }

    fn emit(&mut self, id: &str, partitions: BTreeSet<Partition>) {
        let Some(transaction) = self.transactions.get(id) else { return };
        if partitions.is_empty() {
            return;
        }
        let markers = Markers {
            transactional_id: id.to_owned(),
            producer: transaction.metadata.producer(),
            coordinator_epoch: self.epoch,
            commit: transaction.metadata.state == State::PrepareCommit,
            transaction_version: transaction.metadata.version,
            partitions: partitions.into_iter().collect(),
        };
        self.out.send(markers);
    }

    /// Records that the transaction is over, if all markers are written.
    fn complete_if_done(&mut self, now: i64, id: &str) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        if !transaction.metadata.partitions.is_empty() {
            return;
        }
        if let Some(next) = transaction.completing.take() {
            self.append(now, id, next, Then::Complete);
        }
    }

    /// As `TransactionMarkerRequestCompletionHandler` treats the errors of WriteTxnMarkers.
    pub(super) fn marker_outcome(
        &mut self,
        now: i64,
        id: &str,
        producer: Producer,
        (topic, index): (&str, i32),
        outcome: MarkerOutcome,
    ) {
        let partition = (topic.to_owned(), index);
        let again = now.saturating_add(self.config.marker_retry_backoff);
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let is_current = transaction.metadata.producer() == producer && transaction.completing.is_some();
        if !is_current || !transaction.metadata.partitions.contains(&partition) {
            return;
        }
        use ErrorCode as E;
        match outcome {
            // A partition that does not support the marker never had records of the transaction.
            MarkerOutcome::Written
            | MarkerOutcome::Gone
            | MarkerOutcome::Refused(E::UnsupportedForMessageFormat | E::UnsupportedVersion) => {
                transaction.metadata.partitions.remove(&partition);
                self.complete_if_done(now, id);
            }
            // Another coordinator, or another producer, has taken over.
            MarkerOutcome::Refused(E::InvalidProducerEpoch | E::TransactionCoordinatorFenced) => {
                transaction.completing = None;
                transaction.resend = None;
            }
            MarkerOutcome::Refused(_) => {
                let (_, partitions) = transaction.resend.get_or_insert_with(|| (again, BTreeSet::new()));
                partitions.insert(partition);
            }
        }
    }

    /// Sends markers, and writes records of ends, that are due again.
    pub(super) fn retry(&mut self, now: i64) {
        let ids: Vec<String> = self.transactions.keys().cloned().collect();
        for id in ids {
            let Some(transaction) = self.transactions.get_mut(&id) else { continue };
            if let Some((_, partitions)) = transaction.resend.take_if(|(at, _)| *at <= now) {
                self.emit(&id, partitions);
                continue;
            }
            if transaction.retry_completion.take_if(|at| *at <= now).is_some()
                && let Some(next) = transaction.completing.take()
            {
                self.append(now, &id, next, Then::Complete);
            }
        }
    }
}
