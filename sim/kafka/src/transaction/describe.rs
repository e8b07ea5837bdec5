//! DescribeTransactions and ListTransactions.

use std::collections::BTreeMap;

use super::TransactionShard;
use super::state::{State, Transaction};
use crate::error::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use crate::protocol::messages::list_transactions_response::TransactionState as Listed;
use crate::protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse, TransactionalId,
};

impl TransactionShard {
    pub(super) fn describe(&self, request: &DescribeTransactionsRequest) -> DescribeTransactionsResponse {
        let states = request.transactional_ids.iter().map(|id| self.describe_one(id));
        DescribeTransactionsResponse::default().with_transaction_states(states.collect())
    }

    fn describe_one(&self, id: &TransactionalId) -> TransactionState {
        let described = TransactionState::default().with_transactional_id(id.clone());
        if id.is_empty() {
            return described.with_error_code(ErrorCode::InvalidRequest.code());
        }
        let Some(transaction) = self.transactions.get(id.as_str()) else {
            return described.with_error_code(ErrorCode::TransactionalIdNotFound.code());
        };
        let current = &transaction.metadata;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &current.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let name = StrBytes::from_string(topic.to_owned());
            TopicData::default().with_topic(name.into()).with_partitions(partitions)
        });
        described
            .with_producer_id(current.producer_id.into())
            .with_producer_epoch(current.epoch)
            .with_transaction_state(StrBytes::from_static_str(current.state.name()))
            .with_transaction_timeout_ms(current.timeout)
            .with_transaction_start_time_ms(current.started)
            .with_topics(topics.collect())
    }

    pub(super) fn list(&self, now: i64, request: &ListTransactionsRequest) -> ListTransactionsResponse {
        let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
        let pattern = match pattern.map(|pattern| regex::Regex::new(&format!("^(?:{pattern})$"))).transpose()
        {
            Ok(pattern) => pattern,
            Err(_) => {
                let code = ErrorCode::InvalidRegularExpression.code();
                return ListTransactionsResponse::default().with_error_code(code);
            }
        };
        let (mut states, mut unknown) = (Vec::new(), Vec::new());
        for name in &request.state_filters {
            match State::named(name) {
                Some(state) => states.push(state),
                None => unknown.push(name.clone()),
            }
        }
        let is_asked = |id: &str, transaction: &Transaction| {
            let current = &transaction.metadata;
            let producers = &request.producer_id_filters;
            (producers.is_empty() || producers.iter().any(|producer| producer.0 == current.producer_id))
                && (request.state_filters.is_empty() || states.contains(&current.state))
                && (request.duration_filter < 0
                    || now.saturating_sub(current.started) > request.duration_filter)
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
        };
        let listed = self.transactions.iter().filter(|(id, transaction)| is_asked(id, transaction));
        let listed = listed.map(|(id, transaction)| {
            Listed::default()
                .with_transactional_id(StrBytes::from_string(id.clone()).into())
                .with_producer_id(transaction.metadata.producer_id.into())
                .with_transaction_state(StrBytes::from_static_str(transaction.metadata.state.name()))
        });
        ListTransactionsResponse::default()
            .with_transaction_states(listed.collect())
            .with_unknown_state_filters(unknown)
    }
}
