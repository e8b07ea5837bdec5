//! What a broker does to its logs from time to time: checkpoints, retention, compaction.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::broker::Broker;

impl Broker {
    /// Writes checkpoints (`checkpointHighWatermarks`, `checkpointLogStartOffsets`, `checkpointLogRecoveryOffsets`).
    pub(crate) async fn write_checkpoints(self: Arc<Self>) {
        let mut next_of_logs = Instant::now() + self.options().log_checkpoint;
        loop {
            sleep(self.options().high_watermark_checkpoint).await;
            self.checkpoint_high_watermarks();
            if Instant::now() >= next_of_logs {
                next_of_logs = Instant::now() + self.options().log_checkpoint;
                self.checkpoint_logs();
            }
        }
    }

    fn checkpoint_high_watermarks(&self) {
        let state = self.lock();
        self.member().disk.write_checkpoints(|checkpoints| {
            let watermarks = state.replicas.iter().map(|(id, replica)| (*id, replica.log.high_watermark()));
            checkpoints.high_watermarks = watermarks.collect();
        });
    }

    fn checkpoint_logs(&self) {
        let state = self.lock();
        self.member().disk.write_checkpoints(|checkpoints| {
            let logs = || state.replicas.iter();
            checkpoints.log_starts = logs().map(|(id, replica)| (*id, replica.log.start())).collect();
            checkpoints.recovery_points = logs().map(|(id, replica)| (*id, replica.log.synced())).collect();
        });
    }

    /// Syncs all logs and writes all checkpoints, as a broker does that ends gracefully.
    pub(crate) fn flush(&self) {
        let now = self.now();
        self.lock().replicas.values_mut().for_each(|replica| replica.log.flush(now));
        self.checkpoint_high_watermarks();
        self.checkpoint_logs();
    }

    /// Deletes and compacts what is due, and forgets producers.
    pub(crate) async fn clean(self: Arc<Self>) {
        let (retention, cleaner) = (self.options().retention_check, self.options().cleaner_backoff);
        let (mut next_retention, mut next_cleaner) = (Instant::now() + retention, Instant::now() + cleaner);
        loop {
            tokio::time::sleep_until(next_retention.min(next_cleaner)).await;
            let now = Instant::now();
            if now >= next_retention {
                next_retention = now + retention;
                self.retain();
            }
            if now >= next_cleaner {
                next_cleaner = now + cleaner;
                let time = self.now();
                for replica in self.lock().replicas.values_mut() {
                    replica.log.compact_if_due(time);
                }
            }
        }
    }

    /// Applies retention to all logs now.
    pub(crate) fn retain(&self) {
        let now = self.now();
        let expiration = self.producer_expiration();
        let mut moved = false;
        for replica in self.lock().replicas.values_mut() {
            moved |= replica.retain(now);
            replica.log.expire_producers(now, expiration);
            replica.log.flush_if_due(now);
        }
        if moved {
            self.notify();
        }
    }
}
