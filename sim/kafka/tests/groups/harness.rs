//! A shard with a log, driven by hand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use proto_kafka::error::ResponseError;
use proto_kafka::messages::*;
use proto_kafka::protocol::{Encodable, StrBytes};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_kafka::cluster::observe::Observer;
use simulated_kafka::coordinator::{BatchId, Context, Effects, Producer, Record, Token, Topics};
use simulated_kafka::group::{GroupConfig, GroupRequest, GroupResponse, GroupShard};
use simulated_kafka::types::NodeId;
use uuid::Uuid;

pub const GROUP: &str = "group";

/// A shard, the log of its partition, and the responses so far. Batches are committed at once, unless
/// [`Bench::hold`] is set.
pub struct Bench {
    pub shard: GroupShard,
    pub config: GroupConfig,
    pub topics: Arc<Topics>,
    /// How the clients of the next requests call themselves.
    pub client_id: String,
    pub rng: Box<dyn Rng>,
    pub now: i64,
    next: u64,
    pub log: Vec<(Record, Option<Producer>)>,
    pub replies: BTreeMap<Token, GroupResponse>,
    /// Whether batches wait in `open`.
    pub hold: bool,
    pub open: VecDeque<BatchId>,
    pub reload_asked: bool,
    versions: BTreeMap<Token, i16>,
    observer: Option<Arc<dyn Observer>>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_id(topic: u128) -> Uuid {
    Uuid::from_u128(topic)
}

pub fn code(error: ResponseError) -> i16 {
    error.code()
}

/// Checks that a response can be sent in the version of its request.
fn encode(response: &GroupResponse, version: i16) {
    let mut out = BytesMut::new();
    let result = match response {
        GroupResponse::JoinGroup(response) => response.encode(&mut out, version),
        GroupResponse::SyncGroup(response) => response.encode(&mut out, version),
        GroupResponse::Heartbeat(response) => response.encode(&mut out, version),
        GroupResponse::LeaveGroup(response) => response.encode(&mut out, version),
        GroupResponse::ConsumerGroupHeartbeat(response) => response.encode(&mut out, version),
        GroupResponse::OffsetCommit(response) => response.encode(&mut out, version),
        GroupResponse::OffsetFetch(response) => response.encode(&mut out, version),
        GroupResponse::OffsetDelete(response) => response.encode(&mut out, version),
        GroupResponse::TxnOffsetCommit(response) => response.encode(&mut out, version),
        GroupResponse::DeleteGroups(response) => response.encode(&mut out, version),
        GroupResponse::ListGroups(response) => response.encode(&mut out, version),
        GroupResponse::DescribeGroups(response) => response.encode(&mut out, version),
        GroupResponse::ConsumerGroupDescribe(response) => response.encode(&mut out, version),
    };
    assert!(result.is_ok(), "{result:?} {response:?}");
}

impl Bench {
    pub fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    pub fn with(config: GroupConfig) -> Self {
        let topics = [("a", topic_id(1), 4), ("b", topic_id(2), 2)];
        let topics: Arc<Topics> = Arc::new(topics.into_iter().collect());
        let now = 1_000_000;
        let mut shard = GroupShard::new(config.clone(), topics.clone());
        let effects = shard.loaded(now);
        assert_eq!(effects, Effects::default());
        Self {
            shard,
            config,
            topics,
            client_id: "client".to_owned(),
            rng: Box::new(ChaCha8Rng::seed_from_u64(7)),
            now,
            next: 0,
            log: Vec::new(),
            replies: BTreeMap::new(),
            hold: false,
            open: VecDeque::new(),
            reload_asked: false,
            versions: BTreeMap::new(),
            observer: None,
        }
    }

    /// Begins with an observer, which learns of broker 1.
    pub fn observed(observer: Arc<dyn Observer>) -> Self {
        let mut bench = Self::new();
        let shard = GroupShard::new(bench.config.clone(), bench.topics.clone());
        bench.shard = shard.observed(NodeId(1), Some(observer.clone()));
        bench.observer = Some(observer);
        assert_eq!(bench.shard.loaded(bench.now), Effects::default());
        bench
    }

    fn take(&mut self, effects: Effects<GroupResponse>) {
        self.reload_asked |= effects.reload;
        for (token, reply) in effects.replies {
            encode(&reply, self.versions[&token]);
            assert!(self.replies.insert(token, reply).is_none(), "{token:?} is answered twice");
        }
        for batch in effects.batches {
            assert!(!batch.records.is_empty());
            self.log.extend(batch.records.into_iter().map(|record| (record, batch.producer)));
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
        self.open.clear();
        let effects = self.shard.failed(self.now, batch, error);
        self.take(effects);
    }

    /// Sends a request.
    pub fn send(&mut self, version: i16, request: impl Into<GroupRequest>) -> Token {
        let token = Token(self.next);
        self.next += 1;
        self.versions.insert(token, version);
        let context = Context {
            client_id: self.client_id.clone(),
            client_host: "/127.0.0.1".to_owned(),
            api_version: version,
        };
        let effects = self.shard.handle(self.now, &mut *self.rng, token, &context, request.into());
        self.take(effects);
        token
    }

    /// Sends a request that is answered at once.
    pub fn ask(&mut self, version: i16, request: impl Into<GroupRequest>) -> GroupResponse {
        let token = self.send(version, request);
        self.reply(token)
    }

    pub fn reply(&mut self, token: Token) -> GroupResponse {
        self.replies.remove(&token).unwrap_or_else(|| panic!("{token:?} is not answered"))
    }

    pub fn is_answered(&self, token: Token) -> bool {
        self.replies.contains_key(&token)
    }

    /// Lets time pass, with ticks where they are due.
    pub fn pass(&mut self, milliseconds: i64) {
        let end = self.now + milliseconds;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let effects = self.shard.tick(self.now, &mut *self.rng);
            self.take(effects);
        }
        self.now = end;
    }

    /// Replaces the shard by one that is loaded from the log, as another broker would. Returns the refused requests.
    pub fn reload(&mut self) -> Vec<(Token, GroupResponse)> {
        self.reload_from(self.log.len())
    }

    /// In the same way, with a high watermark below which there are this many records.
    pub fn reload_from(&mut self, high_watermark: usize) -> Vec<(Token, GroupResponse)> {
        let shard = GroupShard::new(self.config.clone(), self.topics.clone());
        let mut shard = shard.observed(NodeId(1), self.observer.clone());
        self.open.clear();
        for (place, (record, producer)) in self.log.iter().enumerate() {
            if place == high_watermark {
                self.open.push_back(shard.high_watermark_reached());
            }
            shard.replay(record, *producer).expect("a record");
        }
        let effects = shard.loaded(self.now);
        let refused = std::mem::replace(&mut self.shard, shard).unload();
        self.take(effects);
        refused
    }

    pub fn change_topics(&mut self, topics: &[(&str, u128, i32)]) {
        let topics = topics.iter().map(|(name, id, count)| ((*name).to_owned(), topic_id(*id), *count));
        self.topics = Arc::new(topics.collect());
        let effects = self.shard.topics_changed(self.now, self.topics.clone());
        self.take(effects);
    }

    pub fn marker(&mut self, producer: Producer, commit: bool) {
        let effects = self.shard.marker_written(self.now, producer, commit);
        self.take(effects);
    }
}

macro_rules! answer {
    ($bench:expr, $token:expr, $kind:ident) => {
        match $bench.reply($token) {
            simulated_kafka::group::GroupResponse::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    };
}
pub(crate) use answer;

macro_rules! asks {
    ($($name:ident($request:ident) -> $kind:ident($response:ident);)*) => {
        impl Bench {
            $(pub fn $name(&mut self, version: i16, request: $request) -> $response {
                match self.ask(version, request) {
                    GroupResponse::$kind(response) => response,
                    other => panic!("{other:?}"),
                }
            })*
        }
    };
}

asks! {
    join_now(JoinGroupRequest) -> JoinGroup(JoinGroupResponse);
    sync_now(SyncGroupRequest) -> SyncGroup(SyncGroupResponse);
    heartbeat(HeartbeatRequest) -> Heartbeat(HeartbeatResponse);
    leave(LeaveGroupRequest) -> LeaveGroup(LeaveGroupResponse);
    beat(ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse);
    commit_offsets(OffsetCommitRequest) -> OffsetCommit(OffsetCommitResponse);
    fetch_offsets(OffsetFetchRequest) -> OffsetFetch(OffsetFetchResponse);
    delete_offsets(OffsetDeleteRequest) -> OffsetDelete(OffsetDeleteResponse);
    commit_in_transaction(TxnOffsetCommitRequest) -> TxnOffsetCommit(TxnOffsetCommitResponse);
    delete_groups(DeleteGroupsRequest) -> DeleteGroups(DeleteGroupsResponse);
    list_groups(ListGroupsRequest) -> ListGroups(ListGroupsResponse);
    describe_groups(DescribeGroupsRequest) -> DescribeGroups(DescribeGroupsResponse);
    describe_consumers(ConsumerGroupDescribeRequest) -> ConsumerGroupDescribe(ConsumerGroupDescribeResponse);
}
