//! The coordinator's side of writes (`StorageProxy.mutate`).
//!
//! One message goes to each replica that is believed to be alive; for the others, and for those that do not answer in
//! time, a hint is kept. A timeout says nothing about what the replicas did or will do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::message::{Request, Response};
use super::node::Node;
use super::plan::WritePlan;
use crate::coordinator::{Consistency, FailureReason, RequestError, Warnings, WriteMode, WriteType};
use crate::schema::Replication;
use crate::storage::Mutation;

/// The decision on a write, to come.
pub(crate) type Decision = oneshot::Receiver<Result<(), RequestError>>;

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
        let mut decisions = Vec::with_capacity(planned.len());
        for (mutation, replication) in &planned {
            let plan = self.plan_write(replication, mutation.key.token(), consistency)?;
            self.check_hints(&plan)?;
            decisions.push(self.send_write(mutation.clone(), plan, consistency, write_type, deadline));
        }
        for decision in decisions {
            match decided(decision).await {
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

    /// Sends a mutation to its replicas and handles the acknowledgements and hints.
    pub(crate) fn send_write(
        self: &Arc<Self>,
        mutation: Arc<Mutation>,
        plan: WritePlan,
        consistency: Consistency,
        write_type: WriteType,
        deadline: Instant,
    ) -> Decision {
        let request = Request::Write(mutation.clone());
        self.send_and_collect(request, mutation, plan, consistency, write_type, deadline)
    }

    /// The same with another message than a plain write; `mutation` is what hints keep.
    pub(crate) fn send_and_collect(
        self: &Arc<Self>,
        request: Request,
        mutation: Arc<Mutation>,
        plan: WritePlan,
        consistency: Consistency,
        write_type: WriteType,
        deadline: Instant,
    ) -> Decision {
        let (decide, decision) = oneshot::channel();
        let mut call = self.call();
        let lifetime = deadline.saturating_duration_since(Instant::now());
        for replica in &plan.alive {
            call.send(*replica, request.clone(), lifetime);
        }
        let hinted = plan.down.iter().filter(|replica| self.hint(**replica, &mutation)).count();
        self.begin(|node| async move {
            let ring = &node.cluster.ring;
            let mut decide = Some(decide);
            let mut acknowledged = BTreeSet::new();
            let mut failures = BTreeMap::new();
            let mut silent: BTreeSet<_> = plan.alive.iter().copied().collect();
            let enough = |acknowledged: &BTreeSet<_>| {
                let any = consistency == Consistency::Any && hinted > 0;
                any || plan.quota.is_met(ring, acknowledged)
            };
            let decide_once = |decide: &mut Option<oneshot::Sender<_>>, result| {
                if let Some(decide) = decide.take() {
                    // The coordinator's client may have disconnected.
                    let _ = decide.send(result);
                }
            };
            loop {
                if enough(&acknowledged) {
                    decide_once(&mut decide, Ok(()));
                } else if plan.quota.block_for + failures.len() > plan.candidates {
                    let failures = failures
                        .iter()
                        .map(|(failed, reason)| (node.cluster.member(*failed).address, *reason))
                        .collect();
                    decide_once(
                        &mut decide,
                        Err(RequestError::WriteFailure {
                            consistency,
                            received: acknowledged.len(),
                            block_for: plan.quota.block_for,
                            failures,
                            write_type,
                        }),
                    );
                }
                if silent.is_empty() {
                    break;
                }
                let Some((from, response)) = call.next(deadline).await else { break };
                if !silent.remove(&from) {
                    // A duplicate.
                    continue;
                }
                let counts = plan.quota.counts(ring, from);
                match response {
                    Response::Failed(reason) => {
                        node.hint(from, &mutation);
                        if counts {
                            failures.insert(from, reason);
                        }
                    }
                    _ if counts => {
                        acknowledged.insert(from);
                    }
                    _ => {}
                }
            }
            for replica in &silent {
                node.hint(*replica, &mutation);
            }
            let received = acknowledged.len().min(plan.quota.block_for.saturating_sub(1));
            let block_for = plan.quota.block_for;
            decide_once(
                &mut decide,
                Err(RequestError::WriteTimeout { consistency, received, block_for, write_type }),
            );
        });
        decision
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

/// Waits for a decision. There is none if the node dies.
pub(crate) async fn decided(decision: Decision) -> Result<(), RequestError> {
    match decision.await {
        Ok(result) => result,
        Err(_) => std::future::pending().await,
    }
}

/// A failure that is none of the replicas' own.
pub(crate) fn reason(response: &Response) -> Option<FailureReason> {
    match response {
        Response::Failed(reason) => Some(*reason),
        _ => None,
    }
}
