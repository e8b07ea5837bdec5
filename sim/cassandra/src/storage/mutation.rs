//! What is written to one partition key of one keyspace at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DecoratedKey, Partition, Timestamp};
use crate::schema::TableId;

/// Updates of one partition key, of one or more tables of one keyspace: one record in the commit log, and so atomic
/// and isolated on each replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The keyspace.
    pub keyspace: Arc<str>,
    /// The partition key.
    pub key: DecoratedKey,
    /// What is written, by table.
    pub updates: BTreeMap<TableId, Partition>,
}

impl Mutation {
    /// A mutation of one table.
    pub fn new(keyspace: Arc<str>, key: DecoratedKey, table: TableId, update: Partition) -> Self {
        Self { keyspace, key, updates: BTreeMap::from([(table, update)]) }
    }
}

impl Mutation {
    /// Takes in another mutation of the same key and keyspace.
    pub fn merge(&mut self, other: Self) {
        for (table, update) in other.updates {
            self.updates.entry(table).or_default().merge(&update);
        }
    }

    /// The mutations of a batch, merged by keyspace and partition key (in the order of their first statement), as
    /// Cassandra does for each batch, whatever its kind.
    pub fn merged(mutations: Vec<Self>) -> Vec<Self> {
        if mutations.len() < 2 {
            return mutations;
        }
        let mut places = BTreeMap::new();
        let mut merged: Vec<Self> = Vec::new();
        for mutation in mutations {
            let place =
                *places.entry((mutation.keyspace.clone(), mutation.key.clone())).or_insert(merged.len());
            match merged.get_mut(place) {
                Some(first) => first.merge(mutation),
                None => merged.push(mutation),
            }
        }
        merged
    }

    /// The mutation as a conditional write proposes it (`Commit.newProposal`): everything has the ballot's timestamp,
    /// deletions the one before.
    pub(crate) fn stamped(mut self, timestamp: Timestamp) -> Self {
        self.updates.values_mut().for_each(|update| update.stamp(timestamp));
        self
    }

    /// An estimate of the bytes it takes.
    pub fn size(&self) -> usize {
        self.key.bytes().len() + self.updates.values().map(Partition::size).sum::<usize>()
    }

    /// Its size in bytes as the thresholds for batches count it (`IMutation.dataSize`): in memory and without the key.
    pub fn data_size(&self) -> usize {
        self.updates.values().map(Partition::data_size).sum()
    }
}
