//! What an observer learns of changes of the metadata.

use std::sync::Arc;

use crate::cluster::observe::{Event, Witness};
use crate::metadata::{Image, PartitionImage, TopicImage};

/// Reports what is different in newer metadata.
pub(super) fn announce(witness: &Witness, before: &Image, after: &Image) {
    for broker in after.brokers.values() {
        let was_fenced = before.brokers.get(&broker.id).is_none_or(|known| known.fenced);
        let broker = (broker.id, broker.fenced);
        match broker {
            (broker, true) if !was_fenced => witness.see(|| Event::BrokerFenced { broker }),
            (broker, false) if was_fenced => witness.see(|| Event::BrokerUnfenced { broker }),
            _ => {}
        }
    }
    for topic in before.topics.values().filter(|topic| !after.topics.contains_key(&topic.id)) {
        witness.see(|| Event::TopicDeleted { topic: &topic.name, id: topic.id });
    }
    for topic in after.topics.values() {
        let known = before.topics.get(&topic.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, topic)) {
            continue;
        }
        if known.is_none() {
            let partitions = topic.partitions.len();
            witness.see(|| Event::TopicCreated { topic: &topic.name, id: topic.id, partitions });
        }
        for (index, partition) in (0..).zip(&topic.partitions) {
            let known = known.and_then(|known| known.partition(index));
            announce_partition(witness, topic, index, known, partition);
        }
    }
}

fn announce_partition(
    witness: &Witness,
    topic: &TopicImage,
    index: i32,
    before: Option<&PartitionImage>,
    after: &PartitionImage,
) {
    if before.is_none_or(|before| (before.leader, before.leader_epoch) != (after.leader, after.leader_epoch))
    {
        let (leader, epoch) = (after.leader, after.leader_epoch);
        let is_clean = match (before, &leader) {
            (Some(before), Some(leader)) => {
                before.in_sync.contains(leader) || before.eligible.contains(leader)
            }
            _ => true,
        };
        witness.see(|| Event::LeaderElected {
            topic: &topic.name,
            partition: index,
            leader,
            epoch,
            is_clean,
        });
    }
    if let Some(before) = before.filter(|before| before.in_sync != after.in_sync) {
        let shrunk = before.in_sync.iter().any(|replica| !after.in_sync.contains(replica));
        let in_sync = &after.in_sync;
        witness.see(|| Event::InSyncChanged { topic: &topic.name, partition: index, in_sync, shrunk });
    }
}
