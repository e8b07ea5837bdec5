//! Verification of transactional writes: a leader asks the transaction's coordinator whether the partition is part of it,
//! or adds it (KIP-890, `AddPartitionsToTxnManager`).

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
use crate::types::PartitionId;

/// The version with which brokers ask each other.
const VERSION: i16 = 5;
/// How long a leader waits for the coordinator.
const WAIT: Duration = Duration::from_secs(30);
/// How often and for how long an addition is tried again while the last transaction is being ended
/// (`add.partitions.to.txn.retry.backoff.ms` and `.max.ms`).
const BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_millis(100);

impl Broker {
    /// Verifies that a partition is part of a transaction, or adds it.
    ///
    /// # Errors
    /// If it is not, or the coordinator cannot be asked.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        transactional_id: &str,
        producer: Producer,
        (topic, id): (String, PartitionId),
        adds: bool,
    ) -> Result<()> {
        if !self.options().verify_transactions && !adds {
            return Ok(());
        }
        let wanted = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(&topic)))
            .with_partitions(vec![id.index]);
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(TransactionalId(text(transactional_id)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_verify_only(!adds)
            .with_topics(vec![wanted]);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let start = tokio::time::Instant::now();
        loop {
            let result = self.ask_transaction(transactional_id, request.clone()).await;
            let tries_again =
                adds && result == Err(ErrorCode::ConcurrentTransactions) && start.elapsed() < LONGEST_RETRY;
            if !tries_again {
                return result;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn ask_transaction(
        self: &Arc<Self>,
        transactional_id: &str,
        request: AddPartitionsToTxnRequest,
    ) -> Result<()> {
        let id =
            self.shard_of::<TransactionShard>(transactional_id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let image = self.image();
        let leader = image.partition(id).and_then(|partition| partition.leader);
        let leader = leader.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let response = if leader == self.id {
            self.serve_verification(request).await
        } else {
            match self.ask(leader, Request::VerifyTransaction(request), WAIT).await {
                Some(Response::VerifyTransaction(response)) => response,
                _ => return Err(ErrorCode::NetworkException),
            }
        };
        let of_transactions = response.results_by_transaction.iter().flat_map(|result| &result.topic_results);
        let mut codes = of_transactions
            .flat_map(|topic| &topic.results_by_partition)
            .map(|partition| partition.partition_error_code);
        let code = codes.find(|code| *code != 0).unwrap_or(response.error_code);
        match ErrorCode::try_from_code(code) {
            None => Ok(()),
            // What producers know from writing to a partition.
            Some(ErrorCode::ProducerFenced) => Err(ErrorCode::InvalidProducerEpoch),
            Some(error) => Err(error),
        }
    }

    /// Answers another leader as the coordinator of a transaction.
    pub(crate) async fn serve_verification(
        self: &Arc<Self>,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        let context = Context { api_version: VERSION, ..Context::default() };
        match self.serve_transaction(&context, request.into()).await {
            TransactionResponse::AddPartitionsToTxn(response) => response,
            _ => AddPartitionsToTxnResponse::default().with_error_code(ErrorCode::UnknownServerError.code()),
        }
    }
}
