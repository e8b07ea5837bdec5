//! Memory: the records that a worker holds of a partition, from their delivery until their rows are acknowledged, are
//! bounded by its options, however long the store does not respond.

use crate::scenario::options::RunOptions;

/// What the inbox counts for a record in addition to its key and value, in bytes.
const RECORD_BYTES: usize = 96;

/// Batches that may exist in addition to those in flight: one that is filled, one that is closed, one that waits.
const OTHER_BATCHES: usize = 3;

/// How many bytes of records a worker may hold of a partition, whose largest record has `largest` bytes: what may wait in
/// the inbox, what the consumer has fetched when its partition is paused, and the batches.
pub(crate) fn limit(options: &RunOptions, largest: usize) -> usize {
    let pipeline = &options.pipeline;
    let fetches = (options.prefetched_fetches + 2) * options.fetch_records as usize;
    let batches = (pipeline.in_flight_batches.max(1) + OTHER_BATCHES) * pipeline.batch_records.max(1);
    pipeline.prefetch_bytes + (fetches + batches) * (largest + RECORD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    #[test]
    fn the_limit_is_what_waits_what_is_fetched_and_what_batches_hold() {
        let mut options = Draft::new(1, World::Simple, Profile::Standard).options;
        (options.prefetched_fetches, options.fetch_records) = (1, 2);
        let pipeline = &mut options.pipeline;
        (pipeline.prefetch_bytes, pipeline.in_flight_batches, pipeline.batch_records) = (100, 2, 4);
        assert_eq!(limit(&options, 4), 100 + (3 * 2 + 5 * 4) * 100);
    }
}
