//! The log as it is true: what consumers of committed records may read from the leaders. The run's own logs, which the
//! oracles and the checker use, follow it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;
use futures_util::FutureExt;
use simulated_kafka::cluster::{Cluster, WeakCluster};

use crate::context::{LogSource, SimContext};
use crate::scenario::options::TOPIC;

/// What leaders have served, by partition.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// The greatest high watermark that one has served since records were lost the last time.
    pub high_watermarks: BTreeMap<i32, i64>,
    /// Partitions whose leader may have other records below this offset than those that an earlier one has served: it was
    /// elected uncleanly, or after a loss of power.
    pub to_compare: BTreeMap<i32, i64>,
}

/// Written by the observer of the cluster, read by the mirror.
pub(crate) type Served = Arc<Mutex<Leaders>>;

/// The log of a cluster.
pub(crate) struct Mirror {
    pub cluster: WeakCluster,
    pub served: Served,
}

const EXPECTED: &str = "the in-memory log accepts every well-formed request";

impl LogSource for Mirror {
    fn follow(&self, context: &SimContext) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        let image = cluster.metadata();
        let Some(topic) = image.topic(TOPIC) else { return };
        let partitions = topic.partitions.len() as i32;
        let known = |log: &exactlyonce::broker::memory::MemoryBroker| {
            log.topic(TOPIC).now_or_never().and_then(Result::ok).map_or(0, |topic| topic.partitions)
        };
        for log in [&context.log, &context.history] {
            if known(log) == 0 {
                let created = log.create_topic(TOPIC, partitions, 1).now_or_never();
                created.expect(EXPECTED).expect(EXPECTED);
            } else if known(log) < partitions {
                log.grow(TOPIC, partitions);
            }
        }
        for partition in 0..partitions {
            self.compare(context, &cluster, partition);
            let next = end(context, partition);
            // A leader that is none any more may have served what its successor does not know to be committed.
            let served = self.served().high_watermarks.get(&partition).copied();
            let committed = cluster.committed_as_served(TOPIC, partition, next, served.unwrap_or(0));
            let Some(committed) = committed else { continue };
            for record in committed.records {
                let record = record_of(partition, record);
                let Record { offset, timestamp, key, value, .. } = record.clone();
                skip_to(context, partition, offset);
                let new = NewRecord { key, value, timestamp, partition: Some(partition) };
                for log in [&context.log, &context.history] {
                    let appended = log.append(TOPIC, vec![new.clone()]).now_or_never();
                    appended.expect(EXPECTED).expect(EXPECTED);
                }
                context.note(format_args!("committed: partition {partition} offset {offset}"));
                context.appended(record);
            }
            skip_to(context, partition, committed.next_offset);
            context.log.delete_below(TOPIC, partition, committed.log_start);
        }
    }

    fn delete_below(&self, partition: i32, offset: i64) {
        if let Some(cluster) = self.cluster.upgrade() {
            // Without a leader nothing is deleted.
            let _ = cluster.delete_records(TOPIC, partition, offset);
        }
    }
}

impl Mirror {
    fn served(&self) -> MutexGuard<'_, Leaders> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the records of a leader that may have others than those before it, as far as they are committed, with what was
    /// read so far, which ends where they differ.
    fn compare(&self, context: &SimContext, cluster: &Cluster, partition: i32) {
        let Some(below) = self.served().to_compare.get(&partition).copied() else { return };
        // A leader that has lost what it knew of deleted records has them again.
        let start = context.known_offsets(partition).map_or(0, |known| known.start);
        let Some(committed) = cluster.committed_as_served(TOPIC, partition, start, 0) else { return };
        let start = committed.log_start.max(start);
        let known = context.log.fetch(TOPIC, partition, start, usize::MAX, usize::MAX);
        let known =
            known.now_or_never().and_then(Result::ok).map(|fetched| fetched.records).unwrap_or_default();
        let theirs: Vec<Record> =
            committed.records.into_iter().map(|record| record_of(partition, record)).collect();
        let upper = committed.next_offset.min(below);
        let first = first_difference(&known, &theirs, upper);
        if let Some(first) = first
            && context.truncated(partition, first)
        {
            let lost =
                format_args!("committed records of partition {partition} from offset {first} on are others");
            context.note_event(lost);
            self.served().high_watermarks.insert(partition, committed.high_watermark);
            let mut damage = context.damage();
            damage.done = true;
            let least = damage.began_at.entry(partition).or_insert(first);
            *least = first.min(*least);
        }
        if first.is_some() || upper == below {
            self.served().to_compare.remove(&partition);
        }
    }
}

/// The first offset below `upper` at which one of two sequences of records has another record than the other, or none.
fn first_difference(known: &[Record], theirs: &[Record], upper: i64) -> Option<i64> {
    let below = |records: &[Record]| records.partition_point(|record| record.offset < upper);
    let (known, theirs) = (&known[..below(known)], &theirs[..below(theirs)]);
    let same = known.iter().zip(theirs).take_while(|(known, theirs)| known == theirs).count();
    let next = [known.get(same), theirs.get(same)];
    next.into_iter().flatten().map(|record| record.offset).min()
}

/// A record of the cluster as the pipeline reads it.
fn record_of(partition: i32, record: simulated_kafka::protocol::records::Record) -> Record {
    let (key, value) = (record.key.map(|key| key.to_vec()), record.value.map(|value| value.to_vec()));
    Record { partition, offset: record.offset, timestamp: record.timestamp, key, value }
}

/// The end of the run's own log.
fn end(context: &SimContext, partition: i32) -> i64 {
    let log = context.history.offsets(TOPIC, partition).now_or_never();
    log.and_then(Result::ok).map_or(0, |log| log.end)
}

/// Offsets up to this one have no record.
fn skip_to(context: &SimContext, partition: i32, offset: i64) {
    let gap = offset - end(context, partition);
    if gap > 0 {
        context.log.skip(TOPIC, partition, gap);
        context.history.skip(TOPIC, partition, gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[(i64, &str)]) -> Vec<Record> {
        let record = |(offset, value): &(i64, &str)| {
            let value = Some(value.as_bytes().to_vec());
            Record { partition: 0, offset: *offset, timestamp: 0, key: None, value }
        };
        values.iter().map(record).collect()
    }

    #[test]
    fn another_record_at_an_offset_or_none_is_a_difference() {
        let known = records(&[(0, "a"), (2, "b"), (3, "c"), (5, "d")]);
        let first = |theirs: &[(i64, &str)], upper| first_difference(&known, &records(theirs), upper);
        assert_eq!(first(&[(0, "a"), (2, "b"), (3, "c"), (5, "d")], 6), None);
        assert_eq!(first(&[(0, "a"), (2, "b"), (3, "x"), (5, "d")], 6), Some(3), "another value");
        assert_eq!(first(&[(0, "a"), (2, "b"), (3, "x"), (5, "d")], 3), None, "it is not committed yet");
        assert_eq!(first(&[(0, "a"), (2, "b"), (5, "d")], 6), Some(3), "none");
        assert_eq!(first(&[(0, "a"), (1, "x"), (2, "b"), (3, "c")], 6), Some(1), "one where none was");
        assert_eq!(first(&[(0, "a"), (2, "b")], 6), Some(3), "the log is shorter");
        assert_eq!(first(&[], 1), Some(0));
    }
}
