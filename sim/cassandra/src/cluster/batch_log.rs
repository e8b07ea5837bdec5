//! Logged batches: written to the batch logs of two other nodes first, and replayed from there unless the coordinator
//! removes them (`StorageProxy.mutateAtomically`, `BatchlogManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::NodeId;
use super::message::Request;
use super::node::Node;
use super::write::reason;
use crate::coordinator::{Consistency, RequestError, WriteType};
use crate::schema::Replication;
use crate::storage::{Mutation, StoredBatch, Timestamp};

impl Node {
    pub(crate) async fn write_logged(
        self: &Arc<Self>,
        planned: Vec<(Arc<Mutation>, Replication)>,
        consistency: Consistency,
    ) -> Result<(), RequestError> {
        // All must be available before anything is sent.
        let mut plans = Vec::with_capacity(planned.len());
        for (mutation, replication) in &planned {
            plans.push(self.plan_write(replication, mutation.key.token(), consistency)?);
        }
        let deadline = Instant::now() + self.options().write_timeout;
        let id = self.cluster.unique();
        let log_nodes = self.batch_log_nodes(consistency)?;
        let mutations: Vec<Arc<Mutation>> = planned.iter().map(|(mutation, _)| mutation.clone()).collect();
        let batch = StoredBatch { written_at: self.timestamp(), mutations: Arc::new(mutations) };
        self.store_batch(id, batch, &log_nodes, deadline).await?;
        let mut sent = Vec::with_capacity(plans.len());
        for ((mutation, _), plan) in planned.into_iter().zip(plans) {
            // The log stays, and will be replayed.
            self.check_hints(&plan)?;
            sent.push(self.send_write(mutation, plan, consistency, WriteType::Batch, deadline));
        }
        // The log is kept unless every mutation was acknowledged.
        for write in sent {
            write.decision().await?;
        }
        for log_node in log_nodes {
            self.notify(log_node, Request::RemoveBatch(id));
        }
        Ok(())
    }

    /// Two nodes of this data centre, other than this one and on other racks if there are any; this one if it is
    /// alone (`ReplicaPlans.forBatchlogWrite`).
    fn batch_log_nodes(&self, consistency: Consistency) -> Result<Vec<NodeId>, RequestError> {
        let ring = &self.cluster.ring;
        let local = &self.member().data_center;
        let peers: Vec<NodeId> =
            self.cluster.ids().filter(|node| *node != self.id && ring.data_center(*node) == local).collect();
        if peers.is_empty() {
            return Ok(vec![self.id]);
        }
        let mut alive: Vec<NodeId> = peers.into_iter().filter(|node| self.is_alive(*node)).collect();
        if alive.is_empty() {
            return match consistency {
                Consistency::Any => Ok(vec![self.id]),
                _ => Err(RequestError::Unavailable { consistency: Consistency::One, required: 1, alive: 0 }),
            };
        }
        self.cluster.shuffle(&mut alive);
        alive.sort_by_key(|node| ring.rack(*node) == self.member().rack);
        alive.truncate(2);
        Ok(alive)
    }

    async fn store_batch(
        self: &Arc<Self>,
        id: u128,
        batch: StoredBatch,
        log_nodes: &[NodeId],
        deadline: Instant,
    ) -> Result<(), RequestError> {
        let consistency = if log_nodes.len() > 1 { Consistency::Two } else { Consistency::One };
        let mut call = self.call();
        for log_node in log_nodes {
            call.send(*log_node, Request::StoreBatch(id, batch.clone()), self.options().write_timeout);
        }
        let mut stored = BTreeSet::new();
        while stored.len() < log_nodes.len() {
            match call.next(deadline).await {
                Some((from, _)) => {
                    stored.insert(from);
                }
                None => {
                    return Err(RequestError::WriteTimeout {
                        consistency,
                        received: stored.len(),
                        block_for: log_nodes.len(),
                        write_type: WriteType::BatchLog,
                    });
                }
            }
        }
        Ok(())
    }

    /// Periodically replays the batches in this node's log whose coordinators should be done with them by now.
    pub(crate) async fn replay_batches(self: Arc<Self>) {
        loop {
            sleep(self.options().batch_replay_interval).await;
            let due = self.member().clock.micros() - 2 * self.options().write_timeout.as_micros() as i64;
            let batches: Vec<(u128, StoredBatch)> = {
                let state = self.lock();
                let due = state.engine.batches().iter().filter(|(_, batch)| batch.written_at <= due);
                due.map(|(id, batch)| (*id, batch.clone())).collect()
            };
            for (id, batch) in batches {
                // Deletions of that time may have been purged (`ReplayingBatch.replay`): with a table without grace
                // nothing is ever replayed.
                let lifetimes = batch.mutations.iter().map(|mutation| self.lifetime(mutation));
                let lifetime = lifetimes.min().unwrap_or(0);
                let is_late = self.now() >= batch.written_at.div_euclid(1_000_000) + lifetime;
                if !is_late {
                    for mutation in batch.mutations.iter() {
                        let left = self.lock().engine.not_truncated(mutation, batch.written_at);
                        self.replay(&left, batch.written_at).await;
                    }
                }
                self.notify(self.id, Request::RemoveBatch(id));
            }
        }
    }

    /// Writes a mutation to all its replicas, with hints for those that do not acknowledge it: as old as the batch,
    /// and however long the replica has been down.
    async fn replay(self: &Arc<Self>, mutation: &Arc<Mutation>, written_at: Timestamp) {
        let Ok(replication) = self.replication_of(mutation) else { return };
        let replicas = self.cluster.ring.replicas(&replication, mutation.key.token());
        let mut call = self.call();
        let mut missing = BTreeSet::new();
        for replica in replicas {
            if self.is_alive(replica) {
                call.send(replica, Request::Write(mutation.clone()), self.options().write_timeout);
                missing.insert(replica);
            } else {
                self.keep_hint(replica, mutation, written_at);
            }
        }
        let deadline = Instant::now() + self.options().write_timeout;
        while !missing.is_empty() {
            match call.next(deadline).await {
                Some((from, response)) if reason(&response).is_none() => {
                    missing.remove(&from);
                }
                Some(_) => {}
                None => break,
            }
        }
        for replica in missing {
            self.keep_hint(replica, mutation, written_at);
        }
    }
}
