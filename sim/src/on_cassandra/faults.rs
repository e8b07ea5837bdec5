//! What goes wrong with Cassandra's nodes in a run: a plan, which is data.
//!
//! Everything drawn here is within what the protocol tolerates: no node loses what it has acknowledged, for the power
//! fails only where the commit log is synced before the acknowledgement, and no disk is replaced.

use std::fmt;
use std::time::Duration;

use simulated_cassandra::cluster::{CommitLogSync, Options};

use crate::dice::{Dice, Stream};
use crate::faults::Direction;
use crate::world::World;

/// Nodes of the cluster, all of which hold everything.
pub const NODES: u8 = 3;

/// How the cluster is configured. Timeouts are short, so that much happens in a short time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CassandraWorld {
    /// How long a coordinator waits for a write.
    pub write_timeout_ms: u64,
    /// How long a coordinator waits for a read.
    pub read_timeout_ms: u64,
    /// How long a worker waits for an answer: less, or more, than the coordinator.
    pub request_timeout_ms: u64,
    /// How long a worker waits for a connection.
    pub connect_timeout_ms: u64,
    /// After how long a silence a node is taken for down.
    pub failure_timeout_ms: u64,
    /// Hints are kept for a node that has not been down for longer.
    pub hint_window_ms: u64,
    /// How often hints go to the disk, and are delivered.
    pub hint_interval_ms: u64,
    /// Whether the commit log is synced before writes are acknowledged, or now and then.
    pub synced_first: bool,
    /// How long a sync takes.
    pub sync_ms: u64,
    /// Whether reads repair replicas that differ (`read_repair`), or only merge what they say.
    pub reads_repair: bool,
    /// When a read asks one more replica (`speculative_retry`).
    pub speculative_retry: &'static str,
    /// How long a message from node to node takes at most, when nothing is wrong.
    pub link_ms: u64,
}

impl CassandraWorld {
    /// The configuration of a seed.
    pub fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, Stream::CassandraWorld);
        let write_timeout_ms = dice.magnitude(100..=2_000);
        let read_timeout_ms = dice.magnitude(100..=4_000);
        let world = Self {
            write_timeout_ms,
            read_timeout_ms,
            request_timeout_ms: dice.magnitude(write_timeout_ms / 2..=write_timeout_ms * 4),
            connect_timeout_ms: dice.magnitude(200..=2_000),
            failure_timeout_ms: dice.magnitude(700..=3_000),
            hint_window_ms: dice.magnitude(200..=10_000),
            hint_interval_ms: dice.magnitude(50..=4_000),
            synced_first: dice.chance(700),
            sync_ms: dice.magnitude(1..=40),
            reads_repair: dice.chance(700),
            speculative_retry: dice.pick(&["99p", "NEVER", "ALWAYS", "20ms"]),
            link_ms: 1,
        };
        // Far below the timeouts, so that what takes several rounds, or is many requests at once, still ends.
        let shortest = write_timeout_ms.min(read_timeout_ms).min(world.request_timeout_ms);
        let spare_ms = shortest.saturating_sub(world.sync_ms);
        Self { link_ms: dice.magnitude(1..=(spare_ms / 10).max(1)), ..world }
    }

    /// What tables are made to be.
    pub fn table_options(&self) -> String {
        let repair = if self.reads_repair { "BLOCKING" } else { "NONE" };
        format!("read_repair = '{repair}' AND speculative_retry = '{}'", self.speculative_retry)
    }

    /// Configures the cluster so.
    pub fn configure(&self, options: &mut Options) {
        let ms = Duration::from_millis;
        options.write_timeout = ms(self.write_timeout_ms);
        options.read_timeout = ms(self.read_timeout_ms);
        options.range_timeout = ms(self.read_timeout_ms * 2);
        options.cas_contention_timeout = ms(self.write_timeout_ms);
        options.gossip_interval = ms(100);
        options.gossip_settle = ms(300);
        options.failure_timeout = ms(self.failure_timeout_ms);
        options.hints.window = ms(self.hint_window_ms);
        options.hints.flush_interval = ms(self.hint_interval_ms);
        options.hints.dispatch_interval = ms(self.hint_interval_ms);
        options.batch_replay_interval = ms(1_000);
        options.commit_log_sync = match self.synced_first {
            true => CommitLogSync::Batch(ms(self.sync_ms)),
            false => CommitLogSync::Periodic(ms(1_000)),
        };
    }
}

/// A plan of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CassandraPlan {
    /// In no order.
    pub faults: Vec<CassandraFault>,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CassandraFault {
    /// When it begins, in simulated milliseconds after the workers start.
    pub at_ms: u64,
    /// What happens.
    pub kind: CassandraKind,
    /// How long it lasts, in simulated milliseconds.
    pub duration_ms: u64,
}

/// What happens. Nodes and workers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CassandraKind {
    /// A node's process is killed, and started after the duration.
    NodeKilled(u8),
    /// The processes of all nodes are.
    AllKilled,
    /// A node's machine loses its power, and has it again after the duration.
    PowerLost(u8),
    /// A node does nothing, and then goes on.
    NodePaused(u8),
    /// A node's process is killed when it has sent so many writes to replicas.
    CoordinatorKilled(u8, u64),
    /// Nothing comes from one node to another.
    ReplicaLinkCut(u8, u8),
    /// Messages between nodes vanish, so many per mille.
    ReplicaMessagesLost(u64),
    /// Messages between nodes, so many per mille, are late by up to so many milliseconds.
    ReplicaMessagesLate(u64, u64),
    /// Messages between nodes, so many per mille, arrive twice.
    ReplicaMessagesDoubled(u64),
    /// Nothing comes through between a worker and a node.
    ClientLinkCut(u8, u8, Direction),
    /// The connections of a worker to a node are reset.
    ConnectionsReset(u8, u8),
    /// A node's clock is set by so many milliseconds, and back after the duration.
    ClockStepped(u8, i64),
    /// A node's clock shows only multiples of so many milliseconds.
    ClockCoarse(u8, i64),
}

impl CassandraKind {
    /// The names of all kinds.
    pub const NAMES: [&str; 13] = [
        "node killed",
        "all nodes killed",
        "power lost",
        "node paused",
        "coordinator killed",
        "replica link cut",
        "replica messages lost",
        "replica messages late",
        "replica messages doubled",
        "client link cut",
        "connections reset",
        "clock stepped",
        "clock coarse",
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let place = match self {
            Self::NodeKilled(_) => 0,
            Self::AllKilled => 1,
            Self::PowerLost(_) => 2,
            Self::NodePaused(_) => 3,
            Self::CoordinatorKilled(..) => 4,
            Self::ReplicaLinkCut(..) => 5,
            Self::ReplicaMessagesLost(_) => 6,
            Self::ReplicaMessagesLate(..) => 7,
            Self::ReplicaMessagesDoubled(_) => 8,
            Self::ClientLinkCut(..) => 9,
            Self::ConnectionsReset(..) => 10,
            Self::ClockStepped(..) => 11,
            Self::ClockCoarse(..) => 12,
        };
        Self::NAMES[place]
    }

    /// The node whose process or machine it ends or stops.
    pub(crate) fn hits_process_of(self) -> Option<u8> {
        match self {
            Self::NodeKilled(node) | Self::PowerLost(node) | Self::NodePaused(node) => Some(node),
            _ => None,
        }
    }

    fn draw(dice: &mut Dice, world: &World, name: &str) -> Self {
        let node = dice.below(NODES.into()) as u8;
        let other = (node + 1 + dice.below(u64::from(NODES) - 1) as u8) % NODES;
        let worker = dice.below(world.workers.into()) as u8;
        let per_mille = dice.magnitude(8..=600);
        match name {
            "node killed" => Self::NodeKilled(node),
            "all nodes killed" => Self::AllKilled,
            "power lost" => Self::PowerLost(node),
            "node paused" => Self::NodePaused(node),
            "coordinator killed" => Self::CoordinatorKilled(node, dice.magnitude(1..=200)),
            "replica link cut" => Self::ReplicaLinkCut(node, other),
            "replica messages lost" => Self::ReplicaMessagesLost(per_mille),
            "replica messages late" => Self::ReplicaMessagesLate(per_mille, dice.magnitude(10..=4_000)),
            "replica messages doubled" => Self::ReplicaMessagesDoubled(per_mille),
            "client link cut" => {
                let direction = dice.pick(&[Direction::Both, Direction::Requests, Direction::Answers]);
                Self::ClientLinkCut(worker, node, direction)
            }
            "connections reset" => Self::ConnectionsReset(worker, node),
            "clock stepped" => {
                let by = dice.magnitude(1..=3_600_000) as i64;
                Self::ClockStepped(node, if dice.coin() { by } else { -by })
            }
            "clock coarse" => Self::ClockCoarse(node, dice.magnitude(1..=2_000) as i64),
            other => unreachable!("no kind of fault is drawn under the name {other:?}"),
        }
    }
}

impl CassandraPlan {
    /// The plan of a seed.
    pub fn of(seed: u64, world: &World, cassandra: &CassandraWorld) -> Self {
        let dice = &mut Dice::new(seed, Stream::CassandraFaults);
        let mut faults = Vec::new();
        for name in CassandraKind::NAMES {
            if !dice.coin() || (name == "power lost" && !cassandra.synced_first) {
                continue;
            }
            for _ in 0..dice.magnitude(1..=6) {
                let kind = CassandraKind::draw(dice, world, name);
                // Up to twice the time for which hints are kept.
                let duration_ms = dice.magnitude(20..=(2 * cassandra.hint_window_ms).min(8_000));
                faults.push(CassandraFault { at_ms: dice.below(world.stormy_ms), kind, duration_ms });
            }
        }
        Self { faults }
    }
}

impl fmt::Display for CassandraPlan {
    /// A line for each fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, CassandraFault { at_ms, kind, duration_ms }) in self.faults.iter().enumerate() {
            writeln!(f, "  {number:>3}  at {at_ms} ms  {kind:?}  for {duration_ms} ms")?;
        }
        Ok(())
    }
}
