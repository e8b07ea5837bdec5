//! A shard with a log, driven by hand, and leaders of partitions that write markers when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use proto_kafka::error::ResponseError;
use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use proto_kafka::messages::*;
use proto_kafka::protocol::{Encodable, StrBytes};
use simulated_kafka::coordinator::{
    BatchId, Context, Effects, MarkerOutcome, Markers, Producer, Record, Token, Topics,
};
use simulated_kafka::transaction::{
    ProducerIds, TransactionConfig, TransactionRequest, TransactionResponse, TransactionShard,
};
use uuid::Uuid;

pub const ID: &str = "id";

/// Producer ids from a number on, or none.
pub struct Ids(pub Option<i64>);

impl ProducerIds for Ids {
    fn next(&mut self) -> Option<i64> {
        let next = self.0?;
        self.0 = Some(next + 1);
        Some(next)
    }
}

pub struct Bench {
    pub shard: TransactionShard,
    pub config: TransactionConfig,
    topics: Arc<Topics>,
    pub ids: Ids,
    pub now: i64,
    next: u64,
    pub log: Vec<Record>,
    pub replies: BTreeMap<Token, TransactionResponse>,
    /// Whether batches wait in `open`.
    pub hold: bool,
    pub open: VecDeque<BatchId>,
    /// Markers that are to be written.
    pub markers: Vec<Markers>,
    versions: BTreeMap<Token, i16>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn code(error: ResponseError) -> i16 {
    error.code()
}

/// Checks that a response can be sent in the version of its request.
fn encode(response: &TransactionResponse, version: i16) {
    let mut out = BytesMut::new();
    let result = match response {
        TransactionResponse::InitProducerId(response) => response.encode(&mut out, version),
        TransactionResponse::AddPartitionsToTxn(response) => response.encode(&mut out, version),
        TransactionResponse::AddOffsetsToTxn(response) => response.encode(&mut out, version),
        TransactionResponse::EndTxn(response) => response.encode(&mut out, version),
        TransactionResponse::DescribeTransactions(response) => response.encode(&mut out, version),
        TransactionResponse::ListTransactions(response) => response.encode(&mut out, version),
    };
    assert!(result.is_ok(), "{result:?} {response:?}");
}

impl Bench {
    pub fn new() -> Self {
        Self::with(TransactionConfig::default())
    }

    pub fn with(config: TransactionConfig) -> Self {
        let topics = [("a", 1, 4), ("b", 2, 2), ("__consumer_offsets", 3, 50)];
        let topics = topics.into_iter().map(|(name, id, count)| (name, Uuid::from_u128(id), count));
        let topics: Arc<Topics> = Arc::new(topics.collect());
        let now = 1_000_000;
        let mut shard = TransactionShard::new(config.clone(), 5, topics.clone());
        assert_eq!(shard.loaded(now), Effects::default());
        Self {
            shard,
            config,
            topics,
            ids: Ids(Some(100)),
            now,
            next: 0,
            log: Vec::new(),
            replies: BTreeMap::new(),
            hold: false,
            open: VecDeque::new(),
            markers: Vec::new(),
            versions: BTreeMap::new(),
        }
    }

    fn take(&mut self, effects: Effects<TransactionResponse>) {
        for (token, reply) in effects.replies {
            encode(&reply, self.versions[&token]);
            assert!(self.replies.insert(token, reply).is_none(), "{token:?} is answered twice");
        }
        self.markers.extend(effects.markers);
        for batch in effects.batches {
            assert_eq!(batch.producer, None);
            self.log.extend(batch.records);
            self.open.push_back(batch.id);
        }
        if !self.hold {
            self.commit();
        }
    }

    /// Commits all batches.
    pub fn commit(&mut self) {
        while let Some(batch) = self.open.pop_front() {
            let effects = self.shard.committed(self.now, batch);
            self.take(effects);
        }
    }

    /// Reports that the oldest open batch failed.
    pub fn fail(&mut self, error: ResponseError) {
        let batch = self.open.pop_front().expect("a batch");
        self.log.pop();
        let effects = self.shard.failed(self.now, batch, error);
        self.take(effects);
    }

    pub fn send(&mut self, version: i16, request: impl Into<TransactionRequest>) -> Token {
        let token = Token(self.next);
        self.next += 1;
        self.versions.insert(token, version);
        let context = Context { api_version: version, ..Context::default() };
        let effects = self.shard.handle(self.now, &mut self.ids, token, &context, request.into());
        self.take(effects);
        token
    }

    pub fn reply(&mut self, token: Token) -> TransactionResponse {
        self.replies.remove(&token).unwrap_or_else(|| panic!("{token:?} is not answered"))
    }

    /// Lets time pass, with ticks where they are due.
    pub fn pass(&mut self, milliseconds: i64) {
        let end = self.now + milliseconds;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let effects = self.shard.tick(self.now, &mut self.ids);
            self.take(effects);
        }
        self.now = end;
    }

    /// Reports the outcome of one marker of those that were asked for.
    pub fn marker(&mut self, topic: &str, partition: i32, outcome: MarkerOutcome) {
        let all = self.markers.iter_mut();
        let at = (topic.to_owned(), partition);
        let markers = all.rev().find(|markers| markers.partitions.contains(&at)).expect("a marker");
        markers.partitions.retain(|other| *other != at);
        let (id, producer) = (markers.transactional_id.clone(), markers.producer);
        self.markers.retain(|markers| !markers.partitions.is_empty());
        let effects = self.shard.marker_written(self.now, &id, producer, (topic, partition), outcome);
        self.take(effects);
    }

    /// Writes all markers.
    pub fn write_markers(&mut self) {
        while let Some((topic, partition)) =
            self.markers.first().and_then(|markers| markers.partitions.first()).cloned()
        {
            self.marker(&topic, partition, MarkerOutcome::Written);
        }
    }

    /// Replaces the shard by one that is loaded from the log, as another broker would. Returns the refused requests.
    pub fn reload(&mut self) -> Vec<(Token, TransactionResponse)> {
        let mut shard = TransactionShard::new(self.config.clone(), 6, self.topics.clone());
        for record in &self.log {
            shard.replay(record).expect("a record");
        }
        self.open.clear();
        self.markers.clear();
        let effects = shard.loaded(self.now);
        let refused = std::mem::replace(&mut self.shard, shard).unload();
        self.take(effects);
        refused
    }

    /// A new producer.
    pub fn init(&mut self) -> Producer {
        let response = self.init_with(init());
        assert_eq!(response.error_code, 0);
        Producer { id: response.producer_id.0, epoch: response.producer_epoch }
    }

    pub fn init_with(&mut self, request: InitProducerIdRequest) -> InitProducerIdResponse {
        self.init_version(4, request)
    }

    pub fn init_version(&mut self, version: i16, request: InitProducerIdRequest) -> InitProducerIdResponse {
        let token = self.send(version, request);
        match self.reply(token) {
            TransactionResponse::InitProducerId(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Adds partitions as a client of the old protocol does; the first error.
    pub fn add(&mut self, producer: Producer, partitions: &[(&str, i32)]) -> i16 {
        let token = self.send(3, add(producer, partitions));
        self.added(token)
    }

    pub fn added(&mut self, token: Token) -> i16 {
        match self.reply(token) {
            TransactionResponse::AddPartitionsToTxn(response) => {
                let topics = response.results_by_topic_v3_and_below;
                let codes =
                    topics.iter().flat_map(|t| &t.results_by_partition).map(|p| p.partition_error_code);
                codes.max().unwrap_or(0)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends a transaction.
    pub fn end(&mut self, version: i16, producer: Producer, commit: bool) -> EndTxnResponse {
        let token = self.send(version, end(producer, commit));
        self.ended(token)
    }

    pub fn ended(&mut self, token: Token) -> EndTxnResponse {
        match self.reply(token) {
            TransactionResponse::EndTxn(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self) -> String {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(ID).into()]);
        let token = self.send(0, request);
        match self.reply(token) {
            TransactionResponse::DescribeTransactions(response) => {
                response.transaction_states[0].transaction_state.to_string()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn init() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(text(ID).into()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

pub fn init_as(producer: Producer) -> InitProducerIdRequest {
    init().with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch)
}

pub fn topics(partitions: &[(&str, i32)]) -> Vec<AddPartitionsToTxnTopic> {
    let topic = |(name, partition): &(&str, i32)| {
        AddPartitionsToTxnTopic::default().with_name(text(name).into()).with_partitions(vec![*partition])
    };
    partitions.iter().map(topic).collect()
}

pub fn add(producer: Producer, partitions: &[(&str, i32)]) -> AddPartitionsToTxnRequest {
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(text(ID).into())
        .with_v3_and_below_producer_id(producer.id.into())
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(topics(partitions))
}

pub fn end(producer: Producer, commit: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(text(ID).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_committed(commit)
}
