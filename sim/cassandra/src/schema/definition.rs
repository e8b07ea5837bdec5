//! What a schema consists of. Definitions are plain data, shared by reference count and replaced, never changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::storage::{ClusteringOrder, ComponentOrder, DecoratedKey, Position, Timestamp};
use crate::types::DataType;

/// A column's name, as stored (lower case unless it was quoted).
pub type ColumnName = Arc<str>;

/// A table's identity: it stays the same through ALTER and differs after DROP and CREATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u128);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Ascending or descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// The part that a column plays in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// At this place in the partition key.
    PartitionKey(usize),
    /// At this place in the clustering key.
    Clustering(usize, Order),
    /// One value for each partition.
    Static,
    /// One value for each row.
    Regular,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: ColumnName,
    /// The part it plays.
    pub kind: ColumnKind,
    /// The type of its values.
    pub data_type: DataType,
}

/// What a blocking read does about replicas that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadRepair {
    /// It waits until what it read has been written back, so that reads at QUORUM are monotonic.
    #[default]
    Blocking,
    /// It returns the merged rows and writes nothing.
    None,
}

/// When a coordinator contacts one more replica than the consistency level needs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SpeculativeRetry {
    /// Never.
    Never,
    /// At once.
    Always,
    /// After this many microseconds.
    After(u64),
    /// After this percentile of the table's read latencies, between 0 and 100.
    #[default]
    Percentile99,
    /// After this percentile of the table's read latencies, between 0 and 100.
    Percentile(f64),
}

/// The options of a table that have an effect, and the text of those that have none.
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    /// How long tombstones are kept, in seconds.
    pub gc_grace_seconds: u32,
    /// The lifetime of values written without a TTL, in seconds; 0 is forever.
    pub default_time_to_live: u32,
    /// What reads do about replicas that differ.
    pub read_repair: ReadRepair,
    /// When reads ask one more replica.
    pub speculative_retry: SpeculativeRetry,
    /// A comment.
    pub comment: String,
    /// Everything else, as it appears in `system_schema.tables`.
    pub others: BTreeMap<String, String>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            gc_grace_seconds: 864_000,
            default_time_to_live: 0,
            read_repair: ReadRepair::default(),
            speculative_retry: SpeculativeRetry::default(),
            comment: String::new(),
            others: BTreeMap::new(),
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its identity.
    pub id: TableId,
    /// The keyspace it is in.
    pub keyspace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The columns by name.
    pub columns: BTreeMap<ColumnName, Column>,
    /// The types of the partition key's columns, in order; at least one.
    pub partition_key: Vec<DataType>,
    /// The types and order of the clustering columns; empty if a partition has one row.
    pub clustering: Arc<ClusteringOrder>,
    /// Columns that were dropped.
    pub dropped: BTreeMap<ColumnName, DroppedColumn>,
    /// The options.
    pub options: TableOptions,
}

/// What is known of a column that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedColumn {
    /// Static or regular.
    pub kind: ColumnKind,
    /// The type it had. One of another type must not take its name: its old cells would be read as that type.
    pub data_type: DataType,
    /// Its cells up to this timestamp are ignored.
    pub until: Timestamp,
}

impl Table {
    /// A table of these columns. The places in the keys must be complete: each from 0 on, without gaps.
    pub fn new(
        id: TableId,
        keyspace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        columns: impl IntoIterator<Item = Column>,
        options: TableOptions,
    ) -> Self {
        let columns: BTreeMap<ColumnName, Column> =
            columns.into_iter().map(|column| (column.name.clone(), column)).collect();
        let mut partition_key = BTreeMap::new();
        let mut clustering = BTreeMap::new();
        for column in columns.values() {
            match column.kind {
                ColumnKind::PartitionKey(place) => {
                    partition_key.insert(place, column.data_type.clone());
                }
                ColumnKind::Clustering(place, order) => {
                    let descending = order == Order::Descending;
                    clustering
                        .insert(place, ComponentOrder { data_type: column.data_type.clone(), descending });
                }
                ColumnKind::Static | ColumnKind::Regular => {}
            }
        }
        Self {
            id,
            keyspace: keyspace.into(),
            name: name.into(),
            columns,
            partition_key: partition_key.into_values().collect(),
            clustering: Arc::new(ClusteringOrder::new(clustering.into_values().collect())),
            dropped: BTreeMap::new(),
            options,
        }
    }

    /// The columns of the partition key, in order.
    pub fn partition_key_columns(&self) -> Vec<&Column> {
        let mut columns: Vec<_> = self
            .columns
            .values()
            .filter(|column| matches!(column.kind, ColumnKind::PartitionKey(_)))
            .collect();
        columns.sort_by_key(|column| match column.kind {
            ColumnKind::PartitionKey(place) => place,
            _ => usize::MAX,
        });
        columns
    }

    /// The clustering columns, in order.
    pub fn clustering_columns(&self) -> Vec<&Column> {
        let mut columns: Vec<_> = self
            .columns
            .values()
            .filter(|column| matches!(column.kind, ColumnKind::Clustering(..)))
            .collect();
        columns.sort_by_key(|column| match column.kind {
            ColumnKind::Clustering(place, _) => place,
            _ => usize::MAX,
        });
        columns
    }

    /// The partition key made of these values, one for each column of it, in order.
    pub fn key(&self, values: &[Bytes]) -> DecoratedKey {
        DecoratedKey::of_components(values)
    }

    /// The row with these clustering values, one for each clustering column, in order.
    pub fn row(&self, values: Vec<Bytes>) -> Position {
        Position::row(self.clustering.clone(), values)
    }

    /// The place before every row whose clustering key begins with these values (none: before all).
    pub fn before(&self, values: Vec<Bytes>) -> Position {
        Position::before(self.clustering.clone(), values)
    }

    /// The place after every row whose clustering key begins with these values (none: after all).
    pub fn after(&self, values: Vec<Bytes>) -> Position {
        Position::after(self.clustering.clone(), values)
    }
}

/// How a keyspace is replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// To the next nodes on the ring.
    Simple {
        /// The number of replicas.
        factor: usize,
    },
    /// To a number of nodes in each data centre, on different racks where there are enough.
    NetworkTopology {
        /// The number of replicas by the data centre's name.
        factors: BTreeMap<String, usize>,
    },
    /// On every node alone (the system's own keyspaces).
    Local,
    /// To every node.
    Everywhere,
}

/// A keyspace and its tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyspace {
    /// Its name.
    pub name: Arc<str>,
    /// How it is replicated.
    pub replication: Replication,
    /// Whether writes go to the commit log.
    pub durable_writes: bool,
    /// The tables by name.
    pub tables: BTreeMap<Arc<str>, Arc<Table>>,
}

/// A schema as one node knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// The version, a UUID: equal on two nodes when they know the same schema.
    pub version: u128,
    /// The keyspaces by name.
    pub keyspaces: BTreeMap<Arc<str>, Arc<Keyspace>>,
    /// The tables of all keyspaces by identity.
    pub tables: BTreeMap<TableId, Arc<Table>>,
}

/// A table that this schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown table {0}")]
pub struct UnknownTable(pub TableId);

impl Schema {
    /// The table of this name.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<Table>> {
        self.keyspaces.get(keyspace)?.tables.get(name)
    }

    /// The table of this identity.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn table_by_id(&self, id: TableId) -> Result<&Arc<Table>, UnknownTable> {
        self.tables.get(&id).ok_or(UnknownTable(id))
    }

    /// This schema after a change. The version is a fingerprint of the change and of what was before.
    pub fn after(&self, change: &SchemaChange) -> Self {
        let mut next = self.clone();
        match change {
            SchemaChange::PutKeyspace { name, replication, durable_writes } => {
                let tables =
                    next.keyspaces.get(name).map(|keyspace| keyspace.tables.clone()).unwrap_or_default();
                let keyspace = Keyspace {
                    name: name.clone(),
                    replication: replication.clone(),
                    durable_writes: *durable_writes,
                    tables,
                };
                next.keyspaces.insert(name.clone(), Arc::new(keyspace));
            }
            SchemaChange::DropKeyspace { name } => {
                if let Some(gone) = next.keyspaces.remove(name) {
                    for table in gone.tables.values() {
                        next.tables.remove(&table.id);
                    }
                }
            }
            SchemaChange::PutTable(table) => {
                if let Some(keyspace) = next.keyspaces.get_mut(&table.keyspace) {
                    let replaced = Arc::make_mut(keyspace).tables.insert(table.name.clone(), table.clone());
                    if let Some(replaced) = replaced {
                        next.tables.remove(&replaced.id);
                    }
                    next.tables.insert(table.id, table.clone());
                }
            }
            SchemaChange::DropTable { keyspace, name } => {
                if let Some(keyspace) = next.keyspaces.get_mut(keyspace)
                    && let Some(gone) = Arc::make_mut(keyspace).tables.remove(name)
                {
                    next.tables.remove(&gone.id);
                }
            }
        }
        next.version =
            crate::storage::fingerprint(&[&self.version.to_be_bytes(), format!("{change:?}").as_bytes()]);
        next
    }
}

/// A change of the schema, checked against the schema of the coordinating node.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaChange {
    /// CREATE or ALTER KEYSPACE; its tables stay.
    PutKeyspace {
        /// The keyspace's name.
        name: Arc<str>,
        /// How it is to be replicated.
        replication: Replication,
        /// Whether writes are to go to the commit log.
        durable_writes: bool,
    },
    /// DROP KEYSPACE.
    DropKeyspace {
        /// The keyspace's name.
        name: Arc<str>,
    },
    /// CREATE or ALTER TABLE.
    PutTable(Arc<Table>),
    /// DROP TABLE.
    DropTable {
        /// The keyspace's name.
        keyspace: Arc<str>,
        /// The table's name.
        name: Arc<str>,
    },
}
