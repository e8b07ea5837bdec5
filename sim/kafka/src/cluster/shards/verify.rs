//! Verification of transactional writes: a leader asks the transaction's coordinator whether the partition is part of it,
//! or adds it (KIP-890, `AddPartitionsToTxnManager`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Broker;
use crate::cluster::message::{Request, Response};
use crate::coordinator::Context;
use crate::error::{ErrorCode, Result};
use crate::log::{Claim, Guard, Proof};
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProducerId, TopicName, TransactionalId,
};
use crate::protocol::text;
use crate::transaction::{TransactionResponse, TransactionShard};
use crate::types::PartitionId;

/// What the client's request means for a partition that is not part of the transaction
/// (`AddPartitionsToTxnManager.TransactionSupportedOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// It is refused with INVALID_TXN_STATE: the client does not know another error.
    Default,
    /// It is refused with TRANSACTION_ABORTABLE.
    Abortable,
    /// It is added.
    Add,
}

impl Verification {
    /// By the version of a request and the first versions that know the error and that add.
    pub(crate) fn of(version: i16, abortable: i16, add: i16) -> Self {
        if version >= add {
            Verification::Add
        } else if version >= abortable {
            Verification::Abortable
        } else {
            Verification::Default
        }
    }

    /// The version of AddPartitionsToTxn with which brokers ask each other.
    fn version(self) -> i16 {
        if self == Verification::Default { 4 } else { 5 }
    }
}

/// How long a leader waits for the coordinator.
const WAIT: Duration = Duration::from_secs(30);
/// How often and for how long an addition is tried again while the last transaction is being ended
/// (`add.partitions.to.txn.retry.backoff.ms` and `.max.ms`).
const BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_millis(100);

/// What a coordinator answers for partitions, by topic and index: those that are not named are part of the transaction.
type Answer = BTreeMap<(String, i32), ErrorCode>;

/// A partition to which something of a transaction is to be appended.
pub(crate) struct ToVerify {
    pub(crate) topic: String,
    pub(crate) id: PartitionId,
    pub(crate) claim: Claim,
}

/// What is known of the partitions of a transaction.
#[derive(Default)]
pub(crate) struct Verified {
    /// Partitions to which nothing may be appended.
    pub(crate) refused: BTreeMap<PartitionId, ErrorCode>,
    guards: BTreeMap<PartitionId, Guard>,
}

impl Verified {
    /// What a batch for a partition is appended with.
    pub(crate) fn proof(&self, broker: &Broker, id: PartitionId) -> Proof {
        if broker.verifies_transactions() {
            Proof::Required(self.guards.get(&id).copied())
        } else {
            Proof::NotRequired
        }
    }
}

impl Broker {
    /// Verifies that partitions are part of a transaction, or adds them, all with one request
    /// (`ReplicaManager.maybeSendPartitionsToTransactionCoordinator`). The partitions have the same producer.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        transactional_id: &str,
        partitions: &[ToVerify],
        verification: Verification,
    ) -> Verified {
        let adds = verification == Verification::Add;
        if !self.verifies_transactions() && !adds {
            return Verified::default();
        }
        let start = tokio::time::Instant::now();
        loop {
            let mut verified = self.begin_verification(partitions, adds);
            let open = partitions.iter().filter(|partition| verified.guards.contains_key(&partition.id));
            let open: Vec<&ToVerify> = open.collect();
            let Some(first) = open.first() else { return verified };
            let request = add_partitions(transactional_id, first.claim, &open, !adds);
            let answer = self.ask_transaction(transactional_id, request, verification).await;
            for partition in open {
                let error = match &answer {
                    Ok(answer) => answer.get(&(partition.topic.clone(), partition.id.index)).copied(),
                    Err(error) => Some(*error),
                };
                if let Some(error) = error {
                    verified.refused.insert(partition.id, error);
                }
            }
            let mut errors = verified.refused.values();
            let is_concurrent = errors.any(|error| *error == ErrorCode::ConcurrentTransactions);
            if !adds || !is_concurrent || start.elapsed() >= LONGEST_RETRY {
                return verified;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// Partitions that this broker does not lead are left out: they are refused when something is appended.
    fn begin_verification(&self, partitions: &[ToVerify], adds: bool) -> Verified {
        let now = self.now();
        let mut verified = Verified::default();
        let mut state = self.lock();
        for ToVerify { id, claim, .. } in partitions {
            let Some(replica) = state.replicas.get_mut(id).filter(|replica| replica.leader().is_ok()) else {
                continue;
            };
            match replica.log.producers_mut().begin_verification(*claim, adds, now) {
                Ok(Some(guard)) => {
                    verified.guards.insert(*id, guard);
                }
                Ok(None) => {}
                Err(error) => {
                    verified.refused.insert(*id, error);
                }
            }
        }
        verified
    }

    /// Asks the coordinator once.
    async fn ask_transaction(
        self: &Arc<Self>,
        transactional_id: &str,
        request: AddPartitionsToTxnRequest,
        verification: Verification,
    ) -> Result<Answer> {
        let version = verification.version();
        let id =
            self.shard_of::<TransactionShard>(transactional_id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let image = self.image();
        let leader = image.partition(id).and_then(|partition| partition.leader);
        let leader = leader.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let response = if leader == self.id {
            self.serve_verification(request, version).await
        } else {
            match self.ask(leader, Request::VerifyTransaction { request, version }, WAIT).await {
                Some(Response::VerifyTransaction(response)) => response,
                _ => return Err(ErrorCode::NetworkException),
            }
        };
        if let Some(error) = ErrorCode::try_from_code(response.error_code) {
            return Err(known_to_producers(error, verification));
        }
        let of_transactions = response.results_by_transaction.iter().flat_map(|result| &result.topic_results);
        let answer = of_transactions.flat_map(|topic| {
            topic.results_by_partition.iter().filter_map(|partition| {
                let error = ErrorCode::try_from_code(partition.partition_error_code)?;
                let place = (topic.name.to_string(), partition.partition_index);
                Some((place, known_to_producers(error, verification)))
            })
        });
        Ok(answer.collect())
    }

    /// Answers another leader as the coordinator of a transaction.
    pub(crate) async fn serve_verification(
        self: &Arc<Self>,
        request: AddPartitionsToTxnRequest,
        version: i16,
    ) -> AddPartitionsToTxnResponse {
        let context = Context { api_version: version, ..Context::default() };
        match self.serve_transaction(&context, request.into()).await {
            TransactionResponse::AddPartitionsToTxn(response) => response,
            _ => AddPartitionsToTxnResponse::default().with_error_code(ErrorCode::UnknownServerError.code()),
        }
    }
}

fn add_partitions(
    transactional_id: &str,
    claim: Claim,
    partitions: &[&ToVerify],
    verify_only: bool,
) -> AddPartitionsToTxnRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.id.index);
    }
    let topics = topics.into_iter().map(|(name, indexes)| {
        AddPartitionsToTxnTopic::default().with_name(TopicName(text(name))).with_partitions(indexes)
    });
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text(transactional_id)))
        .with_producer_id(ProducerId(claim.producer_id))
        .with_producer_epoch(claim.epoch)
        .with_verify_only(verify_only)
        .with_topics(topics.collect());
    AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
}

/// What producers expect in a response to Produce.
fn known_to_producers(error: ErrorCode, verification: Verification) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if verification == Verification::Default => {
            ErrorCode::InvalidTxnState
        }
        other => other,
    }
}
