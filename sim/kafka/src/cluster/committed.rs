//! What consumers with `isolation.level=read_committed` may read of a partition.

use super::Cluster;
use crate::log::{DECOMPRESSED, Log};
use crate::protocol::batch::Batch;
use crate::protocol::records::{Record, records};
use crate::replica::{Replica, Role};
use crate::types::{NodeId, Offset};

/// What consumers with `isolation.level=read_committed` may read from the leader of a partition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The leader.
    pub leader: NodeId,
    /// Its epoch.
    pub leader_epoch: i32,
    /// The records, by offset: without control records and those of aborted transactions.
    pub records: Vec<Record>,
    /// The offset up to which the log was read: below it, and from the requested offset on, there are no other records to
    /// read. It is the last stable offset, unless that is within a batch, of which consumers get nothing, or below the
    /// requested offset, which is then returned.
    pub next_offset: Offset,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The last stable offset: the lower one of the high watermark and the first offset of an open transaction.
    pub last_stable: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The offset of the next record that is appended.
    pub log_end: Offset,
}

impl Cluster {
    /// The records that consumers with `isolation.level=read_committed` may read from the leader of a partition, from an
    /// offset on, or from the start of the log if that is later. The leader is the one of the greatest epoch that knows that
    /// it leads. None if there is none, or if no process of one runs and is unfenced since its start. A paused process counts as
    /// running.
    ///
    /// What is read once may be different later, as for consumers: a new leader may begin with a lower high watermark, and
    /// may have lost records.
    pub fn committed(&self, topic: &str, index: i32, from: Offset) -> Option<Committed> {
        self.committed_as_served(topic, index, from, 0)
    }

    /// The same, if an earlier leader has served records up to the high watermark `served`, which the leader does not know yet:
    /// they are on every replica that was in sync.
    pub fn committed_as_served(
        &self,
        topic: &str,
        index: i32,
        from: Offset,
        served: Offset,
    ) -> Option<Committed> {
        let image = self.metadata();
        let partition = image.topic(topic)?.partition(index)?;
        // The epoch in which a broker leads, as far as it knows.
        let leads = |broker: &NodeId| {
            let epoch =
                |replica: &Replica| matches!(replica.role, Role::Leader(_)).then_some(replica.leader_epoch);
            // One that has started again serves nobody until it is unfenced.
            let is_ready = self.get(*broker)?.readiness.get();
            Some((self.look(*broker, topic, index, epoch).flatten().filter(|_| is_ready)?, *broker))
        };
        // Until a new leader knows that it leads, the one before serves, and what it commits is on all replicas in sync.
        let (leader_epoch, leader) = partition.replicas.iter().filter_map(leads).max()?;
        let read = |replica: &Replica| {
            let log = &replica.log;
            let (records, next_offset) = read(log, from, served);
            Committed {
                leader,
                leader_epoch,
                records,
                next_offset,
                log_start: log.start(),
                last_stable: log.last_stable(),
                high_watermark: log.high_watermark(),
                log_end: log.end(),
            }
        };
        self.look(leader, topic, index, read)
    }
}

/// The records from an offset on that are decided, and the offset up to which all were read.
fn read(log: &Log, from: Offset, served: Offset) -> (Vec<Record>, Offset) {
    let upper = if served > log.high_watermark() {
        let served = served.min(log.end());
        log.producers().first_unstable().map_or(served, |unstable| unstable.min(served))
    } else {
        log.last_stable()
    };
    let first = from.max(log.start());
    let aborted = log.producers().aborted(first, upper);
    let is_aborted = |batch: &Batch| {
        // Transactions of one producer do not overlap.
        aborted.iter().any(|aborted| {
            aborted.producer_id == batch.producer_id()
                && (aborted.first..=aborted.last).contains(&batch.base_offset())
        })
    };
    let mut found = Vec::new();
    for batch in log.batches_from(first) {
        if batch.base_offset() >= upper {
            break;
        }
        // A batch is returned as a whole or not at all.
        if batch.last_offset() >= upper {
            return (found, from.max(batch.base_offset()));
        }
        if batch.is_control() || batch.is_transactional() && is_aborted(&batch) {
            continue;
        }
        // The leader has read them before it appended them, so they can be read.
        let Ok(records) = records(&batch, DECOMPRESSED) else {
            return (found, from.max(batch.base_offset()));
        };
        found.extend(records.into_iter().filter(|record| record.offset >= first));
    }
    (found, from.max(upper))
}
