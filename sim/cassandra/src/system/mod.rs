//! The system's own tables, made from what a node knows of schema and ring when they are read.
//!
//! What drivers and cqlsh read is there: `system.local`, `system.peers`, `system.peers_v2`, `system_schema` and
//! `system_virtual_schema`. Others of the system's tables exist and are empty, if some client is known to query them;
//! none can be written to.

mod content;
mod describe;
mod options;

pub use describe::{describe, result_columns};

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;

use crate::cql::ast::Statement;
use crate::plan::TableLookup;
use crate::schema::{Column, ColumnKind, ColumnName, Order, Schema, Table, TableId, TableOptions};
use crate::storage::{ReadCommand, ReadResult, ResultPartition, fingerprint, scan};
use crate::types::DataType;

/// The version of Cassandra that nodes say they are.
pub const RELEASE_VERSION: &str = "5.0.5";
/// The version of CQL.
pub const CQL_VERSION: &str = "3.4.7";
/// The partitioner.
pub const PARTITIONER: &str = "org.apache.cassandra.dht.Murmur3Partitioner";

/// A table of the system: its keyspace, name, columns (those of the partition key, clustering columns, others)
/// and comment. A `*` before a type says that the collection is not frozen in Cassandra.
struct Definition {
    keyspace: &'static str,
    name: &'static str,
    partition_key: &'static str,
    clustering: &'static str,
    columns: &'static str,
    comment: &'static str,
}

const fn define(
    keyspace: &'static str,
    name: &'static str,
    partition_key: &'static str,
    clustering: &'static str,
    columns: &'static str,
    comment: &'static str,
) -> Definition {
    Definition { keyspace, name, partition_key, clustering, columns, comment }
}

/// The columns that tables and views have in common.
const TABLE_COLUMNS: &str = "additional_write_policy text, allow_auto_snapshot boolean, bloom_filter_fp_chance double, \
     caching map<text;text>, cdc boolean, comment text, compaction map<text;text>, compression map<text;text>, \
     crc_check_chance double, dclocal_read_repair_chance double, default_time_to_live int, extensions map<text;blob>, \
     flags set<text>, gc_grace_seconds int, id uuid, incremental_backups boolean, max_index_interval int, \
     memtable text, memtable_flush_period_in_ms int, min_index_interval int, read_repair text, \
     read_repair_chance double, speculative_retry text";

const VIEW_COLUMNS: &str = "additional_write_policy text, allow_auto_snapshot boolean, base_table_id uuid, \
     base_table_name text, bloom_filter_fp_chance double, caching map<text;text>, cdc boolean, comment text, \
     compaction map<text;text>, compression map<text;text>, crc_check_chance double, \
     dclocal_read_repair_chance double, default_time_to_live int, extensions map<text;blob>, gc_grace_seconds int, \
     id uuid, include_all_columns boolean, incremental_backups boolean, max_index_interval int, memtable text, \
     memtable_flush_period_in_ms int, min_index_interval int, read_repair text, read_repair_chance double, \
     speculative_retry text, where_clause text";

const DEFINITIONS: [Definition; 21] = [
    define(
        "system",
        "local",
        "key text",
        "",
        "bootstrapped text, broadcast_address inet, broadcast_port int, cluster_name text, cql_version text, \
         data_center text, gossip_generation int, host_id uuid, listen_address inet, listen_port int, \
         native_protocol_version text, partitioner text, rack text, release_version text, rpc_address inet, \
         rpc_port int, schema_version uuid, tokens *set<text>, truncated_at *map<uuid;blob>",
        "information about the local node",
    ),
    define(
        "system",
        "peers",
        "peer inet",
        "",
        "data_center text, host_id uuid, preferred_ip inet, rack text, release_version text, rpc_address inet, \
         schema_version uuid, tokens *set<text>",
        "information about known peers in the cluster",
    ),
    define(
        "system",
        "peers_v2",
        "peer inet",
        "peer_port int",
        "data_center text, host_id uuid, native_address inet, native_port int, preferred_ip inet, \
         preferred_port int, rack text, release_version text, schema_version uuid, tokens *set<text>",
        "information about known peers in the cluster",
    ),
    define(
        "system",
        "prepared_statements",
        "prepared_id blob",
        "",
        "logged_keyspace text, query_string text",
        "prepared statements",
    ),
    define(
        "system",
        "size_estimates",
        "keyspace_name text",
        "table_name text, range_start text, range_end text",
        "mean_partition_size bigint, partitions_count bigint",
        "per-table primary range size estimates, table is deprecated in favor of table_estimates",
    ),
    define(
        "system",
        "built_views",
        "keyspace_name text",
        "view_name text",
        "status_replicated boolean",
        "built views",
    ),
    define(
        "system",
        "batches",
        "id timeuuid",
        "",
        "mutations *list<blob>, version int",
        "batches awaiting replay",
    ),
    define(
        "system_schema",
        "keyspaces",
        "keyspace_name text",
        "",
        "durable_writes boolean, replication map<text;text>",
        "keyspace definitions",
    ),
    define(
        "system_schema",
        "tables",
        "keyspace_name text",
        "table_name text",
        TABLE_COLUMNS,
        "table definitions",
    ),
    define(
        "system_schema",
        "columns",
        "keyspace_name text",
        "table_name text, column_name text",
        "clustering_order text, column_name_bytes blob, kind text, position int, type text",
        "column definitions",
    ),
    define(
        "system_schema",
        "dropped_columns",
        "keyspace_name text",
        "table_name text, column_name text",
        "dropped_time timestamp, kind text, type text",
        "dropped column registry",
    ),
    define(
        "system_schema",
        "column_masks",
        "keyspace_name text",
        "table_name text, column_name text",
        "function_argument_nulls list<boolean>, function_argument_types list<text>, \
         function_argument_values list<text>, function_keyspace text, function_name text",
        "column dynamic data masks",
    ),
    define(
        "system_schema",
        "triggers",
        "keyspace_name text",
        "table_name text, trigger_name text",
        "options map<text;text>",
        "trigger definitions",
    ),
    define(
        "system_schema",
        "views",
        "keyspace_name text",
        "view_name text",
        VIEW_COLUMNS,
        "view definitions",
    ),
    define(
        "system_schema",
        "indexes",
        "keyspace_name text",
        "table_name text, index_name text",
        "kind text, options map<text;text>",
        "secondary index definitions",
    ),
    define(
        "system_schema",
        "types",
        "keyspace_name text",
        "type_name text",
        "field_names list<text>, field_types list<text>",
        "user defined type definitions",
    ),
    define(
        "system_schema",
        "functions",
        "keyspace_name text",
        "function_name text, argument_types list<text>",
        "argument_names list<text>, body text, called_on_null_input boolean, language text, return_type text",
        "user defined function definitions",
    ),
    define(
        "system_schema",
        "aggregates",
        "keyspace_name text",
        "aggregate_name text, argument_types list<text>",
        "final_func text, initcond text, return_type text, state_func text, state_type text",
        "user defined aggregate definitions",
    ),
    define(
        "system_virtual_schema",
        "keyspaces",
        "keyspace_name text",
        "",
        "",
        "virtual keyspace definitions",
    ),
    define(
        "system_virtual_schema",
        "tables",
        "keyspace_name text",
        "table_name text",
        "comment text",
        "virtual table definitions",
    ),
    define(
        "system_virtual_schema",
        "columns",
        "keyspace_name text",
        "table_name text, column_name text",
        "clustering_order text, column_name_bytes blob, kind text, position int, type text",
        "virtual column definitions",
    ),
];

/// Keyspaces of the system, whether they are replicated (by SimpleStrategy, to so many), and whether they are
/// virtual.
const KEYSPACES: [(&str, Option<u32>, bool); 6] = [
    ("system", None, false),
    ("system_schema", None, false),
    ("system_auth", Some(1), false),
    ("system_distributed", Some(3), false),
    ("system_traces", Some(2), false),
    ("system_virtual_schema", None, true),
];

/// The system's tables by keyspace and name.
struct Tables {
    tables: BTreeMap<(&'static str, &'static str), Arc<Table>>,
    /// Columns whose collections are not frozen, by table and name.
    not_frozen: Vec<(TableId, ColumnName)>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = BTreeMap::new();
    let mut not_frozen = Vec::new();
    for definition in &DEFINITIONS {
        // Name-based, as Cassandra's ids of system tables are.
        let id = fingerprint(&[definition.keyspace.as_bytes(), definition.name.as_bytes()]);
        let id = TableId((id & !(0xf << 76) & !(0x3 << 62)) | (0x3 << 76) | (0x2 << 62));
        let mut columns = Vec::new();
        let parts = [definition.partition_key, definition.clustering, definition.columns];
        for (part, written) in parts.into_iter().enumerate() {
            for (place, column) in written.split(", ").filter(|column| !column.is_empty()).enumerate() {
                let (name, type_name) = column.split_once(' ').unwrap_or((column, "text"));
                let kind = match part {
                    0 => ColumnKind::PartitionKey(place),
                    1 => ColumnKind::Clustering(place, Order::Ascending),
                    _ => ColumnKind::Regular,
                };
                let name = ColumnName::from(name);
                if type_name.starts_with('*') {
                    not_frozen.push((id, name.clone()));
                }
                columns.push(Column { name, kind, data_type: data_type(type_name.trim_start_matches('*')) });
            }
        }
        let options = TableOptions {
            gc_grace_seconds: if definition.keyspace == "system" { 0 } else { 604_800 },
            comment: definition.comment.to_owned(),
            ..TableOptions::default()
        };
        let table = Table::new(id, definition.keyspace, definition.name, columns, options);
        tables.insert((definition.keyspace, definition.name), Arc::new(table));
    }
    Tables { tables, not_frozen }
});

fn data_type(written: &str) -> DataType {
    let inner = |prefix: &str| written.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(element) = inner("list<") {
        return DataType::List(Box::new(data_type(element)));
    }
    if let Some(element) = inner("set<") {
        return DataType::Set(Box::new(data_type(element)));
    }
    if let Some((key, value)) = inner("map<").and_then(|entry| entry.split_once(';')) {
        return DataType::Map(Box::new(data_type(key)), Box::new(data_type(value)));
    }
    crate::cql::type_named(written).unwrap_or(DataType::Text)
}

/// A column's type as `system_schema.columns` has it.
fn shown_type(table: &Table, column: &Column) -> String {
    let name = crate::cql::type_name(&column.data_type);
    let is_collection = matches!(column.data_type, DataType::List(_) | DataType::Set(_) | DataType::Map(..));
    let frozen = is_collection && !TABLES.not_frozen.contains(&(table.id, column.name.clone()));
    if frozen { format!("frozen<{name}>") } else { name }
}

/// The tables of a schema and those of the system.
#[derive(Clone, Copy, Debug)]
pub struct AllTables<'a>(pub &'a Schema);

impl TableLookup for AllTables<'_> {
    fn has_keyspace(&self, name: &str) -> bool {
        self.0.keyspaces.contains_key(name) || is_system_keyspace(name)
    }

    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>> {
        let system = if is_system_keyspace(keyspace) { TABLES.tables.get(&(keyspace, name)) } else { None };
        system.or_else(|| self.0.table(keyspace, name)).cloned()
    }
}

fn is_system_keyspace(name: &str) -> bool {
    KEYSPACES.iter().any(|(known, ..)| *known == name)
}

/// Whether it is the table of the prepared statements on a node's disk.
pub fn is_of_prepared(table: &Table) -> bool {
    (&*table.keyspace, &*table.name) == ("system", "prepared_statements")
}

/// Whether it is a table of the system.
pub fn is_system_table(table: &Table) -> bool {
    is_system_keyspace(&table.keyspace)
}

/// How many tables are kept.
const KEPT: usize = 100;

/// Tables of the system that are made from the schema alone, by table and version of the schema.
#[derive(Debug, Default)]
pub(crate) struct SystemCache(Mutex<BTreeMap<(TableId, u128), Arc<content::Partitions>>>);

impl SystemCache {
    /// Everything in one of the system's tables.
    fn rows(&self, table: &Table, around: &SystemState<'_>) -> Arc<content::Partitions> {
        if !matches!(&*table.keyspace, "system_schema" | "system_virtual_schema") {
            return Arc::new(content::rows(table, around));
        }
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= KEPT {
            made.clear();
        }
        let rows = made.entry((table.id, around.schema.version));
        Arc::clone(rows.or_insert_with(|| Arc::new(content::rows(table, around))))
    }
}

/// Reads one of the system's tables.
pub(crate) fn read(
    cache: &SystemCache,
    table: &Table,
    command: &ReadCommand,
    around: &SystemState<'_>,
) -> ReadResult {
    let rows = cache.rows(table, around);
    // There are no tombstones in them, so no limit on tombstones can be met.
    let Ok(response) = scan(&rows, table, command, usize::MAX) else {
        return ReadResult::default();
    };
    let limited = response.stopped.is_some();
    let partitions = response
        .partitions
        .into_iter()
        .map(|(key, partition)| {
            let mut rows: Vec<_> = partition.rows.into_iter().collect();
            if command.reversed {
                rows.reverse();
            }
            ResultPartition { key, static_row: partition.static_row, rows }
        })
        .collect();
    ReadResult { partitions, limited }
}

/// What the system's tables are made from.
#[derive(Clone, Copy, Debug)]
pub struct SystemState<'a> {
    /// The schema as the node knows it.
    pub schema: &'a Schema,
    /// The ring as the node knows it.
    pub topology: &'a crate::coordinator::Topology,
    /// The prepared statements on the node's disk.
    pub prepared: &'a BTreeMap<Bytes, crate::coordinator::StoredStatement>,
}

/// Whether a statement is DESCRIBE.
pub fn is_describe(statement: &Statement) -> bool {
    matches!(statement, Statement::Describe(_))
}
