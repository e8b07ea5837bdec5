//! The configuration of the simulated Cassandra cluster of a run.
//!
//! With periodic syncs of the commit log a node that loses power may lose what it has acknowledged, which the protocol
//! does not tolerate, so then no power loss is drawn.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use simulated_cassandra::cluster::{CommitLogSync, Options};

use crate::random::{Random, Stream};

/// Nodes of a data center, each of which is a replica of everything.
pub const NODES: u8 = 3;

/// The data centers; the workers are in the first.
pub const DATA_CENTERS: [&str; 2] = ["dc1", "dc2"];

/// How many syncs of a commit log a request may wait for, at least: a batch, for its log, its rows, and one that is under way.
const SYNCS_IN_A_REQUEST: u64 = 4;

fn one() -> u8 {
    1
}

/// How the cluster is configured. Timeouts are short, so that much happens in a short time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterOptions {
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
    pub speculative_retry: String,
    /// Maximum delay of a message between nodes without faults.
    pub link_ms: u64,
    /// Number of data centers, 1 or 2; with 2, workers read and write at LOCAL_QUORUM.
    #[serde(default = "one")]
    pub data_centers: u8,
}

impl ClusterOptions {
    /// The configuration of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let random = &mut Random::new(seed, Stream::ClusterOptions);
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
            speculative_retry: random.pick(&["99p", "NEVER", "ALWAYS", "20ms"]).to_owned(),
            link_ms: 1,
            data_centers: 1,
        };
        // A request with several rounds waits for several syncs.
        let request_timeout_ms = match config.synced_first {
            true => config.request_timeout_ms.max(config.sync_ms * SYNCS_IN_A_REQUEST),
            false => config.request_timeout_ms,
        };
        let config = Self { request_timeout_ms, ..config };
        let link_ms = random.log_uniform(1..=config.longest_link_ms());
        Self { link_ms, data_centers: if random.below(8) == 0 { 2 } else { 1 }, ..config }
    }

    /// The greatest `link_ms`: far below the timeouts, so that requests with several rounds, and many concurrent ones,
    /// still finish.
    pub(crate) fn longest_link_ms(&self) -> u64 {
        let shortest = self.write_timeout_ms.min(self.read_timeout_ms).min(self.request_timeout_ms);
        (shortest.saturating_sub(self.sync_ms) / 10).max(1)
    }

    /// The number of nodes; those of the first data center come first.
    pub fn nodes(&self) -> u8 {
        NODES * self.data_centers
    }

    /// The options that tables are created with.
    pub fn table_options(&self) -> String {
        let repair = if self.reads_repair { "BLOCKING" } else { "NONE" };
        format!("read_repair = '{repair}' AND speculative_retry = '{}'", self.speculative_retry)
    }

    /// Applies this to the cluster's options.
    pub fn configure(&self, options: &mut Options) {
        let ms = Duration::from_millis;
        for (index, node) in options.nodes.iter_mut().enumerate() {
            node.data_center = DATA_CENTERS[(index / usize::from(NODES)).min(1)].to_owned();
        }
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
