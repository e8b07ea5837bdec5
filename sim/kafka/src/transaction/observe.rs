//! What an observer learns of transactions.

use super::TransactionShard;
use super::end::EndReply;
use super::shard::Then;
use super::state::{Metadata, State};
use crate::cluster::observe::{EndedBy, Event};

impl TransactionShard {
    /// Reports that a change of a transactional id is committed.
    pub(super) fn see(&self, id: &str, before: &Metadata, after: &Metadata, then: &Then) {
        let (transactional_id, producer) = (id, after.producer());
        match then {
            Then::Init { .. } => self.observed.see(|broker| Event::ProducerInitialized {
                broker,
                transactional_id,
                producer_id: producer.id,
                epoch: producer.epoch,
            }),
            Then::Add { .. } if before.state.is_idle() => {
                self.observed.see(|broker| Event::TransactionBegan {
                    broker,
                    transactional_id,
                    producer_id: producer.id,
                    epoch: producer.epoch,
                });
            }
            Then::End { reply, .. } => self.observed.see(|broker| Event::TransactionPrepared {
                broker,
                transactional_id,
                producer_id: producer.id,
                epoch: producer.epoch,
                commits: after.state == State::PrepareCommit,
                by: match reply {
                    EndReply::Client { .. } => EndedBy::Producer,
                    EndReply::Init { .. } => EndedBy::NewProducer,
                    EndReply::Timeout => EndedBy::Timeout,
                },
                partitions: after.partitions.len(),
            }),
            Then::Complete => self.observed.see(|broker| Event::TransactionCompleted {
                broker,
                transactional_id,
                producer_id: before.producer_id,
                epoch: before.epoch,
                commits: after.state == State::CompleteCommit,
            }),
            Then::Add { .. } | Then::Forget => {}
        }
    }
}
