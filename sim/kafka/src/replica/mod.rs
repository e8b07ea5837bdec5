//! The replicas of a broker: leaders and followers of partitions (`Partition`, `ReplicaManager`).
//!
//! A leader appends and knows how far its followers are; a follower copies. What a reader may see is below the high
//! watermark, which a leader advances to what every in-sync replica has, and which a follower learns with its next fetch.

mod follower;
mod leader;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use follower::Position;
pub(crate) use leader::{Fetched, Leader, Peers};

use crate::cluster::observe::{Event, Witness};
use crate::error::{ErrorCode, Result};
use crate::log::{Disk, Found, Log};
use crate::metadata::{PartitionImage, TopicImage, TopicSettings};
use crate::types::{Isolation, NodeId, Offset, PartitionId, Timestamp};

/// What a replica does.
#[derive(Debug)]
pub(crate) enum Role {
    /// It leads.
    Leader(Leader),
    /// It copies from this broker, or waits until there is a leader.
    Follower(Option<NodeId>),
}

/// A replica of a partition.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) log: Log,
    pub(crate) topic: Arc<str>,
    pub(crate) settings: TopicSettings,
    pub(crate) role: Role,
    pub(crate) leader_epoch: i32,
    pub(crate) partition_epoch: i32,
    pub(crate) replicas: Vec<NodeId>,
    node: NodeId,
    witness: Witness,
}

/// Which epoch of the leader a request knows: none, or one that must be right.
pub(crate) type KnownEpoch = Option<i32>;

impl Replica {
    pub(crate) fn open(
        id: PartitionId,
        topic: &TopicImage,
        settings: TopicSettings,
        disk: &Disk,
        now: Timestamp,
        node: NodeId,
        witness: Witness,
    ) -> Self {
        Self {
            log: Log::open(id, disk, settings.log.clone(), now),
            topic: topic.name.as_str().into(),
            settings,
            role: Role::Follower(None),
            leader_epoch: -1,
            partition_epoch: -1,
            replicas: Vec::new(),
            node,
            witness,
        }
    }

    /// Reports an event of this replica: its broker, topic and partition are given to what makes it.
    pub(crate) fn see<'a>(&'a self, event: impl FnOnce(NodeId, &'a str, i32) -> Event<'a>) {
        self.witness.see(|| event(self.node, &self.topic, self.log.partition().index));
    }

    /// Moves the start of the log forward, at most to the high watermark; whether it moved.
    pub(crate) fn raise_start(&mut self, to: Offset) -> bool {
        let is_raised = self.log.raise_start(to);
        if is_raised {
            self.see_start();
        }
        is_raised
    }

    /// Applies retention; see [`Log::retain`].
    pub(crate) fn retain(&mut self, now: Timestamp) -> bool {
        let before = self.log.start();
        let is_changed = self.log.retain(now);
        if self.log.start() != before {
            self.see_start();
        }
        is_changed
    }

    fn see_start(&self) {
        if self.leader().is_ok() {
            let offset = self.log.start();
            self.see(|broker, topic, partition| Event::LogStartAdvanced { broker, topic, partition, offset });
        }
    }

    /// Applies what the metadata say of the partition; whether the leader changed.
    pub(crate) fn apply(&mut self, partition: &PartitionImage) -> bool {
        let node = self.node;
        let is_new_epoch = partition.leader_epoch > self.leader_epoch;
        if partition.partition_epoch < self.partition_epoch || partition.leader_epoch < self.leader_epoch {
            return false;
        }
        self.replicas.clone_from(&partition.replicas);
        self.partition_epoch = partition.partition_epoch;
        let in_sync: BTreeSet<NodeId> = partition.in_sync.iter().copied().collect();
        if !is_new_epoch {
            if let Role::Leader(leader) = &mut self.role {
                leader.confirm(in_sync, &self.replicas, node);
            }
            return false;
        }
        self.leader_epoch = partition.leader_epoch;
        if partition.leader == Some(node) {
            self.log.begin_epoch(partition.leader_epoch);
            let leader = Leader::new(self.log.end(), in_sync, &self.replicas, node);
            self.role = Role::Leader(leader);
            let (epoch, high_watermark, end) = (self.leader_epoch, self.log.high_watermark(), self.log.end());
            self.see(|broker, topic, partition| Event::LeaderBegan {
                broker,
                topic,
                partition,
                epoch,
                high_watermark,
                end,
            });
        } else {
            self.role = Role::Follower(partition.leader);
        }
        true
    }

    pub(crate) fn leader(&self) -> Result<&Leader> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Follower(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Checks the epoch that a request knows, and that this replica leads, unless the request may go to a follower
    /// (`Partition.getLocalLog`).
    pub(crate) fn check_epoch(&self, known: KnownEpoch, only_leader: bool) -> Result<()> {
        if let Some(known) = known {
            if known < self.leader_epoch {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
            if known > self.leader_epoch {
                return Err(ErrorCode::UnknownLeaderEpoch);
            }
        }
        if only_leader {
            self.leader()?;
        }
        Ok(())
    }

    /// Up to where a client may read.
    pub(crate) fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.log.high_watermark(),
            Isolation::ReadCommitted => self.log.last_stable(),
        }
    }

    /// Whether the high watermark is below where this leader's epoch begins: then nobody knows the end of what is readable
    /// (KIP-207).
    fn lags_behind_epoch(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.start > self.log.high_watermark())
    }

    /// The end for a client.
    pub(crate) fn latest(&self, isolation: Isolation) -> Result<Found> {
        if self.lags_behind_epoch() {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(Found { offset: self.readable(isolation), timestamp: -1, epoch: self.leader_epoch })
    }

    /// The start for a client.
    pub(crate) fn earliest(&self) -> Found {
        let offset = self.log.start();
        Found { offset, timestamp: -1, epoch: self.log.epochs().epoch_of(offset).unwrap_or(-1) }
    }

    /// A record by its time for a client; none if there is none that it may read.
    pub(crate) fn by_time(&self, found: Option<Found>, isolation: Isolation) -> Result<Option<Found>> {
        match found {
            Some(found) if found.offset < self.readable(isolation) => Ok(Some(found)),
            Some(_) if self.lags_behind_epoch() => Err(ErrorCode::OffsetNotAvailable),
            _ => Ok(None),
        }
    }

    /// How many replicas must be in sync.
    pub(crate) fn min_in_sync(&self) -> usize {
        self.settings.min_in_sync.min(self.replicas.len().max(1))
    }
}
