//! The coordinator's side of reads (`StorageProxy.read`, `AbstractReadExecutor`, `BlockingReadRepair`).
//!
//! One replica returns rows, the others digests. If all agree, the rows are the result. If not, all are asked for
//! rows; the responses are merged and, in tables with blocking read repair, what each lacks is written to it before the
//! client gets its response. A read of many partitions requests rows from every replica at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::NodeId;
use super::message::{Request, Response};
use super::node::{Call, Node};
use super::plan::ReadPlan;
use super::resolver::{Merged, Resolver, live};
use super::write::reason;
use crate::coordinator::{Consistency, FailureReason, RequestError};
use crate::schema::{ReadRepair, Replication, SpeculativeRetry, Table};
use crate::storage::{
    DecoratedKey, Mutation, Partition, PartitionRange, ReadCommand, ReadResult, ReplicaRows,
};

/// One read in flight.
struct Reading<'a> {
    node: &'a Arc<Node>,
    table: Arc<Table>,
    command: Arc<ReadCommand>,
    consistency: Consistency,
    plan: ReadPlan,
    /// Replicas contacted so far.
    contacted: Vec<NodeId>,
    timeout: Duration,
    began: Instant,
}

impl Node {
    pub(crate) async fn read(
        self: Arc<Self>,
        command: ReadCommand,
        consistency: Consistency,
    ) -> Result<ReadResult, RequestError> {
        if self.lock().joining {
            return Err(RequestError::IsBootstrapping);
        }
        if matches!(consistency, Consistency::Serial | Consistency::LocalSerial) {
            return self.read_serially(command, consistency).await;
        }
        self.read_plainly(command, consistency).await
    }

    pub(crate) async fn read_plainly(
        self: &Arc<Self>,
        command: ReadCommand,
        consistency: Consistency,
    ) -> Result<ReadResult, RequestError> {
        let (table, replication) = self.table(command.table)?;
        match &command.partitions {
            PartitionRange::Key(key) => {
                let replicas = self.cluster.ring.replicas(&replication, key.token());
                let merged =
                    self.read_part(&table, &replication, &replicas, command.clone(), consistency).await?;
                Ok(live(merged, &command))
            }
            PartitionRange::Tokens { after, up_to } => {
                let (after, up_to) = (*after, *up_to);
                let mut result = ReadResult::default();
                let mut left = command.clone();
                for (from, to, replicas) in self.cluster.ring.ranges(&replication) {
                    let (from, to) = (from.max(after), to.min(up_to));
                    let passed = left.resume.as_ref().is_some_and(|resume| resume.key.token() > to);
                    if from >= to || passed {
                        continue;
                    }
                    left.partitions = PartitionRange::Tokens { after: from, up_to: to };
                    let merged =
                        self.read_part(&table, &replication, &replicas, left.clone(), consistency).await?;
                    let part = live(merged, &left);
                    let rows: usize =
                        part.partitions.iter().map(|partition| partition.rows.len().max(1)).sum();
                    left.limit = left.limit.saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX));
                    let partitions = u32::try_from(part.partitions.len()).unwrap_or(u32::MAX);
                    left.partition_limit = left.partition_limit.saturating_sub(partitions);
                    result.partitions.extend(part.partitions);
                    if part.limited || left.limit == 0 || left.partition_limit == 0 {
                        result.limited = true;
                        break;
                    }
                }
                Ok(result)
            }
        }
    }

    /// Reads partitions that have the same replicas.
    async fn read_part(
        self: &Arc<Self>,
        table: &Arc<Table>,
        replication: &Replication,
        replicas: &[NodeId],
        command: ReadCommand,
        consistency: Consistency,
    ) -> Result<Merged, RequestError> {
        let plan = self.plan_read(replication, replicas, consistency)?;
        let one_partition = matches!(command.partitions, PartitionRange::Key(_));
        let timeout = if one_partition { self.options().read_timeout } else { self.options().range_timeout };
        let reading = Reading {
            node: self,
            table: table.clone(),
            command: Arc::new(command),
            consistency,
            contacted: plan.contacts.clone(),
            plan,
            timeout,
            began: Instant::now(),
        };
        if one_partition { reading.partition().await } else { reading.range().await }
    }
}

/// The responses to a read so far.
#[derive(Default)]
struct Responses {
    data: BTreeMap<NodeId, ReplicaRows>,
    digests: BTreeMap<NodeId, u128>,
    failures: BTreeMap<NodeId, FailureReason>,
}

impl Responses {
    fn add(&mut self, from: NodeId, response: Response) {
        if let Some(reason) = reason(&response) {
            self.failures.insert(from, reason);
        }
        match response {
            Response::Data(rows) => {
                self.data.insert(from, rows);
            }
            Response::Digest(digest) => {
                self.digests.insert(from, digest);
            }
            _ => {}
        }
    }

    fn received(&self) -> BTreeSet<NodeId> {
        self.data.keys().chain(self.digests.keys()).copied().collect()
    }
}

/// How long a thread takes at most to continue when its wait ends. Some milliseconds: timers are no finer than
/// one, and a request to another node and its response take at least one each, so nothing could ever come meanwhile.
const WAKING: Duration = Duration::from_millis(6);

impl Reading<'_> {
    fn deadline(&self) -> Instant {
        self.began + self.timeout
    }

    fn request(&self, digest: bool) -> Request {
        Request::Read { command: self.command.clone(), digest, table: self.table.clone() }
    }

    fn ask(&self, call: &Call, replica: NodeId, digest: bool) {
        call.send(replica, self.request(digest), self.deadline().saturating_duration_since(Instant::now()));
    }

    /// When one more replica is contacted, if responses are still missing then. Refusals do not wait for it: a read that
    /// cannot get enough responses from those contacted so far fails at once (`ReadCallback.onFailure`).
    fn speculate_at(&self) -> Option<Instant> {
        let after = match self.table.options.speculative_retry {
            // One more was contacted from the start.
            SpeculativeRetry::Never | SpeculativeRetry::Always => return None,
            SpeculativeRetry::After(micros) => Duration::from_micros(micros),
            SpeculativeRetry::Percentile99 => self.node.read_latency(99.0),
            SpeculativeRetry::Percentile(percentile) => self.node.read_latency(percentile),
        };
        (after < self.timeout).then(|| Instant::now() + after)
    }

    /// Collects responses until there are enough, and rows among them. One more replica is contacted if they are late.
    async fn collect(&mut self, call: &mut Call, all_data: bool) -> Result<Responses, RequestError> {
        let mut responses = Responses::default();
        let mut speculate_at = if self.plan.spare.is_empty() { None } else { self.speculate_at() };
        loop {
            let received = responses.received();
            if !responses.data.is_empty() && self.plan.quota.is_met(&self.node.cluster.ring, &received) {
                if received.len() + responses.failures.len() < self.contacted.len() {
                    self.take_in_meanwhile(call, &mut responses).await;
                }
                return Ok(responses);
            }
            let (received, block_for) = (received.len(), self.plan.quota.block_for);
            let data_present = !responses.data.is_empty();
            if block_for + responses.failures.len() > self.contacted.len() {
                return Err(self.failure(responses.failures, received, data_present));
            }
            let until = speculate_at.map_or(self.deadline(), |at| at.min(self.deadline()));
            match call.next(until).await {
                Some((from, response)) => responses.add(from, response),
                // A refusal counts for more than a silence (`ReadCallback.awaitResults`).
                None if Instant::now() >= self.deadline() && !responses.failures.is_empty() => {
                    return Err(self.failure(responses.failures, received, data_present));
                }
                None if Instant::now() >= self.deadline() => {
                    return Err(RequestError::ReadTimeout {
                        consistency: self.consistency,
                        received,
                        block_for,
                        data_present,
                    });
                }
                None => {
                    speculate_at = None;
                    if let Some(spare) = self.next_spare() {
                        self.ask(call, spare, data_present && !all_data);
                    }
                }
            }
        }
    }

    fn failure(
        &self,
        failures: BTreeMap<NodeId, FailureReason>,
        received: usize,
        data_present: bool,
    ) -> RequestError {
        let address = |node: NodeId| self.node.cluster.member(node).address;
        RequestError::ReadFailure {
            consistency: self.consistency,
            received,
            block_for: self.plan.quota.block_for,
            failures: failures.into_iter().map(|(node, reason)| (address(node), reason)).collect(),
            data_present,
        }
    }

    /// Between the response that is enough and the thread that continues with it, another may come: what is there then is
    /// compared, and repaired, too.
    async fn take_in_meanwhile(&self, call: &mut Call, responses: &mut Responses) {
        let longest = WAKING.as_nanos() as u64;
        let until = Instant::now() + Duration::from_nanos(self.node.cluster.random() % longest);
        while let Some((from, response)) = call.next(until).await {
            responses.add(from, response);
        }
    }

    fn next_spare(&mut self) -> Option<NodeId> {
        if self.plan.spare.is_empty() {
            return None;
        }
        let spare = self.plan.spare.remove(0);
        self.contacted.push(spare);
        Some(spare)
    }

    /// Reads one partition.
    async fn partition(mut self) -> Result<Merged, RequestError> {
        let mut call = self.node.call();
        if self.table.options.speculative_retry == SpeculativeRetry::Always {
            self.next_spare();
        }
        for (place, replica) in self.contacted.clone().into_iter().enumerate() {
            self.ask(&call, replica, place > 0);
        }
        let responses = self.collect(&mut call, false).await?;
        self.node.note_read_latency(self.began.elapsed());
        let digests: BTreeSet<u128> = responses
            .data
            .values()
            .map(ReplicaRows::digest)
            .chain(responses.digests.values().copied())
            .collect();
        if let (1, Some((replica, data))) = (digests.len(), responses.data.into_iter().next()) {
            let only = BTreeMap::from([(replica, data)]);
            return Ok(Resolver::new(&self.table, &self.command, only).resolve());
        }
        tracing::trace!(node = self.node.id.0, "digest mismatch");
        let mut call = self.node.call();
        for replica in self.contacted.clone() {
            self.ask(&call, replica, false);
        }
        let responses = self.collect(&mut call, true).await?;
        self.reconcile(responses.data).await
    }

    /// Reads many partitions.
    async fn range(mut self) -> Result<Merged, RequestError> {
        let mut call = self.node.call();
        for replica in &self.contacted {
            self.ask(&call, *replica, false);
        }
        // No further replica is contacted for ranges.
        self.plan.spare.clear();
        let responses = self.collect(&mut call, true).await?;
        self.reconcile(responses.data).await
    }

    /// Merges the responses and repairs what they show.
    async fn reconcile(&self, responses: BTreeMap<NodeId, ReplicaRows>) -> Result<Merged, RequestError> {
        let responded: BTreeSet<NodeId> = responses.keys().copied().collect();
        let mut resolver = Resolver::new(&self.table, &self.command, responses);
        while responded.len() > 1
            && let Some(more) = resolver.more_needed()
        {
            let wait = self.deadline().saturating_duration_since(Instant::now());
            let (command, table) = (Arc::new(more.command.clone()), self.table.clone());
            let request = Request::Read { command, digest: false, table };
            match self.node.ask(more.replica, request, wait).await {
                Some(Response::Data(rows)) => resolver.add(more, rows),
                _ => {
                    return Err(RequestError::ReadTimeout {
                        consistency: self.consistency,
                        received: self.plan.quota.block_for.saturating_sub(1),
                        block_for: self.plan.quota.block_for,
                        data_present: true,
                    });
                }
            }
        }
        let merged = resolver.resolve();
        if self.table.options.read_repair == ReadRepair::Blocking {
            let mut pending = Vec::new();
            for (key, missing) in resolver.repairs(&merged) {
                pending.push(self.begin_repair(&key, missing, &responded));
            }
            for repair in pending {
                self.finish_repair(repair).await?;
            }
        }
        Ok(merged)
    }

    /// Sends a partition's repairs. As many acknowledgements are waited for as replicas must have the rows, less
    /// those that have them already.
    fn begin_repair(
        &self,
        key: &DecoratedKey,
        missing: BTreeMap<NodeId, Partition>,
        responded: &BTreeSet<NodeId>,
    ) -> Repair {
        let complete = responded.iter().filter(|node| !missing.contains_key(node)).count();
        let call = self.node.call();
        for (replica, partition) in &missing {
            self.send_repair(&call, *replica, key, partition.clone());
        }
        let block_for = self.plan.quota.block_for.saturating_sub(complete).min(missing.len());
        Repair { call, key: key.clone(), missing, block_for }
    }

    fn send_repair(&self, call: &Call, replica: NodeId, key: &DecoratedKey, partition: Partition) {
        let mutation = Mutation::new(self.table.keyspace.clone(), key.clone(), self.table.id, partition);
        let lifetime = self.node.options().write_timeout;
        call.send(replica, Request::ReadRepair(Arc::new(mutation)), lifetime);
    }

    async fn finish_repair(&self, mut repair: Repair) -> Result<(), RequestError> {
        let mut acknowledged = BTreeSet::new();
        let mut more_at = Some(Instant::now() + self.node.read_latency(99.0));
        while acknowledged.len() < repair.block_for {
            let until = more_at.map_or(self.deadline(), |at| at.min(self.deadline()));
            match repair.call.next(until).await {
                Some((from, response)) => {
                    if reason(&response).is_none() {
                        acknowledged.insert(from);
                        repair.missing.remove(&from);
                    }
                }
                None if Instant::now() >= self.deadline() => {
                    // Counted are those that have the rows now (`BlockingReadRepair.awaitWrites`).
                    let block_for = self.plan.quota.block_for;
                    let missing = repair.block_for.saturating_sub(acknowledged.len());
                    return Err(RequestError::ReadTimeout {
                        consistency: self.consistency,
                        received: block_for.saturating_sub(missing.max(1)),
                        block_for,
                        data_present: true,
                    });
                }
                None => {
                    // What has not been acknowledged is sent to the replicas that were not contacted, whose
                    // acknowledgements count as well.
                    more_at = None;
                    let mut rest = Partition::default();
                    for partition in repair.missing.values() {
                        rest.merge(partition);
                    }
                    for spare in &self.plan.spare {
                        self.send_repair(&repair.call, *spare, &repair.key, rest.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The repairs of one partition in flight.
struct Repair {
    call: Call,
    key: DecoratedKey,
    /// What has not been acknowledged.
    missing: BTreeMap<NodeId, Partition>,
    block_for: usize,
}
