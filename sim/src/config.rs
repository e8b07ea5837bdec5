//! The options of a run, drawn once from the seed. Everything else follows from them and from the streams of
//! [`crate::random`]; `{:?}` prints them whole.

use std::num::{NonZeroI64, NonZeroU16, NonZeroU32};
use std::time::Duration;

use exactlyonce::binding::BindingSpec;
use exactlyonce::event::Health;
use exactlyonce::pipeline::Options;
use exactlyonce::store::{CountLayout, Layout};
use exactlyonce::window::{HealthSet, WindowSpec};

use crate::random::{Random, Stream};

/// Name of the topic.
pub const TOPIC: &str = "exactlyonce.events";

/// Where `init` makes the pipeline start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the log's start.
    Start,
    /// At the log's end: existing records are ignored.
    End,
}

/// A run's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Worker nodes.
    pub workers: u8,
    /// Partitions at the start.
    pub partitions: u8,
    /// Records that are appended in all.
    pub records: u64,
    /// Of these, how many per mille are there when the workers start.
    pub records_at_start_per_mille: u64,
    /// Offsets below the log's start, in every partition.
    pub retired_offsets: i64,
    /// Where the pipeline begins.
    pub begin: Begin,
    /// Different sources.
    pub sources: u64,
    /// Length of a source's name.
    pub source_bytes: u64,
    /// How many records per mille are invalid.
    pub malformed_per_mille: u64,
    /// How many events per mille are late by many windows.
    pub late_per_mille: u64,
    /// How many events per mille repeat an earlier id.
    pub repeated_id_per_mille: u64,
    /// How many records per mille are followed by offsets without records.
    pub gap_per_mille: u64,
    /// Event time of the first event, in milliseconds.
    pub first_ts_ms: i64,
    /// Largest step of event time from one event to the next, in milliseconds.
    pub step_ms: u64,
    /// Windows and alerts.
    pub window: WindowSpec,
    /// See [`BindingSpec::max_mutation_bytes`].
    pub max_mutation_bytes: usize,

    /// Layout of `events`.
    pub layout: Layout,
    /// See [`Options::batch_records`].
    pub batch_records: usize,
    /// See [`Options::batch_delay`].
    pub batch_delay_ms: u64,
    /// See [`Options::batch_longest`].
    pub batch_longest_ms: u64,
    /// See [`Options::write_records`].
    pub write_records: usize,
    /// See [`Options::write_bytes`].
    pub write_bytes: usize,
    /// See [`Options::in_flight_batches`].
    pub in_flight_batches: usize,
    /// See [`Options::prefetch_bytes`].
    pub prefetch_bytes: usize,
    /// See [`Options::counts_cache_bytes`].
    pub counts_cache_bytes: usize,
    /// See [`Options::backoff_min`].
    pub backoff_min_ms: u64,
    /// See [`Options::backoff_max`].
    pub backoff_max_ms: u64,
    /// See [`Options::retry_deadline`].
    pub retry_deadline_ms: Option<u64>,
    /// See [`Options::stop_deadline`].
    pub stop_deadline_ms: u64,
    /// See [`Options::topic_check_interval`].
    pub topic_check_interval_ms: u64,

    /// How long a client waits for a response.
    pub request_timeout_ms: u64,
    /// Longest time that a service takes for a request when nothing is wrong.
    pub service_time_ms: u64,
    /// A member that sends no heartbeat for this long is removed from the group.
    pub session_timeout_ms: u64,
    /// Time between two heartbeats.
    pub heartbeat_ms: u64,
    /// A consumer that is not polled for this long stops its heartbeats.
    pub poll_timeout_ms: u64,
    /// An owner that does not release a revoked partition for this long loses it.
    pub rebalance_timeout_ms: u64,
    /// Maximum number of records per fetch.
    pub fetch_records: u64,
    /// Maximum number of fetches per partition that have not been polled yet.
    pub prefetched_fetches: usize,
    /// How many fetches per mille of an older incarnation are delivered anyway.
    pub stale_deliveries_per_mille: u64,

    /// How long records are appended and faults are started.
    pub chaos_ms: u64,
    /// After all faults have ended, how long the workers may take to drain the log.
    pub settle_limit_ms: u64,
}

impl SimConfig {
    /// The configuration of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, Stream::Config);
        // One in eight has more counts than the pipeline may keep in memory.
        let config = match random.below(8) {
            0 => Self::wide(&mut random),
            _ => Self::narrow(&mut random),
        };
        config.with_layout(&mut random)
    }

    /// The configuration of a seed, among those with few windows.
    pub(crate) fn narrow_of(seed: u64) -> Self {
        let mut random = Random::new(seed, Stream::Config);
        Self::narrow(&mut random).with_layout(&mut random)
    }

    fn with_layout(self, random: &mut Random) -> Self {
        // The simple store keys nothing by it, but it is bound and compared. Drawn last, so that the other options of
        // a seed do not depend on it.
        let layouts = [1, 7, 500_000].map(|rows| NonZeroU32::new(rows).map(Layout::bucketed));
        let layout = random.pick(&layouts).filter(|_| random.coin()).unwrap_or_default();
        let block_ms = NonZeroI64::new(random.pick(&[1, 5_000, 60_000, i64::MAX]));
        let shards = NonZeroU16::new(random.pick(&[1, 2, 16]));
        let counts = match block_ms.zip(shards) {
            Some((block_ms, shards)) => CountLayout { block_ms, shards },
            None => CountLayout::DEFAULT,
        };
        Self { layout: Layout { counts, ..layout }, ..self }
    }

    fn narrow(random: &mut Random) -> Self {
        let (size_ms, slide_ms) =
            random.pick(&[(5_000, 5_000), (5_000, 1_000), (7, 3), (10, 2), (1, 1), (60_000, 7_000)]);
        let levels: &[&[Health]] = &[
            &[Health::Critical],
            &[Health::Critical],
            &[Health::Critical, Health::Warning],
            &[Health::Nominal, Health::Warning, Health::Critical],
        ];
        let request_timeout_ms = random.log_uniform(30..=1_500);
        let session_timeout_ms = random.log_uniform(300..=3_000);
        Self {
            workers: random.within(1..=3) as u8,
            partitions: random.within(1..=3) as u8,
            records: random.log_uniform(10..=500),
            records_at_start_per_mille: random.pick(&[0, 200, 500, 1_000]),
            retired_offsets: random.pick(&[0, 0, 0, 1, 40]),
            begin: random.pick(&[Begin::Start, Begin::Start, Begin::Start, Begin::End]),
            sources: random.within(1..=5),
            source_bytes: random.log_uniform(1..=20),
            malformed_per_mille: random.pick(&[0, 50, 300]),
            late_per_mille: random.pick(&[0, 50, 300]),
            repeated_id_per_mille: random.pick(&[0, 200]),
            gap_per_mille: random.pick(&[0, 30, 300]),
            first_ts_ms: random.pick(&[0, -20, -123_456, 1_700_000_000_000, i64::MIN / 2]),
            step_ms: random.log_uniform(1..=(size_ms as u64).clamp(2, 2_000)),
            window: WindowSpec {
                size_ms,
                slide_ms,
                threshold: random.within(1..=12) as i32,
                health: HealthSet::of(random.pick(levels)),
            },
            max_mutation_bytes: random.pick(&[BindingSpec::MAX_MUTATION_BYTES, 1_500]),
            layout: Layout::ORIGINAL,
            batch_records: random.log_uniform(1..=64) as usize,
            batch_delay_ms: random.log_uniform(1..=60),
            batch_longest_ms: random.log_uniform(1..=2_000),
            write_records: random.log_uniform(1..=64) as usize,
            write_bytes: random.log_uniform(100..=100_000) as usize,
            in_flight_batches: random.within(1..=6) as usize,
            prefetch_bytes: random.log_uniform(100..=100_000) as usize,
            counts_cache_bytes: random.pick(&[1 << 10, 2 << 10, 4 << 10, 16 << 10, 4 << 20]),
            backoff_min_ms: random.log_uniform(1..=20),
            backoff_max_ms: random.log_uniform(20..=500),
            retry_deadline_ms: random.coin().then(|| random.log_uniform(200..=4_000)),
            stop_deadline_ms: random.log_uniform(20..=3_000),
            topic_check_interval_ms: random.log_uniform(100..=4_000),
            request_timeout_ms,
            service_time_ms: random.log_uniform(1..=25),
            session_timeout_ms,
            heartbeat_ms: session_timeout_ms / random.within(3..=6),
            poll_timeout_ms: session_timeout_ms * random.within(1..=4),
            rebalance_timeout_ms: random.log_uniform(100..=3_000),
            fetch_records: random.log_uniform(1..=50),
            prefetched_fetches: random.within(1..=3) as usize,
            stale_deliveries_per_mille: random.pick(&[0, 300, 1_000]),
            chaos_ms: random.log_uniform(1_000..=15_000),
            settle_limit_ms: 120_000,
        }
    }

    /// Long names and hundreds of windows per event. A dozen events fill the cache of counts, and a source repeats
    /// while a batch with it may still be in flight, so counts are evicted, pinned and waited for.
    fn wide(random: &mut Random) -> Self {
        let (size_ms, slide_ms) = random.pick(&[(10_000, 25), (3_000, 6)]);
        let narrow = Self::narrow(random);
        Self {
            partitions: random.within(1..=2) as u8,
            records: random.within(60..=120),
            records_at_start_per_mille: 1_000,
            begin: Begin::Start,
            sources: random.within(10..=16),
            source_bytes: random.within(900..=1_000),
            malformed_per_mille: 20,
            late_per_mille: random.pick(&[0, 50]),
            gap_per_mille: 20,
            step_ms: 20,
            window: WindowSpec { size_ms, slide_ms, threshold: random.within(2..=4) as i32, ..narrow.window },
            max_mutation_bytes: BindingSpec::MAX_MUTATION_BYTES,
            batch_records: random.pick(&[1, 4, 16]),
            in_flight_batches: random.pick(&[1, 6, 8, 10]),
            // Long compared with a fold: a lost write stays unknown while others overtake it.
            request_timeout_ms: random.log_uniform(200..=4_000),
            write_bytes: 100_000,
            prefetch_bytes: 100_000,
            chaos_ms: random.log_uniform(1_000..=6_000),
            ..narrow
        }
    }

    /// What `init` and the workers are given to bind.
    pub fn binding_spec(&self) -> BindingSpec {
        BindingSpec {
            window: self.window,
            max_mutation_bytes: self.max_mutation_bytes,
            ..BindingSpec::new(TOPIC)
        }
    }

    /// The workers' options.
    pub fn options(&self) -> Options {
        let ms = Duration::from_millis;
        Options {
            binding_spec: self.binding_spec(),
            group: "workers".to_owned(),
            batch_records: self.batch_records,
            batch_delay: ms(self.batch_delay_ms),
            batch_longest: ms(self.batch_longest_ms),
            write_records: Some(self.write_records),
            write_bytes: self.write_bytes,
            in_flight_batches: self.in_flight_batches,
            prefetch_bytes: self.prefetch_bytes,
            counts_cache_bytes: self.counts_cache_bytes,
            backoff_min: ms(self.backoff_min_ms),
            backoff_max: ms(self.backoff_max_ms),
            retry_deadline: self.retry_deadline_ms.map(ms),
            stop_deadline: ms(self.stop_deadline_ms),
            topic_check_interval: ms(self.topic_check_interval_ms),
            until_end: false,
        }
    }
}
