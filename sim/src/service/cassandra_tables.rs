//! The tables on a simulated Cassandra cluster of three nodes, through the production store and the unmodified driver.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, Consistency, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication, tables};
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::{Envelope, NodeId, RuledLinks, Verb};
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::context::{ActiveFault, SimContext};
use crate::network::Channel;
use crate::observed::Sometimes;
use crate::oracle::Violation;
use crate::oracle::cell::Replicas;
use crate::parties::worker_ip;
use crate::random::Stream;
use crate::scenario::Tables;
use crate::scenario::cassandra::{ClusterOptions, DATA_CENTERS, NODES};
use crate::scenario::fault::{Direction, Fault, Kind, Sabotage, Step, Target};
use crate::service::cassandra::cells::ClusterReplicas;
use crate::service::cassandra::{Notes, SimulatedCassandra, Watch, ip};
use crate::service::cassandra::{damage, observe};
use crate::service::{Opener, TablesService};

/// How long the cluster may take for what is left to do, besides intervals.
const CATCH_UP_MS: u64 = 2_000;

pub(crate) struct CassandraTables {
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    cluster: ClusterOptions,
    opener: CassandraOpener,
    state: Arc<Mutex<ClusterState>>,
    /// The cluster does not own what it is traced with.
    _notes: Notes,
}

#[derive(Default)]
struct ClusterState {
    /// The coordinators to be killed, by fault, and how many more writes each may send.
    writes_left: BTreeMap<u64, (u8, u64)>,
    /// The coordinators that were killed, by fault.
    killed: BTreeMap<u64, u8>,
    /// Held writes and failed connection attempts at the time when a client's link was cut, by fault.
    before: BTreeMap<u64, u64>,
    /// When the last message between nodes so far arrives, in simulated milliseconds.
    latest_ms: u64,
}

/// Opens the production store.
#[derive(Clone)]
pub(crate) struct CassandraOpener {
    options: CassandraOptions,
    layout: Layout,
}

impl Opener for CassandraOpener {
    type Store = CassandraStore;

    async fn open(&self, _: &Channel) -> Result<CassandraStore, String> {
        CassandraStore::connect(&self.options, self.layout).await.map_err(|error| chain(&error))
    }
}

/// Traces the requests of clients, and counts errors.
struct Watching(Arc<SimContext>);

impl Watch for Watching {
    fn note(&self, event: fmt::Arguments<'_>) {
        self.0.note(event);
    }

    fn reads_lines(&self) -> bool {
        self.0.trace.keeps_lines()
    }

    fn returned_error(&self, code: u32) {
        // native_protocol_v4, 9
        match code {
            0x1000 => self.0.observe(Sometimes::TooFewReplicasAlive),
            0x1100 => self.0.observe(Sometimes::WriteTimedOutAtCoordinator),
            0x1200 => self.0.observe(Sometimes::ReadTimedOutAtCoordinator),
            _ => {}
        }
    }
}

fn lock(state: &Mutex<ClusterState>) -> MutexGuard<'_, ClusterState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nodes whose processes are down or paused because of these faults.
fn down(faults: &[Fault], state: &ClusterState) -> BTreeSet<u8> {
    let of = |fault: &Fault| match fault.kind {
        Kind::AllNodesKilled => (0..NODES * DATA_CENTERS.len() as u8).collect(),
        kind => kind.affects_process_of_node().into_iter().collect::<Vec<u8>>(),
    };
    faults.iter().flat_map(of).chain(state.killed.values().copied()).collect()
}

impl TablesService for CassandraTables {
    type Store = CassandraStore;
    type Opener = CassandraOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        let Tables::Cassandra(cluster) = &context.tables_options else {
            unreachable!("the scenario's tables are on Cassandra");
        };
        Network::current().plug_in(madsim::plugin::node(), [10, 0, 2, 2].into());
        let notes: Notes = Arc::new(Watching(context.clone()));
        let cassandra = SimulatedCassandra::start(cluster.nodes(), context.seed, notes.clone(), |options| {
            cluster.configure(options);
        });
        cassandra.cluster.settled().await;
        let opener = create_tables(context, &cassandra, cluster).await;
        let (state, cluster) = (Arc::<Mutex<ClusterState>>::default(), cluster.clone());
        let (due, coordinators) = mpsc::unbounded_channel();
        let usual = RuledLinks::new(
            Duration::from_micros(100),
            Duration::from_millis(cluster.link_ms),
            Stream::Links.generator(context.seed + 1),
        );
        let (shared, noted) = (state.clone(), context.clone());
        cassandra.links.rule(move |envelope| {
            count_writes(&mut lock(&shared), &due, envelope);
            let copies = deliveries(&noted, &usual, envelope);
            if let Some(latest) = copies.iter().flatten().max() {
                let latest_ms = noted.now_ms() + latest.as_millis() as u64 + 1;
                let mut state = lock(&shared);
                state.latest_ms = state.latest_ms.max(latest_ms);
            }
            copies
        });
        observe::observe(context, &cassandra);
        tokio::spawn(kill_coordinators(context.clone(), cassandra.clone(), state.clone(), coordinators));
        Self { context: context.clone(), cassandra, cluster, opener, state, _notes: notes }
    }

    fn opener(&self) -> CassandraOpener {
        self.opener.clone()
    }

    fn begin(&self, fault: &Fault, active: &[Fault]) -> bool {
        let Self { context, cassandra, .. } = self;
        let down = down(active, &lock(&self.state));
        let network = Network::current();
        match fault.kind {
            kind if kind.affects_process_of_node().is_some_and(|node| down.contains(&node)) => return false,
            Kind::AllNodesKilled if !down.is_empty() => return false,
            Kind::NodeKilled { node } => cassandra.kill(node),
            Kind::AllNodesKilled => {
                (0..self.cluster.nodes()).for_each(|node| cassandra.kill(node));
                context.observe(Sometimes::AllNodesKilled);
            }
            Kind::PowerLost { node } => {
                let disk = cassandra.cluster.disk(NodeId(node.into()));
                if disk.is_some_and(|disk| disk.unsynced() > 0) {
                    context.observe(Sometimes::UnsyncedRecordsLost);
                    context.damage().done |= !self.cluster.synced_first;
                }
                cassandra.power_off(node);
            }
            Kind::NodePaused { node } => cassandra.pause(node),
            Kind::DiskWiped { node } => {
                cassandra.kill(node);
                if let Some(disk) = cassandra.cluster.disk(NodeId(node.into())) {
                    disk.wipe();
                }
            }
            Kind::RowsDeleted { table } => {
                let opener = &self.opener;
                let statement = damage::statement(context, &opener.options.keyspace, opener.layout, table);
                let Some(statement) = statement else { return false };
                context.note(format_args!("operator: {statement}"));
                let (nodes, context, fault) =
                    (opener.options.contact_points.clone(), context.clone(), fault.clone());
                tokio::spawn(async move {
                    if damage::execute(&nodes, statement).await {
                        context.effect(&fault);
                    }
                });
                return true;
            }
            Kind::CoordinatorKilled { node, writes } => {
                lock(&self.state).writes_left.insert(fault.id, (node, writes));
                return true;
            }
            Kind::ClientLinkCut { .. } => {
                let effects = network.effects();
                lock(&self.state).before.insert(fault.id, effects.held + effects.unanswered);
                client_links(fault).into_iter().for_each(|(from, to)| network.cut(from, to));
                return true;
            }
            Kind::ConnectionsReset { node } => {
                let Target::Worker(worker) = fault.target else { return false };
                if network.reset_connections(worker_ip(worker), ip(node)) == 0 {
                    return true;
                }
                context.observe(Sometimes::ConnectionsResetInUse);
            }
            Kind::ClockStepped { node, .. } | Kind::ClockCoarse { node, .. } => {
                let is_moved = active.iter().any(|other| match other.kind {
                    Kind::ClockStepped { node: moved, .. } | Kind::ClockCoarse { node: moved, .. } => {
                        moved == node
                    }
                    _ => false,
                });
                let clock = &cassandra.clocks[usize::from(node)];
                match fault.kind {
                    _ if is_moved => return false,
                    Kind::ClockStepped { by_ms, .. } => {
                        clock.step(by_ms * 1_000);
                        if by_ms < 0 {
                            context.observe(Sometimes::ClockWentBack);
                        }
                    }
                    Kind::ClockCoarse { step_ms, .. } => clock.quantize(step_ms * 1_000),
                    _ => {}
                }
            }
            Kind::ReplicaLinkCut { .. }
            | Kind::ReplicaMessagesLost { .. }
            | Kind::ReplicaMessagesDelayed { .. }
            | Kind::ReplicaMessagesDuplicated { .. } => return true,
            _ => return false,
        }
        context.effect(fault);
        true
    }

    fn end(&self, fault: &Fault) {
        let Self { context, cassandra, .. } = self;
        let network = Network::current();
        match fault.kind {
            Kind::NodeKilled { node } | Kind::PowerLost { node } | Kind::DiskWiped { node } => {
                cassandra.start_node(node);
            }
            Kind::AllNodesKilled => (0..self.cluster.nodes()).for_each(|node| cassandra.start_node(node)),
            Kind::NodePaused { node } => {
                cassandra.resume(node);
                context.observe(Sometimes::NodePausedAndResumed);
            }
            Kind::CoordinatorKilled { .. } => {
                let mut state = lock(&self.state);
                state.writes_left.remove(&fault.id);
                if let Some(node) = state.killed.remove(&fault.id) {
                    cassandra.start_node(node);
                }
            }
            Kind::ClientLinkCut { .. } => {
                let (effects, before) = (network.effects(), lock(&self.state).before.remove(&fault.id));
                if before.is_some_and(|before| effects.held + effects.unanswered > before) {
                    context.effect(fault);
                }
                client_links(fault).into_iter().for_each(|(from, to)| network.restore(from, to));
                // Another fault may have cut the same link.
                for other in context.active_faults() {
                    client_links(&other).into_iter().for_each(|(from, to)| network.cut(from, to));
                }
            }
            Kind::ClockStepped { node, by_ms } => cassandra.clocks[usize::from(node)].step(-by_ms * 1_000),
            Kind::ClockCoarse { node, .. } => cassandra.clocks[usize::from(node)].quantize(1),
            _ => {}
        }
    }

    fn dispensable(&self) -> Option<Kind> {
        Some(Kind::NodeKilled { node: (self.context.seed % u64::from(NODES)) as u8 })
    }

    async fn settle(&self) {
        self.cassandra.cluster.settled().await;
    }

    fn replicas(&self) -> Box<dyn Replicas> {
        Box::new(ClusterReplicas {
            cluster: self.cassandra.cluster.downgrade(),
            keyspace: self.opener.options.keyspace.to_string(),
            layout: self.opener.layout,
        })
    }

    async fn repair(&self) -> Vec<Violation> {
        let Self { context, cassandra, .. } = self;
        let keyspace = self.opener.options.keyspace.to_string();
        let is_skipped =
            |active: &Fault| matches!(active.kind, Kind::Sabotaged { how: Sabotage::RepairsSkipped, .. });
        let is_skipped = context.planned_faults.iter().any(is_skipped);
        while !is_skipped && let Err(error) = cassandra.cluster.repair(NodeId(0), &keyspace).await {
            context.note(format_args!("the repair failed: {}", chain(&error)));
            sleep(Duration::from_millis(500)).await;
        }
        let mut violations = Vec::new();
        for table in tables(self.opener.layout.events) {
            for node in 1..self.cluster.nodes() {
                if !cassandra.cluster.has_equal_replicas(
                    &keyspace,
                    table.name,
                    NodeId(0),
                    NodeId(node.into()),
                ) {
                    violations.push(Violation::ReplicasDiffer { table: table.name, nodes: (0, node) });
                }
            }
        }
        violations
    }

    async fn store(&self) -> CassandraStore {
        let options = with_long_timeouts(&self.opener.options);
        loop {
            match CassandraStore::connect(&options, self.opener.layout).await {
                Ok(store) => return store,
                Err(error) => {
                    self.context.note(format_args!("the checker has no tables: {}", chain(&error)));
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn caught_up(&self) {
        // Whatever arrives last may be answered by a hint, which is written and delivered after an interval each.
        let until_ms = lock(&self.state).latest_ms.max(self.context.now_ms());
        let until_ms = until_ms + 2 * self.cluster.hint_interval_ms + CATCH_UP_MS;
        sleep(Duration::from_millis(until_ms - self.context.now_ms())).await;
    }

    async fn store_without(&self, index: u8) -> Option<CassandraStore> {
        if let Some(before) = index.checked_sub(1) {
            self.cassandra.start_node(before);
            self.cassandra.cluster.settled().await;
        }
        if index >= NODES {
            return None;
        }
        self.cassandra.kill(index);
        sleep(Duration::from_millis(3 * self.cluster.failure_timeout_ms)).await;
        self.context.note(format_args!("the tables without cassandra {}", index + 1));
        Some(self.store().await)
    }

    fn shut_down(&self) {
        self.cassandra.links.restore_all();
        self.cassandra.shut_down();
    }
}

async fn kill_coordinators(
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    state: Arc<Mutex<ClusterState>>,
    mut due: mpsc::UnboundedReceiver<u64>,
) {
    while let Some(id) = due.recv().await {
        let active = context.active_faults();
        let Some(fault) = active.iter().find(|fault| fault.id == id) else { continue };
        let Kind::CoordinatorKilled { node, .. } = fault.kind else { continue };
        let mut state = lock(&state);
        if !down(&active, &state).contains(&node) {
            state.killed.insert(id, node);
            cassandra.kill(node);
            context.observe(Sometimes::CoordinatorKilledWhileWriting);
            context.note(format_args!("cassandra {} is killed as coordinator", node + 1));
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

/// The delays of the copies of a message between nodes; none if it is lost.
fn deliveries(context: &SimContext, usual: &RuledLinks, envelope: &Envelope) -> Option<Vec<Duration>> {
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
    context.apply_faults(|ActiveFault { fault, random }| match fault.kind {
        Kind::ReplicaLinkCut { from, to } => {
            let is_cut = (envelope.from, envelope.to) == (NodeId(from.into()), NodeId(to.into()));
            is_lost |= is_cut;
            is_cut
        }
        Kind::ReplicaMessagesLost { per_mille } => {
            let lost = random.chance(per_mille);
            is_lost |= lost;
            lost
        }
        Kind::ReplicaMessagesDelayed { per_mille, up_to_ms } => {
            let late = random.chance(per_mille);
            if late {
                let by = Duration::from_millis(random.within(1..=up_to_ms));
                copies.iter_mut().for_each(|delay| *delay += by);
            }
            late
        }
        Kind::ReplicaMessagesDuplicated { per_mille } => {
            let twice = random.chance(per_mille);
            if twice {
                let by = Duration::from_millis(random.below(2_000));
                let again: Vec<_> = copies.iter().map(|delay| *delay + by).collect();
                copies.extend(again);
            }
            twice
        }
        _ => false,
    });
    Some(if is_lost { Vec::new() } else { copies })
}

/// The directions in which a fault cuts the link of a worker to a node.
fn client_links(fault: &Fault) -> Vec<(IpAddr, IpAddr)> {
    let (Kind::ClientLinkCut { node, direction }, Target::Worker(worker)) = (fault.kind, fault.target) else {
        return Vec::new();
    };
    let (worker, node) = (worker_ip(worker), ip(node));
    match direction {
        Direction::Both => vec![(worker, node), (node, worker)],
        Direction::Requests => vec![(worker, node)],
        Direction::Responses => vec![(node, worker)],
    }
}

/// For the operator and the checker, who are not under test.
fn with_long_timeouts(options: &CassandraOptions) -> CassandraOptions {
    CassandraOptions {
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        ..options.clone()
    }
}

/// Creates the tables, as an operator does before the first worker starts.
async fn create_tables(
    context: &SimContext,
    cassandra: &SimulatedCassandra,
    cluster: &ClusterOptions,
) -> CassandraOpener {
    let nodes = cassandra.addresses().iter().map(ToString::to_string).collect();
    let keyspace = Keyspace::try_from("exactlyonce".to_owned()).expect("a valid name");
    let options = CassandraOptions {
        connect_timeout: Duration::from_millis(cluster.connect_timeout_ms),
        request_timeout: Duration::from_millis(cluster.request_timeout_ms),
        ..CassandraOptions::new(nodes, keyspace)
    };
    let options = match cluster.data_centers {
        1 => options,
        _ => CassandraOptions {
            consistency: Consistency::LocalQuorum,
            datacenter: Some(DATA_CENTERS[0].to_owned()),
            ..options
        },
    };
    let long_timeouts = with_long_timeouts(&options);
    let replicas =
        DATA_CENTERS[..cluster.data_centers.into()].iter().map(|name| ((*name).to_owned(), NODES.into()));
    let replication = match cluster.data_centers {
        1 => Replication::anywhere(NODES.into()),
        _ => Replication::datacenters(replicas.collect()),
    };
    let replication = replication.expect("as many as there are nodes");
    let layout = context.options.layout;
    loop {
        match apply_schema(&long_timeouts, &replication, layout).await {
            Ok(()) => break,
            Err(error) => context.note(format_args!("no tables yet: {}", chain(&error))),
        }
        sleep(Duration::from_millis(100)).await;
    }
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await;
    let session = session.expect("no fault is active yet");
    for table in tables(layout.events) {
        let (keyspace, name) = (&options.keyspace, table.name);
        let alter = format!("ALTER TABLE {keyspace}.{name} WITH {}", cluster.table_options());
        session.query_unpaged(alter, ()).await.expect("no fault is active yet");
    }
    CassandraOpener { options, layout }
}
