//! A worker, a proxy that understands the protocol, and a real Cassandra behind it.

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

use crate::services::TestKeyspace;

const TOPIC: &str = "exactlyonce.events";
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 900;

/// Maximum time of a run.
const LIMIT: Duration = Duration::from_secs(120);

/// The fixture of a test.
pub(crate) struct Harness {
    pub(crate) keyspace: TestKeyspace,
    pub(crate) proxy: RunningProxy,
    /// Connected through the proxy.
    pub(crate) store: CassandraStore,
    pub(crate) options: CassandraOptions,
    pub(crate) broker: MemoryBroker,
    binding: Binding,
}

/// Requests of the store, without those of the driver on its control connection.
pub(crate) fn requests() -> Condition {
    let opcode =
        Condition::RequestOpcode(RequestOpcode::Execute).or(Condition::RequestOpcode(RequestOpcode::Batch));
    opcode.and(Condition::not(Condition::ConnectionRegisteredAnyEvent))
}

/// Responses to requests of the store.
pub(crate) fn responses() -> Condition {
    Condition::not(Condition::ConnectionRegisteredAnyEvent)
}

/// Some of these, at most `times`: one in ten at random among the first twenty, and then every one, so that every run
/// meets the fault.
pub(crate) fn some(of: Condition, times: usize) -> Condition {
    let at_random = after(Condition::True, 20).or(Condition::RandomWithProbability(0.1));
    of.and(at_random).and(Condition::TrueForLimitedTimes(times))
}

/// These, except the first `count`.
pub(crate) fn after(of: Condition, count: usize) -> Condition {
    of.and(Condition::not(Condition::TrueForLimitedTimes(count)))
}

impl Harness {
    pub(crate) async fn new(layout: Layout) -> Self {
        let keyspace = TestKeyspace::new(layout).await;
        // The driver gets the nodes' addresses from the nodes, and assumes that all have the port of the first contact
        // point: so the proxies have the nodes' addresses and a common port.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut nodes, mut contact_points) = (Vec::new(), Vec::new());
        for node in &keyspace.options.contact_points {
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
            ..keyspace.options.clone()
        };
        let store = CassandraStore::connect(&options, layout).await.unwrap();
        let broker = MemoryBroker::new(50);
        broker.create_topic(TOPIC, PARTITIONS, 1).await.unwrap();
        broker.append(TOPIC, (0..RECORDS).map(record).collect()).await.unwrap();
        let binding_spec = BindingSpec::new(TOPIC);
        let bound = binding::init(&broker, &keyspace.store, &binding_spec, &Origin::Start).await.unwrap();
        Self { keyspace, proxy, store, options, broker, binding: bound.binding }
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

    /// Runs a worker to the end of the log.
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

    /// Compares the tables with the ground truth, without the proxy, and cleans up.
    pub(crate) async fn check(mut self) {
        self.proxy.turn_off_rules();
        let truth = self.truth().await;
        assert!(truth.alerts.len() > 10 && !truth.dead_letters.is_empty(), "{} alerts", truth.alerts.len());
        assert_eq!(truth::stored(&self.keyspace.store).await.unwrap(), truth);
        drop(self.store);
        // It fails because of connections that were closed on purpose.
        let _ = self.proxy.finish().await;
        self.keyspace.drop().await;
    }
}

/// Most records are events, of few sources and many windows; some are invalid.
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

/// The frames that a rule was applied to.
pub(crate) type AppliedTo = tokio::sync::mpsc::UnboundedReceiver<(RequestFrame, Option<u16>)>;

/// A rule that reports each time it is applied.
pub(crate) fn rule(condition: Condition, reaction: RequestReaction) -> (RequestRule, AppliedTo) {
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
