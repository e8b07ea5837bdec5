//! The options of a simulated Kafka cluster and of its clients, and how they are drawn.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use simulated_kafka::cluster::Options;

use crate::random::{Random, Stream};
use crate::scenario::options::RunOptions;

/// The number of brokers.
pub const BROKERS: u8 = 3;

/// How a worker's group shares the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A member assigns them (`cooperative-sticky`).
    Classic,
    /// The coordinator assigns them (KIP-848).
    Consumer,
    /// The first process of a worker uses the first, those after it the second: a rolling upgrade.
    Upgraded,
}

/// How the threads of a client take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scheduling {
    /// Each time at random.
    #[default]
    Random,
    /// By random priorities, of which few change: finds what needs few, but long, preemptions.
    Priorities {
        /// How many points there are at which the running thread gets the lowest priority.
        changes: u32,
        /// The points are drawn from this many first calls of all threads to the C library.
        calls: u64,
    },
}

impl Scheduling {
    fn is_random(&self) -> bool {
        *self == Self::Random
    }

    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Priorities {
                changes: random.within(1..=6) as u32,
                calls: random.log_uniform(5_000..=500_000),
            },
            _ => Self::Random,
        }
    }
}

/// How a worker is configured as a client of Kafka. Times are in simulated milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientOptions {
    /// The longest time between two polls (`max.poll.interval.ms`), at least that of the session.
    pub poll_interval_ms: u64,
    /// The longest time that a broker waits for records (`fetch.wait.max.ms`).
    pub fetch_wait_ms: u64,
    /// The bytes of a partition in a fetch (`fetch.message.max.bytes`); a whole batch is always returned.
    pub fetch_bytes: u64,
    /// The timeout of a request.
    pub request_timeout_ms: u64,
    /// The time between two refreshes of metadata.
    pub metadata_interval_ms: u64,
    /// The rack (`client.rack`), from 1: its broker is read from if it is in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<u8>,
    /// A partition is fetched while fewer records are queued (`queued.min.messages`); the default fetches all that a scenario has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_records: Option<u64>,
}

/// A simulated Kafka cluster, and its clients. Times are in simulated milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaCluster {
    /// How the group shares the partitions.
    pub protocol: Protocol,
    /// The longest time of a message between brokers.
    pub link_ms: u64,
    /// A broker without a heartbeat for this long is fenced (`broker.session.timeout.ms`).
    pub broker_session_ms: u64,
    /// A follower that lags for this long is not in sync (`replica.lag.time.max.ms`).
    pub replica_lag_ms: u64,
    /// The time between two checkpoints of the high watermarks.
    pub checkpoint_ms: u64,
    /// How long a coordinator takes to load a partition of its topic.
    pub coordinator_load_ms: u64,
    /// How long another broker takes to become the controller.
    pub controller_failover_ms: u64,
    /// How the threads of clients take turns.
    #[serde(default, skip_serializing_if = "Scheduling::is_random")]
    pub scheduling: Scheduling,
    /// How many records the producer appends together before the workers start; otherwise one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appended_together: Option<u64>,
    /// The topic is created when the tables are there already, and one or two brokers learn of it so much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_known_after_ms: Option<u64>,
    /// By worker.
    pub clients: Vec<ClientOptions>,
}

/// The latest time at which a broker learns of the topic: clients ask again for two seconds.
const LATEST_TOPIC_MS: u64 = 1_500;

/// Shortest session that the simulated brokers allow.
const SHORTEST_SESSION_MS: u64 = 1_000;

impl KafkaCluster {
    pub(crate) fn draw(seed: u64, options: &RunOptions) -> Self {
        let random = &mut Random::new(seed, Stream::KafkaOptions);
        let session_ms = Self::session_ms(options);
        let client = |random: &mut Random| ClientOptions {
            poll_interval_ms: session_ms * random.within(1..=4),
            fetch_wait_ms: random.log_uniform(50..=500),
            fetch_bytes: random.log_uniform(200..=1 << 20),
            request_timeout_ms: random.log_uniform(1_000..=5_000),
            metadata_interval_ms: random.log_uniform(500..=10_000),
            rack: (random.below(4) == 0).then(|| random.within(1..=BROKERS.into()) as u8),
            queued_records: None,
        };
        let broker_session_ms = random.log_uniform(1_000..=4_000);
        let mut cluster = Self {
            protocol: random.pick(&[
                Protocol::Classic,
                Protocol::Classic,
                Protocol::Consumer,
                Protocol::Consumer,
                Protocol::Upgraded,
            ]),
            link_ms: random.log_uniform(1..=20),
            broker_session_ms,
            replica_lag_ms: random.log_uniform(1_000..=5_000),
            checkpoint_ms: random.log_uniform(200..=5_000),
            coordinator_load_ms: random.log_uniform(1..=1_000),
            controller_failover_ms: random.log_uniform(100..=1_000),
            clients: (0..options.workers).map(|_| client(random)).collect(),
            scheduling: Scheduling::draw(random),
            appended_together: None,
            topic_known_after_ms: None,
        };
        let random = &mut Random::new(seed, Stream::QueuedRecords);
        for client in &mut cluster.clients {
            client.queued_records = (random.below(4) == 0).then(|| random.log_uniform(1..=20));
        }
        cluster.appended_together = random.coin().then(|| random.log_uniform(2..=100));
        cluster.topic_known_after_ms = (random.below(4) == 0).then(|| random.within(100..=LATEST_TOPIC_MS));
        cluster
    }

    /// The timeout of sessions, in simulated milliseconds.
    pub(crate) fn session_ms(options: &RunOptions) -> u64 {
        options.session_timeout_ms.max(SHORTEST_SESSION_MS)
    }

    /// The options of a worker. A profile may have drawn more workers than there are options: some have the same.
    pub fn client(&self, worker: u8) -> Option<&ClientOptions> {
        self.clients.iter().cycle().nth(usize::from(worker))
    }

    /// Applies this to the cluster's options.
    pub fn configure(&self, run: &RunOptions, options: &mut Options) {
        let ms = Duration::from_millis;
        options.replica_lag = ms(self.replica_lag_ms);
        options.heartbeat_interval = ms(self.broker_session_ms / 4);
        options.controller.session_timeout = ms(self.broker_session_ms);
        options.controller.failover_delay = ms(self.controller_failover_ms);
        options.high_watermark_checkpoint = ms(self.checkpoint_ms);
        options.log_checkpoint = ms(self.checkpoint_ms * 2);
        options.coordinator_load_time = ms(self.coordinator_load_ms);
        options.replica_fetch_wait = ms(100);
        options.replica_fetch_backoff = ms(100);
        options.retransmission = ms(200);
        options.shutdown_timeout = ms(2_000);
        options.auto_create_topics = false;
        // As the guarantee requires it.
        options.controller.topic_defaults.insert("min.insync.replicas".to_owned(), "2".to_owned());
        options.rack_aware = true;
        options.groups.min_session_timeout = SHORTEST_SESSION_MS as i32;
        let session_ms = Self::session_ms(run);
        options.groups.consumer_session_timeout = session_ms as i32;
        options.groups.consumer_heartbeat_interval = (session_ms / 5) as i32;
    }
}
