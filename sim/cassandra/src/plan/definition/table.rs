//! CREATE and ALTER TABLE.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::column::column_type;
use super::options::options;
use super::{
    Change, DefinitionContext, MAX_NAME_LENGTH, invalid, is_system_keyspace, is_valid_name, keyspace_of,
    missing, notice, writable_table,
};
use crate::coordinator::ChangeKind;
use crate::cql::ast::{AlterTableChange, ColumnDefinition, CreateTable, TableName};
use crate::plan::term::shown_type;
use crate::protocol::ServerError;
use crate::schema::{Column, ColumnKind, DroppedColumn, Order, SchemaChange, Table, TableOptions};
use crate::types::DataType;

pub(super) fn create_table(
    create: &CreateTable,
    around: &DefinitionContext<'_>,
) -> Result<Option<Change>, ServerError> {
    let keyspace = keyspace_of(&create.table, around)?;
    let name = create.table.name.as_str();
    let full = format!("{keyspace}.{name}");
    let options = options(TableOptions::default(), &create.properties)?;
    if is_system_keyspace(keyspace) {
        writable_table(keyspace)?;
    }
    let Some(known) = around.schema.keyspaces.get(keyspace) else {
        return Err(invalid(format!("Keyspace '{keyspace}' doesn't exist")));
    };
    if known.tables.contains_key(name) {
        if create.if_not_exists {
            return Ok(None);
        }
        return Err(ServerError::AlreadyExists { keyspace: keyspace.to_owned(), table: name.to_owned() });
    }
    let mut definitions: BTreeMap<&str, &ColumnDefinition> = BTreeMap::new();
    for definition in &create.columns {
        if definitions.insert(&definition.name, definition).is_some() {
            return Err(invalid(format!(
                "Duplicate column '{}' declaration for table '{full}'",
                definition.name
            )));
        }
    }
    let (partition_key, clustering) = match create.primary_keys.as_slice() {
        [(partition_key, clustering)] => (partition_key, clustering),
        [] => {
            return Err(invalid(format!(
                "No PRIMARY KEY specifed for table '{full}' (exactly one required)"
            )));
        }
        _ => {
            return Err(invalid(format!(
                "Multiple PRIMARY KEY specified for table '{full}' (exactly one required)"
            )));
        }
    };
    let mut keys = BTreeSet::new();
    for column in partition_key.iter().chain(clustering) {
        let Some(definition) = definitions.get(column.as_str()) else {
            return Err(invalid(format!(
                "Unknown column '{column}' referenced in PRIMARY KEY for table '{name}'"
            )));
        };
        if !keys.insert(column.as_str()) {
            return Err(invalid(format!(
                "Duplicate column '{column}' in PRIMARY KEY clause for table '{name}'"
            )));
        }
        if definition.is_static {
            return Err(invalid(format!("Static column '{column}' cannot be part of the PRIMARY KEY")));
        }
    }
    let orders = clustering_orders(&create.clustering_order, clustering)?;
    let mut columns = Vec::new();
    for (column, definition) in &definitions {
        let place = |columns: &[String]| columns.iter().position(|known| known == column);
        let kind = match (place(partition_key), place(clustering)) {
            (Some(place), _) => ColumnKind::PartitionKey(place),
            (None, Some(place)) => {
                ColumnKind::Clustering(place, orders.get(place).copied().unwrap_or_default())
            }
            (None, None) if definition.is_static => ColumnKind::Static,
            (None, None) => ColumnKind::Regular,
        };
        let is_key = matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..));
        let data_type = column_type(keyspace, definition, is_key)?;
        columns.push(Column { name: Arc::from(*column), kind, data_type });
    }
    let counters = columns.iter().filter(|column| column.data_type == DataType::Counter).count();
    if counters > 0 {
        let others = columns.iter().any(|column| {
            matches!(column.kind, ColumnKind::Regular | ColumnKind::Static)
                && column.data_type != DataType::Counter
        });
        return Err(invalid(
            if others {
                "Cannot mix counter and non counter columns in the same table"
            } else {
                "counters are not simulated"
            }
            .to_owned(),
        ));
    }
    if clustering.is_empty() && columns.iter().any(|column| column.kind == ColumnKind::Static) {
        return Err(invalid(
            "Static columns are only useful (and thus allowed) if the table has at least one clustering column"
                .to_owned(),
        ));
    }
    if create.compact_storage {
        return Err(invalid("COMPACT STORAGE is not simulated".to_owned()));
    }
    if !is_valid_name(name) {
        return Err(ServerError::configuration(format!(
            "{full}: Table name must not be empty, more than {MAX_NAME_LENGTH} characters long, or contain \
             non-alphanumeric-underscore characters (got \"{name}\")"
        )));
    }
    let table = Table::new(around.id, keyspace, name, columns, options);
    let event = notice(ChangeKind::Created, keyspace, Some(name));
    Ok(Some((SchemaChange::PutTable(Arc::new(table)), event)))
}

pub(super) fn clustering_orders(
    written: &[(String, bool)],
    clustering: &[String],
) -> Result<Vec<Order>, ServerError> {
    let others: Vec<&str> = written
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !clustering.iter().any(|it| it == name))
        .collect();
    if !others.is_empty() {
        return Err(invalid(format!(
            "Only clustering key columns can be defined in CLUSTERING ORDER directive: [{}] are not clustering columns",
            others.join(", ")
        )));
    }
    for (at, column) in clustering.iter().enumerate().take(written.len()) {
        if written[at].0 != *column {
            return Err(invalid(if written.iter().any(|(name, _)| name == column) {
                format!(
                    "The order of columns in the CLUSTERING ORDER directive must match that of the clustering columns \
                     ({column} must appear before {})",
                    written[at].0
                )
            } else {
                format!("Missing CLUSTERING ORDER for column {column}")
            }));
        }
    }
    let order = |at: usize| match written.get(at) {
        Some((_, true)) => Order::Descending,
        _ => Order::Ascending,
    };
    Ok((0..clustering.len()).map(order).collect())
}

/// Checks that a column may have the name of one that was dropped (`AlterTableStatement.AddColumns`).
fn check_added_again(
    name: &str,
    kind: ColumnKind,
    data_type: &DataType,
    before: &DroppedColumn,
) -> Result<(), ServerError> {
    let shown_kind = |kind: ColumnKind| if kind == ColumnKind::Static { "STATIC" } else { "REGULAR" };
    if !data_type.reads_cells_of(&before.data_type) {
        return Err(invalid(format!(
            "Cannot re-add previously dropped column '{name}' of type {}, incompatible with previous type {}",
            shown_type(data_type),
            shown_type(&before.data_type)
        )));
    }
    if kind != before.kind {
        return Err(invalid(format!(
            "Cannot re-add previously dropped column '{name}' of kind {}, incompatible with previous kind {}",
            shown_kind(kind),
            shown_kind(before.kind)
        )));
    }
    Ok(())
}

pub(super) fn alter_table(
    name: &TableName,
    if_exists: bool,
    change: &AlterTableChange,
    around: &DefinitionContext<'_>,
) -> Result<Option<Change>, ServerError> {
    let keyspace = keyspace_of(name, around)?;
    if is_system_keyspace(keyspace) {
        writable_table(keyspace)?;
    }
    let full = format!("{keyspace}.{}", name.name);
    if let AlterTableChange::Properties(properties) = change {
        // Unknown ones are reported before a missing table.
        options(TableOptions::default(), properties)?;
    }
    let Some(table) = around.schema.table(keyspace, &name.name) else {
        return missing(if_exists, format!("Table '{full}' doesn't exist"));
    };
    let mut columns = table.columns.clone();
    let mut dropped = table.dropped.clone();
    let mut table_options = table.options.clone();
    match change {
        AlterTableChange::Type => {
            return Err(invalid("Altering column types is no longer supported".to_owned()));
        }
        AlterTableChange::DropCompactStorage => {
            return Err(invalid(
                "DROP COMPACT STORAGE is disabled. Enable in cassandra.yaml to use.".to_owned(),
            ));
        }
        AlterTableChange::Properties(properties) => table_options = options(table_options, properties)?,
        AlterTableChange::Add { if_not_exists, columns: added } => {
            for definition in added {
                if columns.contains_key(definition.name.as_str()) {
                    if *if_not_exists {
                        continue;
                    }
                    return Err(invalid(format!("Column with name '{}' already exists", definition.name)));
                }
                let data_type = column_type(keyspace, definition, false)?;
                if definition.is_static && table.clustering.components().is_empty() {
                    return Err(invalid(
                        "Static columns are only useful (and thus allowed) if the table has at least one clustering \
                         column"
                            .to_owned(),
                    ));
                }
                let kind = if definition.is_static { ColumnKind::Static } else { ColumnKind::Regular };
                if let Some(before) = dropped.get(definition.name.as_str()) {
                    check_added_again(&definition.name, kind, &data_type, before)?;
                }
                if data_type == DataType::Counter {
                    return Err(ServerError::configuration(format!(
                        "{full}: Cannot have a counter column (\"{}\") in a non counter table",
                        definition.name
                    )));
                }
                let name: Arc<str> = Arc::from(definition.name.as_str());
                columns.insert(name.clone(), Column { name, kind, data_type });
            }
        }
        AlterTableChange::Drop { if_exists, columns: gone, timestamp } => {
            for name in gone {
                let Some(column) = columns.get(name.as_str()) else {
                    if *if_exists {
                        continue;
                    }
                    return Err(invalid(format!("Column {name} was not found in table '{full}'")));
                };
                if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                    return Err(invalid(format!("Cannot drop PRIMARY KEY column {name}")));
                }
                let until = timestamp.unwrap_or(around.timestamp);
                let of = DroppedColumn { kind: column.kind, data_type: column.data_type.clone(), until };
                dropped.insert(column.name.clone(), of);
                columns.remove(name.as_str());
            }
        }
        AlterTableChange::Rename { if_exists, columns: renamed } => {
            for (from, to) in renamed {
                let Some(column) = columns.get(from.as_str()).cloned() else {
                    if *if_exists {
                        continue;
                    }
                    return Err(invalid(format!("Undefined column name {from} in table {full}")));
                };
                if !matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                    return Err(invalid(format!("Cannot rename non PRIMARY KEY column {from}")));
                }
                if columns.contains_key(to.as_str()) {
                    return Err(invalid(format!(
                        "Cannot rename column {from} to {to} in table '{full}'; another column with that name already \
                         exists"
                    )));
                }
                columns.remove(from.as_str());
                let name: Arc<str> = Arc::from(to.as_str());
                columns.insert(name.clone(), Column { name, ..column });
            }
        }
    }
    let mut next = Table::new(
        table.id,
        table.keyspace.clone(),
        table.name.clone(),
        columns.into_values(),
        table_options,
    );
    next.dropped = dropped;
    if next == **table {
        // Nothing changes, so no event is sent (`SchemaAlteringStatement`).
        return Ok(None);
    }
    let event = notice(ChangeKind::Updated, keyspace, Some(&name.name));
    Ok(Some((SchemaChange::PutTable(Arc::new(next)), event)))
}
