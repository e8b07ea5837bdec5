//! The plan of Cassandra faults of a run. It is data.
//!
//! Everything drawn here is tolerated by the protocol: no node loses what it has acknowledged, because power fails only
//! if the commit log is synced before the acknowledgement, and no disk is replaced.

use std::fmt;
use std::time::Duration;

use simulated_cassandra::cluster::{CommitLogSync, Options};

use crate::config::SimConfig;
use crate::faults::Direction;
use crate::random::{Random, Stream};

/// Nodes of the cluster, each of which is a replica of everything.
pub const NODES: u8 = 3;

/// How the cluster is configured. Timeouts are short, so that much happens in a short time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CassandraConfig {
    /// How long a coordinator waits for a write.
    pub write_timeout_ms: u64,
    /// How long a coordinator waits for a read.
    pub read_timeout_ms: u64,
    /// How long a worker waits for a response: shorter or longer than the coordinator.
    pub request_timeout_ms: u64,
    /// How long a worker waits for a connection.
    pub connect_timeout_ms: u64,
    /// After how much silence a node is considered down.
    pub failure_timeout_ms: u64,
    /// Hints are kept for a node that has not been down for longer.
    pub hint_window_ms: u64,
    /// How often hints are flushed, and dispatched.
    pub hint_interval_ms: u64,
    /// Whether the commit log is synced before writes are acknowledged, or periodically.
    pub synced_first: bool,
    /// How long a sync takes.
    pub sync_ms: u64,
    /// Whether reads repair replicas that differ (`read_repair`), or only merge their responses.
    pub reads_repair: bool,
    /// When a read queries an additional replica (`speculative_retry`).
    pub speculative_retry: &'static str,
    /// Maximum delay of a message between nodes without faults.
    pub link_ms: u64,
}

impl CassandraConfig {
    /// The configuration of a seed.
    pub fn of(seed: u64) -> Self {
        let random = &mut Random::new(seed, Stream::CassandraConfig);
        let write_timeout_ms = random.log_uniform(100..=2_000);
        let read_timeout_ms = random.log_uniform(100..=4_000);
        let config = Self {
            write_timeout_ms,
            read_timeout_ms,
            request_timeout_ms: random.log_uniform(write_timeout_ms / 2..=write_timeout_ms * 4),
            connect_timeout_ms: random.log_uniform(200..=2_000),
            failure_timeout_ms: random.log_uniform(700..=3_000),
            hint_window_ms: random.log_uniform(200..=10_000),
            hint_interval_ms: random.log_uniform(50..=4_000),
            synced_first: random.chance(700),
            sync_ms: random.log_uniform(1..=40),
            reads_repair: random.chance(700),
            speculative_retry: random.pick(&["99p", "NEVER", "ALWAYS", "20ms"]),
            link_ms: 1,
        };
        // Far below the timeouts, so that requests with several rounds, and many concurrent ones, still finish.
        let shortest = write_timeout_ms.min(read_timeout_ms).min(config.request_timeout_ms);
        let slack_ms = shortest.saturating_sub(config.sync_ms);
        Self { link_ms: random.log_uniform(1..=(slack_ms / 10).max(1)), ..config }
    }

    /// The options that tables are created with.
    pub fn table_options(&self) -> String {
        let repair = if self.reads_repair { "BLOCKING" } else { "NONE" };
        format!("read_repair = '{repair}' AND speculative_retry = '{}'", self.speculative_retry)
    }

    /// Applies this to the cluster's options.
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
    /// When it starts, in simulated milliseconds after the workers start.
    pub at_ms: u64,
    /// What happens.
    pub kind: CassandraKind,
    /// Its duration in simulated milliseconds.
    pub duration_ms: u64,
}

/// What happens. Nodes and workers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CassandraKind {
    /// A node's process is killed, and restarted after the duration.
    NodeKilled(u8),
    /// The processes of all nodes are killed.
    AllKilled,
    /// A node's host loses power, and regains it after the duration.
    PowerLost(u8),
    /// A node is paused, and then resumes.
    NodePaused(u8),
    /// A node's process is killed when it has sent this many writes to replicas.
    CoordinatorKilled(u8, u64),
    /// The link from one node to another is cut.
    ReplicaLinkCut(u8, u8),
    /// This many messages per mille between nodes are lost.
    ReplicaMessagesLost(u64),
    /// This many messages per mille between nodes are delayed by up to this many milliseconds.
    ReplicaMessagesDelayed(u64, u64),
    /// This many messages per mille between nodes arrive twice.
    ReplicaMessagesDuplicated(u64),
    /// The link between a worker and a node is cut.
    ClientLinkCut(u8, u8, Direction),
    /// The connections of a worker to a node are reset.
    ConnectionsReset(u8, u8),
    /// A node's clock is moved by this many milliseconds, and back after the duration.
    ClockStepped(u8, i64),
    /// A node's clock shows only multiples of this many milliseconds.
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
        "replica messages delayed",
        "replica messages duplicated",
        "client link cut",
        "connections reset",
        "clock stepped",
        "clock coarse",
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let index = match self {
            Self::NodeKilled(_) => 0,
            Self::AllKilled => 1,
            Self::PowerLost(_) => 2,
            Self::NodePaused(_) => 3,
            Self::CoordinatorKilled(..) => 4,
            Self::ReplicaLinkCut(..) => 5,
            Self::ReplicaMessagesLost(_) => 6,
            Self::ReplicaMessagesDelayed(..) => 7,
            Self::ReplicaMessagesDuplicated(_) => 8,
            Self::ClientLinkCut(..) => 9,
            Self::ConnectionsReset(..) => 10,
            Self::ClockStepped(..) => 11,
            Self::ClockCoarse(..) => 12,
        };
        Self::NAMES[index]
    }

    /// The node whose process or host it stops or pauses.
    pub(crate) fn affects_process_of(self) -> Option<u8> {
        match self {
            Self::NodeKilled(node) | Self::PowerLost(node) | Self::NodePaused(node) => Some(node),
            _ => None,
        }
    }

    fn draw(random: &mut Random, config: &SimConfig, name: &str) -> Self {
        let node = random.below(NODES.into()) as u8;
        let other = (node + 1 + random.below(u64::from(NODES) - 1) as u8) % NODES;
        let worker = random.below(config.workers.into()) as u8;
        let per_mille = random.log_uniform(8..=600);
        match name {
            "node killed" => Self::NodeKilled(node),
            "all nodes killed" => Self::AllKilled,
            "power lost" => Self::PowerLost(node),
            "node paused" => Self::NodePaused(node),
            "coordinator killed" => Self::CoordinatorKilled(node, random.log_uniform(1..=200)),
            "replica link cut" => Self::ReplicaLinkCut(node, other),
            "replica messages lost" => Self::ReplicaMessagesLost(per_mille),
            "replica messages delayed" => {
                Self::ReplicaMessagesDelayed(per_mille, random.log_uniform(10..=4_000))
            }
            "replica messages duplicated" => Self::ReplicaMessagesDuplicated(per_mille),
            "client link cut" => {
                let direction = random.pick(&[Direction::Both, Direction::Requests, Direction::Responses]);
                Self::ClientLinkCut(worker, node, direction)
            }
            "connections reset" => Self::ConnectionsReset(worker, node),
            "clock stepped" => {
                let by = random.log_uniform(1..=3_600_000) as i64;
                Self::ClockStepped(node, if random.coin() { by } else { -by })
            }
            "clock coarse" => Self::ClockCoarse(node, random.log_uniform(1..=2_000) as i64),
            other => unreachable!("no kind of fault is drawn under the name {other:?}"),
        }
    }
}

impl CassandraPlan {
    /// The plan of a seed.
    pub fn of(seed: u64, config: &SimConfig, cassandra: &CassandraConfig) -> Self {
        let random = &mut Random::new(seed, Stream::CassandraFaults);
        let mut faults = Vec::new();
        for name in CassandraKind::NAMES {
            if !random.coin() || (name == "power lost" && !cassandra.synced_first) {
                continue;
            }
            for _ in 0..random.log_uniform(1..=6) {
                let kind = CassandraKind::draw(random, config, name);
                // Up to twice the hint window.
                let duration_ms = random.log_uniform(20..=(2 * cassandra.hint_window_ms).min(8_000));
                faults.push(CassandraFault { at_ms: random.below(config.chaos_ms), kind, duration_ms });
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
