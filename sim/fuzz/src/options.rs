//! The options that edits set, each to one of a few values of its distribution (`RunOptions::narrow`). What depends on an
//! option is set with it.

use std::time::Duration;

use exactlyonce::binding::BindingSpec;
use simulation::scenario::options::{Begin, Heal, RunOptions};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// One of them.
fn one<T: Copy>(choices: &[T], number: usize) -> T {
    choices[number % choices.len()]
}

/// Each sets an option to the value of a number, any number.
pub const CHOICES: [fn(&mut RunOptions, usize); 28] = [
    |options, n| options.workers = one(&[1, 2, 3], n),
    |options, n| options.partitions = one(&[1, 2, 3], n),
    |options, n| options.retired_offsets = one(&[0, 1, 40], n),
    |options, n| options.begin = one(&[Begin::Start, Begin::End], n),
    |options, n| options.heal = one(&[Heal::Everything, Heal::Core, Heal::Rates], n),
    |options, n| options.chaos_ms = one(&[1_000, 2_000, 4_000, 8_000, 16_000], n),
    |options, n| {
        options.request_timeout_ms = one(&[30, 60, 120, 250, 500, 1_000, 1_500], n);
        options.service_time_ms = options.service_time_ms.min((options.request_timeout_ms / 8).max(1));
    },
    |options, n| {
        options.session_timeout_ms = one(&[300, 600, 1_200, 3_000], n);
        options.heartbeat_ms = options.session_timeout_ms / 4;
        options.poll_timeout_ms = options.session_timeout_ms * 2;
    },
    |options, n| options.poll_timeout_ms = options.session_timeout_ms * one(&[1, 2, 4], n),
    |options, n| options.rebalance_timeout_ms = one(&[100, 300, 1_000, 3_000], n),
    |options, n| options.fetch_records = one(&[1, 3, 10, 50], n),
    |options, n| options.prefetched_fetches = one(&[1, 2, 3], n),
    |options, n| options.stale_deliveries_per_mille = one(&[0, 300, 1_000], n),
    |options, n| options.pipeline.batch_records = one(&[1, 2, 4, 8, 16, 64], n),
    |options, n| options.pipeline.batch_delay = one(&[ms(1), ms(5), ms(20), ms(60)], n),
    |options, n| options.pipeline.batch_longest = one(&[ms(1), ms(20), ms(200), ms(2_000)], n),
    |options, n| options.pipeline.write_records = Some(one(&[1, 2, 4, 16, 64], n)),
    |options, n| options.pipeline.write_bytes = one(&[100, 1_000, 10_000, 100_000], n),
    |options, n| options.pipeline.in_flight_batches = one(&[1, 2, 3, 6], n),
    |options, n| options.pipeline.prefetch_bytes = one(&[100, 1_000, 10_000, 100_000], n),
    |options, n| {
        options.pipeline.counts_cache_bytes = one(&[1 << 10, 2 << 10, 4 << 10, 16 << 10, 4 << 20], n);
    },
    |options, n| {
        let backoff = one(&[(1, 20), (5, 100), (20, 500)], n);
        (options.pipeline.backoff_min, options.pipeline.backoff_max) = (ms(backoff.0), ms(backoff.1));
    },
    |options, n| {
        options.pipeline.retry_deadline = one(&[None, Some(ms(200)), Some(ms(1_000)), Some(ms(4_000))], n);
    },
    |options, n| options.pipeline.stop_deadline = one(&[ms(20), ms(300), ms(3_000)], n),
    |options, n| options.pipeline.topic_check_interval = one(&[ms(100), ms(1_000), ms(4_000)], n),
    |options, n| options.pipeline.binding_spec.window.threshold = one(&[1, 2, 3, 6, 12], n),
    |options, n| {
        let windows = [(5_000, 5_000), (5_000, 1_000), (7, 3), (10, 2), (1, 1), (60_000, 7_000)];
        let window = &mut options.pipeline.binding_spec.window;
        (window.size_ms, window.slide_ms) = one(&windows, n);
    },
    |options, n| {
        options.pipeline.binding_spec.max_mutation_bytes = one(&[BindingSpec::MAX_MUTATION_BYTES, 1_500], n);
    },
];
