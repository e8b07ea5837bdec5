//! Memory: the records that a worker holds of a partition, from their delivery until their rows are acknowledged, are
//! bounded by its options, however long the store does not respond.

use crate::scenario::Log;
use crate::scenario::options::RunOptions;

/// What the inbox counts for a record in addition to its key and value, in bytes.
const RECORD_BYTES: usize = 96;

/// Batches that may exist in addition to those in flight: one that is filled, one that is closed, one that waits.
const OTHER_BATCHES: usize = 3;

/// The records that the thread of a group member may take from librdkafka while its flow control stops it, and before it learns of
/// the pause: twice what it takes at once.
const RECORDS_OF_THE_MEMBER: usize = 2_000;

/// The bytes of deliveries from that thread to the worker at which its flow control stops it.
const FLOW_CONTROL_BYTES: usize = 1 << 20;

/// What a worker may hold of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Of the oldest records, how many may be in batches.
    batches: usize,
    /// Of the newest records, how many the consumer may have fetched before its partition was paused.
    fetches: usize,
    /// Bytes of the others, which wait in the inbox, or before it.
    pub inbox: usize,
}

impl Limit {
    /// With the options of a run.
    pub fn of(options: &RunOptions, log: &Log) -> Self {
        let pipeline = &options.pipeline;
        let (fetches, delivered) = match log {
            Log::Simple => ((options.prefetched_fetches + 2) * options.fetch_records as usize, 0),
            Log::Kafka(_) => (RECORDS_OF_THE_MEMBER, FLOW_CONTROL_BYTES),
        };
        Self {
            batches: (pipeline.in_flight_batches.max(1) + OTHER_BATCHES) * pipeline.batch_records.max(1),
            fetches,
            inbox: pipeline.prefetch_bytes + delivered,
        }
    }

    /// How many bytes wait in the inbox, if that is more than the limit. The records have so many bytes of key and value, the
    /// oldest first.
    pub fn exceeded(&self, held: impl ExactSizeIterator<Item = usize>) -> Option<usize> {
        let waiting = held.len().saturating_sub(self.batches + self.fetches);
        let bytes = held.skip(self.batches).take(waiting).map(|bytes| bytes + RECORD_BYTES).sum();
        (bytes > self.inbox).then_some(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    /// Any number of records in batches, none that was fetched before, and so many bytes in the inbox.
    pub fn limit(batches: usize, inbox: usize) -> Limit {
        Limit { batches, fetches: 0, inbox }
    }

    #[test]
    fn the_limit_is_what_batches_hold_what_waits_and_what_is_fetched() {
        let mut options = Draft::new(1, World::Simple, Profile::Standard).options;
        (options.prefetched_fetches, options.fetch_records) = (1, 2);
        let pipeline = &mut options.pipeline;
        (pipeline.prefetch_bytes, pipeline.in_flight_batches, pipeline.batch_records) = (200, 2, 4);
        assert_eq!(Limit::of(&options, &Log::Simple), Limit { batches: 5 * 4, fetches: 3 * 2, inbox: 200 });
    }

    #[test]
    fn what_is_in_batches_and_what_was_fetched_does_not_wait_in_the_inbox() {
        let limit = Limit { batches: 2, fetches: 1, inbox: 200 };
        let of = |bytes: &[usize]| limit.exceeded(bytes.iter().copied());
        assert_eq!(of(&[1000, 1000]), None);
        assert_eq!(of(&[1000, 1000, 1000]), None);
        assert_eq!(of(&[1000, 1000, 4, 4, 1000]), None, "the limit is reached");
        assert_eq!(of(&[1000, 1000, 4, 5, 1000]), Some(201));
    }
}
