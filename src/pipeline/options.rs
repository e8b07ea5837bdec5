//! The options of a worker, with defaults and ranges.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::binding::BindingSpec;
use crate::milliseconds;

/// Options of a worker. Everything that affects the result is in [`BindingSpec`]; the other options only trade memory,
/// latency and throughput, and may differ from run to run and from worker to worker. Serialized, times are in whole
/// milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// What the binding must say.
    pub binding_spec: BindingSpec,
    /// The group whose members share the topic's partitions.
    pub group: String,
    /// Maximum records of a batch: the counts, sums and alerts of the windows that it touched are read and written once
    /// for all of them. At least 1.
    pub batch_records: usize,
    /// A batch closes this long after its first record came, if no record is waiting and a write slot is free.
    #[serde(rename = "batch_delay_ms", with = "milliseconds")]
    pub batch_delay: Duration,
    /// A batch closes at the first flush of rows that is at least this long after its first record came, however many
    /// records are waiting.
    #[serde(rename = "batch_longest_ms", with = "milliseconds")]
    pub batch_longest: Duration,
    /// Rows are flushed to the writers when there are this many, before their batch closes. At least 1; `None` for
    /// [`Store::rows_per_call`](crate::store::Store::rows_per_call).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_records: Option<usize>,
    /// Rows are also flushed when their records have this many bytes of keys and values. At least 1.
    pub write_bytes: usize,
    /// Batches of one partition that may be in flight. At least 1.
    pub in_flight_batches: usize,
    /// Bytes of records of one partition that may wait to be taken into a batch. At least 1.
    pub prefetch_bytes: usize,
    /// Bytes of window counts that one partition may keep in memory. A batch closes when its windows, and the
    /// offsets to count in them, take a third of it, so little memory makes small batches; the windows of one
    /// event always fit. At least [`Options::MIN_COUNTS_CACHE_BYTES`].
    pub counts_cache_bytes: usize,
    /// First wait before a request with an unknown outcome is repeated; it doubles with each repetition.
    #[serde(rename = "backoff_min_ms", with = "milliseconds")]
    pub backoff_min: Duration,
    /// Longest such wait. A consumer is polled again after a second at the latest.
    #[serde(rename = "backoff_max_ms", with = "milliseconds")]
    pub backoff_max: Duration,
    /// How long a request is retried before the worker gives up; `None` retries until stopped.
    #[serde(rename = "retry_deadline_ms", with = "milliseconds::optional", default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_deadline: Option<Duration>,
    /// How long requests in flight may take to finish when the worker is stopped or a partition is revoked.
    #[serde(rename = "stop_deadline_ms", with = "milliseconds")]
    pub stop_deadline: Duration,
    /// How often the topic's id is checked again.
    #[serde(rename = "topic_check_interval_ms", with = "milliseconds")]
    pub topic_check_interval: Duration,
    /// Ends when every partition is durable up to the log's end as it was at the start.
    pub until_end: bool,
}

impl Options {
    /// Minimum of [`Options::counts_cache_bytes`].
    pub const MIN_COUNTS_CACHE_BYTES: usize = 1 << 10;

    /// The defaults, for these parameters.
    pub fn new(binding_spec: BindingSpec) -> Self {
        Self {
            binding_spec,
            group: "exactlyonce".to_owned(),
            batch_records: 100_000,
            batch_delay: Duration::from_millis(50),
            batch_longest: Duration::from_secs(2),
            write_records: None,
            write_bytes: 1 << 19,
            in_flight_batches: 2,
            prefetch_bytes: 1 << 20,
            counts_cache_bytes: 2 << 20,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(5),
            retry_deadline: None,
            stop_deadline: Duration::from_secs(10),
            topic_check_interval: Duration::from_secs(10),
            until_end: false,
        }
    }
}
