//! The coordinator of transactions.
//!
//! [`TransactionShard`] is the state machine of one partition of `__transaction_state`. How a runtime drives it is
//! written in [`coordinator`](crate::coordinator).
//!
//! As in Kafka's `TransactionStateManager`, the state of a transactional id changes when its record is committed. Until
//! then the id has a pending transition, and other requests of it are refused with CONCURRENT_TRANSACTIONS. If the
//! append fails, the transition is dropped, and the shard serves on.

mod add;
mod config;
mod describe;
mod end;
mod expiry;
mod init;
mod markers;
mod observe;
mod records;
mod refusal;
mod request;
mod shard;
mod state;

use crate::error::ErrorCode;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

pub use config::TransactionConfig;
pub use request::{TransactionRequest, TransactionResponse};
pub use shard::TransactionShard;

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
            .with_error_code(ErrorCode::CoordinatorLoadInProgress.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}
