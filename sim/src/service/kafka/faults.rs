//! The faults of a simulated Kafka cluster: of its brokers and clocks, of the links between them, and of those to workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use simulated_hosts::{ClockFault, HostFault, LinkFault};
use simulated_kafka::cluster::{Cluster, Envelope, OperatorError, ReplicaState, RuledLinks, Verb};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;
use simulated_threads::Threads;
use simulated_threads_kafka::{Kafka, address};
use tokio::network::Network;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::context::{ActiveFault, SimContext};
use crate::observed::Sometimes;
use crate::parties::worker_ip;
use crate::random::Stream;
use crate::scenario::fault::{Fault, Host, Kind, Target};
use crate::scenario::kafka::{BROKERS, KafkaCluster};
use crate::scenario::options::TOPIC;
use crate::service::client_links::ClientLinks;
use crate::service::kafka::transactions::Transactions;
use crate::service::kafka::{damage, partitions, record};
use crate::service::messages;

/// How long aborting transactions may take, in simulated milliseconds.
const LONGEST_ABORT_MS: u64 = 60_000;

/// Time until a transaction that hangs is aborted again.
const RETRY: Duration = Duration::from_millis(100);

pub(crate) struct BrokerFaults {
    context: Arc<SimContext>,
    kafka: Arc<Kafka>,
    bootstrap: String,
    clients: ClientLinks,
    state: Mutex<State>,
}

/// A transaction of a fault.
struct Open {
    transactions: Transactions,
    /// What begins it. The fault may end meanwhile.
    beginning: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// A broker has lost its power, and perhaps records that only the others have. If they went down before the controller
    /// knows of that, it could be elected.
    is_recovering: bool,
    /// Partitions and producers of transactions that hang, by fault.
    hanging: BTreeMap<u64, Vec<(i32, i64)>>,
    /// What aborts transactions of faults that have ended.
    ending: Vec<JoinHandle<()>>,
    /// Transactions that are open, by fault.
    open: BTreeMap<u64, Open>,
}

fn ip(broker: u8) -> IpAddr {
    address(broker + 1).into()
}

pub(super) fn id(broker: u8) -> NodeId {
    NodeId(i32::from(broker) + 1)
}

/// The broker as the host of a fault.
fn host(id: NodeId) -> Host {
    Host::Broker((id.0 - 1) as u8)
}

/// The broker whose process a fault stops or pauses.
fn process_of(fault: &Fault) -> Option<u8> {
    match (fault.kind, fault.target) {
        (Kind::Host(_), Target::Host(Host::Broker(broker))) => Some(broker),
        _ => None,
    }
}

/// The brokers whose processes are down or paused because of these faults.
fn down(faults: &[Fault]) -> BTreeSet<u8> {
    let of = |fault: &Fault| match fault.target {
        Target::AllBrokers => (0..BROKERS).collect(),
        _ => process_of(fault).into_iter().collect::<Vec<u8>>(),
    };
    faults.iter().flat_map(of).collect()
}

impl BrokerFaults {
    /// From now on the faults that are active in the run apply to the messages between the brokers.
    pub fn start(
        context: &Arc<SimContext>,
        kafka: Arc<Kafka>,
        cluster: &KafkaCluster,
        bootstrap: String,
    ) -> Self {
        let usual = UsualLinks::new(cluster, context.seed);
        let noted = Arc::downgrade(context);
        kafka.links().rule(move |envelope| {
            let context = noted.upgrade()?;
            Some(deliveries(&context, &usual, envelope))
        });
        let clients = ClientLinks::new(|host| match host {
            Host::Broker(broker) => Some(ip(broker)),
            _ => None,
        });
        Self { context: context.clone(), kafka, bootstrap, clients, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self) -> &Cluster {
        self.kafka.cluster()
    }

    fn apply(&self, broker: u8, host: HostFault) {
        self.kafka.apply(broker + 1, host);
        record::process(&self.context, broker, host.into());
    }

    fn recover(&self, broker: u8, host: HostFault) {
        self.kafka.recover(broker + 1, host.recovery());
        record::process(&self.context, broker, host.recovery().into());
    }

    /// Begins a fault; false if its target is affected by another one, nothing if it is not one of a broker.
    pub fn begin(&self, fault: &Fault, active: &[Fault]) -> Option<bool> {
        let Self { context, kafka, .. } = self;
        let is_active = |other: &Fault| other.name() == fault.name() && other.target == fault.target;
        match (fault.kind, fault.target) {
            (Kind::Host(host), Target::Host(Host::Broker(broker))) => {
                if down(active).contains(&broker) || !self.has_recovered() {
                    return Some(false);
                }
                if host == HostFault::PowerLoss {
                    if !(down(active).is_empty() && self.all_have_everything()) {
                        return Some(false);
                    }
                    self.state().is_recovering = true;
                }
                self.apply(broker, host);
            }
            (Kind::Host(host), Target::AllBrokers) => {
                if !down(active).is_empty() || !self.has_recovered() {
                    return Some(false);
                }
                (0..BROKERS).for_each(|broker| self.apply(broker, host));
                match host.loses_unsynced() {
                    // Records that were committed are lost if no broker has synced them.
                    true => context.damage().logs_may_shrink = true,
                    false => context.observe(Sometimes::AllBrokersKilled),
                }
            }
            (Kind::Clock(clock), Target::Host(Host::Broker(broker))) => {
                if active
                    .iter()
                    .any(|other| matches!(other.kind, Kind::Clock(_)) && other.target == fault.target)
                {
                    return Some(false);
                }
                let Some(of_broker) = kafka.clocks().get(usize::from(broker)) else { return Some(false) };
                of_broker.apply(clock);
            }
            (Kind::LeadersMoved, Target::Host(Host::Broker(broker))) => {
                if !self.move_leaders(id(broker)) {
                    return Some(false);
                }
            }
            (Kind::InSyncShrunk, Target::Host(Host::Broker(broker))) => {
                if !self.drop_from_in_sync(id(broker)) {
                    return Some(false);
                }
            }
            (Kind::MetadataLags { by_ms }, Target::Host(Host::Broker(broker))) => {
                if active.iter().any(is_active) {
                    return Some(false);
                }
                self.cluster().lag_metadata(id(broker), Duration::from_millis(by_ms));
            }
            (Kind::ReadsFail, Target::Host(Host::Broker(broker))) => {
                if active.iter().any(is_active) {
                    return Some(false);
                }
                self.cluster().fail_reads(id(broker), true);
            }
            (Kind::NamesUnavailable, _) => {
                if active.iter().any(is_active) {
                    return Some(false);
                }
                if let Some(threads) = Threads::current() {
                    threads.set_names_available(false);
                }
                context.observe(Sometimes::NamesUnavailable);
            }
            (Kind::TransactionOpen, _) => {
                if active.iter().any(is_active) {
                    return Some(false);
                }
                self.open_transaction(fault);
                return Some(true);
            }
            (Kind::TransactionHangs, _) => {
                if active.iter().any(is_active) || !self.hang_transactions(fault) {
                    return Some(false);
                }
            }
            (Kind::Link(link), target) => return self.begin_at_link(fault, link, target),
            _ => return None,
        }
        context.effect(fault);
        Some(true)
    }

    fn begin_at_link(&self, fault: &Fault, link: LinkFault, target: Target) -> Option<bool> {
        match (link, target) {
            (LinkFault::Reset, Target::Link { from: Host::Worker(worker), to: Host::Broker(broker), .. }) => {
                if Network::current().reset_connections(worker_ip(worker), ip(broker)) > 0 {
                    self.context.effect(fault);
                }
            }
            (LinkFault::Cut, Target::Link { from: Host::Worker(_), to: Host::Broker(_), .. }) => {
                self.clients.cut(fault);
            }
            // Messages between brokers meet it on their way.
            (_, Target::Brokers) | (LinkFault::Cut, Target::Link { from: Host::Broker(_), .. }) => {}
            _ => return None,
        }
        Some(true)
    }

    /// Ends a fault; false if it is not one of a broker.
    pub fn end(&self, fault: &Fault) -> bool {
        let Self { context, kafka, .. } = self;
        match (fault.kind, fault.target) {
            (Kind::Host(host), Target::Host(Host::Broker(broker))) => {
                self.recover(broker, host);
                if host == HostFault::Pause {
                    context.observe(Sometimes::BrokerPausedAndResumed);
                }
            }
            (Kind::Host(host), Target::AllBrokers) => {
                (0..BROKERS).for_each(|broker| self.recover(broker, host));
            }
            (Kind::Clock(clock @ ClockFault::Step { .. }), Target::Host(Host::Broker(broker))) => {
                if let Some(of_broker) = kafka.clocks().get(usize::from(broker)) {
                    of_broker.restore(clock);
                }
            }
            (Kind::MetadataLags { .. }, Target::Host(Host::Broker(broker))) => {
                self.cluster().lag_metadata(id(broker), Duration::ZERO);
            }
            (Kind::ReadsFail, Target::Host(Host::Broker(broker))) => {
                self.cluster().fail_reads(id(broker), false);
            }
            (Kind::NamesUnavailable, _) => {
                if let Some(threads) = Threads::current() {
                    threads.set_names_available(true);
                }
            }
            (Kind::TransactionOpen, _) => {
                let open = self.state().open.remove(&fault.id);
                if let Some(Open { transactions, beginning }) = open {
                    let context = Arc::downgrade(context);
                    let ending = tokio::spawn(async move {
                        // It does not panic, and nobody aborts it.
                        let _ = beginning.await;
                        if let Err(error) = transactions.end().await {
                            note(&context, format_args!("a transaction is not aborted: {error}"));
                        }
                    });
                    self.state().ending.push(ending);
                }
            }
            (Kind::TransactionHangs, _) => {
                let hanging = self.state().hanging.remove(&fault.id).unwrap_or_default();
                for (partition, producer_id) in hanging {
                    let (context, kafka) = (Arc::downgrade(context), Arc::downgrade(kafka));
                    let ending = tokio::spawn(abort(context, kafka, partition, producer_id));
                    self.state().ending.push(ending);
                }
            }
            (Kind::Link(LinkFault::Cut), Target::Link { from: Host::Worker(_), to: Host::Broker(_), .. }) => {
                self.clients.restore(context, fault);
            }
            (Kind::LeadersMoved | Kind::InSyncShrunk, _)
            | (Kind::Link(_), Target::Brokers)
            | (Kind::Link(_), Target::Link { to: Host::Broker(_), .. }) => {}
            _ => return false,
        }
        true
    }

    /// Whether every broker has again what it lost with its power.
    fn has_recovered(&self) -> bool {
        let is_recovering = self.state().is_recovering && !self.all_have_everything();
        self.state().is_recovering = is_recovering;
        !is_recovering
    }

    /// Whether every replica is in sync and has every committed record, so that no other one loses the last copy of one. That
    /// it is in sync is not enough: a broker that has just lost its power may be still, as far as the controller knows.
    fn all_have_everything(&self) -> bool {
        let (cluster, image) = (self.cluster(), self.cluster().metadata());
        image.partitions().all(|(id, topic, partition)| {
            let replicas: Vec<_> = partition
                .replicas
                .iter()
                .filter_map(|broker| cluster.replica(*broker, &topic.name, id.index))
                .collect();
            let committed = replicas.iter().map(|replica| replica.high_watermark).max().unwrap_or(0);
            let knows = |replica: &&ReplicaState| {
                replica.end >= committed && replica.leader_epoch == partition.leader_epoch
            };
            partition.in_sync.len() == partition.replicas.len()
                && replicas.iter().filter(knows).count() == partition.replicas.len()
        })
    }

    /// Lets others lead what a broker leads; whether there was something.
    fn move_leaders(&self, broker: NodeId) -> bool {
        let image = self.cluster().metadata();
        let mut moved = false;
        for (partition, topic, state) in image.partitions() {
            let other = state.in_sync.iter().copied().find(|other| *other != broker);
            if let (true, Some(to)) = (state.leader == Some(broker), other) {
                moved |= self.cluster().move_leader(&topic.name, partition.index, to);
            }
        }
        moved
    }

    /// Drops a follower from the in-sync sets of all partitions; whether it was in one.
    fn drop_from_in_sync(&self, broker: NodeId) -> bool {
        let image = self.cluster().metadata();
        let mut dropped = false;
        for (partition, topic, state) in image.partitions() {
            if state.leader != Some(broker) {
                dropped |= self.cluster().drop_from_in_sync(&topic.name, partition.index, broker);
            }
        }
        dropped
    }

    /// Appends a record of a transaction that nobody ends to all partitions; whether there is one.
    fn hang_transactions(&self, fault: &Fault) -> bool {
        let cluster = self.cluster();
        let hang = |partition| {
            let hanging = cluster.hang_transaction(TOPIC, partition).ok()?;
            Some((partition, hanging.producer_id))
        };
        let hanging: Vec<_> = (0..partitions(cluster)).filter_map(hang).collect();
        let hangs = !hanging.is_empty();
        self.state().hanging.insert(fault.id, hanging);
        hangs
    }

    /// Opens a transaction in all partitions of the topic.
    fn open_transaction(&self, fault: &Fault) {
        let transactions = Transactions::new(self.bootstrap.clone(), "open");
        let partitions = partitions(self.cluster());
        let (context, fault, opened) = (Arc::downgrade(&self.context), fault.clone(), transactions.clone());
        let id = fault.id;
        let beginning = tokio::spawn(async move {
            match opened.begin((0..partitions).collect()).await {
                Ok(()) => {
                    if let Some(context) = context.upgrade() {
                        context.effect(&fault);
                    }
                }
                Err(error) => note(&context, format_args!("no transaction is open: {error}")),
            }
        });
        self.state().open.insert(id, Open { transactions, beginning });
    }

    /// Waits until the transactions of faults that have ended are aborted: the log ends after their markers. Then aborts those
    /// that are still open, as an operator does: a marker may have been lost with the end of a log. What is then in the log is
    /// below the high watermark, too.
    pub async fn settle(&self) {
        loop {
            let ending = self.state().ending.pop();
            let Some(ending) = ending else { break };
            // It does not panic, and nobody aborts it.
            let _ = ending.await;
        }
        let give_up_ms = self.context.now_ms() + LONGEST_ABORT_MS;
        while (self.abort_open_transactions() || !self.all_is_committed())
            && self.context.now_ms() < give_up_ms
        {
            sleep(RETRY).await;
        }
    }

    /// Whether everything that the leaders have is readable, the last markers included.
    fn all_is_committed(&self) -> bool {
        let cluster = self.cluster();
        let end = |partition| cluster.replica(cluster.leader(TOPIC, partition)?, TOPIC, partition);
        (0..partitions(cluster)).all(|partition| end(partition).is_some_and(|log| log.last_stable == log.end))
    }

    /// Aborts all transactions that are open in the topic; true if there are some, or that is not known.
    fn abort_open_transactions(&self) -> bool {
        let cluster = self.cluster();
        let mut is_open = false;
        for partition in 0..partitions(cluster) {
            match cluster.open_transactions(TOPIC, partition) {
                Ok(producers) => {
                    for producer_id in producers {
                        is_open = true;
                        let aborted = cluster.abort_transaction(TOPIC, partition, producer_id);
                        self.context.note(format_args!(
                            "operator: aborts the transaction of {producer_id}: {aborted:?}"
                        ));
                    }
                }
                Err(_) => is_open = true,
            }
        }
        is_open
    }
}

/// Notes something, as long as the run goes on.
fn note(context: &Weak<SimContext>, what: fmt::Arguments<'_>) {
    if let Some(context) = context.upgrade() {
        context.note(what);
    }
}

/// Aborts a transaction that hangs, as soon as a leader is there.
async fn abort(context: Weak<SimContext>, kafka: Weak<Kafka>, partition: i32, producer_id: i64) {
    loop {
        let (Some(context), Some(kafka)) = (context.upgrade(), kafka.upgrade()) else { return };
        if context.has_failed() {
            return;
        }
        match kafka.cluster().abort_transaction(TOPIC, partition, producer_id) {
            Ok(_) | Err(OperatorError::Unknown { .. }) => return,
            // It was not replicated, and another leader does not have it.
            Err(OperatorError::Refused { error: ErrorCode::InvalidTxnState, .. }) => return,
            Err(error) => context.note(format_args!("a transaction still hangs: {error}")),
        }
        drop((context, kafka));
        sleep(RETRY).await;
    }
}

/// The delays of messages between brokers without faults. Each link has a random stream of its own.
struct UsualLinks(BTreeMap<(NodeId, NodeId), RuledLinks>);

impl UsualLinks {
    fn new(cluster: &KafkaCluster, seed: u64) -> Self {
        let (shortest, longest) = (Duration::from_micros(100), Duration::from_millis(cluster.link_ms));
        let pairs = (0..BROKERS).flat_map(|from| (0..BROKERS).map(move |to| (from, to)));
        let link = |(from, to)| {
            let random = Stream::BrokerLink { from, to }.generator(seed);
            ((id(from), id(to)), RuledLinks::new(shortest, longest, random))
        };
        Self(pairs.map(link).collect())
    }

    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        let link = self.0.get(&(envelope.from, envelope.to));
        link.map_or_else(|| vec![Duration::ZERO], |link| link.deliveries(envelope))
    }
}

/// The delays of the copies of a message between brokers; none if it is lost.
fn deliveries(context: &SimContext, usual: &UsualLinks, envelope: &Envelope) -> Vec<Duration> {
    let mut copies = usual.deliveries(envelope);
    let mut is_lost = false;
    context.apply_faults(|ActiveFault { fault, random, .. }| match (fault.kind, fault.target) {
        (Kind::Link(LinkFault::Cut), target) => {
            let is_cut = target.cuts(host(envelope.from), host(envelope.to));
            is_lost |= is_cut;
            is_cut
        }
        (Kind::Link(link), Target::Brokers) => messages::apply(link, random, &mut copies, &mut is_lost),
        (Kind::LogTruncated { .. }, _) => {
            let copies_nothing = damage::copies_nothing(fault).map(id) == Some(envelope.from);
            is_lost |= copies_nothing && envelope.verb == Verb::Replicate;
            // Its effect is the election.
            false
        }
        _ => false,
    });
    if is_lost { Vec::new() } else { copies }
}
