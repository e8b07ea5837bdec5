//! What tests and operators do to logs, and what they see of replicas.

use std::sync::Arc;

use super::Cluster;
use super::broker::Broker;
use super::shards::lock;
use crate::coordinator::partition_of;
use crate::group::{Group, GroupShard};
use crate::log::{Disk, Log};
use crate::metadata::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::protocol::batch::Batch;
use crate::replica::Replica;
use crate::types::{NodeId, Offset, PartitionId};

/// The state of a replica, for tests and for who looks at a cluster from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// Whether it leads.
    pub is_leader: bool,
    /// The epoch of its leader, as it knows it.
    pub leader_epoch: i32,
    /// The first offset that may be read.
    pub start: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// Its high watermark.
    pub high_watermark: Offset,
    /// Its last stable offset.
    pub last_stable: Offset,
}

impl Cluster {
    /// Applies retention on all running brokers now.
    pub fn retain(&self) {
        self.running_brokers().iter().for_each(|broker| broker.retain());
    }

    fn running_brokers(&self) -> Vec<Arc<Broker>> {
        self.environment().running().values().cloned().collect()
    }

    /// Compacts the logs of a topic on all running brokers now, whatever is configured; whether there is the topic.
    pub fn compact(&self, topic: &str) -> bool {
        self.each_log(topic, |log, now| log.compact(now))
    }

    /// Closes the active segments of a topic on all running brokers; whether there is the topic.
    pub fn roll(&self, topic: &str) -> bool {
        self.each_log(topic, |log, now| log.roll(now))
    }

    /// Forgets a producer in the logs of a topic on all running brokers, as after `producer.id.expiration.ms`; whether
    /// there is the topic.
    pub fn expire_producer(&self, topic: &str, producer_id: i64) -> bool {
        self.each_log(topic, |log, _| {
            log.forget_producer(producer_id);
        })
    }

    fn each_log(&self, topic: &str, mut change: impl FnMut(&mut Log, i64)) -> bool {
        for broker in self.running_brokers() {
            let now = broker.now();
            let mut state = broker.lock();
            for replica in state.replicas.values_mut().filter(|replica| *replica.topic == *topic) {
                change(&mut replica.log, now);
            }
            drop(state);
            broker.notify();
        }
        self.metadata().topic(topic).is_some()
    }

    /// A partition by the name of its topic, as the controller knows it.
    pub fn partition(&self, topic: &str, index: i32) -> Option<PartitionId> {
        let image = self.metadata();
        let topic = image.topic(topic)?;
        topic.partition(index)?;
        Some(PartitionId { topic: topic.id, index })
    }

    /// The leader of a partition, as the controller knows it.
    pub fn leader(&self, topic: &str, index: i32) -> Option<NodeId> {
        self.metadata().topic(topic)?.partition(index)?.leader
    }

    /// The in-sync replicas of a partition, as the controller knows them; none if there is no such partition.
    pub fn in_sync(&self, topic: &str, index: i32) -> Vec<NodeId> {
        let image = self.metadata();
        let partition = image.topic(topic).and_then(|topic| topic.partition(index));
        partition.map(|partition| partition.in_sync.clone()).unwrap_or_default()
    }

    /// The coordinator of a group: the leader of the partition of `__consumer_offsets` that has its records, as the
    /// controller knows it. It may not have loaded them yet. None before that topic exists.
    pub fn coordinator_of_group(&self, group: &str) -> Option<NodeId> {
        self.coordinator(CONSUMER_OFFSETS, group)
    }

    /// The coordinator of a transactional producer, in the same way.
    pub fn coordinator_of_transaction(&self, transactional_id: &str) -> Option<NodeId> {
        self.coordinator(TRANSACTION_STATE, transactional_id)
    }

    /// The client ids of a group's members, as its coordinator knows them. None before the coordinator has loaded its groups.
    pub fn client_ids_of_group(&self, group: &str) -> Option<Vec<String>> {
        let partition = self.partition_of_key(CONSUMER_OFFSETS, group)?;
        let coordinator = self.get(self.coordinator_of_group(group)?)?;
        let groups = lock::<GroupShard>(&coordinator);
        let group = groups.loaded(partition)?.group(group);
        Some(group.map(Group::client_ids).unwrap_or_default())
    }

    fn coordinator(&self, topic: &str, key: &str) -> Option<NodeId> {
        let partition = self.partition_of_key(topic, key)?;
        self.metadata().topic(topic)?.partition(partition.index)?.leader
    }

    /// The partition of a topic that has the records of a key.
    fn partition_of_key(&self, topic: &str, key: &str) -> Option<PartitionId> {
        let partitions = self.metadata().topic(topic)?.partitions.len();
        self.partition(topic, partition_of(key, i32::try_from(partitions).ok()?))
    }

    /// The state of a replica, if its broker is running and has it.
    pub fn replica(&self, id: NodeId, topic: &str, index: i32) -> Option<ReplicaState> {
        self.look(id, topic, index, |replica| ReplicaState {
            is_leader: replica.leader().is_ok(),
            leader_epoch: replica.leader_epoch,
            start: replica.log.start(),
            end: replica.log.end(),
            high_watermark: replica.log.high_watermark(),
            last_stable: replica.log.last_stable(),
        })
    }

    /// The batches of a replica, if its broker is running and has it.
    pub fn batches(&self, id: NodeId, topic: &str, index: i32) -> Option<Vec<Batch>> {
        self.look(id, topic, index, |replica| replica.log.batches_from(0))
    }

    pub(super) fn look<R>(
        &self,
        id: NodeId,
        topic: &str,
        index: i32,
        look: impl FnOnce(&Replica) -> R,
    ) -> Option<R> {
        let broker = self.get(id)?;
        let partition = self.partition(topic, index)?;
        let state = broker.lock();
        state.replicas.get(&partition).map(look)
    }

    /// A broker's disk.
    pub fn disk(&self, id: NodeId) -> Option<Disk> {
        self.broker_options(id).map(|options| options.disk.clone())
    }
}
