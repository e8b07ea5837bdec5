//! One of the two clusters: connections to its brokers, and what it assigned itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::metadata_request::MetadataRequestTopic;
use proto_kafka::messages::metadata_response::MetadataResponseTopic;
use proto_kafka::messages::*;
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use simulated_hosts::HostCommand;
use simulated_kafka::cluster::{HostFault, Recovery};
use simulated_kafka::serve::LocalBrokers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long an error may take to pass that may also be the answer.
const SHORT_LIMIT: Duration = Duration::from_secs(5);

/// Errors that say where or when to ask instead, not what the request is worth.
const PASSING: [i16; 7] = [5, 6, 13, 14, 15, 16, 51];

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What runs the brokers.
pub enum Host {
    Real(Arc<Cluster>),
    Simulated(LocalBrokers),
}

/// A producer of a side, with its next sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequences: BTreeMap<(usize, i32), i32>,
}

pub struct Side {
    pub host: Host,
    /// What the names of topics, groups and transactions begin with.
    pub prefix: String,
    nodes: Vec<SocketAddr>,
    pub down: Option<usize>,
    /// Whether brokers are killed, so that the epochs of leaders are not determined.
    pub kills: bool,
    /// How many topics of each name were deleted, while brokers are killed.
    deleted: BTreeMap<usize, u32>,
    /// Topics whose batches may have been compressed by the brokers.
    pub compressed: BTreeSet<usize>,
    connections: BTreeMap<usize, TcpStream>,
    pub producers: BTreeMap<usize, Producer>,
}

/// Which broker is asked.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The leader of this topic's partition.
    Leader(&'a str, i32),
    /// The coordinator of this transaction.
    Coordinator(&'a str),
    /// Any.
    Any,
}

impl Side {
    pub fn new(host: Host, nodes: Vec<SocketAddr>, prefix: String) -> Self {
        Self {
            host,
            prefix,
            nodes,
            down: None,
            kills: false,
            deleted: BTreeMap::new(),
            compressed: BTreeSet::new(),
            connections: BTreeMap::new(),
            producers: BTreeMap::new(),
        }
    }

    /// Where a broker listens, from 0.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node]
    }

    /// The name of a topic, group or transaction.
    pub fn name(&self, kind: &str, place: usize) -> String {
        let deleted = self.deleted.get(&place).filter(|_| kind == "t");
        let suffix = deleted.map_or_else(String::new, |deleted| format!("-{deleted}"));
        format!("{}-{kind}{place}{suffix}", self.prefix)
    }

    /// A topic was deleted. While brokers are killed, the next one in its place has another name: a broker of Kafka 4.1.0 that
    /// starts gives a topic the configurations of a deleted one of the same name, because it reads both among changes that it
    /// applies at once, and looks for what to remove only before them (`ConfigurationsDelta.replay`).
    pub fn deleted(&mut self, topic: usize) {
        if self.kills {
            *self.deleted.entry(topic).or_default() += 1;
        }
    }

    /// Which of the producers has this id.
    pub fn producer_of(&self, id: i64) -> String {
        let known = self.producers.iter().find(|(_, producer)| producer.id == id);
        known.map_or_else(
            || if id < 0 { "none".to_owned() } else { "another".to_owned() },
            |(place, _)| format!("#{place}"),
        )
    }

    /// Sends a request to a broker, from 0. None if the connection ends.
    pub async fn send<R: Request>(&mut self, node: usize, request: &R, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        self.write(node, request, version).await?;
        self.read::<R>(node, version).await
    }

    pub async fn write<R: Request>(&mut self, node: usize, request: &R, version: i16) -> Option<()> {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(text("differential")));
        header.encode(&mut frame, R::header_version(version)).expect("a header");
        request
            .encode(&mut frame, version)
            .unwrap_or_else(|error| panic!("API {} version {version}: {error}", R::KEY));
        if !self.connections.contains_key(&node) {
            let stream = TcpStream::connect(self.nodes[node]).await.ok()?;
            let _ = stream.set_nodelay(true);
            self.connections.insert(node, stream);
        }
        let stream = self.connections.get_mut(&node)?;
        let bytes = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
        if stream.write_all(&bytes).await.is_err() {
            self.connections.remove(&node);
            return None;
        }
        Some(())
    }

    pub async fn read<R: Request>(&mut self, node: usize, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        let stream = self.connections.get_mut(&node)?;
        let read = async {
            let length = stream.read_u32().await.ok()?;
            let mut response = vec![0; length as usize];
            stream.read_exact(&mut response).await.ok()?;
            Some(Bytes::from(response))
        };
        let Some(mut response) = timeout(LIMIT, read).await.expect("a response in time") else {
            self.connections.remove(&node);
            return None;
        };
        ResponseHeader::decode(&mut response, R::Response::header_version(version)).expect("a header");
        let decoded = R::Response::decode(&mut response, version);
        Some(decoded.unwrap_or_else(|error| panic!("API {} version {version}: {error}", R::KEY)))
    }

    /// A broker that runs.
    pub fn any(&self) -> usize {
        usize::from(self.down == Some(0))
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.down != Some(*node)).collect()
    }

    pub async fn describe(&mut self, node: usize, topic: &str) -> Option<MetadataResponseTopic> {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        self.send(node, &request, 12).await?.topics.into_iter().next()
    }

    /// The leader of a partition; the first broker that runs, if there is no such partition.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> usize {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let any = self.any();
            let known = self.describe(any, topic).await;
            let partition = known
                .iter()
                .flat_map(|topic| &topic.partitions)
                .find(|known| known.partition_index == partition);
            let Some(partition) = partition else { return any };
            match usize::try_from(partition.leader_id.0 - 1) {
                Ok(leader) if self.down != Some(leader) => return leader,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("{topic} {partition} has no leader");
    }

    /// The coordinator of a group (0) or a transaction (1).
    pub async fn coordinator(&mut self, kind: i8, key: &str) -> usize {
        let request =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let response = self.send(self.any(), &request, 4).await.expect("a response");
            let found = &response.coordinators[0];
            match usize::try_from(found.node_id.0 - 1) {
                Ok(node) if found.error_code == 0 && self.down != Some(node) => return node,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("no coordinator of {key}");
    }

    /// Asks the broker in this place until it has an answer that does not pass.
    pub async fn at<R: Request>(
        &mut self,
        place: Place<'_>,
        request: &R,
        version: i16,
        code: impl Fn(&R::Response) -> i16,
    ) -> R::Response
    where
        R::Response: HeaderVersion,
    {
        let ask = async |side: &mut Self| {
            let node = match place {
                Place::Leader(topic, partition) => side.leader(topic, partition).await,
                Place::Coordinator(transaction) => side.coordinator(1, transaction).await,
                Place::Any => side.any(),
            };
            side.send(node, request, version).await
        };
        self.settled(ask, code).await.expect("a response")
    }

    /// Asks until the error is none that passes.
    pub async fn settled<T>(
        &mut self,
        ask: impl AsyncFnMut(&mut Self) -> Option<T>,
        code: impl Fn(&T) -> i16,
    ) -> Option<T> {
        self.settled_beside(None, ask, code).await
    }

    /// The same, if another error may pass as well, in a shorter time.
    pub async fn settled_beside<T>(
        &mut self,
        other: Option<i16>,
        mut ask: impl AsyncFnMut(&mut Self) -> Option<T>,
        code: impl Fn(&T) -> i16,
    ) -> Option<T> {
        let begin = Instant::now();
        loop {
            let answer = ask(self).await;
            let code = answer.as_ref().map(&code);
            let passes = code.map_or(self.down.is_some(), |code| PASSING.contains(&code));
            let may_pass = code.is_some() && code == other && begin.elapsed() < SHORT_LIMIT;
            if !passes && !may_pass || begin.elapsed() > LIMIT {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all brokers know a topic with this many partitions and their leaders, or do not know it (0).
    pub async fn wait_for_topic(&mut self, topic: &str, partitions: usize) {
        let begin = Instant::now();
        'again: while begin.elapsed() < LIMIT {
            for node in self.running() {
                let known = self.describe(node, topic).await.expect("a topic");
                let led = known.partitions.iter().filter(|partition| partition.leader_id.0 > 0).count();
                let in_sync = known.partitions.iter().all(|partition| {
                    let down = self.down.map(|node| BrokerId(node as i32 + 1));
                    let running = partition.replica_nodes.iter().filter(|node| Some(**node) != down);
                    partition.isr_nodes.len() == running.count()
                });
                if led != partitions || !in_sync {
                    sleep(Duration::from_millis(20)).await;
                    continue 'again;
                }
            }
            return;
        }
        panic!("{topic} has not {partitions} partitions");
    }

    /// Waits until a transaction has ended, with all of its markers.
    pub async fn wait_for_markers(&mut self, transaction: &str) {
        let id = TransactionalId(text(transaction));
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let node = self.coordinator(1, transaction).await;
            let Some(response) = self.send(node, &request, 0).await else { continue };
            let state = &response.transaction_states[0];
            if !PASSING.contains(&state.error_code) && !state.transaction_state.starts_with("Prepare") {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{transaction} does not end");
    }

    /// Kills a broker.
    pub async fn kill(&mut self, node: usize) {
        match &self.host {
            Host::Real(cluster) => {
                cluster.call_apply(HostFault::Kill, &[&format!("kafka-{}", node + 1)]).await.expect("a kill");
            }
            Host::Simulated(brokers) => {
                brokers.apply(node as u8 + 1, HostFault::Kill).await.expect("a kill");
            }
        }
        self.down = Some(node);
        self.connections.remove(&node);
    }

    /// Starts the broker that was killed.
    pub async fn start(&mut self) {
        let Some(node) = self.down.take() else { return };
        match &self.host {
            Host::Real(cluster) => {
                let name = format!("kafka-{}", node + 1);
                cluster.call_apply(HostCommand::from(Recovery::Start), &[&name]).await.expect("a start");
            }
            Host::Simulated(brokers) => {
                brokers.recover(Recovery::Start, &[node as u8 + 1]).await.expect("a start");
            }
        }
    }
}
