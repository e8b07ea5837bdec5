//! The rows of the system's tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    CQL_VERSION, DEFINITIONS, KEYSPACES, PARTITIONER, RELEASE_VERSION, SystemState, TABLES, options,
    shown_type,
};
use crate::coordinator::{Peer, StoredStatement};
use crate::cql::value::collection;
use crate::schema::{Column, ColumnKind, DroppedColumn, Order, Replication, Table};
use crate::storage::{Cell, DecoratedKey, Liveness, Partition, Row};

/// The rows of a table.
pub(super) type Partitions = BTreeMap<DecoratedKey, Arc<Partition>>;

/// A row by the names of its columns.
type Named = Vec<(&'static str, Option<Bytes>)>;

fn text(value: impl AsRef<str>) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(value.as_ref().as_bytes()))
}

fn int(value: i32) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

fn boolean(value: bool) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&[u8::from(value)]))
}

fn double(value: f64) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

fn uuid(value: u128) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

fn inet(value: IpAddr) -> Option<Bytes> {
    Some(match value {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    })
}

/// A set of texts; they must be in order and each once.
fn set(values: &[String]) -> Option<Bytes> {
    let all: Vec<Bytes> = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    Some(collection(all.len(), &all))
}

fn map(entries: &BTreeMap<String, String>) -> Option<Bytes> {
    let all: Vec<Bytes> = entries
        .iter()
        .flat_map(|(key, value)| [key, value])
        .map(|part| Bytes::copy_from_slice(part.as_bytes()))
        .collect();
    Some(collection(entries.len(), &all))
}

/// Everything in one of the system's tables.
pub(super) fn rows(table: &Table, around: &SystemState<'_>) -> Partitions {
    let named: Vec<Named> = match (&*table.keyspace, &*table.name) {
        ("system", "local") => vec![local(around)],
        ("system", "peers") => around.topology.peers.iter().map(peer).collect(),
        ("system", "peers_v2") => around.topology.peers.iter().map(peer_v2).collect(),
        ("system", "prepared_statements") => prepared(around),
        ("system_schema", "keyspaces") => keyspaces(around),
        ("system_schema", "tables") => {
            all_tables(around, false).iter().map(|table| table_row(table)).collect()
        }
        ("system_schema", "columns") => {
            all_tables(around, false).iter().flat_map(|table| column_rows(table)).collect()
        }
        ("system_schema", "dropped_columns") => {
            all_tables(around, false).iter().flat_map(|table| dropped_rows(table)).collect()
        }
        ("system_virtual_schema", "keyspaces") => KEYSPACES
            .iter()
            .filter(|(_, _, is_virtual)| *is_virtual)
            .map(|(name, ..)| vec![("keyspace_name", text(name))])
            .collect(),
        ("system_virtual_schema", "tables") => DEFINITIONS
            .iter()
            .filter(|definition| is_virtual(definition.keyspace))
            .map(|definition| {
                vec![
                    ("keyspace_name", text(definition.keyspace)),
                    ("table_name", text(definition.name)),
                    ("comment", text(definition.comment)),
                ]
            })
            .collect(),
        ("system_virtual_schema", "columns") => {
            all_tables(around, true).iter().flat_map(|table| column_rows(table)).collect()
        }
        _ => Vec::new(),
    };
    let mut rows = BTreeMap::new();
    for row in named {
        add(table, row, &mut rows);
    }
    rows.into_iter().map(|(key, partition)| (key, Arc::new(partition))).collect()
}

fn prepared(around: &SystemState<'_>) -> Vec<Named> {
    let row = |(id, kept): (&Bytes, &StoredStatement)| {
        vec![
            ("prepared_id", Some(id.clone())),
            ("logged_keyspace", kept.keyspace.as_ref().and_then(text)),
            ("query_string", text(&kept.query)),
        ]
    };
    around.prepared.iter().map(row).collect()
}

fn is_virtual(keyspace: &str) -> bool {
    KEYSPACES.iter().any(|(name, _, is_virtual)| *name == keyspace && *is_virtual)
}

/// Adds a row to its partition. The timestamps of the system's cells are 0.
fn add(table: &Table, named: Named, rows: &mut BTreeMap<DecoratedKey, Partition>) {
    let value = |column: &Column| {
        named.iter().find(|(name, _)| **name == *column.name).and_then(|(_, value)| value.clone())
    };
    let values = |columns: Vec<&Column>| -> Vec<Bytes> {
        columns.into_iter().map(|column| value(column).unwrap_or_default()).collect()
    };
    let key = table.key(&values(table.partition_key_columns()));
    let position = table.row(values(table.clustering_columns()));
    let mut row = Row { liveness: Some(Liveness::new(0, 0, 0)), ..Row::default() };
    for column in table.columns.values().filter(|column| column.kind == ColumnKind::Regular) {
        if let Some(value) = value(column) {
            row.cells.insert(column.name.clone(), Cell::live(0, value));
        }
    }
    rows.entry(key).or_default().rows.insert(position, row);
}

fn tokens(peer: &Peer) -> Option<Bytes> {
    let mut tokens: Vec<String> = peer.tokens.iter().map(ToString::to_string).collect();
    tokens.sort();
    set(&tokens)
}

/// Ports between nodes, to which nothing connects here.
const STORAGE_PORT: i32 = 7000;

fn local(around: &SystemState<'_>) -> Named {
    let peer = &around.topology.local;
    vec![
        ("key", text("local")),
        ("bootstrapped", text("COMPLETED")),
        ("broadcast_address", inet(peer.address)),
        ("broadcast_port", int(STORAGE_PORT)),
        ("cluster_name", text(&around.topology.cluster_name)),
        ("cql_version", text(CQL_VERSION)),
        ("data_center", text(&peer.data_center)),
        ("gossip_generation", int(1)),
        ("host_id", uuid(peer.host_id)),
        ("listen_address", inet(peer.address)),
        ("listen_port", int(STORAGE_PORT)),
        ("native_protocol_version", text("4")),
        ("partitioner", text(PARTITIONER)),
        ("rack", text(&peer.rack)),
        ("release_version", text(RELEASE_VERSION)),
        ("rpc_address", inet(peer.address)),
        ("rpc_port", int(i32::from(peer.port))),
        ("schema_version", uuid(around.schema.version)),
        ("tokens", tokens(peer)),
    ]
}

fn peer(peer: &Peer) -> Named {
    vec![
        ("peer", inet(peer.address)),
        ("data_center", text(&peer.data_center)),
        ("host_id", uuid(peer.host_id)),
        ("rack", text(&peer.rack)),
        ("release_version", text(RELEASE_VERSION)),
        ("rpc_address", inet(peer.address)),
        ("schema_version", uuid(peer.schema_version)),
        ("tokens", tokens(peer)),
    ]
}

fn peer_v2(known: &Peer) -> Named {
    let mut row: Named = peer(known).into_iter().filter(|(name, _)| *name != "rpc_address").collect();
    row.extend([
        ("peer_port", int(STORAGE_PORT)),
        ("native_address", inet(known.address)),
        ("native_port", int(i32::from(known.port))),
    ]);
    row
}

/// A keyspace's replication as `system_schema.keyspaces` has it.
pub(super) fn replication(replication: &Replication) -> BTreeMap<String, String> {
    let class = |name: &str| ("class".to_owned(), format!("org.apache.cassandra.locator.{name}"));
    match replication {
        Replication::Simple { factor } => {
            BTreeMap::from([class("SimpleStrategy"), ("replication_factor".to_owned(), factor.to_string())])
        }
        Replication::NetworkTopology { factors } => {
            let factors = factors.iter().map(|(center, factor)| (center.clone(), factor.to_string()));
            factors.chain([class("NetworkTopologyStrategy")]).collect()
        }
        Replication::Local => BTreeMap::from([class("LocalStrategy")]),
        Replication::Everywhere => BTreeMap::from([class("EverywhereStrategy")]),
    }
}

/// The system's keyspaces with their replication.
pub(super) fn system_keyspaces() -> impl Iterator<Item = (&'static str, Replication)> {
    KEYSPACES.iter().filter(|(_, _, is_virtual)| !is_virtual).map(|(name, factor, _)| {
        let replication = match factor {
            Some(factor) => Replication::Simple { factor: *factor as usize },
            None => Replication::Local,
        };
        (*name, replication)
    })
}

fn keyspaces(around: &SystemState<'_>) -> Vec<Named> {
    let row = |name: &str, of: &Replication, durable_writes: bool| {
        vec![
            ("keyspace_name", text(name)),
            ("durable_writes", boolean(durable_writes)),
            ("replication", map(&replication(of))),
        ]
    };
    let users = around.schema.keyspaces.values();
    let users = users.map(|keyspace| row(&keyspace.name, &keyspace.replication, keyspace.durable_writes));
    users.chain(system_keyspaces().map(|(name, replication)| row(name, &replication, true))).collect()
}

/// The tables of the schema and of the system; only those that are virtual, or only those that are not.
fn all_tables(around: &SystemState<'_>, virtual_ones: bool) -> Vec<Arc<Table>> {
    let system = TABLES.tables.values().filter(|table| is_virtual(&table.keyspace) == virtual_ones).cloned();
    let users = around.schema.tables.values().filter(|_| !virtual_ones).cloned();
    system.chain(users).collect()
}

fn table_row(table: &Table) -> Named {
    let texts = options::texts(&table.options);
    let of = |name: &str| texts.get(name).cloned().unwrap_or_default();
    let number = |name: &str| int(of(name).parse().unwrap_or_default());
    let fraction = |name: &str| double(of(name).parse().unwrap_or_default());
    let flag = |name: &str| texts.get(name).and_then(|value| boolean(value == "true"));
    vec![
        ("keyspace_name", text(&table.keyspace)),
        ("table_name", text(&table.name)),
        ("additional_write_policy", text(of("additional_write_policy"))),
        ("allow_auto_snapshot", flag("allow_auto_snapshot")),
        ("bloom_filter_fp_chance", fraction("bloom_filter_fp_chance")),
        ("caching", map(&options::map(&table.options, "caching"))),
        ("cdc", flag("cdc")),
        ("comment", text(of("comment"))),
        ("compaction", map(&options::map(&table.options, "compaction"))),
        ("compression", map(&options::map(&table.options, "compression"))),
        ("crc_check_chance", fraction("crc_check_chance")),
        ("dclocal_read_repair_chance", double(0.0)),
        ("default_time_to_live", number("default_time_to_live")),
        ("extensions", map(&options::map(&table.options, "extensions"))),
        ("flags", set(&["compound".to_owned()])),
        ("gc_grace_seconds", number("gc_grace_seconds")),
        ("id", uuid(table.id.0)),
        ("incremental_backups", flag("incremental_backups")),
        ("max_index_interval", number("max_index_interval")),
        // The default is indicated by omission.
        ("memtable", text(of("memtable")).filter(|memtable| memtable != "default")),
        ("memtable_flush_period_in_ms", number("memtable_flush_period_in_ms")),
        ("min_index_interval", number("min_index_interval")),
        ("read_repair", text(of("read_repair"))),
        ("read_repair_chance", double(0.0)),
        ("speculative_retry", text(of("speculative_retry"))),
    ]
}

fn column_rows(table: &Table) -> Vec<Named> {
    let row = |column: &Column| {
        let (kind, position, order) = match column.kind {
            ColumnKind::PartitionKey(place) => ("partition_key", place as i32, "none"),
            ColumnKind::Clustering(place, Order::Ascending) => ("clustering", place as i32, "asc"),
            ColumnKind::Clustering(place, Order::Descending) => ("clustering", place as i32, "desc"),
            ColumnKind::Static => ("static", -1, "none"),
            ColumnKind::Regular => ("regular", -1, "none"),
        };
        vec![
            ("keyspace_name", text(&table.keyspace)),
            ("table_name", text(&table.name)),
            ("column_name", text(&column.name)),
            ("clustering_order", text(order)),
            ("column_name_bytes", text(&column.name)),
            ("kind", text(kind)),
            ("position", int(position)),
            ("type", text(shown_type(table, column))),
        ]
    };
    table.columns.values().map(row).collect()
}

/// Columns that were dropped.
fn dropped_rows(table: &Table) -> Vec<Named> {
    let row = |(name, column): (&Arc<str>, &DroppedColumn)| {
        let at = column.until;
        let of_name = Column { name: name.clone(), kind: column.kind, data_type: column.data_type.clone() };
        vec![
            ("keyspace_name", text(&table.keyspace)),
            ("table_name", text(&table.name)),
            ("column_name", text(name)),
            ("dropped_time", Some(Bytes::copy_from_slice(&at.div_euclid(1000).to_be_bytes()))),
            ("kind", text(if column.kind == ColumnKind::Static { "static" } else { "regular" })),
            ("type", text(shown_type(table, &of_name))),
        ]
    };
    table.dropped.iter().map(row).collect()
}
