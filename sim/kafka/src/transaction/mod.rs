//! The coordinator of transactions.
//!
//! [`TransactionShard`] is the state machine of one partition of `__transaction_state`. How a runtime drives it is
//! written in [`coordinator`](crate::coordinator).
//!
//! As in Kafka's `TransactionStateManager`, the state of a transactional id changes when its record is committed. Until
//! then the id has a pending transition, and other requests of it are refused with CONCURRENT_TRANSACTIONS. If the
//! append fails, the transition is dropped, and the shard serves on.

mod config;
mod refusal;
mod request;

use std::sync::Arc;

use proto_kafka::error::ResponseError;
use proto_kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::coordinator::{
    BatchId, Context, Effects, MarkerOutcome, Outbox, Producer, Record, RecordError, Token, Topics,
};

pub use config::TransactionConfig;
pub use request::{TransactionRequest, TransactionResponse};

/// Where producer ids come from: blocks that the broker has from the controller.
pub trait ProducerIds {
    /// The next id, unique in the cluster. `None` if the broker has to ask the controller first; the client is then
    /// answered COORDINATOR_LOAD_IN_PROGRESS, and asks again.
    fn next(&mut self) -> Option<i64>;
}

/// Answers InitProducerId without a transactional id, as any broker does: a new id with epoch 0.
pub fn idempotent_producer(
    _request: &InitProducerIdRequest,
    ids: &mut dyn ProducerIds,
) -> InitProducerIdResponse {
    match ids.next() {
        Some(id) => InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0),
        None => InitProducerIdResponse::default()
            .with_error_code(ResponseError::CoordinatorLoadInProgress.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}

/// The coordinator of the transactional ids of one partition of `__transaction_state`.
#[derive(Debug)]
pub struct TransactionShard {
    config: TransactionConfig,
    /// The leader epoch of the partition.
    epoch: i32,
    topics: Arc<Topics>,
    out: Outbox<TransactionResponse>,
}

impl TransactionShard {
    /// An empty shard, to be loaded with [`Self::replay`]. `coordinator_epoch` is the leader epoch of its partition.
    pub fn new(config: TransactionConfig, coordinator_epoch: i32, topics: Arc<Topics>) -> Self {
        Self { config, epoch: coordinator_epoch, topics, out: Outbox::default() }
    }

    /// Takes a record of the log.
    ///
    /// # Errors
    /// If the record cannot be read; the shard is unchanged then.
    pub fn replay(&mut self, _record: &Record) -> Result<(), RecordError> {
        Ok(())
    }

    /// Begins to serve, after the last record of the log: transactions that were about to be ended are ended.
    pub fn loaded(&mut self, _now: i64) -> Effects<TransactionResponse> {
        self.out.take()
    }

    /// Handles a request. The response is part of these effects or of those of a later call.
    pub fn handle(
        &mut self,
        _now: i64,
        _ids: &mut dyn ProducerIds,
        token: Token,
        context: &Context,
        request: TransactionRequest,
    ) -> Effects<TransactionResponse> {
        self.out.reply(token, request.refuse(context.api_version, ResponseError::UnsupportedVersion));
        self.out.take()
    }

    /// Does what is due: aborts transactions past their timeout, sends markers again, forgets unused ids.
    pub fn tick(&mut self, _now: i64, _ids: &mut dyn ProducerIds) -> Effects<TransactionResponse> {
        self.out.take()
    }

    /// When [`Self::tick`] is to be called, in milliseconds since the epoch. To be asked after each call.
    pub fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Reports that a batch is below the high watermark.
    pub fn committed(
        &mut self,
        _now: i64,
        _ids: &mut dyn ProducerIds,
        _batch: BatchId,
    ) -> Effects<TransactionResponse> {
        self.out.take()
    }

    /// Reports that a batch could not be appended, and why.
    pub fn failed(
        &mut self,
        _now: i64,
        _batch: BatchId,
        _error: ResponseError,
    ) -> Effects<TransactionResponse> {
        self.out.take()
    }

    /// Reports what became of a marker: once for each partition of [`Markers`](crate::coordinator::Markers).
    pub fn marker_written(
        &mut self,
        _now: i64,
        _transactional_id: &str,
        _producer: Producer,
        _partition: (&str, i32),
        _outcome: MarkerOutcome,
    ) -> Effects<TransactionResponse> {
        self.out.take()
    }

    /// Reports new metadata.
    pub fn topics_changed(&mut self, topics: Arc<Topics>) {
        self.topics = topics;
    }

    /// Ends the shard, as the broker is no longer the coordinator. Returns the responses of all open requests:
    /// NOT_COORDINATOR.
    pub fn unload(self) -> Vec<(Token, TransactionResponse)> {
        Vec::new()
    }
}
