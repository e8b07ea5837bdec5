//! Conditional writes and serial reads: one Paxos register for each partition (`StorageProxy.doPaxos`).
//!
//! A ballot is promised by a majority, which also returns what it accepted or committed before: what was accepted and
//! not committed is finished first. Then the partition is read at QUORUM, the condition is judged, and the write is
//! proposed and committed. A condition that does not hold proposes nothing, so that its response has a place in the
//! order, too. If responses to a proposal are missing, it is unknown whether it will be finished: a `WriteTimeout` of type
//! `Cas`. Once a majority has accepted, only the commit's visibility is open: its timeout is of type `Simple`.
//! A coordinator that finishes another's proposal gives it its own ballot, and with it its own, later timestamp: it then
//! hides plain writes that came after the original proposer had given up (`Commit.newProposal`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::NodeId;
use super::message::{Proposal, Request, Response};
use super::node::Node;
use crate::coordinator::{
    ConditionalOutcome, ConditionalWrite, Consistency, Decision, RequestError, WriteType,
};
use crate::schema::{Replication, TableId};
use crate::storage::{Ballot, DecoratedKey, Mutation, PartitionRange, ReadCommand, ReadResult, Timestamp};

/// The register of one partition, as one request uses it.
struct Register<'a> {
    node: &'a Arc<Node>,
    table: TableId,
    key: DecoratedKey,
    replication: Replication,
    serial: Consistency,
    /// For the commits: how many replicas must have them.
    commit_at: Consistency,
    is_write: bool,
    deadline: Instant,
}

/// The outcome of a proposal that some replicas accepted, but not a majority (`StorageProxy.proposePaxos`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Partial {
    /// The client's own: its outcome is reported as unknown.
    IsUnknown,
    /// Another's: it may be tried again.
    IsContended,
}

/// The outcome of a step.
enum Step {
    Done,
    /// Another ballot got in between; try again with one above this.
    Contended(Ballot),
}

impl Node {
    pub(crate) async fn write_if<F>(
        self: Arc<Self>,
        write: ConditionalWrite<F>,
        serial: Consistency,
        consistency: Consistency,
    ) -> Result<ConditionalOutcome, RequestError>
    where
        F: Fn(&ReadResult, Timestamp) -> Result<Decision, RequestError> + Send + Sync,
    {
        if self.lock().joining {
            return Err(RequestError::IsBootstrapping);
        }
        let register = self.register(write.table, write.key.clone(), serial, consistency, true)?;
        let read_at = match serial {
            Consistency::LocalSerial => Consistency::LocalQuorum,
            _ => Consistency::Quorum,
        };
        let mut highest = Ballot::default();
        loop {
            let ballot = register.begin(highest).await?;
            let found = self.read_plainly(write.read.clone(), read_at).await?;
            let (mutation, outcome) = match (write.decide)(&found, ballot.timestamp)? {
                Decision::Apply(mutation) => {
                    (Some(Arc::new(mutation.stamped(ballot.timestamp))), ConditionalOutcome::Applied)
                }
                Decision::Refuse => (None, ConditionalOutcome::Refused(found)),
            };
            match register.propose(ballot, mutation.clone(), Partial::IsUnknown).await? {
                Step::Done => {
                    if let Some(mutation) = mutation {
                        register.commit(ballot, mutation, consistency, true).await?;
                    }
                    return Ok(outcome);
                }
                Step::Contended(above) => {
                    highest = above;
                    register.back_off().await?;
                }
            }
        }
    }

    /// Reads a partition in its serial order.
    pub(crate) async fn read_serially(
        self: &Arc<Self>,
        command: ReadCommand,
        serial: Consistency,
    ) -> Result<ReadResult, RequestError> {
        let PartitionRange::Key(key) = &command.partitions else {
            // Only a read of partitions by key is serial (`StorageProxy.read`); a range is read by a quorum.
            return self.read_plainly(command, serial).await;
        };
        let read_at = match serial {
            Consistency::LocalSerial => Consistency::LocalQuorum,
            _ => Consistency::Quorum,
        };
        let register = self.register(command.table, key.clone(), serial, read_at, false)?;
        let mut highest = Ballot::default();
        loop {
            let ballot = register.begin(highest).await?;
            match register.propose(ballot, None, Partial::IsUnknown).await? {
                Step::Done => return self.read_plainly(command, read_at).await,
                Step::Contended(above) => {
                    highest = above;
                    register.back_off().await?;
                }
            }
        }
    }

    fn register(
        self: &Arc<Self>,
        table: TableId,
        key: DecoratedKey,
        serial: Consistency,
        commit_at: Consistency,
        is_write: bool,
    ) -> Result<Register<'_>, RequestError> {
        let (_, replication) = self.table(table)?;
        let deadline = Instant::now() + self.options().cas_contention_timeout;
        Ok(Register { node: self, table, key, replication, serial, commit_at, is_write, deadline })
    }
}

impl Register<'_> {
    /// The replicas that vote, and how many votes are needed: a majority of all, where a node that joins is one
    /// besides the one whose place it takes, for it has none of that one's promises (`ReplicaPlans.forPaxos`).
    fn voters(&self) -> Result<(Vec<NodeId>, usize), RequestError> {
        let node = self.node;
        let ring = &node.cluster.ring;
        let quota = node.quota(&self.replication, self.serial);
        let mut replicas = ring.replicas(&self.replication, self.key.token());
        replicas.retain(|replica| quota.counts(ring, *replica));
        let joining = replicas.iter().filter(|replica| node.is_joining(**replica)).count();
        let participants = replicas.len() + joining;
        let required = participants / 2 + 1;
        replicas.retain(|replica| node.is_alive(*replica));
        let alive = replicas.len();
        let unavailable = |required| RequestError::Unavailable { consistency: self.serial, required, alive };
        if alive < required {
            return Err(unavailable(required));
        }
        if joining > 1 {
            return Err(unavailable(participants + 1));
        }
        Ok((replicas, required))
    }

    fn timeout(&self, received: usize, block_for: usize) -> RequestError {
        let received = received.min(block_for.saturating_sub(1));
        if self.is_write {
            self.unknown(received, block_for)
        } else {
            // `StorageProxy.legacyReadWithPaxos`: whatever had come.
            let block_for = self.node.quota(&self.replication, self.serial).block_for;
            let (received, data_present) = (0, false);
            RequestError::ReadTimeout { consistency: self.serial, received, block_for, data_present }
        }
    }

    /// The outcome is unknown, which even a read gets as `CasWriteUnknownResultException`, for protocol
    /// v4 a timeout (`ErrorMessage.getBackwardsCompatibleException`).
    fn unknown(&self, received: usize, block_for: usize) -> RequestError {
        let write_type = WriteType::Cas;
        RequestError::WriteTimeout { consistency: self.serial, received, block_for, write_type }
    }

    /// No request is retried for longer than the contention timeout.
    fn check_time(&self) -> Result<(), RequestError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(self.timeout(0, self.node.quota(&self.replication, self.serial).block_for))
    }

    /// Waits a little for others to finish.
    async fn back_off(&self) -> Result<(), RequestError> {
        self.check_time()?;
        sleep(Duration::from_micros(self.node.cluster.random() % 100_000)).await;
        Ok(())
    }

    fn ballot(&self, above: Ballot) -> Ballot {
        let timestamp = self.node.timestamp().max(above.timestamp + 1);
        Ballot { timestamp, tie_breaker: self.node.cluster.random() }
    }

    /// Gets a ballot promised by a majority that has nothing unfinished (`StorageProxy.beginAndRepairPaxos`).
    async fn begin(&self, mut highest: Ballot) -> Result<Ballot, RequestError> {
        loop {
            self.check_time()?;
            let ballot = self.ballot(highest);
            let (voters, needed) = self.voters()?;
            let request = Request::Prepare { table: self.table, key: self.key.clone(), ballot };
            let votes = self.vote(&voters, needed, request).await?;
            let mut accepted: Proposal = None;
            let mut committed: Proposal = None;
            let mut refused = false;
            let mut commits = BTreeMap::new();
            for (voter, response) in votes {
                let Response::Promise { promised, highest: seen, accepted: its, committed: last } = response
                else {
                    continue;
                };
                refused |= !promised;
                highest = highest.max(seen);
                commits.insert(voter, last.as_ref().map(|(ballot, _)| *ballot));
                accepted = newest(accepted, its);
                committed = newest(committed, last);
            }
            if refused {
                self.back_off().await?;
                continue;
            }
            let newest_commit = committed.as_ref().map(|(ballot, _)| *ballot);
            // Of a condition that did not hold there is nothing to finish.
            if let Some((unfinished, Some(mutation))) = accepted
                && newest_commit.is_none_or(|commit| unfinished > commit)
            {
                // The client of an earlier request may have got no response; that request is finished in its own order. Only then can
                // this one have the next.
                let mutation = Arc::new(Mutation::clone(&mutation).stamped(ballot.timestamp));
                match self.propose(ballot, Some(mutation.clone()), Partial::IsContended).await? {
                    Step::Done => {
                        let commit = self.commit(ballot, mutation, self.commit_at, false).await;
                        commit.map_err(|error| self.of_another(error))?;
                    }
                    Step::Contended(above) => {
                        highest = above;
                        self.back_off().await?;
                    }
                }
                continue;
            }
            if let Some((commit, Some(mutation))) = committed {
                // The commit may not have reached a majority: the read that follows could miss it. Its
                // arrival is not waited for; a further round shows it.
                let behind = commits.iter().filter(|(_, last)| **last < Some(commit));
                let behind: Vec<NodeId> = behind.map(|(voter, _)| *voter).collect();
                if !behind.is_empty() {
                    for voter in behind {
                        self.node.notify(voter, self.commit_request(commit, mutation.clone()));
                    }
                    continue;
                }
            }
            return Ok(ballot);
        }
    }

    /// What a client gets if another's proposal could not be finished: nothing that could be taken for the outcome of
    /// its own.
    fn of_another(&self, error: RequestError) -> RequestError {
        match error {
            RequestError::WriteTimeout { consistency, received, block_for, .. } if self.is_write => {
                RequestError::WriteTimeout { consistency, received, block_for, write_type: WriteType::Cas }
            }
            RequestError::WriteTimeout { received, block_for, .. } => self.timeout(received, block_for),
            RequestError::WriteFailure { received, block_for, failures, .. } if !self.is_write => {
                let (consistency, data_present) = (self.serial, false);
                RequestError::ReadFailure { consistency, received, block_for, failures, data_present }
            }
            error => error,
        }
    }

    /// Sends a request to the voters and waits for enough responses.
    async fn vote(
        &self,
        voters: &[NodeId],
        needed: usize,
        request: Request,
    ) -> Result<BTreeMap<NodeId, Response>, RequestError> {
        let wait = self.node.options().write_timeout;
        let deadline = Instant::now() + wait;
        let mut call = self.node.call();
        for voter in voters {
            call.send(*voter, request.clone(), wait);
        }
        let mut votes = BTreeMap::new();
        while votes.len() < needed {
            match call.next(deadline).await {
                Some((from, response)) => {
                    votes.entry(from).or_insert(response);
                }
                None => return Err(self.timeout(votes.len(), needed)),
            }
        }
        Ok(votes)
    }

    async fn propose(
        &self,
        ballot: Ballot,
        mutation: Option<Arc<Mutation>>,
        partial: Partial,
    ) -> Result<Step, RequestError> {
        let (voters, needed) = self.voters()?;
        let request = Request::Propose { table: self.table, key: self.key.clone(), ballot, mutation };
        let wait = self.node.options().write_timeout;
        let deadline = Instant::now() + wait;
        let mut call = self.node.call();
        for voter in &voters {
            call.send(*voter, request.clone(), wait);
        }
        let mut accepted = BTreeMap::new();
        let mut highest = ballot;
        loop {
            let yes = accepted.values().filter(|accepted| **accepted).count();
            if yes >= needed {
                return Ok(Step::Done);
            }
            let no = accepted.len() - yes;
            // If no replica accepted, the proposal is dead; if some did, another request may finish it.
            let is_lost = no > voters.len() - needed;
            if is_lost && partial == Partial::IsContended {
                return Ok(Step::Contended(highest));
            }
            if is_lost && accepted.len() == voters.len() {
                return if yes == 0 { Ok(Step::Contended(highest)) } else { Err(self.unknown(yes, needed)) };
            }
            match call.next(deadline).await {
                Some((from, Response::Accepted { accepted: yes, highest: seen })) => {
                    accepted.entry(from).or_insert(yes);
                    highest = highest.max(seen);
                }
                Some(_) => {}
                None => return Err(self.timeout(yes, needed)),
            }
        }
    }

    fn commit_request(&self, ballot: Ballot, mutation: Arc<Mutation>) -> Request {
        Request::Commit { table: self.table, key: self.key.clone(), ballot, mutation }
    }

    async fn commit(
        &self,
        ballot: Ballot,
        mutation: Arc<Mutation>,
        consistency: Consistency,
        hints_down: bool,
    ) -> Result<(), RequestError> {
        let mut plan = self.node.plan_write(&self.replication, self.key.token(), consistency)?;
        self.node.check_hints(&plan)?;
        if !hints_down {
            // What is finished for another leaves no hints for those that are down (`StorageProxy.commitPaxos`).
            plan.down.clear();
        }
        let deadline = Instant::now() + self.node.options().write_timeout;
        let request = self.commit_request(ballot, mutation.clone());
        let write_type = WriteType::Simple;
        let sent = self.node.send_as(request, mutation, plan, consistency, write_type, deadline);
        match consistency {
            // Without waiting for responses.
            Consistency::Any => Ok(()),
            _ => sent.decision().await,
        }
    }
}

/// The one of two proposals with the higher ballot.
fn newest(left: Proposal, right: Proposal) -> Proposal {
    match (left, right) {
        (Some(left), Some(right)) => Some(if right.0 > left.0 { right } else { left }),
        (left, right) => left.or(right),
    }
}
