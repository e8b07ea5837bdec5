//! The coordinator's side of writes (`StorageProxy.mutate`).
//!
//! One message goes to each replica that is believed to be alive; for the others, and for those that do not respond in
//! time, a hint is kept. A timeout says nothing about what the replicas did or will do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::NodeId;
use super::message::{Request, Response};
use super::node::{Call, Node};
use super::plan::WritePlan;
use crate::coordinator::{Consistency, FailureReason, RequestError, Warnings, WriteMode, WriteType};
use crate::schema::Replication;
use crate::storage::Mutation;

impl Node {
    /// Writes mutations.
    pub(crate) async fn write(
        self: Arc<Self>,
        mutations: Vec<Mutation>,
        mode: WriteMode,
        consistency: Consistency,
    ) -> Result<Warnings, RequestError> {
        let mutations: Vec<Arc<Mutation>> = Mutation::merged(mutations).into_iter().map(Arc::new).collect();
        let warnings = self.check_sizes(&mutations, mode)?;
        let mut planned = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            let replication = self.replication_of(&mutation)?;
            planned.push((mutation, replication));
        }
        if mode == WriteMode::LoggedBatch && planned.len() > 1 {
            self.write_logged(planned, consistency).await?;
        } else {
            let write_type = match planned.len() {
                0 | 1 => WriteType::Simple,
                _ => WriteType::UnloggedBatch,
            };
            // They are kept by key in a hash map (`BatchUpdatesCollector`).
            self.cluster.shuffle(&mut planned);
            self.write_each(planned, consistency, write_type).await?;
        }
        Ok(warnings)
    }

    /// Sends one mutation after another, then waits for all. A mutation that finds too few replicas ends the
    /// sending: those before it are on their way.
    async fn write_each(
        self: &Arc<Self>,
        planned: Vec<(Arc<Mutation>, Replication)>,
        consistency: Consistency,
        write_type: WriteType,
    ) -> Result<(), RequestError> {
        let deadline = Instant::now() + self.options().write_timeout;
        let mut sent = Vec::with_capacity(planned.len());
        for (mutation, replication) in &planned {
            let plan = self.plan_write(replication, mutation.key.token(), consistency)?;
            self.check_hints(&plan)?;
            sent.push(self.send_write(mutation.clone(), plan, consistency, write_type, deadline));
        }
        for write in sent {
            match write.decision().await {
                // A hint would have been enough: the client gets success even if none is kept
                // (`StorageProxy.hintMutations`).
                Err(RequestError::WriteTimeout { .. } | RequestError::WriteFailure { .. })
                    if consistency == Consistency::Any =>
                {
                    for (mutation, replication) in &planned {
                        for replica in self.cluster.ring.replicas(replication, mutation.key.token()) {
                            self.hint(replica, mutation);
                        }
                    }
                    return Ok(());
                }
                decided => decided?,
            }
        }
        Ok(())
    }

    /// Refuses a mutation for whose replicas too many hints wait to be written (`StorageProxy.checkHintOverload`).
    pub(crate) fn check_hints(&self, plan: &WritePlan) -> Result<(), RequestError> {
        let overloaded = self.lock().misbehaviour.overloaded_by_hints;
        match plan.down.iter().find(|replica| overloaded && self.is_hinted(**replica)) {
            Some(replica) => Err(RequestError::Overloaded(format!(
                "Too many in flight hints: {} destination: {}",
                self.options().max_requests,
                self.cluster.member(*replica).address
            ))),
            None => Ok(()),
        }
    }

    /// Sends a mutation to its replicas, with hints for those that are down.
    pub(crate) fn send_write(
        self: &Arc<Self>,
        mutation: Arc<Mutation>,
        plan: WritePlan,
        consistency: Consistency,
        write_type: WriteType,
        deadline: Instant,
    ) -> SentWrite {
        let request = Request::Write(mutation.clone());
        self.send_as(request, mutation, plan, consistency, write_type, deadline)
    }

    /// The same with another message than a plain write; `mutation` is what hints keep.
    pub(crate) fn send_as(
        self: &Arc<Self>,
        request: Request,
        mutation: Arc<Mutation>,
        plan: WritePlan,
        consistency: Consistency,
        write_type: WriteType,
        deadline: Instant,
    ) -> SentWrite {
        let call = self.call();
        let lifetime = deadline.saturating_duration_since(Instant::now());
        for replica in &plan.alive {
            call.send(*replica, request.clone(), lifetime);
        }
        let hinted = plan.down.iter().filter(|replica| self.hint(**replica, &mutation)).count() > 0;
        SentWrite(Some(Responses {
            node: self.clone(),
            call,
            mutation,
            hint_is_enough: consistency == Consistency::Any && hinted,
            silent: plan.alive.iter().copied().collect(),
            acknowledged: BTreeSet::new(),
            failures: BTreeMap::new(),
            plan,
            consistency,
            write_type,
            deadline,
        }))
    }

    pub(crate) fn replication_of(&self, mutation: &Mutation) -> Result<Replication, RequestError> {
        let schema = self.schema();
        match schema.keyspaces.get(&mutation.keyspace) {
            Some(keyspace) => Ok(keyspace.replication.clone()),
            None => Err(RequestError::Invalid(format!("keyspace {} does not exist", mutation.keyspace))),
        }
    }

    /// Refuses what is too large, and warns of what is large (`BatchStatement.verifyBatchSize` and `verifyBatchType`,
    /// `Mutation.validateSize`).
    fn check_sizes(&self, mutations: &[Arc<Mutation>], mode: WriteMode) -> Result<Warnings, RequestError> {
        let options = self.options();
        for mutation in mutations {
            let size = mutation.size();
            if size > options.max_mutation_size {
                return Err(RequestError::Invalid(format!(
                    "Rejected an oversized mutation ({size}/{}) for keyspace: {}",
                    options.max_mutation_size, mutation.keyspace
                )));
            }
        }
        let mut warnings = Vec::new();
        if mode != WriteMode::Single && mutations.len() > 1 {
            let schema = self.schema();
            let tables: BTreeSet<String> = mutations
                .iter()
                .flat_map(|mutation| mutation.updates.keys())
                .filter_map(|table| schema.tables.get(table))
                .map(|table| format!("{}.{}", table.keyspace, table.name))
                .collect();
            let of = if tables.len() == 1 { "" } else { "s" };
            let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
            let size: usize = mutations.iter().map(|mutation| mutation.data_size()).sum();
            if size > options.batch_size_fail {
                return Err(RequestError::Invalid("Batch too large".to_owned()));
            }
            if size > options.batch_size_warn {
                warnings.push(format!(
                    "Batch for [{tables}] is of size {size}, exceeding specified threshold of {} by {}.",
                    options.batch_size_warn,
                    size - options.batch_size_warn
                ));
            }
            let keys: BTreeSet<_> = mutations.iter().map(|mutation| &mutation.key).collect();
            if mode == WriteMode::UnloggedBatch && keys.len() > options.unlogged_batch_partitions_warn {
                warnings.push(format!(
                    "Unlogged batch covering {} partitions detected against table{of} [{tables}]. You should use a \
                     logged batch for atomicity, or asynchronous writes for performance.",
                    keys.len()
                ));
            }
        }
        Ok(warnings)
    }
}

/// A mutation that was sent to its replicas. When this is dropped, a task of the node waits for those that have not
/// responded yet: they may need hints.
pub(crate) struct SentWrite(Option<Responses>);

impl SentWrite {
    /// Waits until enough replicas have acknowledged the mutation, or it has failed. Never returns if the node dies.
    pub(crate) async fn decision(mut self) -> Result<(), RequestError> {
        match &mut self.0 {
            Some(responses) => responses.decision().await,
            // Only dropping takes them.
            None => Ok(()),
        }
    }
}

impl Drop for SentWrite {
    fn drop(&mut self) {
        if let Some(responses) = self.0.take().filter(|responses| !responses.silent.is_empty()) {
            let node = responses.node.clone();
            node.begin(|_| responses.remaining());
        }
    }
}

/// The responses of the replicas to one mutation.
struct Responses {
    node: Arc<Node>,
    call: Call,
    mutation: Arc<Mutation>,
    plan: WritePlan,
    consistency: Consistency,
    write_type: WriteType,
    deadline: Instant,
    /// Whether a hint was enough, and there is one.
    hint_is_enough: bool,
    /// The replicas that have not responded.
    silent: BTreeSet<NodeId>,
    acknowledged: BTreeSet<NodeId>,
    failures: BTreeMap<NodeId, FailureReason>,
}

impl Responses {
    async fn decision(&mut self) -> Result<(), RequestError> {
        let (consistency, write_type, block_for) =
            (self.consistency, self.write_type, self.plan.quota.block_for);
        loop {
            if self.hint_is_enough || self.plan.quota.is_met(&self.node.cluster.ring, &self.acknowledged) {
                return Ok(());
            }
            if block_for + self.failures.len() > self.plan.candidates {
                let address = |node: &NodeId| self.node.cluster.member(*node).address;
                return Err(RequestError::WriteFailure {
                    consistency,
                    received: self.acknowledged.len(),
                    block_for,
                    failures: self.failures.iter().map(|(node, reason)| (address(node), *reason)).collect(),
                    write_type,
                });
            }
            if !self.next().await {
                let received = self.acknowledged.len().min(block_for.saturating_sub(1));
                return Err(RequestError::WriteTimeout { consistency, received, block_for, write_type });
            }
        }
    }

    async fn remaining(mut self) {
        while self.next().await {}
    }

    /// Waits for one response. If no more come, those that are missing get hints, and it returns false.
    async fn next(&mut self) -> bool {
        let response = if self.silent.is_empty() { None } else { self.call.next(self.deadline).await };
        let Some((from, response)) = response else {
            for replica in std::mem::take(&mut self.silent) {
                self.node.hint(replica, &self.mutation);
            }
            return false;
        };
        // Not if it is a duplicate.
        if self.silent.remove(&from) {
            let failure = reason(&response);
            if failure.is_some() {
                self.node.hint(from, &self.mutation);
            }
            if self.plan.quota.counts(&self.node.cluster.ring, from) {
                match failure {
                    Some(reason) => drop(self.failures.insert(from, reason)),
                    None => drop(self.acknowledged.insert(from)),
                }
            }
        }
        true
    }
}

/// A failure that is none of the replicas' own.
pub(crate) fn reason(response: &Response) -> Option<FailureReason> {
    match response {
        Response::Failed(reason) => Some(*reason),
        _ => None,
    }
}
