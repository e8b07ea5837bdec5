//! What a cluster consists of and how it is configured.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Clock;
use crate::storage::{Disk, Token};

/// A node, by its place in [`Options::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// When a replica acknowledges what it has written to its commit log (`commitlog_sync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLogSync {
    /// At once; the log is synced this often. Cassandra's default, every 10 s.
    Periodic(Duration),
    /// After a sync, which takes this long and takes along what arrives meanwhile in the next one.
    Batch(Duration),
    /// After the next of the syncs that happen this often.
    Group(Duration),
}

/// How coordinators keep writes for replicas that missed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HintOptions {
    /// Whether they do.
    pub enabled: bool,
    /// No hints for a node that has been down for longer (`max_hint_window`).
    pub window: Duration,
    /// How often hints go to the disk; before, they die with the process (`hints_flush_period`).
    pub flush_interval: Duration,
    /// How often they are delivered to nodes that are alive again.
    pub dispatch_interval: Duration,
}

impl Default for HintOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(3 * 3600),
            flush_interval: Duration::from_secs(10),
            dispatch_interval: Duration::from_secs(10),
        }
    }
}

/// What may be changed while nodes run (`nodetool`, JMX). All nodes have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Hints.
    pub hints: HintOptions,
    /// When a replica acknowledges what it has written to its commit log.
    pub commit_log_sync: CommitLogSync,
}

/// One node: where it is, and what of it outlives its process.
#[derive(Clone)]
pub struct NodeOptions {
    /// The address, for clients and other nodes.
    pub address: IpAddr,
    /// The port for clients.
    pub port: u16,
    /// The data centre.
    pub data_center: String,
    /// The rack.
    pub rack: String,
    /// The places on the ring; no two nodes share one.
    pub tokens: Vec<Token>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its disk.
    pub disk: Disk,
}

/// A cluster. The defaults are those of Cassandra 5.0's `cassandra.yaml`.
#[derive(Clone)]
pub struct Options {
    /// The cluster's name.
    pub cluster_name: String,
    /// The nodes, at least one.
    pub nodes: Vec<NodeOptions>,
    /// How long a coordinator waits for acknowledgements of a write.
    pub write_timeout: Duration,
    /// How long a coordinator waits for a read of a partition, repairs included.
    pub read_timeout: Duration,
    /// How long a coordinator waits for each range of a read of many partitions.
    pub range_timeout: Duration,
    /// How long conditional writes get in each other's way before one gives up.
    pub cas_contention_timeout: Duration,
    /// How long a coordinator waits for a TRUNCATE.
    pub truncate_timeout: Duration,
    /// Whether a replica ignores requests whose coordinator has given up by now.
    pub drop_expired: bool,
    /// When a replica acknowledges what it has written to its commit log.
    pub commit_log_sync: CommitLogSync,
    /// The number of commit log records after which they are flushed to tables.
    pub flush_after_records: usize,
    /// Hints.
    pub hints: HintOptions,
    /// A warning for batches of several mutations over this size, in bytes.
    pub batch_size_warn: usize,
    /// No batches of several mutations over this size, in bytes.
    pub batch_size_fail: usize,
    /// A warning for unlogged batches of more partitions.
    pub unlogged_batch_partitions_warn: usize,
    /// No mutations over this size, in bytes (half a commit log segment).
    pub max_mutation_size: usize,
    /// How many tombstones a read may meet on a replica.
    pub tombstone_failure_threshold: usize,
    /// How many requests a coordinator has in flight before it calls itself overloaded.
    pub max_requests: usize,
    /// How often a batch log is looked through for batches to replay.
    pub batch_replay_interval: Duration,
    /// Interval of the nodes' heartbeats.
    pub gossip_interval: Duration,
    /// After how long a silence a node is believed to be down.
    pub failure_timeout: Duration,
    /// How long a starting node waits to hear from the others before it serves clients anyway.
    pub gossip_settle: Duration,
}

impl Options {
    /// A cluster of these nodes, configured as Cassandra is by default.
    pub fn new(nodes: Vec<NodeOptions>) -> Self {
        Self {
            cluster_name: "Test Cluster".to_owned(),
            nodes,
            write_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            range_timeout: Duration::from_secs(10),
            cas_contention_timeout: Duration::from_millis(1800),
            truncate_timeout: Duration::from_secs(60),
            drop_expired: true,
            commit_log_sync: CommitLogSync::Periodic(Duration::from_secs(10)),
            flush_after_records: 10_000,
            hints: HintOptions::default(),
            batch_size_warn: 5 << 10,
            batch_size_fail: 50 << 10,
            unlogged_batch_partitions_warn: 10,
            max_mutation_size: 16 << 20,
            tombstone_failure_threshold: 100_000,
            max_requests: 1024,
            batch_replay_interval: Duration::from_secs(10),
            gossip_interval: Duration::from_secs(1),
            failure_timeout: Duration::from_secs(10),
            gossip_settle: Duration::from_secs(5),
        }
    }
}
