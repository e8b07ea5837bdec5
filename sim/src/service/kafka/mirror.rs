//! The log as it is true: what consumers of committed records may read from the leaders. The run's own logs, which the
//! oracles and the checker use, follow it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;
use futures_util::FutureExt;
use simulated_kafka::cluster::WeakCluster;

use crate::context::{LogSource, SimContext};
use crate::scenario::options::TOPIC;

/// By partition, the greatest high watermark that a leader has served since records were lost the last time.
pub(crate) type Served = Arc<Mutex<BTreeMap<i32, i64>>>;

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
            let next = end(context, partition);
            // A leader that is none any more may have served what its successor does not know to be committed.
            let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied();
            let committed = cluster.committed_as_served(TOPIC, partition, next, served.unwrap_or(0));
            let Some(committed) = committed else { continue };
            for record in committed.records {
                let key = record.key.map(|key| key.to_vec());
                let value = record.value.map(|value| value.to_vec());
                let (offset, timestamp) = (record.offset, record.timestamp);
                skip_to(context, partition, offset);
                let new = NewRecord { key, value, timestamp, partition: Some(partition) };
                for log in [&context.log, &context.history] {
                    let appended = log.append(TOPIC, vec![new.clone()]).now_or_never();
                    appended.expect(EXPECTED).expect(EXPECTED);
                }
                context.note(format_args!("committed: partition {partition} offset {offset}"));
                let NewRecord { key, value, .. } = new;
                context.appended(Record { partition, offset, timestamp, key, value });
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
