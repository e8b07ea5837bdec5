//! What a worker may be told, with defaults and ranges.

use std::time::Duration;

use crate::binding::Facts;

/// Options of a worker. Everything that the result depends on is in [`Facts`]; the rest only trades memory,
/// latency and throughput, and may differ from run to run and from worker to worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the binding must say.
    pub facts: Facts,
    /// The group whose members share the topic's partitions.
    pub group: String,
    /// A batch closes with this many records: the windows that it touched are written, read and alerted of once
    /// for all of them. At least 1.
    pub batch_records: usize,
    /// A batch closes this long after its first record came, if nothing waits and there is room to write it.
    pub batch_delay: Duration,
    /// A batch closes at the latest this long after its first record came, and then with its next rows that are
    /// handed on; however much waits.
    pub batch_longest: Duration,
    /// Rows are handed on to be written when there are this many, before their batch closes. At least 1.
    pub write_records: usize,
    /// Or when their records have this many bytes of keys and values. At least 1.
    pub write_bytes: usize,
    /// Batches of one partition that may be in flight. At least 1.
    pub in_flight_batches: usize,
    /// Bytes of records of one partition that may wait to be taken into a batch. At least 1.
    pub prefetch_bytes: usize,
    /// Bytes of window counts that one partition may keep in memory. A batch closes when its windows, and the
    /// offsets to count in them, take a quarter of it, so little memory makes small batches; the windows of one
    /// event always fit. At least [`Options::MIN_COUNTS_CACHE_BYTES`].
    pub counts_cache_bytes: usize,
    /// First wait before an unknown request is repeated; it doubles with each repetition.
    pub backoff_min: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
    /// Gives up when a request was not answered for so long; `None` repeats until stopped.
    pub retry_deadline: Option<Duration>,
    /// When stopped, or when a partition is revoked: how long what is in flight may take to finish.
    pub stop_deadline: Duration,
    /// How often the topic's id is checked again.
    pub topic_check_interval: Duration,
    /// Ends when every partition is durable up to the log's end as it was at the start.
    pub until_end: bool,
}

impl Options {
    /// Least [`Options::counts_cache_bytes`].
    pub const MIN_COUNTS_CACHE_BYTES: usize = 1 << 10;

    /// The defaults, for these facts.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            group: "exactlyonce".to_owned(),
            batch_records: 100_000,
            batch_delay: Duration::from_millis(50),
            batch_longest: Duration::from_secs(2),
            write_records: 5_000,
            write_bytes: 1 << 19,
            in_flight_batches: 2,
            prefetch_bytes: 2 << 20,
            counts_cache_bytes: 4 << 20,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(5),
            retry_deadline: None,
            stop_deadline: Duration::from_secs(10),
            topic_check_interval: Duration::from_secs(10),
            until_end: false,
        }
    }
}
