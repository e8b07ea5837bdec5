//! A simulated Cassandra cluster on the simulated network: its nodes are hosts that serve CQL over TCP, so that drivers
//! connect to them as to real ones.
//!
//! The crate [`simulated_cassandra`] implements the nodes and their messages; this module gives each of them a host, a
//! clock and a disk, and links with delays from the run's seed. Every request and response of a client is traced.

pub(crate) mod cells;
pub(crate) mod damage;
pub(crate) mod faults;
pub(crate) mod observe;
pub(crate) mod record;
mod tap;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use madsim::runtime::Handle;
use simulated_cassandra::cluster::{
    AdjustableClock, Cluster, NodeId, NodeOptions, Options, RuledLinks, RunningNode,
};
use simulated_cassandra::server::{Server, ServerOptions};
use simulated_cassandra::storage::{Disk, Token};
use simulated_hosts::{DiskFault, HostCommand, HostFault, Recovery};
use tokio::net::TcpListener;
use tokio::network::Network;
use tokio::time::sleep;

use crate::observed::Sometimes;
use crate::random::Stream;
use crate::scenario::fault::{KindName, Step};
use crate::service::declaration::Declaration;
pub use record::Frame;
use tap::Tap;

/// The port at which all nodes serve clients.
pub const PORT: u16 = 9042;

/// Initial time of all nodes' clocks: 2026-01-01, in microseconds.
pub const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

/// Number of tokens of each node.
const TOKENS: u64 = 4;

/// What can happen to the nodes, their disks, clocks and links.
pub(crate) const DECLARATION: Declaration = Declaration {
    faults: &[
        KindName::NodeKilled,
        KindName::AllNodesKilled,
        KindName::PowerLost,
        KindName::NodePaused,
        KindName::CoordinatorKilled,
        KindName::WriteTorn,
        KindName::ReplicaLinkCut,
        KindName::ReplicaMessagesLost,
        KindName::ReplicaMessagesDelayed,
        KindName::ReplicaMessagesDuplicated,
        KindName::ClientLinkCut,
        KindName::ConnectionsReset,
        KindName::ClockStepped,
        KindName::ClockCoarse,
    ],
    damage: &[KindName::RowsDeleted, KindName::DiskWiped],
    steps: &[
        Step::ReplicaWrite,
        Step::HintKept,
        Step::HintSent,
        Step::ReadRepair,
        Step::Prepare,
        Step::Commit,
    ],
    situations: &[
        Sometimes::UnknownOutcomeWasAppliedByOneReplica,
        Sometimes::CountOnOneReplicaOnlyRead,
        Sometimes::HintOlderThanNewerWrite,
        Sometimes::ReadRepairOfPartOfABatch,
        Sometimes::AllNodesKilled,
        Sometimes::CoordinatorKilledWhileWriting,
        Sometimes::ConditionalWriteReplicated,
        Sometimes::NodePausedAndResumed,
        Sometimes::ConnectionsResetInUse,
        Sometimes::ClockWentBack,
        Sometimes::TwoDatacentersDisagree,
        Sometimes::HintSent,
        Sometimes::ReadRepairSent,
        Sometimes::UnsyncedRecordsLost,
        Sometimes::WriteTimedOutAtCoordinator,
        Sometimes::ReadTimedOutAtCoordinator,
        Sometimes::TooFewReplicasAlive,
    ],
};

/// Observes the requests of clients and the responses of nodes.
pub trait Watch: Send + Sync {
    /// A line for the trace.
    #[track_caller]
    fn note(&self, event: fmt::Arguments<'_>);

    /// Whether anyone reads the lines, so that what is only in their text is worth computing.
    fn reads_lines(&self) -> bool {
        true
    }

    /// A node returned an error; its protocol code.
    fn returned_error(&self, _code: u32) {}

    /// A node has received a request of a client, or sends the response to one.
    fn frame(&self, _frame: &Frame<'_>, _is_request: bool) {}

    /// Something happens to the process of a node.
    fn process(&self, _node: u8, _command: HostCommand) {}
}

impl<F: Fn(fmt::Arguments<'_>) + Send + Sync> Watch for F {
    fn note(&self, event: fmt::Arguments<'_>) {
        self(event);
    }
}

/// Receives the lines of the trace.
pub type Notes = Arc<dyn Watch>;

/// A cluster whose nodes are hosts of the simulation. A clone is the same cluster.
#[derive(Clone)]
pub struct SimulatedCassandra {
    /// The nodes.
    pub cluster: Cluster,
    /// The links between them.
    pub links: Arc<RuledLinks>,
    /// Their clocks.
    pub clocks: Vec<Arc<AdjustableClock>>,
    handle: Handle,
    machines: Vec<madsim::task::NodeId>,
    notes: Weak<dyn Watch>,
}

impl SimulatedCassandra {
    /// Starts `count` nodes. Must be called within a simulation that has a [`Network`], on a node of the
    /// simulation that outlives the cluster: the cluster's own tasks run there.
    pub fn start(count: u8, seed: u64, notes: Notes, change: impl FnOnce(&mut Options)) -> Self {
        let handle = Handle::current();
        let clocks: Vec<_> = (0..count).map(|_| Arc::new(AdjustableClock::new(EPOCH_MICROS))).collect();
        let mut options = options(&clocks);
        change(&mut options);
        let links = links(seed);
        let cluster = Cluster::start(options, links.clone(), Stream::Cassandra.generator(seed));
        let options = ServerOptions::default();
        let machine = |node: u8| {
            // The simulator keeps a host's start function forever; the cluster must not live as long.
            let (weak, notes, options) = (cluster.downgrade(), Arc::downgrade(&notes), options.clone());
            let machine = handle.create_node().name(format!("cassandra {}", node + 1)).ip(ip(node));
            let machine = machine.init(move || {
                let running = weak.upgrade().and_then(|cluster| cluster.node(NodeId(node.into())));
                let (notes, options) = (notes.upgrade(), options.clone());
                async move {
                    if let (Some(running), Some(notes)) = (running, notes) {
                        serve(running, node, notes, options).await;
                    }
                }
            });
            machine.build().id()
        };
        let network = Network::current();
        let machines: Vec<_> = (0..count).map(machine).collect();
        for (node, machine) in (0..count).zip(&machines) {
            network.plug_in(*machine, ip(node));
            notes.process(node, Recovery::Start.into());
        }
        let notes = Arc::downgrade(&notes);
        Self { cluster, links, clocks, handle, machines, notes }
    }

    /// The address at which each node serves clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.machines.len() as u8).map(|node| SocketAddr::new(ip(node), PORT)).collect()
    }

    /// Begins a fault of a node's process or host.
    pub fn apply(&self, node: u8, fault: HostFault) {
        let (id, machine) = (NodeId(node.into()), self.machines[usize::from(node)]);
        match fault {
            // The host only serves clients: a node that stops orderly writes its data in the cluster's own tasks.
            HostFault::Kill | HostFault::Stop => self.handle.kill(machine),
            HostFault::PowerLoss => {
                Network::current().power_off(ip(node));
                self.handle.kill(machine);
            }
            HostFault::Pause => self.handle.pause(machine),
        }
        self.cluster.apply(id, fault);
        self.note_process(node, fault.into());
    }

    /// Ends a fault of a node.
    pub fn recover(&self, node: u8, recovery: Recovery) {
        let (id, machine) = (NodeId(node.into()), self.machines[usize::from(node)]);
        match recovery {
            Recovery::Start => {
                Network::current().power_on(ip(node));
                self.cluster.recover(id, recovery);
                self.handle.restart(machine);
            }
            Recovery::Resume => {
                self.cluster.recover(id, recovery);
                self.handle.resume(machine);
            }
        }
        self.note_process(node, recovery.into());
    }

    fn note_process(&self, node: u8, command: HostCommand) {
        if let Some(notes) = self.notes.upgrade() {
            notes.process(node, command);
        }
    }

    /// Does something to the disk of a node whose process does not run.
    pub fn apply_to_disk(&self, node: u8, fault: DiskFault) {
        match (fault, self.cluster.disk(NodeId(node.into()))) {
            (DiskFault::Wipe, Some(disk)) => disk.wipe(),
            (DiskFault::Wipe, None) => {}
        }
    }

    /// Shuts the hosts down for good.
    pub fn shut_down(&self) {
        self.machines.iter().for_each(|machine| self.handle.kill(*machine));
    }
}

/// Nodes without hosts: no client can connect to them.
pub fn without_machines(count: u8, seed: u64) -> Cluster {
    let clocks: Vec<_> = (0..count).map(|_| Arc::new(AdjustableClock::new(EPOCH_MICROS))).collect();
    Cluster::start(options(&clocks), links(seed), Stream::Cassandra.generator(seed))
}

/// A node for each clock.
fn options(clocks: &[Arc<AdjustableClock>]) -> Options {
    let count = clocks.len() as u8;
    let nodes = (0..count).zip(clocks).map(|(node, clock)| NodeOptions {
        address: ip(node),
        port: PORT,
        data_center: "dc1".to_owned(),
        rack: format!("rack{}", node + 1),
        tokens: tokens(node, count),
        clock: clock.clone(),
        disk: Disk::new(),
    });
    Options::new(nodes.collect())
}

fn links(seed: u64) -> Arc<RuledLinks> {
    let (shortest, longest) = (Duration::from_micros(100), Duration::from_millis(2));
    Arc::new(RuledLinks::new(shortest, longest, Stream::Links.generator(seed)))
}

/// A node's address.
pub fn ip(node: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 3, node + 1).into()
}

/// Tokens that alternate between the nodes.
fn tokens(node: u8, count: u8) -> Vec<Token> {
    let step = u64::MAX / (TOKENS * u64::from(count));
    let indexes = (0..TOKENS).map(|index| index * u64::from(count) + u64::from(node));
    indexes.map(|index| Token((i64::MIN + 1).wrapping_add_unsigned(index * step))).collect()
}

/// Serves clients until the process is killed.
async fn serve(running: RunningNode, node: u8, notes: Notes, options: ServerOptions) {
    running.ready().await;
    let listener = loop {
        match TcpListener::bind(SocketAddr::new(ip(node), PORT)).await {
            Ok(listener) => break listener,
            Err(error) => {
                notes.note(format_args!("cassandra {} cannot listen: {error}", node + 1));
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    notes.note(format_args!("cassandra {} serves clients", node + 1));
    let server = Server::new(running, options);
    let mut connections = 0u64;
    while let Ok((connection, client)) = listener.accept().await {
        connections += 1;
        let name = format!("cassandra {} ({} #{connections})", node + 1, client.ip());
        let place = (node, client.ip(), connections);
        let connection = Tap::new(connection, name.clone(), place, notes.clone());
        let (server, notes) = (server.clone(), notes.clone());
        tokio::spawn(async move {
            match server.serve(connection).await {
                Ok(()) => notes.note(format_args!("{name} ends")),
                Err(error) => notes.note(format_args!("{name} breaks: {error}")),
            }
        });
    }
}
