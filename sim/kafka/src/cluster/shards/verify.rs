//! Verification of transactional writes: a leader asks the transaction's coordinator whether the partition is part of it,
//! or adds it (KIP-890, `AddPartitionsToTxnManager`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Broker;
use crate::cluster::message::{Request, Response};
use crate::coordinator::{Context, Producer};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProducerId, TopicName, TransactionalId,
};
use crate::protocol::text;
use crate::transaction::{TransactionResponse, TransactionShard};

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
pub(crate) type Refused = BTreeMap<(String, i32), ErrorCode>;

impl Broker {
    /// Verifies that partitions are part of a transaction, or adds them, all with one request. Returns those that are not,
    /// with the reason.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        transactional_id: &str,
        producer: Producer,
        partitions: &[(String, i32)],
        verification: Verification,
    ) -> Refused {
        let adds = verification == Verification::Add;
        if partitions.is_empty() || !self.options().verify_transactions && !adds {
            return Refused::new();
        }
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, index) in partitions {
            topics.entry(topic).or_default().push(*index);
        }
        let topics = topics.into_iter().map(|(name, indexes)| {
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(name))).with_partitions(indexes)
        });
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(TransactionalId(text(transactional_id)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_verify_only(!adds)
            .with_topics(topics.collect());
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let start = tokio::time::Instant::now();
        loop {
            let refused = match self.ask_transaction(transactional_id, request.clone(), verification).await {
                Ok(refused) => refused,
                Err(error) => partitions.iter().map(|partition| (partition.clone(), error)).collect(),
            };
            let is_concurrent = refused.values().any(|error| *error == ErrorCode::ConcurrentTransactions);
            if !adds || !is_concurrent || start.elapsed() >= LONGEST_RETRY {
                return refused;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// Asks the coordinator once.
    async fn ask_transaction(
        self: &Arc<Self>,
        transactional_id: &str,
        request: AddPartitionsToTxnRequest,
        verification: Verification,
    ) -> Result<Refused> {
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
        let refused = of_transactions.flat_map(|topic| {
            topic.results_by_partition.iter().filter_map(|partition| {
                let error = ErrorCode::try_from_code(partition.partition_error_code)?;
                let place = (topic.name.to_string(), partition.partition_index);
                Some((place, known_to_producers(error, verification)))
            })
        });
        Ok(refused.collect())
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
