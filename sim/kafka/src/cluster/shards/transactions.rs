//! The coordinators of transactions.

use std::sync::{Arc, Mutex};

use super::{Hosts, Shard, read};
use crate::cluster::Broker;
use crate::cluster::observe::CoordinatorKind;
use crate::coordinator::{BatchId, Context, Effects, Token, Topics};
use crate::error::{ErrorCode, Result};
use crate::metadata::TRANSACTION_STATE;
use crate::protocol::batch::Batch;
use crate::protocol::messages::{
    AddPartitionsToTxnRequest, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsResponse,
};
use crate::transaction::{ProducerIds, TransactionRequest, TransactionResponse, TransactionShard};
use crate::types::PartitionId;

/// The producer ids that a broker has.
pub(crate) struct ProducerIdsOf<'a>(pub(crate) &'a Arc<Broker>);

impl ProducerIds for ProducerIdsOf<'_> {
    fn next(&mut self) -> Option<i64> {
        self.0.new_producer_id()
    }
}

impl Shard for TransactionShard {
    type Response = TransactionResponse;
    const TOPIC: &'static str = TRANSACTION_STATE;
    const KIND: CoordinatorKind = CoordinatorKind::Transactions;

    fn create(broker: &Broker, epoch: i32, topics: Arc<Topics>) -> Self {
        let options = broker.options();
        let shard = TransactionShard::new(options.transactions.clone(), epoch, topics);
        shard.observed(broker.id, options.observer.clone())
    }

    fn replay(&mut self, batch: &Batch) {
        for record in read(batch) {
            if let Err(error) = TransactionShard::replay(self, &record) {
                tracing::warn!(%error, "a record of a transaction cannot be read");
            }
        }
    }

    fn loaded(&mut self, now: i64) -> Effects<TransactionResponse> {
        TransactionShard::loaded(self, now)
    }

    fn tick(&mut self, broker: &Arc<Broker>, now: i64) -> Effects<TransactionResponse> {
        TransactionShard::tick(self, now, &mut ProducerIdsOf(broker))
    }

    fn next_deadline(&self) -> Option<i64> {
        TransactionShard::next_deadline(self)
    }

    fn committed(&mut self, now: i64, batch: BatchId) -> Effects<TransactionResponse> {
        TransactionShard::committed(self, now, batch)
    }

    fn failed(&mut self, now: i64, batch: BatchId, error: ErrorCode) -> Effects<TransactionResponse> {
        TransactionShard::failed(self, now, batch, error)
    }

    fn topics_changed(&mut self, _now: i64, topics: Arc<Topics>) -> Effects<TransactionResponse> {
        TransactionShard::topics_changed(self, topics);
        Effects::default()
    }

    fn unload(self) -> Vec<(Token, TransactionResponse)> {
        TransactionShard::unload(self)
    }

    fn hosts(broker: &Broker) -> &Mutex<Hosts<Self>> {
        &broker.transactions
    }
}

impl Broker {
    /// Serves a request of a transactional producer, or about transactions.
    pub(crate) async fn serve_transaction(
        self: &Arc<Self>,
        context: &Context,
        request: TransactionRequest,
    ) -> TransactionResponse {
        match request {
            TransactionRequest::ListTransactions(_) => self.list_transactions(context, request).await,
            TransactionRequest::DescribeTransactions(request) => {
                let mut all = DescribeTransactionsResponse::default();
                for id in request.transactional_ids {
                    let one = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
                    let response = self.serve_one_transaction(context, one.into()).await;
                    if let TransactionResponse::DescribeTransactions(response) = response {
                        all.transaction_states.extend(response.transaction_states);
                    }
                }
                TransactionResponse::DescribeTransactions(all)
            }
            TransactionRequest::AddPartitionsToTxn(request) if request.transactions.len() > 1 => {
                let mut all = crate::protocol::messages::AddPartitionsToTxnResponse::default();
                for transaction in request.transactions {
                    let one = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
                    let response = self.serve_one_transaction(context, one.into()).await;
                    if let TransactionResponse::AddPartitionsToTxn(response) = response {
                        all.error_code = all.error_code.max(response.error_code);
                        all.results_by_transaction.extend(response.results_by_transaction);
                    }
                }
                TransactionResponse::AddPartitionsToTxn(all)
            }
            other => self.serve_one_transaction(context, other).await,
        }
    }

    async fn serve_one_transaction(
        self: &Arc<Self>,
        context: &Context,
        request: TransactionRequest,
    ) -> TransactionResponse {
        let version = context.api_version;
        let id = request
            .transactional_ids(version)
            .first()
            .and_then(|id| self.shard_of::<TransactionShard>(id))
            .ok_or(ErrorCode::CoordinatorNotAvailable);
        let result = match id {
            Ok(id) => self.on_transaction_shard(id, context, request.clone()).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| request.refuse(version, error))
    }

    pub(super) async fn on_transaction_shard(
        self: &Arc<Self>,
        id: PartitionId,
        context: &Context,
        request: TransactionRequest,
    ) -> Result<TransactionResponse> {
        let now = self.coordinator_now();
        self.on_shard::<TransactionShard>(id, |shard, token| {
            shard.handle(now, &mut ProducerIdsOf(self), token, context, request)
        })
        .await
    }

    async fn list_transactions(
        self: &Arc<Self>,
        context: &Context,
        request: TransactionRequest,
    ) -> TransactionResponse {
        let mut all = ListTransactionsResponse::default();
        for id in self.hosted::<TransactionShard>() {
            match self.on_transaction_shard(id, context, request.clone()).await {
                Ok(TransactionResponse::ListTransactions(response)) => {
                    all.unknown_state_filters = response.unknown_state_filters;
                    all.transaction_states.extend(response.transaction_states);
                }
                Ok(_) => {}
                Err(error) => all.error_code = error.code(),
            }
        }
        TransactionResponse::ListTransactions(all)
    }
}
