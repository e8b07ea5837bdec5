//! DESCRIBE: the schema as the statements that make it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::{AllTables, KEYSPACES, SystemState, TABLES, content, options, shown_type};
use crate::cql::ast::{Describe, TableName};
use crate::cql::needs_quotes;
use crate::plan::TableLookup;
use crate::protocol::{ColumnSpec, ServerError};
use crate::schema::{Column, ColumnKind, Order, Replication, Table};
use crate::types::DataType;

/// The columns of the result of a DESCRIBE.
pub fn result_columns(what: &Describe) -> Vec<ColumnSpec> {
    let names: &[&str] = match what {
        Describe::Cluster => &["cluster", "partitioner", "snitch"],
        Describe::Keyspaces | Describe::Tables | Describe::Nothing => &["keyspace_name", "type", "name"],
        Describe::Schema(_) | Describe::Keyspace(..) | Describe::Table(_) | Describe::Any(_) => {
            &["keyspace_name", "type", "name", "create_statement"]
        }
    };
    let spec = |name: &&str| ColumnSpec {
        keyspace: Arc::from("system"),
        table: Arc::from("describe"),
        name: (*name).to_owned(),
        data_type: DataType::Text,
    };
    names.iter().map(spec).collect()
}

/// The result of a DESCRIBE, row by row; `keyspace` is the session's.
///
/// # Errors
/// If the object to describe does not exist.
pub fn describe(
    what: &Describe,
    keyspace: Option<&str>,
    around: &SystemState<'_>,
) -> Result<Vec<Vec<Option<Bytes>>>, ServerError> {
    let rows: Vec<Vec<String>> = match what {
        Describe::Cluster => {
            let name = around.topology.cluster_name.clone();
            vec![vec![name, "Murmur3Partitioner".to_owned(), "SimpleSnitch".to_owned()]]
        }
        Describe::Keyspaces => {
            let mut names: Vec<String> = KEYSPACES.iter().map(|(name, ..)| (*name).to_owned()).collect();
            names.extend(around.schema.keyspaces.keys().map(ToString::to_string));
            names.sort();
            names.into_iter().map(|name| element(&name, "keyspace", &name)).collect()
        }
        Describe::Tables => {
            let mut tables: Vec<_> = TABLES.tables.values().chain(around.schema.tables.values()).collect();
            tables.retain(|table| keyspace.is_none_or(|keyspace| *table.keyspace == *keyspace));
            tables.sort_by(|left, right| (&left.keyspace, &left.name).cmp(&(&right.keyspace, &right.name)));
            tables.into_iter().map(|table| element(&table.keyspace, "table", &table.name)).collect()
        }
        Describe::Nothing => Vec::new(),
        Describe::Schema(full) => {
            let mut names: Vec<String> = around.schema.keyspaces.keys().map(ToString::to_string).collect();
            if *full {
                names.extend(content::system_keyspaces().map(|(name, _)| name.to_owned()));
            }
            names.sort();
            let mut rows = Vec::new();
            for name in names {
                rows.extend(describe_keyspace(&name, false, around)?);
            }
            rows
        }
        Describe::Keyspace(name, only) => {
            let name = name
                .as_deref()
                .or(keyspace)
                .ok_or_else(|| ServerError::invalid("No keyspace specified and no current keyspace"))?;
            describe_keyspace(name, *only, around)?
        }
        Describe::Table(name) => vec![describe_table(name, keyspace, around)?],
        Describe::Any(name) => {
            let tables = AllTables(around.schema);
            if name.keyspace.is_none() && tables.has_keyspace(&name.name) {
                describe_keyspace(&name.name, false, around)?
            } else if name.keyspace.is_none() && keyspace.is_none() {
                return Err(ServerError::invalid(format!("'{}' not found in keyspaces", name.name)));
            } else {
                vec![describe_table(name, keyspace, around)?]
            }
        }
    };
    let shown = |row: Vec<String>| row.into_iter().map(|text| Some(Bytes::from(text))).collect();
    Ok(rows.into_iter().map(shown).collect())
}

fn element(keyspace: &str, kind: &str, name: &str) -> Vec<String> {
    vec![quoted(keyspace), kind.to_owned(), quoted(name)]
}

/// A name as CQL needs it.
fn quoted(name: &str) -> String {
    if needs_quotes(name) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

fn describe_keyspace(
    name: &str,
    only: bool,
    around: &SystemState<'_>,
) -> Result<Vec<Vec<String>>, ServerError> {
    let (replication, durable_writes) = match around.schema.keyspaces.get(name) {
        Some(keyspace) => (keyspace.replication.clone(), keyspace.durable_writes),
        None => match content::system_keyspaces().find(|(known, _)| *known == name) {
            Some((_, replication)) => (replication, true),
            None => return Err(ServerError::invalid(format!("'{name}' not found in keyspaces"))),
        },
    };
    let mut row = element(name, "keyspace", name);
    row.push(keyspace_statement(name, &replication, durable_writes));
    let mut rows = vec![row];
    if !only {
        let mut tables: Vec<_> = TABLES.tables.values().chain(around.schema.tables.values()).collect();
        tables.retain(|table| *table.keyspace == *name);
        tables.sort_by(|left, right| left.name.cmp(&right.name));
        for table in tables {
            let mut row = element(name, "table", &table.name);
            row.push(table_statement(table));
            rows.push(row);
        }
    }
    Ok(rows)
}

fn describe_table(
    name: &TableName,
    keyspace: Option<&str>,
    around: &SystemState<'_>,
) -> Result<Vec<String>, ServerError> {
    let keyspace = name
        .keyspace
        .as_deref()
        .or(keyspace)
        .ok_or_else(|| ServerError::invalid("No keyspace specified and no current keyspace"))?;
    let tables = AllTables(around.schema);
    if !tables.has_keyspace(keyspace) {
        return Err(ServerError::invalid(format!("'{keyspace}' not found in keyspaces")));
    }
    let Some(table) = tables.table(keyspace, &name.name) else {
        return Err(ServerError::invalid(format!(
            "Table '{}' not found in keyspace '{keyspace}'",
            name.name
        )));
    };
    let mut row = element(keyspace, "table", &name.name);
    row.push(table_statement(&table));
    Ok(row)
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn map(entries: &std::collections::BTreeMap<String, String>) -> String {
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| format!("{}: {}", text(key), text(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn keyspace_statement(name: &str, replication: &Replication, durable_writes: bool) -> String {
    let mut entries = content::replication(replication);
    if let Some(class) = entries.get_mut("class")
        && let Some(short) = class.strip_prefix("org.apache.cassandra.locator.")
    {
        *class = short.to_owned();
    }
    let map = map(&entries);
    format!(
        "CREATE KEYSPACE {} WITH replication = {map}  AND durable_writes = {durable_writes};",
        quoted(name)
    )
}

fn table_statement(table: &Table) -> String {
    let mut out = format!("CREATE TABLE {}.{} (\n", quoted(&table.keyspace), quoted(&table.name));
    let key = table.partition_key_columns();
    let clustering = table.clustering_columns();
    let is_single = key.len() == 1 && clustering.is_empty();
    let of_kind = |kind: ColumnKind| table.columns.values().filter(move |column| column.kind == kind);
    let columns: Vec<&Column> = key
        .iter()
        .chain(&clustering)
        .copied()
        .chain(of_kind(ColumnKind::Static))
        .chain(of_kind(ColumnKind::Regular))
        .collect();
    let mut lines: Vec<String> = columns
        .iter()
        .map(|column| {
            let mut line = format!("    {} {}", quoted(&column.name), shown_type(table, column));
            match column.kind {
                ColumnKind::Static => line.push_str(" static"),
                ColumnKind::PartitionKey(_) if is_single => line.push_str(" PRIMARY KEY"),
                _ => {}
            }
            line
        })
        .collect();
    let names = |columns: &[&Column]| {
        columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    };
    if !is_single {
        let key = if key.len() == 1 { names(&key) } else { format!("({})", names(&key)) };
        let rest = if clustering.is_empty() { String::new() } else { format!(", {}", names(&clustering)) };
        lines.push(format!("    PRIMARY KEY ({key}{rest})"));
    }
    out.push_str(&lines.join(",\n"));
    out.push_str("\n) WITH ");
    if !clustering.is_empty() {
        let orders: Vec<_> = clustering
            .iter()
            .map(|column| {
                let order = match column.kind {
                    ColumnKind::Clustering(_, Order::Descending) => "DESC",
                    _ => "ASC",
                };
                format!("{} {order}", quoted(&column.name))
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = write!(out, "CLUSTERING ORDER BY ({})\n    AND ", orders.join(", "));
    }
    let texts = options::texts(&table.options);
    let of = |name: &str, default: &str| texts.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let quoted_of = |name: &str| text(&of(name, ""));
    let of_map = |name: &str| map(&options::map(&table.options, name));
    let all = [
        ("additional_write_policy", quoted_of("additional_write_policy")),
        ("allow_auto_snapshot", of("allow_auto_snapshot", "true")),
        ("bloom_filter_fp_chance", of("bloom_filter_fp_chance", "0.01")),
        ("caching", of_map("caching")),
        ("cdc", of("cdc", "false")),
        ("comment", quoted_of("comment")),
        ("compaction", of_map("compaction")),
        ("compression", of_map("compression")),
        ("memtable", quoted_of("memtable")),
        ("crc_check_chance", of("crc_check_chance", "1.0")),
        ("default_time_to_live", of("default_time_to_live", "0")),
        ("extensions", of_map("extensions")),
        ("gc_grace_seconds", of("gc_grace_seconds", "864000")),
        ("incremental_backups", of("incremental_backups", "true")),
        ("max_index_interval", of("max_index_interval", "2048")),
        ("memtable_flush_period_in_ms", of("memtable_flush_period_in_ms", "0")),
        ("min_index_interval", of("min_index_interval", "128")),
        ("read_repair", quoted_of("read_repair")),
        ("speculative_retry", quoted_of("speculative_retry")),
    ];
    let all: Vec<String> = all.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    out.push_str(&all.join("\n    AND "));
    out.push(';');
    out
}
