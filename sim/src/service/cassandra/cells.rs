//! Looks at what the replicas of the cluster have of a cell.

use std::sync::Arc;

use bytes::Bytes;
use exactlyonce::store::cql::Keyspace;
use exactlyonce::store::{Count, EventLayout, Layout};
use simulated_cassandra::cluster::{Cluster, NodeId, WeakCluster};
use simulated_cassandra::schema::Table;
use simulated_cassandra::storage::{self, DecoratedKey, Mutation, Position};

use crate::oracle::cell::{Cell, Replicas, Seen, Value};
use crate::scenario::cassandra::NODES;

/// The replicas of the cluster. It does not keep the cluster alive.
pub(crate) struct ClusterReplicas {
    cluster: WeakCluster,
    keyspace: String,
    layout: Layout,
}

/// Where a cell is.
struct Place {
    table: &'static str,
    key: Vec<Bytes>,
    clustering: Vec<Bytes>,
}

fn int(value: i32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn bigint(value: i64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn place(cell: &Cell, layout: &Layout) -> Place {
    match cell {
        Cell::Progress(partition) => {
            Place { table: "progress", key: vec![int(*partition)], clustering: Vec::new() }
        }
        Cell::Registry => Place { table: "registry", key: vec![text("partitions")], clustering: Vec::new() },
        Cell::Count(partition, window) => {
            let place = layout.counts.place(window);
            Place {
                table: "window_counts",
                key: vec![int(*partition), bigint(place.block), int(place.shard)],
                clustering: vec![bigint(window.end), text(&window.source)],
            }
        }
        Cell::Alert(window) => {
            Place { table: "alerts", key: vec![text(&window.source)], clustering: vec![bigint(window.end)] }
        }
        Cell::Row { partition, offset, is_dead_letter } => {
            let bucket = match layout.events {
                EventLayout::Bucketed { rows } if !is_dead_letter => {
                    Some(bigint(offset / i64::from(rows.get())))
                }
                _ => None,
            };
            Place {
                table: if *is_dead_letter { "dead_letters" } else { "events" },
                key: std::iter::once(int(*partition)).chain(bucket).collect(),
                clustering: vec![bigint(*offset)],
            }
        }
    }
}

/// The value of a cell's columns in a row, if it has all of them.
fn value(cell: &Cell, row: &storage::Row) -> Option<Value> {
    let bytes = |column: &str| {
        let cell = row.cells.iter().find(|(name, _)| name.as_ref() == column);
        cell.and_then(|(_, cell)| cell.value.clone())
    };
    let int = |column: &str| Some(i32::from_be_bytes(bytes(column)?.as_ref().try_into().ok()?));
    let bigint = |column: &str| Some(i64::from_be_bytes(bytes(column)?.as_ref().try_into().ok()?));
    Some(match cell {
        Cell::Progress(_) => Value::Progress(bigint("next_offset")?),
        Cell::Registry => Value::Registry(int("partitions")?),
        Cell::Count(..) => {
            Value::Count(Count { count: bigint("count")?, through_offset: bigint("through_offset")? })
        }
        Cell::Alert(_) => Value::Alert(int("event_count")?.into()),
        Cell::Row { is_dead_letter, .. } => {
            bytes(if *is_dead_letter { "reason" } else { "id" })?;
            Value::Row
        }
    })
}

impl ClusterReplicas {
    pub fn new(cluster: &Cluster, keyspace: &Keyspace, layout: Layout) -> Self {
        Self { cluster: cluster.downgrade(), keyspace: keyspace.to_string(), layout }
    }

    /// How rows are placed.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A table of the pipeline.
    pub fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.cluster.upgrade()?.table(&self.keyspace, name)
    }

    /// The value of a cell in a mutation, and its write timestamp, if it is in it.
    pub fn in_mutation(&self, cell: &Cell, mutation: &Mutation) -> Option<(Value, i64)> {
        let Place { table, key, clustering } = place(cell, &self.layout);
        if mutation.key != DecoratedKey::of_components(&key) {
            return None;
        }
        let table = self.cluster.upgrade()?.table(&self.keyspace, table)?;
        let row = mutation
            .updates
            .get(&table.id)?
            .rows
            .get(&Position::row(table.clustering.clone(), clustering))?;
        let timestamp = row.cells.values().map(|cell| cell.timestamp).max()?;
        Some((value(cell, row)?, timestamp))
    }

    /// What each replica of a cell has, in the order of the nodes.
    fn all(&self, cell: &Cell) -> Vec<(NodeId, Seen)> {
        let Some(cluster) = self.cluster.upgrade() else { return Vec::new() };
        let Place { table, key, clustering } = place(cell, &self.layout);
        let Some(table) = cluster.table(&self.keyspace, table) else { return Vec::new() };
        let key = DecoratedKey::of_components(&key);
        let position = Position::row(table.clustering.clone(), clustering);
        let seen = |node| {
            let row = |partition: Option<&storage::Partition>| {
                partition.and_then(|partition| partition.rows.get(&position)).and_then(|row| value(cell, row))
            };
            let seen = match cluster.look(node, table.id, &key, row) {
                None => Seen::Down,
                Some(None) => Seen::Nothing,
                Some(Some(value)) => Seen::Value(value),
            };
            (node, seen)
        };
        let mut all: Vec<_> = cluster.replicas(&self.keyspace, &key).into_iter().map(seen).collect();
        all.sort_unstable_by_key(|(node, _)| *node);
        all
    }
}

impl Replicas for ClusterReplicas {
    /// The replicas of the workers' data center, whose quorum is what they wait for.
    fn see(&self, cell: &Cell) -> Vec<Seen> {
        let local = |(node, seen): (NodeId, Seen)| (node.0 < NODES.into()).then_some(seen);
        self.all(cell).into_iter().filter_map(local).collect()
    }

    fn see_elsewhere(&self, cell: &Cell) -> Vec<Seen> {
        let remote = |(node, seen): (NodeId, Seen)| (node.0 >= NODES.into()).then_some(seen);
        self.all(cell).into_iter().filter_map(remote).collect()
    }
}
