//! The coordinator of groups: both group protocols, and committed offsets.
//!
//! [`GroupShard`] is the state machine of one partition of `__consumer_offsets`. How a runtime drives it is written
//! in [`coordinator`](crate::coordinator).
//!
//! A change of state that is recorded (offsets, members of the `consumer` protocol, generations of the classic one)
//! is made at once, by the same code that reads it from the log, and its record is appended; the response waits
//! until it is committed. If an append fails, the state is ahead of the log, and the shard asks to be loaded again
//! ([`Effects::reload`]). What is not recorded (who waits for a rebalance, sessions) is lost with the shard, as in
//! Kafka: members find out with their next request.
//!
//! Responses without records of their own wait for the records before them, so that nothing is read that may
//! still be lost; Kafka's `CoordinatorRuntime` does so for requests that may write. (It answers OffsetFetch and the
//! requests that describe groups from the state as of the last commit instead.)

mod config;
mod refusal;
mod request;

use std::sync::Arc;

use proto_kafka::error::ResponseError;
use rand_core::Rng;

use crate::coordinator::{BatchId, Context, Effects, Outbox, Producer, Record, RecordError, Token, Topics};

pub use config::{Assignor, GroupConfig, MigrationPolicy};
pub use request::{GroupRequest, GroupResponse};

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupShard {
    config: GroupConfig,
    topics: Arc<Topics>,
    out: Outbox<GroupResponse>,
}

impl GroupShard {
    /// An empty shard, to be loaded with [`Self::replay`].
    pub fn new(config: GroupConfig, topics: Arc<Topics>) -> Self {
        Self { config, topics, out: Outbox::default() }
    }

    /// Takes a record of the log. `producer` is set if its batch is transactional.
    ///
    /// # Errors
    /// If the record cannot be read; the shard is unchanged then. Kafka skips records of unknown types, and so does
    /// this.
    pub fn replay(&mut self, _record: &Record, _producer: Option<Producer>) -> Result<(), RecordError> {
        Ok(())
    }

    /// Takes a marker of the log: the end of a transaction.
    pub fn replay_marker(&mut self, _producer: Producer, _commit: bool) {}

    /// Begins to serve, after the last record of the log: sessions begin now.
    pub fn loaded(&mut self, _now: i64) -> Effects<GroupResponse> {
        self.out.take()
    }

    /// Handles a request. The response is part of these effects or of those of a later call.
    ///
    /// Transactional offset commits arrive here after the runtime has verified that the group's partition of
    /// `__consumer_offsets` is part of the transaction (as for a produce request).
    pub fn handle(
        &mut self,
        _now: i64,
        _rng: &mut dyn Rng,
        token: Token,
        context: &Context,
        request: GroupRequest,
    ) -> Effects<GroupResponse> {
        self.out.reply(token, request.refuse(context.api_version, ResponseError::UnsupportedVersion));
        self.out.take()
    }

    /// Does what is due: sessions and rebalances that time out, offsets that expire.
    pub fn tick(&mut self, _now: i64, _rng: &mut dyn Rng) -> Effects<GroupResponse> {
        self.out.take()
    }

    /// When [`Self::tick`] is to be called, in milliseconds since the epoch. To be asked after each call.
    pub fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Reports that a batch is below the high watermark.
    pub fn committed(&mut self, _now: i64, _batch: BatchId) -> Effects<GroupResponse> {
        self.out.take()
    }

    /// Reports that a batch could not be appended, and why. Asks for a reload.
    pub fn failed(&mut self, _now: i64, _batch: BatchId, _error: ResponseError) -> Effects<GroupResponse> {
        self.out.take()
    }

    /// Reports that a marker was appended to the partition: offsets of the transaction become committed, or are
    /// dropped.
    pub fn marker_written(
        &mut self,
        _now: i64,
        _producer: Producer,
        _commit: bool,
    ) -> Effects<GroupResponse> {
        self.out.take()
    }

    /// Reports new metadata: offsets of deleted topics are deleted, and groups assign new partitions.
    pub fn topics_changed(&mut self, _now: i64, topics: Arc<Topics>) -> Effects<GroupResponse> {
        self.topics = topics;
        self.out.take()
    }

    /// Ends the shard, as the broker is no longer the coordinator. Returns the responses of all open requests:
    /// NOT_COORDINATOR.
    pub fn unload(self) -> Vec<(Token, GroupResponse)> {
        Vec::new()
    }
}
