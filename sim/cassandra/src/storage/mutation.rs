//! What is written to one partition key of one keyspace at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DecoratedKey, Partition};
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
