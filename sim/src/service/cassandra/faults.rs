//! The faults of a simulated cluster: of its nodes, disks and clocks, of the links between them, and of those to workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_cassandra::cluster::{Envelope, NodeId, RuledLinks, Verb};
use simulated_hosts::{ClockFault, DiskFault, HostFault, LinkFault, Recovery};
use tokio::network::Network;
use tokio::sync::mpsc;

use crate::context::{ActiveFault, SimContext};
use crate::observed::Sometimes;
use crate::parties::worker_ip;
use crate::random::Stream;
use crate::scenario::cassandra::ClusterOptions;
use crate::scenario::fault::{Fault, Host, Kind, Step, Target};
use crate::service::cassandra::{SimulatedCassandra, ip, observe, record};
use crate::service::client_links::ClientLinks;
use crate::service::messages;

pub(crate) struct ClusterFaults {
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    nodes: u8,
    /// Acknowledged writes survive the loss of power.
    synced_first: bool,
    clients: ClientLinks,
    state: Arc<Mutex<ClusterState>>,
}

#[derive(Default)]
struct ClusterState {
    /// The coordinators to be killed, by fault, and how many more writes each may send.
    writes_left: BTreeMap<u64, (u8, u64)>,
    /// The coordinators that were killed, by fault.
    killed: BTreeMap<u64, u8>,
    /// When the last message between nodes so far arrives, in simulated milliseconds.
    latest_ms: u64,
}

fn lock(state: &Mutex<ClusterState>) -> MutexGuard<'_, ClusterState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nodes, out of so many, whose processes are down or paused because of these faults.
fn down(faults: &[Fault], state: &ClusterState, nodes: u8) -> BTreeSet<u8> {
    let of = |fault: &Fault| match fault.target {
        Target::AllNodes => (0..nodes).collect(),
        _ => fault.affects_process_of_node().into_iter().collect::<Vec<u8>>(),
    };
    faults.iter().flat_map(of).chain(state.killed.values().copied()).collect()
}

impl ClusterFaults {
    /// From now on the faults that are active in the run apply to the messages between the nodes.
    pub fn start(
        context: &Arc<SimContext>,
        cassandra: &SimulatedCassandra,
        cluster: &ClusterOptions,
    ) -> Self {
        let state = Arc::<Mutex<ClusterState>>::default();
        let (due, coordinators) = mpsc::unbounded_channel();
        let usual = UsualLinks::new(cluster, context.seed);
        let (shared, noted) = (state.clone(), context.clone());
        cassandra.links.rule(move |envelope| {
            count_writes(&mut lock(&shared), &due, envelope);
            let copies = deliveries(&noted, &usual, envelope);
            if let Some(copies) = &copies {
                record::message_sent(&noted, envelope, copies);
            }
            if let Some(latest) = copies.iter().flatten().max() {
                let latest_ms = noted.now_ms() + latest.as_millis() as u64 + 1;
                let mut state = lock(&shared);
                state.latest_ms = state.latest_ms.max(latest_ms);
            }
            copies
        });
        let nodes = cluster.nodes();
        let faults = Self {
            context: context.clone(),
            cassandra: cassandra.clone(),
            nodes,
            synced_first: cluster.synced_first,
            clients: ClientLinks::new(|host| match host {
                Host::Node(node) => Some(ip(node)),
                _ => None,
            }),
            state: state.clone(),
        };
        tokio::spawn(kill_coordinators(context.clone(), cassandra.clone(), state, nodes, coordinators));
        faults
    }

    /// When the last message between nodes so far arrives, in simulated milliseconds.
    pub fn latest_ms(&self) -> u64 {
        lock(&self.state).latest_ms
    }

    /// Begins a fault; false if its target is affected by another one.
    pub fn begin(&self, fault: &Fault, active: &[Fault]) -> bool {
        let Self { context, cassandra, .. } = self;
        let down = down(active, &lock(&self.state), self.nodes);
        if fault.affects_process_of_node().is_some_and(|node| down.contains(&node)) {
            return false;
        }
        match (fault.kind, fault.target) {
            (Kind::Host(host), Target::Host(Host::Node(node))) => {
                let disk = cassandra.cluster.disk(NodeId(node.into()));
                if host.loses_unsynced() && disk.is_some_and(|disk| disk.unsynced() > 0) {
                    context.observe(Sometimes::UnsyncedRecordsLost);
                    context.damage().done |= !self.synced_first;
                }
                cassandra.apply(node, host);
            }
            (Kind::Host(host), Target::AllNodes) => {
                if !down.is_empty() {
                    return false;
                }
                (0..self.nodes).for_each(|node| cassandra.apply(node, host));
                context.observe(Sometimes::AllNodesKilled);
            }
            (Kind::Disk(disk), Target::Host(Host::Node(node))) => {
                cassandra.apply(node, HostFault::Kill);
                cassandra.apply_to_disk(node, disk);
            }
            (Kind::Clock(clock), Target::Host(Host::Node(node))) => {
                let is_set =
                    |other: &Fault| matches!(other.kind, Kind::Clock(_)) && other.target == fault.target;
                if active.iter().any(is_set) {
                    return false;
                }
                cassandra.clocks[usize::from(node)].apply(clock);
                if matches!(clock, ClockFault::Step { by_ms } if by_ms < 0) {
                    context.observe(Sometimes::ClockWentBack);
                }
            }
            (Kind::CoordinatorKilled { writes }, Target::Host(Host::Node(node))) => {
                lock(&self.state).writes_left.insert(fault.id, (node, writes));
                return true;
            }
            (Kind::Link(link), target) => return self.begin_at_link(fault, link, target),
            _ => return false,
        }
        context.effect(fault);
        true
    }

    fn begin_at_link(&self, fault: &Fault, link: LinkFault, target: Target) -> bool {
        match (link, target) {
            (LinkFault::Reset, Target::Link { from: Host::Worker(worker), to: Host::Node(node), .. }) => {
                if Network::current().reset_connections(worker_ip(worker), ip(node)) > 0 {
                    self.context.observe(Sometimes::ConnectionsResetInUse);
                    self.context.effect(fault);
                }
            }
            (LinkFault::Cut, Target::Link { from: Host::Worker(_), .. }) => {
                self.clients.cut(fault);
            }
            // Messages between nodes meet it on their way.
            (_, Target::Replicas) | (LinkFault::Cut, Target::Link { from: Host::Node(_), .. }) => {}
            _ => return false,
        }
        true
    }

    /// Ends a fault.
    pub fn end(&self, fault: &Fault) {
        let Self { context, cassandra, .. } = self;
        match (fault.kind, fault.target) {
            (Kind::Host(host), Target::Host(Host::Node(node))) => {
                cassandra.recover(node, host.recovery());
                if host == HostFault::Pause {
                    context.observe(Sometimes::NodePausedAndResumed);
                }
            }
            (Kind::Host(host), Target::AllNodes) => {
                (0..self.nodes).for_each(|node| cassandra.recover(node, host.recovery()));
            }
            (Kind::Disk(DiskFault::Wipe), Target::Host(Host::Node(node))) => {
                cassandra.recover(node, Recovery::Start);
            }
            (Kind::Clock(clock), Target::Host(Host::Node(node))) => {
                cassandra.clocks[usize::from(node)].restore(clock);
            }
            (Kind::CoordinatorKilled { .. }, _) => {
                let mut state = lock(&self.state);
                state.writes_left.remove(&fault.id);
                if let Some(node) = state.killed.remove(&fault.id) {
                    cassandra.recover(node, Recovery::Start);
                }
            }
            (Kind::Link(LinkFault::Cut), Target::Link { from: Host::Worker(_), .. }) => {
                self.clients.restore(context, fault);
            }
            _ => {}
        }
    }
}

async fn kill_coordinators(
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    state: Arc<Mutex<ClusterState>>,
    nodes: u8,
    mut due: mpsc::UnboundedReceiver<u64>,
) {
    while let Some(id) = due.recv().await {
        let active = context.active_faults();
        let Some(fault) = active.iter().find(|fault| fault.id == id) else { continue };
        let Target::Host(Host::Node(node)) = fault.target else { continue };
        let mut state = lock(&state);
        if !down(&active, &state, nodes).contains(&node) {
            state.killed.insert(id, node);
            cassandra.apply(node, HostFault::Kill);
            context.observe(Sometimes::CoordinatorKilledWhileWriting);
            context.note_event(format_args!("cassandra {} is killed as coordinator", node + 1));
            context.effect(fault);
        }
    }
}

/// Counts the writes that coordinators send, for the faults that wait for them.
fn count_writes(state: &mut ClusterState, due: &mpsc::UnboundedSender<u64>, envelope: &Envelope) {
    if envelope.verb != Verb::Write || state.writes_left.is_empty() {
        return;
    }
    state.writes_left.retain(|id, (node, left)| {
        if envelope.from == NodeId((*node).into()) {
            *left -= 1;
            if *left == 0 {
                // The receiver exists as long as the run.
                let _ = due.send(*id);
            }
        }
        *left > 0
    });
}

/// The delays of messages between nodes without faults. Each link has a random stream of its own.
struct UsualLinks(BTreeMap<(NodeId, NodeId), RuledLinks>);

impl UsualLinks {
    fn new(cluster: &ClusterOptions, seed: u64) -> Self {
        let (shortest, longest) = (Duration::from_micros(100), Duration::from_millis(cluster.link_ms));
        let nodes = 0..u32::from(cluster.nodes());
        let pairs = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
        let link = |(from, to)| {
            let random = Stream::Link { from, to }.generator(seed);
            ((NodeId(from), NodeId(to)), RuledLinks::new(shortest, longest, random))
        };
        Self(pairs.map(link).collect())
    }

    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        let link = self.0.get(&(envelope.from, envelope.to));
        link.map_or_else(|| vec![Duration::ZERO], |link| link.deliveries(envelope))
    }
}

/// The delays of the copies of a message between nodes; none if it is lost.
fn deliveries(context: &SimContext, usual: &UsualLinks, envelope: &Envelope) -> Option<Vec<Duration>> {
    match envelope.verb {
        Verb::Prepare => observe::reached(context, Step::Prepare),
        Verb::Commit => {
            observe::reached(context, Step::Commit);
            context.observe(Sometimes::ConditionalWriteReplicated);
        }
        _ => {}
    }
    let mut copies = usual.deliveries(envelope);
    let mut is_lost = false;
    context.apply_faults(|ActiveFault { fault, random, is_over }| match (fault.kind, fault.target) {
        (Kind::WriteTorn, _) => {
            let is_torn = envelope.verb == Verb::Write && envelope.from != envelope.to && !*is_over;
            is_lost |= is_torn;
            is_torn
        }
        (Kind::Link(LinkFault::Cut), target) => {
            let host = |id: NodeId| Host::Node(id.0 as u8);
            let is_cut = target.cuts(host(envelope.from), host(envelope.to));
            is_lost |= is_cut;
            is_cut
        }
        (Kind::Link(link), Target::Replicas) => messages::apply(link, random, &mut copies, &mut is_lost),
        _ => false,
    });
    Some(if is_lost { Vec::new() } else { copies })
}
