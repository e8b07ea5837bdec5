//! A backend whose brokers are on sockets, whatever they are: clients are librdkafka, and the project's driver on it.
//! What differs between such backends are their [`Nodes`].

mod link;
mod producer;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use exactlyonce::broker::kafka::{GroupProtocol, KafkaBroker, KafkaOptions};
use proto_kafka::protocol::Request;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use simulated_hosts::{HostFault, Recovery};
use tokio::runtime::Runtime;

use self::link::Proxies;
use self::producer::{SocketProducer, client_error, client_error_of_code};
use super::backend::{Backend, Client, ClientError, NODES, PartitionState, ProducerOptions, Protocol, Verb};
use crate::suite;

const TIMEOUT: Duration = Duration::from_secs(15);

/// The processes of three brokers, numbered from 1.
#[allow(async_fn_in_trait)] // cases run on the thread of their backend
pub trait Nodes: Send + 'static {
    /// The verbs that these brokers and their clients support.
    const VERBS: &'static [Verb];

    /// `HOST:PORT` of each broker, in order.
    fn addresses(&self) -> Vec<String>;
    /// Begins a fault of a broker.
    async fn apply(&self, fault: HostFault, node: i32) -> Result<(), String>;
    /// Ends a fault of these brokers together.
    async fn recover(&self, recovery: Recovery, nodes: &[i32]) -> Result<(), String>;
}

/// Clients of three brokers, and what cases did to these.
pub struct OnSockets<N> {
    nodes: N,
    addresses: Vec<String>,
    bootstrap: String,
    /// The runtime of the proxies, separate because a case may block its thread.
    runtime: Runtime,
    admin: AdminClient<DefaultClientContext>,
    run: u128,
    names: AtomicU32,
    state: Mutex<State>,
}

/// What [`suite::Backend::heal`] has to undo.
#[derive(Default)]
struct State {
    topics: BTreeSet<String>,
    paused: BTreeSet<i32>,
    dead: BTreeSet<i32>,
    /// Configurations of all brokers.
    configured: BTreeSet<String>,
}

impl<N: Nodes> OnSockets<N> {
    /// Clients of these brokers. The names of everything that they create contain the time.
    pub fn new(nodes: N) -> Result<Self, String> {
        let addresses = nodes.addresses();
        let bootstrap = addresses.join(",");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for proxies: {error}"))?;
        let admin = config(&bootstrap).create().map_err(|error| format!("no client: {error}"))?;
        let run = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis());
        Ok(Self {
            nodes,
            addresses,
            bootstrap,
            runtime,
            admin,
            run,
            names: AtomicU32::new(0),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The brokers that are neither paused nor killed.
    fn responding(&self) -> Vec<&str> {
        let state = self.state();
        let responds = |node: &i32| !state.paused.contains(node) && !state.dead.contains(node);
        NODES.iter().filter(|node| responds(node)).map(|&node| self.address(node)).collect()
    }

    fn address(&self, node: i32) -> &str {
        &self.addresses[usize::try_from(node - 1).expect("nodes are numbered from 1")]
    }

    /// The state of a topic according to each responding broker.
    async fn views(&self, topic: &str) -> Result<Vec<Option<Vec<PartitionState>>>, String> {
        let mut views = Vec::new();
        for address in self.responding() {
            let described = wire::metadata(address, Some(topic)).await.map_err(|error| error.to_string())?;
            views.extend(described.into_iter().map(|topic| topic.partitions));
        }
        Ok(views)
    }

    async fn settle(&self, topic: &str, right: impl Fn(&Option<Vec<PartitionState>>) -> bool) {
        let all = || async { self.views(topic).await.is_ok_and(|views| views.iter().all(&right)) };
        assert!(within(TIMEOUT, all).await, "the brokers do not agree on {topic}");
    }

    async fn create(&self, topic: NewTopic<'_>) -> Result<(), ClientError> {
        let (name, partitions) = (topic.name.to_owned(), topic.num_partitions as usize);
        one(self.admin.create_topics([&topic], &options()).await)?;
        self.state().topics.insert(name.clone());
        self.settle(&name, |view| {
            view.as_ref().is_some_and(|states| {
                states.len() == partitions && states.iter().all(|state| state.leader.is_some())
            })
        })
        .await;
        Ok(())
    }

    /// Calls a client of this group on a thread that may block.
    async fn with_consumer<T: Send + 'static>(
        &self,
        group: &str,
        call: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let mut config = config(&self.bootstrap);
        config.set("group.id", group).set("isolation.level", "read_uncommitted");
        let made = move || config.create::<BaseConsumer>().and_then(|consumer| call(&consumer));
        let done = tokio::task::spawn_blocking(made).await.expect("the call ends");
        done.map_err(|error| client_error(&error))
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.max.ms", "500")
        .set("enable.auto.commit", "false")
        .set("socket.timeout.ms", "10000")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

fn one(results: Result<Vec<TopicResult>, KafkaError>) -> Result<(), ClientError> {
    for result in results.map_err(|error| client_error(&error))? {
        result.map_err(|(_, code)| client_error_of_code(code))?;
    }
    Ok(())
}

async fn within<F: Future<Output = bool>>(limit: Duration, mut true_now: impl FnMut() -> F) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if true_now().await {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `String.hashCode` of Java, which determines the partition of `__consumer_offsets` of a group.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

impl<N: Nodes> suite::Backend for OnSockets<N> {
    type Verb = Verb;
    const VERBS: &'static [Verb] = N::VERBS;

    async fn heal(&self, _case: &str) -> Result<(), String> {
        let (paused, dead, topics) = {
            let state = self.state();
            (state.paused.clone(), state.dead.iter().copied().collect::<Vec<_>>(), state.topics.clone())
        };
        for node in paused {
            self.nodes.recover(Recovery::Resume, &[node]).await?;
            self.state().paused.remove(&node);
        }
        if !dead.is_empty() {
            self.nodes.recover(Recovery::Start, &dead).await?;
            self.state().dead.clear();
        }
        let configured = std::mem::take(&mut self.state().configured);
        for name in configured {
            let reset = wire::configure_brokers(self.address(1), &name, None).await;
            reset.map_err(|error| format!("{name} could not be reset: {error}"))?;
        }
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        if !topics.is_empty() {
            let deleted = self.admin.delete_topics(&topics, &options()).await;
            deleted.map_err(|error| format!("{topics:?} could not be deleted: {error}"))?;
            self.state().topics.clear();
        }
        let in_sync = || async {
            for address in self.responding() {
                let Ok(topics) = wire::metadata(address, None).await else { return false };
                let whole = |state: &PartitionState| {
                    state.leader.is_some() && state.in_sync.len() == state.replicas.len()
                };
                if !topics.iter().flat_map(|topic| topic.partitions.iter().flatten()).all(whole) {
                    return false;
                }
            }
            true
        };
        if within(Duration::from_secs(60), in_sync).await {
            Ok(())
        } else {
            Err("the brokers are not in sync again after 60 s".to_owned())
        }
    }

    async fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

impl<N: Nodes> Backend for OnSockets<N> {
    type Broker = KafkaBroker;
    type Link = Proxies;
    type Producer = SocketProducer;
    type Transactional = SocketProducer;

    fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}-{}", self.run, self.names.fetch_add(1, Ordering::SeqCst))
    }

    fn link(&self) -> Proxies {
        Proxies::new(self.runtime.handle(), &self.bootstrap)
    }

    fn broker(&self, client: Client, link: Option<&Proxies>) -> KafkaBroker {
        let mut options = KafkaOptions::new(link.map_or(self.bootstrap.as_str(), Proxies::bootstrap));
        options.group_protocol = match client.protocol {
            Protocol::Classic => GroupProtocol::Classic,
            Protocol::Consumer => GroupProtocol::Consumer,
        };
        options.session_timeout = client.session.unwrap_or(Protocol::Classic.session());
        options.metadata_interval = client.metadata_interval;
        options.commit_offsets = client.commit_offsets;
        let rack = client.rack.map(|rack| ("client.rack", rack));
        let properties = [("reconnect.backoff.max.ms", "500")].into_iter().chain(rack);
        options.properties =
            properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>();
        KafkaBroker::connect(&options).expect("valid options")
    }

    fn producer(&self, options: &ProducerOptions, link: Option<&Proxies>) -> SocketProducer {
        SocketProducer::new(link.map_or(self.bootstrap.as_str(), Proxies::bootstrap), options)
    }

    async fn transactional(&self, id: &str, timeout: Duration) -> Result<SocketProducer, ClientError> {
        SocketProducer::transactional(&self.bootstrap, id, timeout).await
    }

    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        new.config = configs.to_vec();
        self.create(new).await
    }

    async fn create_topic_on(
        &self,
        topic: &str,
        replicas: &[i32],
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let assignment = [replicas];
        let mut new = NewTopic::new(topic, 1, TopicReplication::Variable(&assignment));
        new.config = configs.to_vec();
        self.create(new).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        one(self.admin.delete_topics(&[topic], &options()).await)?;
        self.state().topics.remove(topic);
        self.settle(topic, Option::is_none).await;
        Ok(())
    }

    async fn add_partitions(&self, topic: &str, total: i32) -> Result<(), ClientError> {
        let total = usize::try_from(total).expect("a number of partitions");
        one(self.admin.create_partitions([&NewPartitions::new(topic, total)], &options()).await)?;
        self.settle(topic, |view| {
            view.as_ref().is_some_and(|states| {
                states.len() == total && states.iter().all(|state| state.leader.is_some())
            })
        })
        .await;
        Ok(())
    }

    async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Option<i64>,
    ) -> Result<i64, ClientError> {
        let mut list = TopicPartitionList::new();
        let before = before.map_or(Offset::End, Offset::Offset);
        list.add_partition_offset(topic, partition, before).map_err(|error| client_error(&error))?;
        let done =
            self.admin.delete_records(&list, &options()).await.map_err(|error| client_error(&error))?;
        let partition = done.find_partition(topic, partition).expect("the requested partition");
        partition.error().map_err(|error| client_error(&error))?;
        Ok(partition.offset().to_raw().unwrap_or(-1))
    }

    async fn set_configs(&self, topic: &str, configs: &[(&str, &str)]) -> Result<(), ClientError> {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in configs {
            change = change.set(name, value);
        }
        let results =
            self.admin.alter_configs([&change], &options()).await.map_err(|error| client_error(&error))?;
        results
            .into_iter()
            .try_for_each(|result| result.map(|_| ()).map_err(|(_, code)| client_error_of_code(code)))
    }

    async fn partition(&self, topic: &str, partition: i32) -> Result<PartitionState, ClientError> {
        // The state according to the first broker that responds; a case waits for the state that it needs.
        for address in self.responding() {
            if let Ok(described) = wire::metadata(address, Some(topic)).await {
                let described = described.into_iter().find(|described| described.name == topic);
                let partitions =
                    described.and_then(|topic| topic.partitions).ok_or(ClientError::UnknownTopic)?;
                let index = usize::try_from(partition).unwrap_or(usize::MAX);
                return partitions.get(index).cloned().ok_or(ClientError::UnknownTopic);
            }
        }
        Err(ClientError::TimedOut)
    }

    async fn high_watermark(&self, topic: &str, partition: i32) -> Result<i64, ClientError> {
        let topic = topic.to_owned();
        let call = move |consumer: &BaseConsumer| consumer.fetch_watermarks(&topic, partition, TIMEOUT);
        self.with_consumer("contract", call).await.map(|(_, high)| high)
    }

    async fn coordinator(&self, group: &str) -> Result<i32, ClientError> {
        const OFFSETS: &str = "__consumer_offsets";
        for address in self.responding() {
            let Ok(described) = wire::metadata(address, Some(OFFSETS)).await else { continue };
            let partitions = described.into_iter().find_map(|topic| topic.partitions).unwrap_or_default();
            let count = i32::try_from(partitions.len()).expect("a number of partitions").max(1);
            let index = usize::try_from((java_hash(group) & i32::MAX) % count).expect("not negative");
            return partitions.get(index).and_then(|state| state.leader).ok_or(ClientError::UnknownTopic);
        }
        Err(ClientError::TimedOut)
    }

    async fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>, ClientError> {
        let topic = topic.to_owned();
        let call = move |consumer: &BaseConsumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            let committed = consumer.committed_offsets(list, TIMEOUT)?;
            Ok(committed.find_partition(&topic, partition).and_then(|found| match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }))
        };
        self.with_consumer(group, call).await
    }

    async fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<(), ClientError> {
        let topic = topic.to_owned();
        let call = move |consumer: &BaseConsumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
            consumer.commit(&list, CommitMode::Sync)
        };
        self.with_consumer(group, call).await
    }

    async fn configure_brokers(&self, name: &str, value: Option<&str>) {
        self.state().configured.insert(name.to_owned());
        let address =
            self.responding().first().map(|address| (*address).to_owned()).expect("a node responds");
        let configured = wire::configure_brokers(&address, name, value).await;
        configured.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn request<R: Request>(&self, node: i32, request: &R, version: i16) -> R::Response {
        let response = wire::exchange(self.address(node), request, version).await;
        response.unwrap_or_else(|error| panic!("API {} version {version}: {error}", R::KEY))
    }

    async fn elect_preferred(&self, topic: &str, partition: i32) -> Result<(), ClientError> {
        let address = *self.responding().first().ok_or(ClientError::TimedOut)?;
        let result = wire::elect_preferred(address, topic, partition).await;
        result.map_err(|error| ClientError::Other(error.to_string()))
    }

    async fn apply(&self, fault: HostFault, node: i32) {
        match fault.ends_process() {
            true => self.state().dead.insert(node),
            false => self.state().paused.insert(node),
        };
        self.nodes.apply(fault, node).await.unwrap_or_else(|error| panic!("{error}"));
        if fault.ends_process() {
            self.state().paused.remove(&node);
        }
    }

    async fn recover(&self, recovery: Recovery, nodes: &[i32]) {
        self.nodes.recover(recovery, nodes).await.unwrap_or_else(|error| panic!("{error}"));
        let mut state = self.state();
        let undone = match recovery {
            Recovery::Resume => &mut state.paused,
            Recovery::Start => &mut state.dead,
        };
        undone.retain(|node| !nodes.contains(node));
    }
}
