//! Carries a plan out on the nodes, their clocks, and the links between them and to the workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_cassandra::cluster::{Envelope, Links, NodeId, RuledLinks, Verb};
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::faults::{CassandraFault, CassandraKind as Kind, CassandraPlan, CassandraWorld, NODES};
use super::observed;
use crate::cassandra::{SimulatedCassandra, ip};
use crate::dice::{Dice, Stream};
use crate::faults::Direction;
use crate::run::worker_ip;
use crate::stage::Stage;

pub(super) struct Injector {
    stage: Arc<Stage>,
    cassandra: SimulatedCassandra,
    plan: CassandraPlan,
    weather: Arc<Mutex<Weather>>,
}

/// What is wrong at the moment.
struct Weather {
    dice: Dice,
    /// By the fault's place in the plan.
    active: BTreeMap<usize, CassandraFault>,
    /// Held and unanswered when a client's link was cut.
    before: BTreeMap<usize, u64>,
    /// Coordinators that have sent enough.
    due: mpsc::UnboundedSender<usize>,
    /// The coordinators that are to be killed, and how many writes each may still send.
    left: BTreeMap<usize, (u8, u64)>,
    healed: bool,
}

fn lock(weather: &Mutex<Weather>) -> MutexGuard<'_, Weather> {
    weather.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    pub fn new(
        stage: Arc<Stage>,
        cassandra: SimulatedCassandra,
        world: &CassandraWorld,
        plan: CassandraPlan,
    ) -> Arc<Self> {
        let (due, coordinators) = mpsc::unbounded_channel();
        let weather = Arc::new(Mutex::new(Weather {
            dice: Dice::new(stage.seed, Stream::CassandraFates),
            active: BTreeMap::new(),
            before: BTreeMap::new(),
            due,
            left: BTreeMap::new(),
            healed: false,
        }));
        let usual = RuledLinks::new(
            Duration::from_micros(100),
            Duration::from_millis(world.link_ms),
            Stream::CassandraFates.generator(stage.seed + 1),
        );
        let (on, noted) = (weather.clone(), stage.clone());
        cassandra.links.rule(move |envelope| deliveries(&mut lock(&on), &noted, &usual, envelope));
        let this = Arc::new(Self { stage, cassandra, plan, weather });
        tokio::spawn(this.clone().kill_coordinators(coordinators));
        this
    }

    /// Lets the faults of the plan begin and end, each at its time.
    pub async fn carry_out(self: Arc<Self>) {
        for (number, fault) in self.plan.faults.iter().copied().enumerate() {
            let this = self.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(fault.at_ms)).await;
                if this.begin(number, fault) {
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
            if self.begin(number, fault) {
                self.stage.observe("coordinator killed");
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(fault.duration_ms)).await;
                    this.end(number);
                });
            }
        }
    }

    /// Begins a fault; false if what it would hit is out of order already, or it has still to wait.
    fn begin(&self, number: usize, fault: CassandraFault) -> bool {
        let Self { stage, cassandra, .. } = self;
        {
            let mut weather = lock(&self.weather);
            if weather.healed {
                return false;
            }
            let ended = |node| {
                let of_all = |kind| kind == Kind::AllKilled;
                let hit = |kind: Kind| kind.hits_process_of() == Some(node) || of_all(kind);
                weather.active.values().any(|active| hit(active.kind))
            };
            let is_hit = match fault.kind {
                Kind::AllKilled => (0..NODES).any(ended),
                Kind::ClockStepped(node, _) | Kind::ClockCoarse(node, _) => {
                    let clock = |kind| matches!(kind, Kind::ClockStepped(other, _) | Kind::ClockCoarse(other, _) if other == node);
                    weather.active.values().any(|active| clock(active.kind))
                }
                kind => kind.hits_process_of().is_some_and(ended),
            };
            if is_hit {
                return false;
            }
            if let Kind::CoordinatorKilled(node, writes) = fault.kind {
                weather.left.insert(number, (node, writes));
                return false;
            }
            weather.active.insert(number, fault);
        }
        stage.note(format_args!("cassandra fault {number} begins: {:?}", fault.kind));
        let network = Network::current();
        match fault.kind {
            Kind::NodeKilled(node) => cassandra.kill(node),
            Kind::AllKilled => (0..NODES).for_each(|node| cassandra.kill(node)),
            Kind::PowerLost(node) => {
                let disk = cassandra.cluster.disk(NodeId(node.into()));
                if disk.is_some_and(|disk| disk.unsynced() > 0) {
                    stage.observe(observed::UNSYNCED_LOST);
                }
                cassandra.power_off(node);
            }
            Kind::NodePaused(node) => cassandra.pause(node),
            Kind::ClientLinkCut(..) => {
                let effects = network.effects();
                lock(&self.weather).before.insert(number, effects.held + effects.unanswered);
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
            | Kind::ReplicaMessagesLate(..)
            | Kind::ReplicaMessagesDoubled(_) => return true,
        }
        stage.observe(fault.kind.name());
        true
    }

    /// Ends a fault, if it has not ended yet.
    fn end(&self, number: usize) {
        let Self { stage, cassandra, .. } = self;
        let (fault, before) = {
            let mut weather = lock(&self.weather);
            (weather.active.remove(&number), weather.before.remove(&number))
        };
        let Some(fault) = fault else { return };
        stage.note(format_args!("cassandra fault {number} ends: {:?}", fault.kind));
        let network = Network::current();
        match fault.kind {
            Kind::NodeKilled(node) | Kind::PowerLost(node) => cassandra.start_node(node),
            Kind::AllKilled => (0..NODES).for_each(|node| cassandra.start_node(node)),
            Kind::NodePaused(node) => cassandra.resume(node),
            Kind::ClientLinkCut(..) => {
                let effects = network.effects();
                if before.is_some_and(|before| effects.held + effects.unanswered > before) {
                    stage.observe(fault.kind.name());
                }
                self.client_links(fault.kind).into_iter().for_each(|(from, to)| network.mend(from, to));
                // Another fault may have cut the same link.
                let active: Vec<_> = lock(&self.weather).active.values().map(|fault| fault.kind).collect();
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
            Direction::Answers => vec![(node, worker)],
        }
    }

    /// Ends every fault; none begins any more.
    pub fn heal(&self) {
        let active: Vec<usize> = {
            let mut weather = lock(&self.weather);
            weather.healed = true;
            weather.left.clear();
            weather.active.keys().copied().collect()
        };
        active.into_iter().for_each(|number| self.end(number));
        self.stage.note(format_args!("cassandra is healed"));
    }
}

/// What becomes of a message between nodes.
fn deliveries(
    weather: &mut Weather,
    stage: &Stage,
    usual: &RuledLinks,
    envelope: &Envelope,
) -> Option<Vec<Duration>> {
    match envelope.verb {
        Verb::Hint => stage.observe(observed::HINT),
        Verb::ReadRepair => stage.observe(observed::READ_REPAIR),
        Verb::Write => {
            let Weather { left, due, .. } = weather;
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
                // Whoever kills them is there for as long as the run.
                let _ = due.send(number);
            }
        }
        _ => {}
    }
    let Weather { dice, active, .. } = weather;
    let mut copies = usual.deliveries(envelope);
    for fault in active.values() {
        match fault.kind {
            Kind::ReplicaLinkCut(from, to)
                if (envelope.from, envelope.to) == (NodeId(from.into()), NodeId(to.into())) =>
            {
                stage.observe(fault.kind.name());
                return Some(Vec::new());
            }
            Kind::ReplicaMessagesLost(per_mille) if dice.chance(per_mille) => {
                stage.observe(fault.kind.name());
                return Some(Vec::new());
            }
            Kind::ReplicaMessagesLate(per_mille, up_to_ms) if dice.chance(per_mille) => {
                stage.observe(fault.kind.name());
                let late = Duration::from_millis(dice.within(1..=up_to_ms));
                copies.iter_mut().for_each(|delay| *delay += late);
            }
            Kind::ReplicaMessagesDoubled(per_mille) if dice.chance(per_mille) => {
                stage.observe(fault.kind.name());
                let again = copies.iter().map(|delay| *delay + Duration::from_millis(dice.below(2_000)));
                let again: Vec<_> = again.collect();
                copies.extend(again);
            }
            _ => {}
        }
    }
    Some(copies)
}
