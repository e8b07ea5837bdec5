//! A worker, a proxy that knows the protocol, and a real Cassandra behind it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use exactlyonce::binding::{self, BindingSpec, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::pipeline::{self, Options, PipelineError, Summary};
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore};
use exactlyonce::store::{Binding, Layout};
use exactlyonce::truth::{self, Tables};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scylla_proxy::{
    Condition, Node, Proxy, RequestFrame, RequestOpcode, RequestReaction, RequestRule, ResponseReaction,
    ResponseRule, RunningProxy, ShardAwareness,
};

use crate::services::Kept;

const TOPIC: &str = "exactlyonce.events";
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 900;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Everything that a case needs.
pub(crate) struct Harness {
    pub(crate) kept: Kept,
    pub(crate) proxy: RunningProxy,
    /// By way of the proxy.
    pub(crate) store: CassandraStore,
    pub(crate) options: CassandraOptions,
    pub(crate) broker: MemoryBroker,
    binding: Binding,
}

/// Requests of the store, not those that the driver makes for itself on its first connection.
pub(crate) fn requests() -> Condition {
    let opcode =
        Condition::RequestOpcode(RequestOpcode::Execute).or(Condition::RequestOpcode(RequestOpcode::Batch));
    opcode.and(Condition::not(Condition::ConnectionRegisteredAnyEvent))
}

/// Answers to requests of the store.
pub(crate) fn responses() -> Condition {
    Condition::not(Condition::ConnectionRegisteredAnyEvent)
}

/// Some of these, `times` in all: one of ten at random among the first twenty, and then every one, so that a run cannot
/// pass without meeting the fault.
pub(crate) fn some(of: Condition, times: usize) -> Condition {
    let at_random = after(Condition::True, 20).or(Condition::RandomWithProbability(0.1));
    of.and(at_random).and(Condition::TrueForLimitedTimes(times))
}

/// These, but for the first `count`.
pub(crate) fn after(of: Condition, count: usize) -> Condition {
    of.and(Condition::not(Condition::TrueForLimitedTimes(count)))
}

impl Harness {
    pub(crate) async fn new(layout: Layout) -> Self {
        let kept = Kept::new(layout).await;
        // The driver learns the nodes' addresses from the nodes, and takes all to have the port of the first
        // contact point: so the proxies have the nodes' addresses and one port of their own.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut nodes, mut contact_points) = (Vec::new(), Vec::new());
        for node in &kept.options.contact_points {
            let real: SocketAddr = node.parse().unwrap();
            let proxied = SocketAddr::new(real.ip(), port);
            contact_points.push(proxied.to_string());
            let node = Node::builder().real_address(real).proxy_address(proxied);
            nodes.push(node.shard_awareness(ShardAwareness::Unaware).build());
        }
        let proxy = Proxy::new(nodes).run().await.unwrap();
        let options = CassandraOptions {
            contact_points,
            request_timeout: Duration::from_secs(1),
            request_bytes: 2 << 10,
            ..kept.options.clone()
        };
        let store = CassandraStore::connect(&options, layout).await.unwrap();
        let broker = MemoryBroker::new(50);
        broker.create_topic(TOPIC, PARTITIONS, 1).await.unwrap();
        broker.append(TOPIC, (0..RECORDS).map(record).collect()).await.unwrap();
        let binding_spec = BindingSpec::new(TOPIC);
        let bound = binding::init(&broker, &kept.store, &binding_spec, &Origin::Start).await.unwrap();
        Self { kept, proxy, store, options, broker, binding: bound.binding }
    }

    pub(crate) fn on_requests(&mut self, rules: Vec<RequestRule>) {
        for node in &mut self.proxy.running_nodes {
            node.change_request_rules(Some(rules.clone()));
        }
    }

    pub(crate) fn on_responses(&mut self, rules: Vec<ResponseRule>) {
        for node in &mut self.proxy.running_nodes {
            node.change_response_rules(Some(rules.clone()));
        }
    }

    /// A worker that runs to the end of the log.
    pub(crate) async fn work(&self) -> Result<Summary, PipelineError> {
        let options = Options {
            batch_records: 100,
            backoff_max: Duration::from_millis(100),
            until_end: true,
            ..Options::new(BindingSpec::new(TOPIC))
        };
        let run = pipeline::run(
            &self.broker,
            &self.store,
            &options,
            ChaCha8Rng::seed_from_u64(1),
            std::future::pending(),
        );
        tokio::time::timeout(LIMIT, run).await.expect("the run ends")
    }

    async fn truth(&self) -> Tables {
        let mut records = Vec::new();
        for partition in 0..PARTITIONS {
            let all = self.broker.fetch(TOPIC, partition, 0, usize::MAX, usize::MAX).await.unwrap();
            records.extend(all.records);
        }
        truth::tables(&records, &self.binding)
    }

    /// Compares the tables with the truth, not by way of the proxy, and cleans up.
    pub(crate) async fn check(mut self) {
        self.proxy.turn_off_rules();
        let truth = self.truth().await;
        assert!(truth.alerts.len() > 10 && !truth.dead_letters.is_empty(), "{} alerts", truth.alerts.len());
        assert_eq!(truth::stored(&self.kept.store).await.unwrap(), truth);
        drop(self.store);
        // It complains of connections that were cut, which is what was asked of it.
        let _ = self.proxy.finish().await;
        self.kept.drop().await;
    }
}

/// Most records are events, of few sources and many windows; some are nothing.
fn record(i: i64) -> NewRecord {
    let (source, health) = (i % 4, if i % 7 < 2 { 1 } else { 2 });
    let value = match i % 50 {
        49 => b"{".to_vec(),
        _ => {
            let event = serde_json::json!({
                "id": i, "ts": i * 50, "source": format!("source {source}"), "client": "c", "health": health,
            });
            event.to_string().into_bytes()
        }
    };
    let partition = Some((i % i64::from(PARTITIONS)) as i32);
    NewRecord { value: Some(value), timestamp: 7, partition, ..NewRecord::default() }
}

/// How often a rule was applied, and to what.
pub(crate) type Seen = tokio::sync::mpsc::UnboundedReceiver<(RequestFrame, Option<u16>)>;

/// A rule that reports each time it is applied.
pub(crate) fn rule(condition: Condition, reaction: RequestReaction) -> (RequestRule, Seen) {
    use scylla_proxy::Reaction;
    let (sender, seen) = tokio::sync::mpsc::unbounded_channel();
    (RequestRule(condition, reaction.with_feedback_when_performed(sender)), seen)
}

/// As [`rule`], for responses.
pub(crate) fn response_rule(
    condition: Condition,
    reaction: ResponseReaction,
) -> (ResponseRule, tokio::sync::mpsc::UnboundedReceiver<(scylla_proxy::ResponseFrame, Option<u16>)>) {
    use scylla_proxy::Reaction;
    let (sender, seen) = tokio::sync::mpsc::unbounded_channel();
    (ResponseRule(condition, reaction.with_feedback_when_performed(sender)), seen)
}
