//! The simple log as a service of a run: what workers open, how records are appended, and its faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlyonce::binding::BindingSpec;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;
use exactlyonce::store::Store;
use exactlyonce::verify::{self, VerifyOptions};

use crate::context::SimContext;
use crate::network::Channel;
use crate::observed::Sometimes;
use crate::scenario::fault::{Fault, Kind, KindName};
use crate::scenario::options::{RunOptions, TOPIC};
use crate::scenario::workload::Item;
use crate::service::simple_log::BrokerClient;
use crate::service::{BrokerOpener, LogService, Verified};

const EXPECTED: &str = "the in-memory log accepts every well-formed request";

pub(crate) struct SimpleLog {
    context: Arc<SimContext>,
}

/// Opens a client of the simple log.
#[derive(Clone)]
pub(crate) struct SimpleBrokerOpener;

impl BrokerOpener for SimpleBrokerOpener {
    type Broker = BrokerClient;

    async fn open(&self, channel: &Channel) -> Result<BrokerClient, String> {
        Ok(BrokerClient::new(channel.clone()))
    }
}

impl LogService for SimpleLog {
    type Opener = SimpleBrokerOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        let RunOptions { partitions, retired_offsets, .. } = context.options;
        for log in [&context.log, &context.history] {
            log.create_topic(TOPIC, partitions.into(), 1).await.expect(EXPECTED);
            for partition in 0..partitions.into() {
                log.skip(TOPIC, partition, retired_offsets);
                log.delete_below(TOPIC, partition, retired_offsets);
            }
        }
        Self { context: context.clone() }
    }

    fn opener(&self) -> SimpleBrokerOpener {
        SimpleBrokerOpener
    }

    async fn append(&self, items: Vec<Item>) {
        let context = &self.context;
        for item in items {
            let partitions = context.log.topic(TOPIC).await.expect(EXPECTED).partitions;
            let (partition, gap) = ((item.lane % partitions as u64) as i32, item.gap);
            let record = item.record(partition);
            let positions = context.log.append(TOPIC, vec![record.clone()]).await.expect(EXPECTED);
            context.history.append(TOPIC, vec![record.clone()]).await.expect(EXPECTED);
            if let Some((partition, offset)) = positions.first().copied() {
                let NewRecord { key, value, timestamp, .. } = record;
                context.appended(Record { partition, offset, timestamp, key, value });
            }
            context.log.skip(TOPIC, partition, gap);
            context.history.skip(TOPIC, partition, gap);
            context.note(format_args!("appended {positions:?}, gap {gap}"));
        }
    }

    async fn begin(&self, fault: &Fault, active: &[Fault]) -> Option<bool> {
        let context = &self.context;
        match fault.kind {
            Kind::PartitionAdded => {
                let partitions = self.partitions().await;
                context.log.grow(TOPIC, partitions + 1);
                context.history.grow(TOPIC, partitions + 1);
                context.group().grow(context.now_ms(), partitions + 1);
                context.observe(Sometimes::PartitionAddedWhileRunning);
            }
            Kind::LogEndLags { behind } => {
                if active.iter().any(|other| other.name() == KindName::LogEndLags) {
                    return Some(false);
                }
                context.set_lagging_ends(self.log_ends(behind).await);
                return Some(true);
            }
            Kind::GroupShuffled { .. } => return Some(true),
            Kind::LogTrimmedPastProgress { .. }
            | Kind::LogTruncated { .. }
            | Kind::TopicRecreated
            | Kind::TopicCompacted { .. } => {
                // The log is damaged from now on, before a worker can see it.
                if !self.damage(fault.kind).await {
                    return Some(false);
                }
            }
            _ => return None,
        }
        context.effect(fault);
        Some(true)
    }

    fn end(&self, _: &Fault) -> bool {
        false
    }

    async fn settle(&self) {}

    async fn verify<S: Store>(&self, store: S, spec: BindingSpec) -> Verified {
        verify::verify(&self.context.log, &store, &spec, &VerifyOptions::default()).await
    }

    fn shut_down(&self) {}
}

impl SimpleLog {
    async fn partitions(&self) -> i32 {
        self.context.log.topic(TOPIC).await.expect("the topic exists from the start").partitions
    }

    /// The ends of the log, less so many offsets.
    async fn log_ends(&self, behind: u64) -> BTreeMap<i32, i64> {
        let mut ends = BTreeMap::new();
        for partition in 0..self.partitions().await {
            let log = self.context.log.offsets(TOPIC, partition).await;
            let log = log.expect("the in-memory log has its partitions");
            ends.insert(partition, log.end.saturating_sub_unsigned(behind).max(log.start));
        }
        ends
    }

    /// Damages the log; false if there is nothing to damage.
    async fn damage(&self, kind: Kind) -> bool {
        let context = &self.context;
        let log = &context.log;
        let mut is_damaged = false;
        for partition in 0..self.partitions().await {
            let Ok(offsets) = log.offsets(TOPIC, partition).await else { continue };
            match kind {
                Kind::LogTrimmedPastProgress { records } => {
                    let progress = context.acknowledged_progress(partition).unwrap_or(0);
                    let start = (progress + records as i64).min(offsets.end);
                    if start > progress.max(offsets.start) {
                        context.damage().trimmed = true;
                        log.delete_below(TOPIC, partition, start);
                        is_damaged = true;
                    }
                }
                Kind::LogTruncated { offsets: cut } => {
                    let end = (offsets.end - cut as i64).max(offsets.start);
                    is_damaged |= context.truncated(partition, end);
                }
                _ => is_damaged = true,
            }
        }
        match kind {
            Kind::TopicRecreated => {
                context.damage().refusable = Some("the topic was created again");
                log.recreate(TOPIC);
                context.history.recreate(TOPIC);
            }
            Kind::TopicCompacted { .. } => {
                context.damage().refusable.get_or_insert("the topic is compacted");
                log.set_compacted(TOPIC, true);
            }
            _ => {}
        }
        is_damaged
    }
}
