//! Damage to the log on a Kafka cluster: what no client can survive.

use std::sync::Weak;
use std::time::Duration;

use simulated_kafka::cluster::{Cluster, WeakCluster};
use simulated_kafka::types::NodeId;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::scenario::fault::{Fault, Kind};
use crate::scenario::kafka::BROKERS;
use crate::scenario::options::TOPIC;
use crate::service::kafka::partitions;

/// Damages the log; false if there is nothing to damage, or no broker that could do it now.
pub(crate) fn damage(context: &SimContext, cluster: &Cluster, kind: Kind) -> bool {
    context.follow_log();
    match kind {
        Kind::LogTrimmedPastProgress { records } => trim_past_progress(context, cluster, records as i64),
        Kind::TopicRecreated => {
            if cluster.recreate_topic(TOPIC).is_err() {
                return false;
            }
            refuses(context, "the topic was created again");
            context.log.recreate(TOPIC);
            context.history.recreate(TOPIC);
            true
        }
        Kind::TopicCompacted { deletes } => {
            let policy = if deletes { "compact,delete" } else { "compact" };
            if cluster.configure_topic(TOPIC, "cleanup.policy", Some(policy)).is_err() {
                return false;
            }
            refuses(context, "the topic is compacted");
            true
        }
        _ => false,
    }
}

fn refuses(context: &SimContext, reason: &'static str) {
    let mut damage = context.damage();
    damage.refusable = Some(reason);
    damage.is_hidden = true;
}

/// Waits until every running broker has the metadata of this moment: the topic is another one, or compacted, there.
pub(crate) async fn becomes_known(context: Weak<SimContext>, cluster: WeakCluster) {
    let now = cluster.upgrade().map(|cluster| cluster.metadata().version);
    loop {
        let (Some(context), Some(cluster)) = (context.upgrade(), cluster.upgrade()) else { return };
        let knows = |broker| cluster.metadata_of(broker).is_none_or(|image| Some(image.version) >= now);
        if cluster.brokers().all(knows) {
            context.damage().is_hidden = false;
            return;
        }
        drop((context, cluster));
        sleep(LOOK).await;
    }
}

fn trim_past_progress(context: &SimContext, cluster: &Cluster, records: i64) -> bool {
    let mut is_damaged = false;
    for partition in 0..partitions(cluster) {
        let Some(log) = context.known_offsets(partition) else { continue };
        let progress = context.acknowledged_progress(partition).unwrap_or(0);
        let start = (progress + records).min(log.end);
        if start > progress.max(log.start) && cluster.delete_records(TOPIC, partition, start).is_ok() {
            context.damage().trimmed = true;
            context.log.delete_below(TOPIC, partition, start);
            is_damaged = true;
        }
    }
    is_damaged
}

/// How often it is looked whether a replica lacks committed records.
const LOOK: Duration = Duration::from_millis(50);

/// While the fault is active, one broker copies nothing ([`copies_nothing`]); as soon as it lacks a committed record, it is
/// elected uncleanly.
pub(crate) async fn truncate(context: Weak<SimContext>, cluster: WeakCluster, fault: Fault) {
    loop {
        sleep(LOOK).await;
        let (Some(context), Some(cluster)) = (context.upgrade(), cluster.upgrade()) else { return };
        if !context.active_faults().iter().any(|active| active.id == fault.id) {
            return;
        }
        context.follow_log();
        if elect_uncleanly(&context, &cluster) {
            context.damage().appends_end |= ends_appends(&fault);
            return context.effect(&fault);
        }
    }
}

/// The broker that copies nothing from leaders while a fault truncates the log, from 0.
pub(crate) fn copies_nothing(fault: &Fault) -> Option<u8> {
    let truncates = matches!(fault.kind, Kind::LogTruncated { .. });
    truncates.then_some((fault.duration_ms % u64::from(BROKERS)) as u8)
}

/// Whether nothing is appended after the election, so that the log stays shorter than progress.
fn ends_appends(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::LogTruncated { offsets } if offsets % 2 == 1)
}

/// Lets a replica lead that lacks committed records, where there is one.
fn elect_uncleanly(context: &SimContext, cluster: &Cluster) -> bool {
    let mut is_damaged = false;
    for partition in 0..partitions(cluster) {
        let Some(log) = context.known_offsets(partition) else { continue };
        let end = |broker: &NodeId| cluster.replica(*broker, TOPIC, partition).map(|replica| replica.end);
        let shorter = cluster.brokers().filter(|broker| end(broker).is_some_and(|end| end < log.end));
        let Some(broker) = shorter.min_by_key(end) else { continue };
        is_damaged |= cluster.elect_unclean(TOPIC, partition, broker).is_ok();
    }
    is_damaged
}
