//! The cluster's metadata at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::quota::{Entity, Limit};
use crate::sasl::{Credential, Hash};
use crate::types::{NodeId, PartitionId, TopicId};

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its id.
    pub id: NodeId,
    /// The epoch of its registration, another one after each start.
    pub epoch: i64,
    /// What distinguishes its process from others that had the same id.
    pub incarnation: u128,
    /// Where clients find it.
    pub host: String,
    /// Where clients find it.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it has missed its heartbeats, or has not had the first one.
    pub fenced: bool,
    /// Whether it is about to end gracefully.
    pub shutting_down: bool,
}

impl BrokerImage {
    /// Whether it may lead and be in sync.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas. Empty if the last of them was lost and others are eligible (KIP-966).
    pub in_sync: Vec<NodeId>,
    /// The eligible leader replicas: not in sync any more, but they have everything below the high watermark.
    pub eligible: Vec<NodeId>,
    /// The last leader before there was none (`LastKnownElr`).
    pub last_known_leader: Option<NodeId>,
    /// The leader.
    pub leader: Option<NodeId>,
    /// Changes with the leader.
    pub leader_epoch: i32,
    /// Changes with everything.
    pub partition_epoch: i32,
    /// Whether the leader was elected uncleanly and nobody has joined it in sync since.
    pub recovering: bool,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionImage>,
    /// What of its configuration is not the default.
    pub configs: BTreeMap<String, String>,
}

impl TopicImage {
    /// A partition.
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// The metadata of a cluster at one moment. A clone shares what does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Grows with each change: the offset in the metadata log.
    pub version: i64,
    /// The brokers, fenced or not.
    pub brokers: BTreeMap<NodeId, Arc<BrokerImage>>,
    /// The topics.
    pub topics: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Their names.
    pub names: BTreeMap<String, TopicId>,
    /// Dynamic configuration of brokers; none for all of them.
    pub broker_configs: BTreeMap<Option<NodeId>, BTreeMap<String, String>>,
    /// The quotas of clients, by their names in requests.
    pub quotas: BTreeMap<Entity, BTreeMap<String, Limit>>,
    /// What users are verified with by SCRAM.
    pub credentials: BTreeMap<(String, Hash), Credential>,
}

impl Image {
    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(name)?)
    }

    /// A partition.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionImage> {
        self.topics.get(&id.topic)?.partition(id.index)
    }

    /// A broker that may lead and be in sync.
    pub fn active(&self, id: NodeId) -> Option<&BrokerImage> {
        self.brokers.get(&id).map(Arc::as_ref).filter(|broker| broker.is_active())
    }

    /// A broker that clients may use.
    pub fn alive(&self, id: NodeId) -> Option<&BrokerImage> {
        self.brokers.get(&id).map(Arc::as_ref).filter(|broker| !broker.fenced)
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &TopicImage, &PartitionImage)> {
        self.topics.values().flat_map(|topic| {
            (0..)
                .zip(&topic.partitions)
                .map(|(index, partition)| (PartitionId { topic: topic.id, index }, topic.as_ref(), partition))
        })
    }
}
