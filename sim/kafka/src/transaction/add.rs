//! AddPartitionsToTxn and AddOffsetsToTxn: partitions become part of a transaction, or are found to be.

use std::collections::BTreeSet;

use super::TransactionShard;
use super::shard::Then;
use super::state::Partition;
use crate::coordinator::{Producer, Token, code, partition_of};
use crate::error::ErrorCode;
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
};

/// The first version with several transactions, and with verification; sent by brokers, and by no client.
const BATCHED: i16 = 4;
/// The first version in which clients know PRODUCER_FENCED.
const PRODUCER_FENCED: i16 = 2;
/// The topic of committed offsets.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The results of a request so far.
#[derive(Debug)]
pub(super) enum Collected {
    Offsets,
    Partitions {
        /// Transactions whose results are missing.
        open: Vec<AddPartitionsToTxnTransaction>,
        results: Vec<AddPartitionsToTxnResult>,
    },
}

impl TransactionShard {
    pub(super) fn add_partitions(
        &mut self,
        now: i64,
        token: Token,
        version: i16,
        request: &AddPartitionsToTxnRequest,
    ) {
        let transactions = if version < BATCHED {
            let transaction = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(request.v3_and_below_transactional_id.clone())
                .with_producer_id(request.v3_and_below_producer_id)
                .with_producer_epoch(request.v3_and_below_producer_epoch)
                .with_topics(request.v3_and_below_topics.clone());
            vec![transaction]
        } else {
            request.transactions.clone()
        };
        let collected = Collected::Partitions { open: transactions.clone(), results: Vec::new() };
        self.collected.insert(token, collected);
        for transaction in transactions {
            self.add_transaction(now, token, version, &transaction);
        }
        self.reply_if_complete(token, version);
    }

    fn add_transaction(
        &mut self,
        now: i64,
        token: Token,
        version: i16,
        transaction: &AddPartitionsToTxnTransaction,
    ) {
        let id = transaction.transactional_id.as_str();
        let partitions: BTreeSet<Partition> = partitions(&transaction.topics).collect();
        if !partitions.iter().all(|(topic, partition)| self.topics.contains(topic, *partition)) {
            // One unknown partition refuses all.
            let result = |(topic, partition): &Partition| {
                if self.topics.contains(topic, *partition) {
                    ErrorCode::OperationNotAttempted
                } else {
                    ErrorCode::UnknownTopicOrPartition
                }
            };
            let results = results(&transaction.topics, |at| Some(result(at)));
            self.collect(token, id, results);
            return;
        }
        let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        if transaction.verify_only {
            let verified = self.verify(id, producer);
            let results = results(&transaction.topics, |at| match &verified {
                Ok(known) if known.contains(at) => None,
                // The transaction has ended, or the partition was never added: the client aborts.
                Ok(_) => Some(ErrorCode::TransactionAbortable),
                Err(error) => Some(*error),
            });
            self.collect(token, id, results);
            return;
        }
        // `TransactionVersion.transactionVersionForAddPartitionsToTxn`.
        let protocol = if version > 4 { 2 } else { 0 };
        match self.add(now, id, producer, partitions, protocol, Then::Add { token, version }) {
            // The result comes when the record is committed.
            Ok(true) => {}
            Ok(false) => self.collect(token, id, results(&transaction.topics, |_| None)),
            Err(error) => {
                let error = for_version(error, version);
                self.collect(token, id, results(&transaction.topics, |_| Some(error)));
            }
        }
    }

    pub(super) fn add_offsets(
        &mut self,
        now: i64,
        token: Token,
        version: i16,
        request: &AddOffsetsToTxnRequest,
    ) {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let count = self.topics.partitions(OFFSETS_TOPIC).unwrap_or(0);
        let partition = (OFFSETS_TOPIC.to_owned(), partition_of(&request.group_id, count));
        self.collected.insert(token, Collected::Offsets);
        let then = Then::Add { token, version };
        // Only clients of the old protocol ask for this.
        match self.add(now, &request.transactional_id, producer, [partition].into(), 0, then) {
            Ok(true) => {}
            Ok(false) => self.offsets_added(token, version, Ok(())),
            Err(error) => self.offsets_added(token, version, Err(error)),
        }
    }

    /// Adds partitions to a transaction. Whether a record has to be committed first.
    fn add(
        &mut self,
        now: i64,
        id: &str,
        producer: Producer,
        partitions: BTreeSet<Partition>,
        protocol: i16,
        then: Then,
    ) -> Result<bool, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let transaction = self.transactions.get_mut(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let current = &transaction.metadata;
        if current.producer_id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if current.epoch != producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if current.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if !current.state.is_idle() && partitions.is_subset(&current.partitions) {
            return Ok(false);
        }
        let next = transaction.prepare_add(partitions, now, protocol)?;
        self.append(now, id, next, then);
        Ok(true)
    }

    /// The partitions of a producer's transaction (`handleVerifyPartitionsInTransaction`).
    fn verify(&self, id: &str, producer: Producer) -> Result<&BTreeSet<Partition>, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let current = &self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?.metadata;
        if current.producer_id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if current.epoch != producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if current.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(&current.partitions)
    }

    /// The record of a request is committed.
    pub(super) fn added(&mut self, token: Token, version: i16, id: &str, result: Result<(), ErrorCode>) {
        match self.collected.get(&token) {
            Some(Collected::Offsets) => self.offsets_added(token, version, result),
            Some(Collected::Partitions { open, .. }) => {
                let topics = open.iter().find(|open| open.transactional_id.as_str() == id);
                let topics = topics.map(|open| open.topics.clone()).unwrap_or_default();
                let error = result.err().map(|error| for_version(error, version));
                self.collect(token, id, results(&topics, |_| error));
                self.reply_if_complete(token, version);
            }
            None => {}
        }
    }

    /// The record of a request is not committed: all that is missing is refused.
    pub(super) fn add_failed(&mut self, token: Token, version: i16, error: ErrorCode) {
        let missing: Vec<String> = match self.collected.get(&token) {
            Some(Collected::Partitions { open, .. }) => {
                open.iter().map(|open| open.transactional_id.to_string()).collect()
            }
            _ => vec![String::new()],
        };
        for id in missing {
            self.added(token, version, &id, Err(error));
        }
    }

    fn collect(&mut self, token: Token, id: &str, topics: Vec<AddPartitionsToTxnTopicResult>) {
        if let Some(Collected::Partitions { open, results }) = self.collected.get_mut(&token)
            && let Some(index) = open.iter().position(|open| open.transactional_id.as_str() == id)
        {
            let transaction = open.remove(index);
            let result = AddPartitionsToTxnResult::default()
                .with_transactional_id(transaction.transactional_id)
                .with_topic_results(topics);
            results.push(result);
        }
    }

    fn reply_if_complete(&mut self, token: Token, version: i16) {
        let is_complete = matches!(
            self.collected.get(&token),
            Some(Collected::Partitions { open, .. }) if open.is_empty()
        );
        if !is_complete {
            return;
        }
        let Some(Collected::Partitions { results, .. }) = self.collected.remove(&token) else { return };
        let response = if version < BATCHED {
            let topics = results.into_iter().flat_map(|result| result.topic_results).collect();
            AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics)
        } else {
            AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
        };
        self.out.reply_now(token, response.into());
    }

    fn offsets_added(&mut self, token: Token, version: i16, result: Result<(), ErrorCode>) {
        self.collected.remove(&token);
        let result = result.map_err(|error| for_version(error, version));
        let response = AddOffsetsToTxnResponse::default().with_error_code(code(result));
        self.out.reply_now(token, response.into());
    }
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = Partition> + '_ {
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.to_string(), *partition)))
}

fn for_version(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < PRODUCER_FENCED => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// One result for each partition.
fn results(
    topics: &[AddPartitionsToTxnTopic],
    error: impl Fn(&Partition) -> Option<ErrorCode>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|&index| {
            let code = error(&(topic.name.to_string(), index)).map_or(0, |error| error.code());
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    };
    topics.iter().map(topic).collect()
}
