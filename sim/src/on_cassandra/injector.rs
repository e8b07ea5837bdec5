//! Injects the faults of a plan into the nodes, their clocks, and the links between them and to the workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_cassandra::cluster::{Envelope, Links, NodeId, RuledLinks, Verb};
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::faults::{CassandraConfig, CassandraFault, CassandraKind as Kind, CassandraPlan, NODES};
use super::observed;
use crate::cassandra::{SimulatedCassandra, ip};
use crate::context::SimContext;
use crate::faults::Direction;
use crate::random::{Random, Stream};
use crate::run::worker_ip;

pub(super) struct Injector {
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    plan: CassandraPlan,
    fault_state: Arc<Mutex<FaultState>>,
}

/// The active faults, and those that wait for their trigger.
struct FaultState {
    random: Random,
    /// By the fault's index in the plan.
    active: BTreeMap<usize, CassandraFault>,
    /// Held writes and failed connection attempts at the time when a client's link was cut.
    before: BTreeMap<usize, u64>,
    /// Receives the coordinators that have sent enough writes.
    due: mpsc::UnboundedSender<usize>,
    /// The coordinators to be killed, and how many more writes each may send.
    left: BTreeMap<usize, (u8, u64)>,
    healed: bool,
}

fn lock(fault_state: &Mutex<FaultState>) -> MutexGuard<'_, FaultState> {
    fault_state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    pub fn new(
        context: Arc<SimContext>,
        cassandra: SimulatedCassandra,
        config: &CassandraConfig,
        plan: CassandraPlan,
    ) -> Arc<Self> {
        let (due, coordinators) = mpsc::unbounded_channel();
        let fault_state = Arc::new(Mutex::new(FaultState {
            random: Random::new(context.seed, Stream::CassandraFaultDraws),
            active: BTreeMap::new(),
            before: BTreeMap::new(),
            due,
            left: BTreeMap::new(),
            healed: false,
        }));
        let usual = RuledLinks::new(
            Duration::from_micros(100),
            Duration::from_millis(config.link_ms),
            Stream::CassandraFaultDraws.generator(context.seed + 1),
        );
        let (on, noted) = (fault_state.clone(), context.clone());
        cassandra.links.rule(move |envelope| deliveries(&mut lock(&on), &noted, &usual, envelope));
        let this = Arc::new(Self { context, cassandra, plan, fault_state });
        tokio::spawn(this.clone().kill_coordinators(coordinators));
        this
    }

    /// Starts and ends the faults of the plan, each at its time.
    pub async fn inject(self: Arc<Self>) {
        for (number, fault) in self.plan.faults.iter().copied().enumerate() {
            let this = self.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(fault.at_ms)).await;
                if this.start(number, fault) {
                    sleep(Duration::from_millis(fault.duration_ms)).await;
                    this.end(number);
                }
            });
        }
    }

    async fn kill_coordinators(self: Arc<Self>, mut due: mpsc::UnboundedReceiver<usize>) {
        while let Some(number) = due.recv().await {
            let Kind::CoordinatorKilled(node, _) = self.plan.faults[number].kind else { continue };
            let fault = CassandraFault { kind: Kind::NodeKilled(node), ..self.plan.faults[number] };
            if self.start(number, fault) {
                self.context.observe("coordinator killed");
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(fault.duration_ms)).await;
                    this.end(number);
                });
            }
        }
    }

    /// Starts a fault; false if its target is already affected by another one, or if it waits for its trigger.
    fn start(&self, number: usize, fault: CassandraFault) -> bool {
        let Self { context, cassandra, .. } = self;
        {
            let mut fault_state = lock(&self.fault_state);
            if fault_state.healed {
                return false;
            }
            let ended = |node| {
                let of_all = |kind| kind == Kind::AllKilled;
                let hit = |kind: Kind| kind.affects_process_of() == Some(node) || of_all(kind);
                fault_state.active.values().any(|active| hit(active.kind))
            };
            let is_hit = match fault.kind {
                Kind::AllKilled => (0..NODES).any(ended),
                Kind::ClockStepped(node, _) | Kind::ClockCoarse(node, _) => {
                    let clock = |kind| matches!(kind, Kind::ClockStepped(other, _) | Kind::ClockCoarse(other, _) if other == node);
                    fault_state.active.values().any(|active| clock(active.kind))
                }
                kind => kind.affects_process_of().is_some_and(ended),
            };
            if is_hit {
                return false;
            }
            if let Kind::CoordinatorKilled(node, writes) = fault.kind {
                fault_state.left.insert(number, (node, writes));
                return false;
            }
            fault_state.active.insert(number, fault);
        }
        context.note(format_args!("cassandra fault {number} starts: {:?}", fault.kind));
        let network = Network::current();
        match fault.kind {
            Kind::NodeKilled(node) => cassandra.kill(node),
            Kind::AllKilled => (0..NODES).for_each(|node| cassandra.kill(node)),
            Kind::PowerLost(node) => {
                let disk = cassandra.cluster.disk(NodeId(node.into()));
                if disk.is_some_and(|disk| disk.unsynced() > 0) {
                    context.observe(observed::UNSYNCED_LOST);
                }
                cassandra.power_off(node);
            }
            Kind::NodePaused(node) => cassandra.pause(node),
            Kind::ClientLinkCut(..) => {
                let effects = network.effects();
                lock(&self.fault_state).before.insert(number, effects.held + effects.unanswered);
                self.client_links(fault.kind).into_iter().for_each(|(from, to)| network.cut(from, to));
                return true;
            }
            Kind::ConnectionsReset(worker, node) => {
                if network.reset_connections(worker_ip(worker), ip(node)) == 0 {
                    return true;
                }
            }
            Kind::ClockStepped(node, ms) => cassandra.clocks[usize::from(node)].step(ms * 1_000),
            Kind::ClockCoarse(node, ms) => cassandra.clocks[usize::from(node)].quantize(ms * 1_000),
            Kind::CoordinatorKilled(..)
            | Kind::ReplicaLinkCut(..)
            | Kind::ReplicaMessagesLost(_)
            | Kind::ReplicaMessagesDelayed(..)
            | Kind::ReplicaMessagesDuplicated(_) => return true,
        }
        context.observe(fault.kind.name());
        true
    }

    /// Ends a fault, if it has not ended yet.
    fn end(&self, number: usize) {
        let Self { context, cassandra, .. } = self;
        let (fault, before) = {
            let mut fault_state = lock(&self.fault_state);
            (fault_state.active.remove(&number), fault_state.before.remove(&number))
        };
        let Some(fault) = fault else { return };
        context.note(format_args!("cassandra fault {number} ends: {:?}", fault.kind));
        let network = Network::current();
        match fault.kind {
            Kind::NodeKilled(node) | Kind::PowerLost(node) => cassandra.start_node(node),
            Kind::AllKilled => (0..NODES).for_each(|node| cassandra.start_node(node)),
            Kind::NodePaused(node) => cassandra.resume(node),
            Kind::ClientLinkCut(..) => {
                let effects = network.effects();
                if before.is_some_and(|before| effects.held + effects.unanswered > before) {
                    context.observe(fault.kind.name());
                }
                self.client_links(fault.kind).into_iter().for_each(|(from, to)| network.restore(from, to));
                // Another fault may have cut the same link.
                let active: Vec<_> =
                    lock(&self.fault_state).active.values().map(|fault| fault.kind).collect();
                for kind in active {
                    self.client_links(kind).into_iter().for_each(|(from, to)| network.cut(from, to));
                }
            }
            Kind::ClockStepped(node, ms) => cassandra.clocks[usize::from(node)].step(-ms * 1_000),
            Kind::ClockCoarse(node, _) => cassandra.clocks[usize::from(node)].quantize(1),
            _ => {}
        }
    }

    fn client_links(&self, kind: Kind) -> Vec<(std::net::IpAddr, std::net::IpAddr)> {
        let Kind::ClientLinkCut(worker, node, direction) = kind else { return Vec::new() };
        let (worker, node) = (worker_ip(worker), ip(node));
        match direction {
            Direction::Both => vec![(worker, node), (node, worker)],
            Direction::Requests => vec![(worker, node)],
            Direction::Responses => vec![(node, worker)],
        }
    }

    /// Ends every fault; no further one starts.
    pub fn end_all(&self) {
        let active: Vec<usize> = {
            let mut fault_state = lock(&self.fault_state);
            fault_state.healed = true;
            fault_state.left.clear();
            fault_state.active.keys().copied().collect()
        };
        active.into_iter().for_each(|number| self.end(number));
        self.context.note(format_args!("all cassandra faults have ended"));
    }
}

/// The delays of the copies of a message between nodes; none if it is lost.
fn deliveries(
    fault_state: &mut FaultState,
    context: &SimContext,
    usual: &RuledLinks,
    envelope: &Envelope,
) -> Option<Vec<Duration>> {
    match envelope.verb {
        Verb::Hint => context.observe(observed::HINT),
        Verb::ReadRepair => context.observe(observed::READ_REPAIR),
        Verb::Write => {
            let FaultState { left, due, .. } = fault_state;
            let mut sent = Vec::new();
            for (number, (node, left)) in &mut *left {
                if envelope.from == NodeId((*node).into()) {
                    *left -= 1;
                    if *left == 0 {
                        sent.push(*number);
                    }
                }
            }
            for number in sent {
                left.remove(&number);
                // The receiver exists as long as the run.
                let _ = due.send(number);
            }
        }
        _ => {}
    }
    let FaultState { random, active, .. } = fault_state;
    let mut copies = usual.deliveries(envelope);
    for fault in active.values() {
        match fault.kind {
            Kind::ReplicaLinkCut(from, to)
                if (envelope.from, envelope.to) == (NodeId(from.into()), NodeId(to.into())) =>
            {
                context.observe(fault.kind.name());
                return Some(Vec::new());
            }
            Kind::ReplicaMessagesLost(per_mille) if random.chance(per_mille) => {
                context.observe(fault.kind.name());
                return Some(Vec::new());
            }
            Kind::ReplicaMessagesDelayed(per_mille, up_to_ms) if random.chance(per_mille) => {
                context.observe(fault.kind.name());
                let late = Duration::from_millis(random.within(1..=up_to_ms));
                copies.iter_mut().for_each(|delay| *delay += late);
            }
            Kind::ReplicaMessagesDuplicated(per_mille) if random.chance(per_mille) => {
                context.observe(fault.kind.name());
                let again = copies.iter().map(|delay| *delay + Duration::from_millis(random.below(2_000)));
                let again: Vec<_> = again.collect();
                copies.extend(again);
            }
            _ => {}
        }
    }
    Some(copies)
}
