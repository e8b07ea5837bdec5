//! What a cluster consists of and how it is configured.

use std::sync::Arc;
use std::time::Duration;

use simulated_hosts::clock::Clock;

use super::observe::Observer;
pub use crate::controller::ControllerSettings;
use crate::group::GroupConfig;
use crate::log::Disk;
use crate::quota::Window;
use crate::sasl::SaslOptions;
use crate::transaction::TransactionConfig;
use crate::types::NodeId;

/// One broker: where it is, and what of it outlives its process.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Its id (`node.id`), another one for each.
    pub id: NodeId,
    /// The address that clients get for it (`advertised.listeners`).
    pub host: String,
    /// The address that clients get for it.
    pub port: u16,
    /// Its rack (`broker.rack`).
    pub rack: Option<String>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its disk.
    pub disk: Disk,
}

/// A cluster. The defaults are those of Kafka 4.1's `server.properties`, without the file that comes with it.
#[derive(Clone)]
pub struct Options {
    /// The cluster's id.
    pub cluster_id: String,
    /// The brokers, at least one.
    pub brokers: Vec<BrokerOptions>,
    /// The controller.
    pub controller: ControllerSettings,
    /// How often a broker sends a heartbeat to the controller (`broker.heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// How long a follower may lag until it is not in sync (`replica.lag.time.max.ms`).
    pub replica_lag: Duration,
    /// How long a follower's fetch waits at the leader for records (`replica.fetch.wait.max.ms`).
    pub replica_fetch_wait: Duration,
    /// How long a follower waits after an error (`replica.fetch.backoff.ms`).
    pub replica_fetch_backoff: Duration,
    /// How many bytes a follower fetches of a partition (`replica.fetch.max.bytes`).
    pub replica_fetch_bytes: usize,
    /// After how long a message to another broker is sent again that has no response. TCP would send its segments again.
    pub retransmission: Duration,
    /// How often the high watermarks are written to the disk (`replica.high.watermark.checkpoint.interval.ms`).
    pub high_watermark_checkpoint: Duration,
    /// How often the log starts are written to the disk (`log.flush.start.offset.checkpoint.interval.ms`), and the
    /// recovery points (`log.flush.offset.checkpoint.interval.ms`).
    pub log_checkpoint: Duration,
    /// How often retention is looked at (`log.retention.check.interval.ms`).
    pub retention_check: Duration,
    /// How often compaction is looked at (`log.cleaner.backoff.ms`).
    pub cleaner_backoff: Duration,
    /// After how long a silent producer is forgotten (`producer.id.expiration.ms`).
    pub producer_expiration: Duration,
    /// Whether topics are created when a client asks for them (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// How long a broker ends gracefully at most, while others take over what it leads.
    pub shutdown_timeout: Duration,
    /// How many fetch sessions a broker keeps (`max.incremental.fetch.session.cache.slots`), in eight shards of as many
    /// each, so that fewer than eight are none.
    pub fetch_sessions: usize,
    /// Whether consumers that say their rack are sent to an in-sync replica there (`replica.selector.class` is
    /// `RackAwareReplicaSelector`).
    pub rack_aware: bool,
    /// Who may use listeners that require SASL ([`crate::server::ServerOptions::sasl`]).
    pub sasl: SaslOptions,
    /// How the rates are measured that quotas bound.
    pub quota_window: Window,
    /// The coordinators of groups.
    pub groups: GroupConfig,
    /// The coordinators of transactions.
    pub transactions: TransactionConfig,
    /// Whether leaders verify that a partition is part of a transaction before they append to it
    /// (`transaction.partition.verification.enable`).
    pub verify_transactions: bool,
    /// How long a coordinator takes to load a partition of its topic. Kafka's takes as long as there is to read.
    pub coordinator_load_time: Duration,
    /// The partitions of `__consumer_offsets` (`offsets.topic.num.partitions`).
    pub offsets_partitions: i32,
    /// Its replicas (`offsets.topic.replication.factor`).
    pub offsets_replication: i16,
    /// The partitions of `__transaction_state` (`transaction.state.log.num.partitions`).
    pub transaction_partitions: i32,
    /// Its replicas (`transaction.state.log.replication.factor`).
    pub transaction_replication: i16,
    /// Its in-sync replicas (`transaction.state.log.min.isr`).
    pub transaction_min_in_sync: i16,
    /// Who learns what happens in the cluster, and when.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Options {
    /// A cluster of these brokers, configured as Kafka is by default.
    pub fn new(brokers: Vec<BrokerOptions>) -> Self {
        Self {
            cluster_id: "c2ltdWxhdGVkLWthZmth".to_owned(),
            brokers,
            controller: ControllerSettings::default(),
            heartbeat_interval: Duration::from_secs(2),
            replica_lag: Duration::from_secs(30),
            replica_fetch_wait: Duration::from_millis(500),
            replica_fetch_backoff: Duration::from_secs(1),
            replica_fetch_bytes: 1 << 20,
            retransmission: Duration::from_secs(1),
            high_watermark_checkpoint: Duration::from_secs(5),
            log_checkpoint: Duration::from_secs(60),
            retention_check: Duration::from_secs(300),
            cleaner_backoff: Duration::from_secs(15),
            producer_expiration: Duration::from_secs(86_400),
            auto_create_topics: true,
            shutdown_timeout: Duration::from_secs(30),
            fetch_sessions: 1000,
            rack_aware: false,
            sasl: SaslOptions::default(),
            quota_window: Window::default(),
            groups: GroupConfig::default(),
            transactions: TransactionConfig::default(),
            verify_transactions: true,
            coordinator_load_time: Duration::ZERO,
            offsets_partitions: 50,
            offsets_replication: 3,
            transaction_partitions: 50,
            transaction_replication: 3,
            transaction_min_in_sync: 2,
            observer: None,
        }
    }
}
