//! Responses that refuse a request as a whole, as `getErrorResponse` of Kafka's request classes builds them.

use super::{TransactionRequest, TransactionResponse};
use crate::error::ErrorCode;
use crate::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use crate::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use crate::protocol::messages::describe_transactions_response::TransactionState;
use crate::protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, DescribeTransactionsResponse, EndTxnResponse,
    InitProducerIdResponse, ListTransactionsResponse,
};

/// The response to a request that fails as a whole.
pub(crate) fn refuse(request: &TransactionRequest, version: i16, error: ErrorCode) -> TransactionResponse {
    let code = error.code();
    match request {
        TransactionRequest::InitProducerId(_) => init_producer_id(error).into(),
        TransactionRequest::AddPartitionsToTxn(request) if version < 4 => {
            AddPartitionsToTxnResponse::default()
                .with_results_by_topic_v3_and_below(partitions(&request.v3_and_below_topics, error))
                .into()
        }
        TransactionRequest::AddPartitionsToTxn(_) => {
            AddPartitionsToTxnResponse::default().with_error_code(code).into()
        }
        TransactionRequest::AddOffsetsToTxn(_) => {
            AddOffsetsToTxnResponse::default().with_error_code(code).into()
        }
        TransactionRequest::EndTxn(_) => EndTxnResponse::default().with_error_code(code).into(),
        TransactionRequest::DescribeTransactions(request) => {
            let states = request.transactional_ids.iter().map(|id| {
                TransactionState::default().with_transactional_id(id.clone()).with_error_code(code)
            });
            DescribeTransactionsResponse::default().with_transaction_states(states.collect()).into()
        }
        TransactionRequest::ListTransactions(_) => {
            ListTransactionsResponse::default().with_error_code(code).into()
        }
    }
}

/// An InitProducerId response without a producer.
pub(crate) fn init_producer_id(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

/// The same error for all partitions.
pub(crate) fn partitions(
    topics: &[AddPartitionsToTxnTopic],
    error: ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let partition = |&index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(error.code())
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(partition).collect())
    };
    topics.iter().map(topic).collect()
}
