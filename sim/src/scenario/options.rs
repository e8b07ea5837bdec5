//! The options of a run, and how they are drawn.

use std::num::{NonZeroI64, NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::time::Duration;

use exactlyonce::binding::BindingSpec;
use exactlyonce::event::Health;
use exactlyonce::pipeline::Options;
use exactlyonce::store::{CountLayout, Layout};
use exactlyonce::window::{HealthSet, WindowSpec};
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::scenario::workload::WorkloadShape;

/// Name of the topic.
pub const TOPIC: &str = "exactlyonce.events";

/// Where `init` makes the pipeline start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// At the log's start.
    Start,
    /// At the log's end: existing records are ignored.
    End,
}

/// What ends when the time of the faults is over, before the workers must drain the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// Every fault.
    #[default]
    Everything,
    /// Every fault, but one worker of several and one node of Cassandra stay down.
    Core,
    /// Every fault but those that lose, delay or refuse requests and messages at random: these affect one in twenty at most.
    Rates,
}

/// A run's options. Times are in simulated milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Worker nodes.
    pub workers: u8,
    /// Partitions at the start.
    pub partitions: u8,
    /// Offsets below the log's start, in every partition.
    pub retired_offsets: i64,
    /// Where the pipeline begins.
    pub begin: Begin,
    /// Whether faults begin before `init` ends, and the operator is killed now and then.
    #[serde(default)]
    pub init_among_faults: bool,
    /// How long records are appended and faults are started.
    pub chaos_ms: u64,
    /// What ends then.
    #[serde(default)]
    pub heal: Heal,
    /// How long no progress may move after that, until the log is drained.
    pub settle_limit_ms: u64,

    /// How long a client of a simple service waits for a response.
    pub request_timeout_ms: u64,
    /// Longest time that a simple service takes for a request when nothing is wrong.
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

    /// Layout of the tables. The simple store keys nothing by it, but it is bound and compared.
    pub layout: Layout,
    /// The options of every worker.
    pub pipeline: Options,
}

/// How much longer than its deadlines a worker may run that was asked to stop.
const STOP_SLACK: Duration = Duration::from_secs(1);

impl RunOptions {
    /// How long a worker that is asked to stop may still run: until its deadline, and as long again to leave the group.
    pub(crate) fn longest_stop(&self) -> Duration {
        self.pipeline.stop_deadline * 2 + STOP_SLACK
    }

    /// Few windows, and small batches of few records.
    pub(crate) fn narrow(random: &mut Random) -> (Self, WorkloadShape) {
        let (size_ms, slide_ms) =
            random.pick(&[(5_000, 5_000), (5_000, 1_000), (7, 3), (10, 2), (1, 1), (60_000, 7_000)]);
        let levels: &[&[Health]] = &[
            &[Health::Critical],
            &[Health::Critical],
            &[Health::Critical, Health::Warning],
            &[Health::Nominal, Health::Warning, Health::Critical],
        ];
        let ms = Duration::from_millis;
        let request_timeout_ms = random.log_uniform(30..=1_500);
        let session_timeout_ms = random.log_uniform(300..=3_000);
        let shape = WorkloadShape {
            records: random.log_uniform(10..=500),
            at_start_per_mille: random.pick(&[0, 200, 500, 1_000]),
            sources: random.within(1..=5),
            source_bytes: random.log_uniform(1..=20),
            malformed_per_mille: random.pick(&[0, 50, 300]),
            late_per_mille: random.pick(&[0, 50, 300]),
            repeated_id_per_mille: random.pick(&[0, 200]),
            gap_per_mille: random.pick(&[0, 30, 300]),
            first_ts_ms: random.pick(&[0, -20, -123_456, 1_700_000_000_000, i64::MIN / 2]),
            step_ms: random.log_uniform(1..=(size_ms as u64).clamp(2, 2_000)),
        };
        let window = WindowSpec {
            size_ms,
            slide_ms,
            threshold: random.within(1..=12) as i32,
            health: HealthSet::of(random.pick(levels)),
        };
        let max_mutation_bytes = random.pick(&[BindingSpec::MAX_MUTATION_BYTES, 1_500]);
        let pipeline = Options {
            binding_spec: BindingSpec { window, max_mutation_bytes, ..BindingSpec::new(TOPIC) },
            group: "workers".to_owned(),
            batch_records: random.log_uniform(1..=64) as usize,
            batch_delay: ms(random.log_uniform(1..=60)),
            batch_longest: ms(random.log_uniform(1..=2_000)),
            write_records: Some(random.log_uniform(1..=64) as usize),
            write_bytes: random.log_uniform(100..=100_000) as usize,
            in_flight_batches: random.within(1..=6) as usize,
            prefetch_bytes: random.log_uniform(100..=100_000) as usize,
            counts_cache_bytes: random.pick(&[1 << 10, 2 << 10, 4 << 10, 16 << 10, 4 << 20]),
            backoff_min: ms(random.log_uniform(1..=20)),
            backoff_max: ms(random.log_uniform(20..=500)),
            retry_deadline: random.coin().then(|| ms(random.log_uniform(200..=4_000))),
            stop_deadline: ms(random.log_uniform(20..=3_000)),
            topic_check_interval: ms(random.log_uniform(100..=4_000)),
            until_end: false,
        };
        let mut options = Self {
            workers: random.within(1..=3) as u8,
            partitions: random.within(1..=3) as u8,
            retired_offsets: random.pick(&[0, 0, 0, 1, 40]),
            begin: random.pick(&[Begin::Start, Begin::Start, Begin::Start, Begin::End]),
            init_among_faults: false,
            chaos_ms: random.log_uniform(4_000..=20_000),
            heal: Heal::Everything,
            settle_limit_ms: 120_000,
            request_timeout_ms,
            // Far below the timeout, so that a run can drain its log.
            service_time_ms: random.log_uniform(1..=(request_timeout_ms / 8).clamp(1, 25)),
            session_timeout_ms,
            heartbeat_ms: session_timeout_ms / random.within(3..=6),
            poll_timeout_ms: session_timeout_ms * random.within(1..=4),
            rebalance_timeout_ms: random.log_uniform(100..=3_000),
            fetch_records: random.log_uniform(1..=50),
            prefetched_fetches: random.within(1..=3) as usize,
            stale_deliveries_per_mille: random.pick(&[0, 300, 1_000]),
            layout: layout(random),
            pipeline,
        };
        if random.below(5) == 0 {
            options.tighten(random);
        }
        (options, shape)
    }

    /// Sessions with a timeout in this range, heartbeats to match, and a poll timeout of so many sessions.
    pub(crate) fn draw_sessions(
        &mut self,
        random: &mut Random,
        session_timeout_ms: RangeInclusive<u64>,
        sessions_of_a_poll: RangeInclusive<u64>,
    ) {
        self.session_timeout_ms = random.log_uniform(session_timeout_ms);
        self.heartbeat_ms = self.session_timeout_ms / random.within(3..=6);
        self.poll_timeout_ms = self.session_timeout_ms * random.within(sessions_of_a_poll);
    }

    /// Space for few records everywhere, so that every buffer is full when something is slow.
    pub(crate) fn tighten(&mut self, random: &mut Random) {
        self.fetch_records = random.within(1..=4);
        self.pipeline.prefetch_bytes = random.log_uniform(100..=1_000) as usize;
        self.pipeline.batch_records = random.within(1..=4) as usize;
        self.pipeline.in_flight_batches = random.within(1..=2) as usize;
    }

    /// Long names and hundreds of windows per event. A dozen events fill the cache of counts, and a source repeats
    /// while a batch with it may still be in flight, so counts are evicted, pinned and waited for.
    pub(crate) fn wide(random: &mut Random) -> (Self, WorkloadShape) {
        let (size_ms, slide_ms) = random.pick(&[(10_000, 50), (3_000, 15)]);
        let (mut options, narrow) = Self::narrow(random);
        options.partitions = random.within(1..=2) as u8;
        options.begin = Begin::Start;
        // Long compared with a fold: a lost write stays unknown while others overtake it.
        options.request_timeout_ms = random.log_uniform(200..=4_000);
        options.chaos_ms = random.log_uniform(3_000..=8_000);
        let pipeline = &mut options.pipeline;
        let window = &mut pipeline.binding_spec.window;
        (window.size_ms, window.slide_ms) = (size_ms, slide_ms);
        window.threshold = random.within(2..=4) as i32;
        pipeline.binding_spec.max_mutation_bytes = BindingSpec::MAX_MUTATION_BYTES;
        pipeline.batch_records = random.pick(&[1, 4, 16]);
        pipeline.in_flight_batches = random.pick(&[1, 6, 8, 10]);
        pipeline.write_bytes = 100_000;
        pipeline.prefetch_bytes = 100_000;
        let shape = WorkloadShape {
            records: random.within(50..=100),
            at_start_per_mille: 1_000,
            sources: random.within(10..=16),
            source_bytes: random.within(900..=1_000),
            malformed_per_mille: 20,
            late_per_mille: random.pick(&[0, 50]),
            gap_per_mille: 20,
            step_ms: 20,
            ..narrow
        };
        (options, shape)
    }
}

fn layout(random: &mut Random) -> Layout {
    let layouts = [1, 7, 500_000].map(|rows| NonZeroU32::new(rows).map(Layout::bucketed));
    let layout = random.pick(&layouts).filter(|_| random.coin()).unwrap_or_default();
    let block_ms = NonZeroI64::new(random.pick(&[1, 5_000, 60_000, i64::MAX]));
    let shards = NonZeroU16::new(random.pick(&[1, 2, 16]));
    let counts = match block_ms.zip(shards) {
        Some((block_ms, shards)) => CountLayout { block_ms, shards },
        None => CountLayout::DEFAULT,
    };
    Layout { counts, ..layout }
}
