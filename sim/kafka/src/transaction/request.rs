//! Requests and responses of transactions.

use crate::error::ErrorCode;
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse,
};

macro_rules! requests {
    ($($name:ident($request:ident, $response:ident),)*) => {
        /// A request to the coordinator of a transactional id. Those that name several ids (AddPartitionsToTxn from
        /// version 4, DescribeTransactions) hold only ids of the shard's partition; the runtime splits them, and
        /// merges the responses.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum TransactionRequest {
            $($name($request),)*
        }

        /// A response, of the kind of its request.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum TransactionResponse {
            $($name($response),)*
        }

        $(
            impl From<$request> for TransactionRequest {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }

            impl From<$response> for TransactionResponse {
                fn from(response: $response) -> Self {
                    Self::$name(response)
                }
            }
        )*
    };
}

requests! {
    InitProducerId(InitProducerIdRequest, InitProducerIdResponse),
    AddPartitionsToTxn(AddPartitionsToTxnRequest, AddPartitionsToTxnResponse),
    AddOffsetsToTxn(AddOffsetsToTxnRequest, AddOffsetsToTxnResponse),
    EndTxn(EndTxnRequest, EndTxnResponse),
    DescribeTransactions(DescribeTransactionsRequest, DescribeTransactionsResponse),
    ListTransactions(ListTransactionsRequest, ListTransactionsResponse),
}

impl TransactionRequest {
    /// The transactional ids that a request names: one for most; none for ListTransactions, which asks all, and
    /// for InitProducerId of an idempotent producer ([`idempotent_producer`](super::idempotent_producer)).
    pub fn transactional_ids(&self, api_version: i16) -> Vec<&str> {
        match self {
            Self::InitProducerId(request) => request.transactional_id.iter().map(|id| id.as_str()).collect(),
            Self::AddPartitionsToTxn(request) if api_version < 4 => {
                vec![&request.v3_and_below_transactional_id]
            }
            Self::AddPartitionsToTxn(request) => {
                request.transactions.iter().map(|transaction| transaction.transactional_id.as_str()).collect()
            }
            Self::AddOffsetsToTxn(request) => vec![&request.transactional_id],
            Self::EndTxn(request) => vec![&request.transactional_id],
            Self::DescribeTransactions(request) => {
                request.transactional_ids.iter().map(|id| id.as_str()).collect()
            }
            Self::ListTransactions(_) => Vec::new(),
        }
    }

    /// The response that refuses the whole request with an error, as Kafka's `getErrorResponse` of each API.
    pub fn refuse(&self, api_version: i16, error: ErrorCode) -> TransactionResponse {
        super::refusal::refuse(self, api_version, error)
    }
}
