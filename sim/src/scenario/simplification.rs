//! Simplifications of a run's options, each of which can be applied alone: a profile draws which of them a scenario has,
//! and a reduction tries which of them leave a violation as it is.

use std::fmt;

use exactlyonce::binding::BindingSpec;
use exactlyonce::pipeline::Options;
use exactlyonce::store::Layout;
use strum::{EnumIter, IntoStaticStr};

use crate::scenario::cassandra::ClusterOptions;
use crate::scenario::kafka::{ClientOptions, KafkaCluster, Protocol, Scheduling};
use crate::scenario::options::{Begin, Heal, RunOptions, TOPIC};
use crate::scenario::{Log, Tables};

/// A simplification. Where two of them set the same option, the second changes only values that the first did not set,
/// so that trying all of them again and again ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Simplification {
    /// The pipeline begins at the log's start.
    BeginAtStart,
    /// Every fault ends before the log must be drained.
    HealEverything,
    /// The log has all offsets from 0 on.
    NoRetiredOffsets,
    /// One batch of a partition in flight.
    OneBatchInFlight,
    /// As many records in a batch as production has.
    DefaultBatches,
    /// One record in a batch.
    BatchesOfOneRecord,
    /// As many rows in a call as production has.
    DefaultWrites,
    /// One row in a call.
    WritesOfOneRow,
    /// Batches close as early as in production.
    DefaultBatchTimes,
    /// As much memory for records as in production.
    DefaultPrefetch,
    /// As much memory for counts as in production.
    LargeCache,
    /// Retries wait as long as in production.
    DefaultBackoff,
    /// Workers never give up.
    NoRetryDeadline,
    /// Requests may finish as long as in production.
    DefaultStopDeadline,
    /// The topic is checked as rarely as in production.
    DefaultTopicChecks,
    /// Windows as in production.
    DefaultWindow,
    /// Windows that do not overlap.
    WindowsSideBySide,
    /// An alert at the first event.
    ThresholdOfOne,
    /// Records as large as in production.
    DefaultMutationBytes,
    /// Tables as in production.
    DefaultLayout,
    /// No delivery for an older incarnation.
    NoStaleDeliveries,
    /// One fetch ahead.
    OnePrefetchedFetch,
    /// Large fetches.
    LargeFetches,
    /// Simple services that need a millisecond.
    FastServices,
    /// Clients of simple services that wait a second.
    LongRequestTimeout,
    /// Sessions of a second, and releases that may take as long.
    LongSessions,
    /// Coordinators that wait two seconds, and clients that wait longer.
    LongCoordinatorTimeouts,
    /// Nodes that are considered down after two seconds.
    LongFailureTimeout,
    /// Hints that are kept for ten seconds, and sent each second.
    DefaultHints,
    /// Commit logs that are synced before a write is acknowledged, at once.
    SyncedFirst,
    /// Reads that repair.
    ReadsRepair,
    /// Reads that query no additional replica.
    NoSpeculativeRetry,
    /// Links of a millisecond between nodes.
    FastLinks,
    /// The nodes of one data center.
    OneDataCenter,
    /// A group of Kafka whose members assign the partitions.
    ClassicProtocol,
    /// Brokers of Kafka that are fast, and noticed soon when they are down.
    FastBrokers,
    /// Clients of Kafka with the same options, and a producer that appends records one by one.
    EqualClients,
    /// Threads of clients that take turns at random.
    RandomScheduling,
    /// Tables that are bound before the faults begin.
    BoundBeforeFaults,
}

impl fmt::Display for Simplification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

impl Simplification {
    /// Changes the options, if they are not that simple yet.
    pub fn apply(self, options: &mut RunOptions, tables: &mut Tables, log: &mut Log) {
        if let Log::Kafka(cluster) = log {
            self.apply_to_kafka(cluster);
        }
        if let Tables::Cassandra(cluster) = tables {
            self.apply_to_cluster(cluster);
        }
        self.apply_to_run(options);
        self.apply_to_workers(&mut options.pipeline);
    }

    fn apply_to_cluster(self, cluster: &mut ClusterOptions) {
        match self {
            Self::LongCoordinatorTimeouts => {
                (cluster.write_timeout_ms, cluster.read_timeout_ms) = (2_000, 2_000);
                (cluster.request_timeout_ms, cluster.connect_timeout_ms) = (4_000, 2_000);
            }
            Self::LongFailureTimeout => cluster.failure_timeout_ms = 2_000,
            Self::DefaultHints => (cluster.hint_window_ms, cluster.hint_interval_ms) = (10_000, 1_000),
            Self::SyncedFirst => (cluster.synced_first, cluster.sync_ms) = (true, 1),
            Self::ReadsRepair => cluster.reads_repair = true,
            Self::NoSpeculativeRetry => cluster.speculative_retry = "NEVER".to_owned(),
            Self::FastLinks => cluster.link_ms = 1,
            Self::OneDataCenter => cluster.data_centers = 1,
            _ => {}
        }
    }

    fn apply_to_kafka(self, cluster: &mut KafkaCluster) {
        match self {
            Self::ClassicProtocol => cluster.protocol = Protocol::Classic,
            Self::RandomScheduling => cluster.scheduling = Scheduling::Random,
            Self::FastBrokers => {
                (cluster.link_ms, cluster.coordinator_load_ms) = (1, 1);
                (cluster.broker_session_ms, cluster.controller_failover_ms) = (1_000, 100);
                (cluster.replica_lag_ms, cluster.checkpoint_ms) = (1_000, 1_000);
                cluster.topic_known_after_ms = None;
            }
            Self::EqualClients => {
                cluster.appended_together = None;
                for client in &mut cluster.clients {
                    *client = ClientOptions {
                        poll_interval_ms: 4_000,
                        fetch_wait_ms: 100,
                        fetch_bytes: 1 << 18,
                        request_timeout_ms: 2_000,
                        metadata_interval_ms: 2_000,
                        rack: None,
                        queued_records: None,
                    };
                }
            }
            _ => {}
        }
    }

    fn apply_to_run(self, options: &mut RunOptions) {
        match self {
            Self::BeginAtStart => options.begin = Begin::Start,
            Self::HealEverything => options.heal = Heal::Everything,
            Self::BoundBeforeFaults => options.init_among_faults = false,
            Self::NoRetiredOffsets => options.retired_offsets = 0,
            Self::DefaultLayout => options.layout = Layout::default(),
            Self::NoStaleDeliveries => options.stale_deliveries_per_mille = 0,
            Self::OnePrefetchedFetch => options.prefetched_fetches = 1,
            Self::LargeFetches => options.fetch_records = 50,
            Self::FastServices => options.service_time_ms = 1,
            Self::LongRequestTimeout => options.request_timeout_ms = 1_000,
            Self::LongSessions => {
                (options.session_timeout_ms, options.heartbeat_ms) = (1_000, 250);
                (options.poll_timeout_ms, options.rebalance_timeout_ms) = (4_000, 1_000);
            }
            _ => {}
        }
    }

    fn apply_to_workers(self, options: &mut Options) {
        let default = Options::new(BindingSpec::new(TOPIC));
        let (spec, default_spec) = (&mut options.binding_spec, &default.binding_spec);
        match self {
            Self::OneBatchInFlight => options.in_flight_batches = 1,
            Self::DefaultBatches => options.batch_records = default.batch_records,
            Self::BatchesOfOneRecord if options.batch_records != default.batch_records => {
                options.batch_records = 1;
            }
            Self::DefaultWrites => {
                (options.write_records, options.write_bytes) = (default.write_records, default.write_bytes);
            }
            Self::WritesOfOneRow if options.write_records != default.write_records => {
                (options.write_records, options.write_bytes) = (Some(1), default.write_bytes);
            }
            Self::DefaultBatchTimes => {
                (options.batch_delay, options.batch_longest) = (default.batch_delay, default.batch_longest);
            }
            Self::DefaultPrefetch => options.prefetch_bytes = default.prefetch_bytes,
            Self::LargeCache => options.counts_cache_bytes = default.counts_cache_bytes,
            Self::DefaultBackoff => {
                (options.backoff_min, options.backoff_max) = (default.backoff_min, default.backoff_max);
            }
            Self::NoRetryDeadline => options.retry_deadline = None,
            Self::DefaultStopDeadline => options.stop_deadline = default.stop_deadline,
            Self::DefaultTopicChecks => options.topic_check_interval = default.topic_check_interval,
            Self::DefaultWindow => spec.window = default_spec.window,
            Self::WindowsSideBySide if spec.window != default_spec.window => {
                spec.window.slide_ms = spec.window.size_ms;
            }
            Self::ThresholdOfOne if spec.window != default_spec.window => spec.window.threshold = 1,
            Self::DefaultMutationBytes => spec.max_mutation_bytes = default_spec.max_mutation_bytes,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    #[test]
    fn each_simplification_changes_something_and_all_of_them_in_order_end_in_one_value() {
        let drafts: Vec<Draft> = World::iter()
            .flat_map(|world| (0..50).map(move |seed| Draft::new(seed, world, Profile::Standard)))
            .collect();
        for simplification in Simplification::iter() {
            let changes = |draft: &&Draft| {
                let (mut options, mut tables) = (draft.options.clone(), draft.tables.clone());
                let mut log = draft.log.clone();
                simplification.apply(&mut options, &mut tables, &mut log);
                (&options, &tables, &log) != (&draft.options, &draft.tables, &draft.log)
            };
            assert!(drafts.iter().any(|draft| changes(&draft)), "{simplification}");
        }
        for draft in drafts {
            let (mut options, mut tables, mut log) = (draft.options, draft.tables, draft.log);
            let mut apply_all = || {
                Simplification::iter().for_each(|each| each.apply(&mut options, &mut tables, &mut log));
                (options.clone(), tables.clone(), log.clone())
            };
            assert_eq!(apply_all(), apply_all(), "seed {}", draft.seed);
        }
    }
}
