//! Transactional ids that are not used any more are forgotten.

use super::shard::Then;
use super::state::{Metadata, State};
use super::{TransactionShard, records};
use crate::error::ErrorCode;

/// How long tombstones may take to be committed, in milliseconds (`request.timeout.ms` of a broker).
const TIMEOUT: i64 = 30_000;

impl TransactionShard {
    /// Looks for ids without a transaction that were not used for long.
    pub(super) fn forget_unused(&mut self, now: i64) {
        let before = now.saturating_sub(self.config.id_expiration);
        let mut next = Vec::new();
        for (id, transaction) in &mut self.transactions {
            // A transaction that is open or being ended cannot die, nor can an id with a pending transition.
            if transaction.metadata.updated <= before
                && let Ok(dead) = transaction.prepare_death()
            {
                next.push((id.clone(), dead));
            }
        }
        if !next.is_empty() {
            let records = next.iter().map(|(id, _)| records::tombstone(id)).collect();
            self.append_all(now, records, next, now.saturating_add(TIMEOUT), Then::Forget);
        }
    }

    pub(super) fn forgotten(&mut self, ids: &[(String, Metadata)], result: Result<(), ErrorCode>) {
        for (id, dead) in ids {
            let Some(transaction) = self.transactions.get_mut(id) else { continue };
            let is_same =
                transaction.pending == Some(State::Dead) && transaction.metadata.epoch == dead.epoch;
            if is_same && result.is_ok() {
                self.transactions.remove(id);
            } else {
                transaction.pending = None;
            }
        }
    }
}
