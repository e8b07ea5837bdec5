//! How a follower copies its leader's log (`AbstractFetcherThread`, `ReplicaFetcherThread`).

use super::{Fetched, Replica, Role};
use crate::cluster::observe::Event;
use crate::error::{ErrorCode, Result};
use crate::types::{NodeId, Offset, Timestamp};

/// Where a follower is, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) leader_epoch: i32,
    pub(crate) offset: Offset,
    /// The epoch of its last record; none if its log is empty.
    pub(crate) last_epoch: Option<i32>,
    pub(crate) log_start: Offset,
}

impl Replica {
    /// Where to fetch next, if this replica follows a broker.
    pub(crate) fn position(&self, leader: NodeId) -> Option<Position> {
        match self.role {
            Role::Follower(Some(followed)) if followed == leader => Some(Position {
                leader_epoch: self.leader_epoch,
                offset: self.log.end(),
                last_epoch: self.log.epochs().latest(),
                log_start: self.log.start(),
            }),
            _ => None,
        }
    }

    /// Takes what the leader answered to a fetch at a position; whether anything changed.
    ///
    /// # Errors
    /// If the batches are damaged; then they are fetched again.
    pub(crate) fn copied(&mut self, asked: &Position, fetched: &Fetched, now: Timestamp) -> Result<bool> {
        let is_current = matches!(self.role, Role::Follower(Some(_)))
            && self.leader_epoch == asked.leader_epoch
            && self.log.end() == asked.offset;
        if !is_current {
            return Ok(false);
        }
        if let Some((epoch, end)) = fetched.diverging {
            self.truncate_to_epoch(epoch, end);
            return Ok(true);
        }
        self.log.append_replicated(&fetched.batches, now)?;
        let before = (self.log.high_watermark(), self.log.start());
        self.log.follow_high_watermark(fetched.high_watermark);
        self.log.raise_start(fetched.log_start);
        let after = (self.log.high_watermark(), self.log.start());
        Ok(!fetched.batches.is_empty() || before != after)
    }

    /// Removes what the leader does not have: the end of an epoch there is known.
    fn truncate_to_epoch(&mut self, epoch: i32, end: Offset) {
        // Where this log's own records of that epoch, or of an older one, end.
        let own = self.log.epochs().end_offset_for(epoch, self.log.end());
        let to = match own {
            Some((_, own_end)) => own_end.min(end),
            None => end,
        };
        let to = to.max(self.log.start()).min(self.log.end());
        tracing::debug!(topic = %self.topic, partition = self.log.partition().index, epoch, to, "truncated");
        let from_end = self.log.end();
        self.log.truncate(to);
        self.see_end(from_end);
    }

    /// Reports that the log ends elsewhere than before, without an append.
    fn see_end(&self, from_end: Offset) {
        let to_end = self.log.end();
        if to_end != from_end {
            self.see(|broker, topic, partition| Event::Truncated {
                broker,
                topic,
                partition,
                from_end,
                to_end,
            });
        }
    }

    /// The leader does not have the offset: its log starts later or ends earlier
    /// (`AbstractFetcherThread.fetchOffsetAndTruncate`).
    pub(crate) fn out_of_range(&mut self, asked: &Position, leader_start: Offset, leader_end: Offset) {
        if self.log.end() != asked.offset || self.leader_epoch != asked.leader_epoch {
            return;
        }
        let from_end = self.log.end();
        if leader_end < self.log.end() {
            self.log.truncate(leader_end);
        } else if leader_start > self.log.end() {
            self.log.restart_at(leader_start);
        } else {
            self.log.raise_start(leader_start);
        }
        self.see_end(from_end);
    }

    /// The start and the end of this log, for a follower whose offset was out of range.
    ///
    /// # Errors
    /// If this replica does not lead in that epoch.
    pub(crate) fn range(&self, epoch: i32) -> Result<(Offset, Offset)> {
        self.check_epoch(Some(epoch), true)?;
        if matches!(self.role, Role::Leader(_)) {
            Ok((self.log.start(), self.log.end()))
        } else {
            Err(ErrorCode::NotLeaderOrFollower)
        }
    }
}
