//! Committed offsets, and those of open transactions (Kafka's `OffsetMetadataManager`).

mod commit;
mod delete;
mod expiry;
mod fetch;

use std::collections::{BTreeMap, BTreeSet};

use super::records::OffsetValue;

/// A partition of a topic.
pub(crate) type Partition = (String, i32);

/// An offset, and its place in the order of records.
#[derive(Clone, Debug)]
struct Stored {
    value: OffsetValue,
    order: u64,
}

/// A change of offsets, as the log has it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A record; `producer` is the producer id of a transactional one, and a tombstone has no value.
    Record { group: String, at: Partition, value: Option<OffsetValue>, producer: Option<i64> },
    /// The end of a transaction of this producer id.
    End { producer: i64, commit: bool },
}

/// The offsets of all groups of a shard.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    committed: BTreeMap<String, BTreeMap<Partition, Stored>>,
    /// By producer id: offsets of transactions that have not ended.
    pending: BTreeMap<i64, BTreeMap<(String, Partition), Stored>>,
    /// By group and partition: the producers whose transactions have not ended.
    open: BTreeMap<String, BTreeMap<Partition, BTreeSet<i64>>>,
    /// The number of records so far.
    order: u64,
}

impl Offsets {
    /// Takes a change.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Record { group, at, value, producer } => self.replay(&group, at, value, producer),
            Change::End { producer, commit } => self.end_transaction(producer, commit),
        }
    }

    /// Takes a record. `producer` is the producer id of a transactional one.
    fn replay(&mut self, group: &str, at: Partition, value: Option<OffsetValue>, producer: Option<i64>) {
        self.order += 1;
        let order = self.order;
        match (value, producer) {
            (Some(value), None) => {
                self.committed.entry(group.to_owned()).or_default().insert(at, Stored { value, order });
            }
            (Some(value), Some(producer)) => {
                let key = (group.to_owned(), at.clone());
                self.pending.entry(producer).or_default().insert(key, Stored { value, order });
                self.open.entry(group.to_owned()).or_default().entry(at).or_default().insert(producer);
            }
            (None, _) => self.forget(group, &at),
        }
    }

    fn forget(&mut self, group: &str, at: &Partition) {
        if let Some(offsets) = self.committed.get_mut(group) {
            offsets.remove(at);
            if offsets.is_empty() {
                self.committed.remove(group);
            }
        }
        let producers = self.open.get_mut(group).and_then(|open| open.remove(at)).unwrap_or_default();
        if self.open.get(group).is_some_and(BTreeMap::is_empty) {
            self.open.remove(group);
        }
        for producer in producers {
            if let Some(pending) = self.pending.get_mut(&producer) {
                pending.remove(&(group.to_owned(), at.clone()));
            }
        }
    }

    /// A transaction ended. Its offsets are committed, unless later records have committed others.
    fn end_transaction(&mut self, producer: i64, commit: bool) {
        let Some(pending) = self.pending.remove(&producer) else { return };
        for ((group, at), stored) in pending {
            if let Some(open) = self.open.get_mut(&group) {
                if let Some(producers) = open.get_mut(&at) {
                    producers.remove(&producer);
                    if producers.is_empty() {
                        open.remove(&at);
                    }
                }
                if open.is_empty() {
                    self.open.remove(&group);
                }
            }
            if commit {
                let offsets = self.committed.entry(group).or_default();
                if offsets.get(&at).is_none_or(|existing| existing.order < stored.order) {
                    offsets.insert(at, stored);
                }
            }
        }
    }

    /// Whether a transaction that has not ended commits an offset of this partition.
    fn is_open(&self, group: &str, at: &Partition) -> bool {
        self.open.get(group).is_some_and(|open| open.contains_key(at))
    }

    fn is_committed(&self, group: &str, at: &Partition) -> bool {
        self.committed.get(group).is_some_and(|offsets| offsets.contains_key(at))
    }

    /// The partitions of a group with offsets, committed or not.
    pub(crate) fn partitions(&self, group: &str) -> BTreeSet<Partition> {
        let committed = self.committed.get(group).into_iter().flat_map(BTreeMap::keys);
        let open = self.open.get(group).into_iter().flat_map(BTreeMap::keys);
        committed.chain(open).cloned().collect()
    }

    /// The groups and partitions of a topic with offsets, committed or not.
    fn of_topic<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (String, Partition)> + 'a {
        let groups: BTreeSet<&String> = self.committed.keys().chain(self.open.keys()).collect();
        groups.into_iter().flat_map(move |group| {
            let of_topic = self.partitions(group).into_iter().filter(move |(name, _)| name == topic);
            of_topic.map(move |at| (group.clone(), at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: i64) -> Option<OffsetValue> {
        Some(OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id: uuid::Uuid::nil(),
        })
    }

    fn at() -> Partition {
        ("topic".to_owned(), 0)
    }

    fn committed(offsets: &Offsets) -> Option<i64> {
        offsets.committed.get("group").and_then(|group| group.get(&at())).map(|stored| stored.value.offset)
    }

    #[test]
    fn an_offset_of_a_transaction_counts_when_it_is_committed() {
        let mut offsets = Offsets::default();
        offsets.replay("group", at(), offset(5), Some(1));
        assert!(offsets.is_open("group", &at()));
        assert_eq!(committed(&offsets), None);
        offsets.end_transaction(1, true);
        assert!(!offsets.is_open("group", &at()));
        assert_eq!(committed(&offsets), Some(5));
    }

    #[test]
    fn an_offset_of_an_aborted_transaction_is_dropped() {
        let mut offsets = Offsets::default();
        offsets.replay("group", at(), offset(3), None);
        offsets.replay("group", at(), offset(5), Some(1));
        offsets.end_transaction(1, false);
        assert_eq!(committed(&offsets), Some(3));
        assert!(!offsets.is_open("group", &at()));
    }

    #[test]
    fn the_later_record_wins_even_if_the_earlier_one_is_committed_after_it() {
        let mut offsets = Offsets::default();
        offsets.replay("group", at(), offset(5), Some(1));
        offsets.replay("group", at(), offset(9), None);
        offsets.end_transaction(1, true);
        assert_eq!(committed(&offsets), Some(9));
    }

    #[test]
    fn a_tombstone_forgets_the_offsets_of_open_transactions_as_well() {
        let mut offsets = Offsets::default();
        offsets.replay("group", at(), offset(5), Some(1));
        offsets.replay("group", at(), None, None);
        offsets.end_transaction(1, true);
        assert_eq!(committed(&offsets), None);
        assert!(offsets.partitions("group").is_empty());
    }
}
