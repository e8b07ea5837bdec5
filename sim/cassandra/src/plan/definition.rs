//! CREATE, ALTER and DROP: from a statement to a change of the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::TableLookup;
use super::term::data_type_of;
use crate::coordinator::{ChangeKind, Topology};
use crate::cql::ast::{
    AlterTableChange, ColumnDefinition, CreateTable, Property, Statement, TableName, TypeName,
};
use crate::cql::type_name;
use crate::protocol::{SchemaNotice, ServerError};
use crate::schema::{
    Column, ColumnKind, Order, ReadRepair, Replication, Schema, SchemaChange, SpeculativeRetry, Table,
    TableId, TableOptions,
};
use crate::storage::Timestamp;
use crate::types::DataType;

/// A change of the schema, and what the client is told of it.
pub type Change = (SchemaChange, SchemaNotice);

/// What a change depends on besides the statement.
pub struct Surroundings<'a> {
    /// The schema that it changes.
    pub schema: &'a Schema,
    /// All tables, the system's, too.
    pub tables: &'a dyn TableLookup,
    /// The ring, for the names of data centres.
    pub topology: &'a Topology,
    /// The session's keyspace.
    pub keyspace: Option<&'a str>,
    /// The identity of a new table.
    pub id: TableId,
    /// The clock, for the moment from which a dropped column's cells are ignored.
    pub timestamp: Timestamp,
}

/// Keyspaces that nobody may change.
const SYSTEM_KEYSPACES: [&str; 4] = ["system", "system_schema", "system_views", "system_virtual_schema"];

/// Keyspaces of the system that are replicated, and so may be altered in that.
const REPLICATED_SYSTEM_KEYSPACES: [&str; 3] = ["system_auth", "system_distributed", "system_traces"];

/// The longest name of a keyspace or a table.
const LONGEST_NAME: usize = 48;

fn invalid(message: String) -> ServerError {
    ServerError::invalid(message)
}

/// Whether a name belongs to the system.
pub fn is_system_keyspace(name: &str) -> bool {
    SYSTEM_KEYSPACES.contains(&name) || REPLICATED_SYSTEM_KEYSPACES.contains(&name)
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn notice(kind: ChangeKind, keyspace: &str, table: Option<&str>) -> SchemaNotice {
    SchemaNotice { kind, keyspace: keyspace.to_owned(), table: table.map(str::to_owned) }
}

/// The change that a statement makes; `None` if there is nothing to do (IF EXISTS, IF NOT EXISTS).
///
/// # Errors
/// If it cannot be made.
pub fn change(statement: &Statement, around: &Surroundings<'_>) -> Result<Option<Change>, ServerError> {
    match statement {
        Statement::CreateKeyspace { name, if_not_exists, properties } => {
            create_keyspace(name, *if_not_exists, properties, around)
        }
        Statement::AlterKeyspace { name, if_exists, properties } => {
            alter_keyspace(name, *if_exists, properties, around)
        }
        Statement::DropKeyspace { name, if_exists } => {
            writable_table(name)?;
            if !around.schema.keyspaces.contains_key(name.as_str()) {
                return missing(*if_exists, format!("Keyspace '{name}' doesn't exist"));
            }
            let told = notice(ChangeKind::Dropped, name, None);
            Ok(Some((SchemaChange::DropKeyspace { name: name.as_str().into() }, told)))
        }
        Statement::CreateTable(create) => create_table(create, around),
        Statement::AlterTable { table, if_exists, change } => alter_table(table, *if_exists, change, around),
        Statement::DropTable { table, if_exists } => {
            let keyspace = keyspace_of(table, around)?;
            writable_table(keyspace)?;
            if around.schema.table(keyspace, &table.name).is_none() {
                return missing(*if_exists, format!("Table '{keyspace}.{}' doesn't exist", table.name));
            }
            let told = notice(ChangeKind::Dropped, keyspace, Some(&table.name));
            let change =
                SchemaChange::DropTable { keyspace: keyspace.into(), name: table.name.as_str().into() };
            Ok(Some((change, told)))
        }
        _ => Err(invalid("this statement does not change the schema".to_owned())),
    }
}

fn missing(if_exists: bool, message: String) -> Result<Option<Change>, ServerError> {
    if if_exists { Ok(None) } else { Err(invalid(message)) }
}

fn keyspace_of<'a>(table: &'a TableName, around: &Surroundings<'a>) -> Result<&'a str, ServerError> {
    table.keyspace.as_deref().or(around.keyspace).ok_or_else(|| {
        ServerError::invalid(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
        )
    })
}

fn writable_keyspace(name: &str) -> Result<(), ServerError> {
    if is_system_keyspace(name) {
        return Err(invalid(format!("System keyspace '{name}' is not user-modifiable")));
    }
    Ok(())
}

fn writable_table(keyspace: &str) -> Result<(), ServerError> {
    if is_system_keyspace(keyspace) {
        return Err(ServerError::Unauthorized(format!("{keyspace} keyspace is not user-modifiable.")));
    }
    Ok(())
}

/// Properties by name, each once and each known.
fn by_name<'a>(
    properties: &'a [(String, Property)],
    known: &[&str],
) -> Result<BTreeMap<&'a str, &'a Property>, ServerError> {
    let mut found = BTreeMap::new();
    for (name, property) in properties {
        if found.insert(name.as_str(), property).is_some() {
            return Err(ServerError::Syntax(format!("Multiple definitions for property '{name}'")));
        }
    }
    match found.keys().find(|name| !known.contains(name)) {
        Some(name) => Err(ServerError::Syntax(format!("Unknown property '{name}'"))),
        None => Ok(found),
    }
}

fn text<'a>(name: &str, property: &'a Property) -> Result<&'a str, ServerError> {
    match property {
        Property::Simple(text) => Ok(text),
        Property::Map(_) => {
            Err(ServerError::Syntax(format!("Invalid value for property '{name}'. It should be a string")))
        }
    }
}

fn map<'a>(name: &str, property: &'a Property) -> Result<&'a [(String, String)], ServerError> {
    match property {
        Property::Map(entries) => Ok(entries),
        Property::Simple(_) => {
            Err(ServerError::Syntax(format!("Invalid value for property '{name}'. It should be a map.")))
        }
    }
}

fn boolean(name: &str, property: &Property) -> Result<bool, ServerError> {
    match text(name, property)?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        other => Err(ServerError::Syntax(format!(
            "Invalid boolean value {other} for '{name}'. Positive values can be '1', 'true' or 'yes'. Negative values \
             can be '0', 'false' or 'no'."
        ))),
    }
}

fn create_keyspace(
    name: &str,
    if_not_exists: bool,
    properties: &[(String, Property)],
    around: &Surroundings<'_>,
) -> Result<Option<Change>, ServerError> {
    let found = by_name(properties, &["replication", "durable_writes"])?;
    if !is_valid_name(name) {
        return Err(invalid(format!(
            "Keyspace name must not be empty, more than {LONGEST_NAME} characters long, or contain \
             non-alphanumeric-underscore characters (got '{name}')"
        )));
    }
    writable_keyspace(name)?;
    let Some(property) = found.get("replication") else {
        return Err(invalid("Missing mandatory option 'replication'".to_owned()));
    };
    if map("replication", property)?.iter().all(|(key, _)| key != "class") {
        return Err(ServerError::configuration("Missing replication strategy class"));
    }
    if around.schema.keyspaces.contains_key(name) {
        if if_not_exists {
            return Ok(None);
        }
        return Err(ServerError::AlreadyExists { keyspace: name.to_owned(), table: String::new() });
    }
    let replication = replication(name, map("replication", property)?, around, None)?;
    let durable_writes = match found.get("durable_writes") {
        Some(property) => boolean("durable_writes", property)?,
        None => true,
    };
    let change = SchemaChange::PutKeyspace { name: name.into(), replication, durable_writes };
    Ok(Some((change, notice(ChangeKind::Created, name, None))))
}

fn alter_keyspace(
    name: &str,
    if_exists: bool,
    properties: &[(String, Property)],
    around: &Surroundings<'_>,
) -> Result<Option<Change>, ServerError> {
    let found = by_name(properties, &["replication", "durable_writes"])?;
    writable_table(name)?;
    let Some(keyspace) = around.schema.keyspaces.get(name) else {
        return missing(if_exists, format!("Keyspace '{name}' doesn't exist"));
    };
    let replication = match found.get("replication") {
        Some(property) => {
            let entries = map("replication", property)?;
            if entries.iter().all(|(key, _)| key != "class") {
                return Err(ServerError::configuration("Missing replication strategy class"));
            }
            replication(name, entries, around, Some(&keyspace.replication))?
        }
        None => keyspace.replication.clone(),
    };
    let durable_writes = match found.get("durable_writes") {
        Some(property) => boolean("durable_writes", property)?,
        None => keyspace.durable_writes,
    };
    let change = SchemaChange::PutKeyspace { name: name.into(), replication, durable_writes };
    Ok(Some((change, notice(ChangeKind::Updated, name, None))))
}

fn factor(text: &str) -> Result<usize, ServerError> {
    match text.parse::<i64>() {
        Ok(factor) => usize::try_from(factor).map_err(|_| {
            ServerError::configuration(format!("Replication factor must be non-negative, found {factor}"))
        }),
        Err(_) if text.contains('/') => {
            Err(ServerError::configuration("transient replication (a factor such as 3/1) is not simulated"))
        }
        Err(_) => Err(ServerError::configuration(format!("For input string: \"{text}\""))),
    }
}

fn replication(
    keyspace: &str,
    entries: &[(String, String)],
    around: &Surroundings<'_>,
    before: Option<&Replication>,
) -> Result<Replication, ServerError> {
    let entries: BTreeMap<&str, &str> =
        entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let class = entries.get("class").copied().unwrap_or_default();
    let short = class.strip_prefix("org.apache.cassandra.locator.").unwrap_or(class);
    let options: BTreeMap<&str, &str> =
        entries.iter().filter(|(key, _)| **key != "class").map(|(key, value)| (*key, *value)).collect();
    let unrecognized = |option: &str| {
        ServerError::configuration(format!(
            "Unrecognized strategy option {{{option}}} passed to {short} for keyspace {keyspace}"
        ))
    };
    match short {
        "SimpleStrategy" => {
            if let Some(option) = options.keys().find(|option| **option != "replication_factor") {
                return Err(unrecognized(option));
            }
            // Cassandra's `default_keyspace_rf` is 1.
            let factor = options.get("replication_factor").map_or(Ok(1), |text| factor(text))?;
            Ok(Replication::Simple { factor })
        }
        "NetworkTopologyStrategy" => {
            let peers = around.topology.peers.iter().chain([&around.topology.local]);
            let centers: BTreeSet<&str> = peers.map(|peer| peer.data_center.as_str()).collect();
            let mut factors = BTreeMap::new();
            if let Some(text) = options.get("replication_factor") {
                let everywhere = factor(text)?;
                factors.extend(centers.iter().map(|center| ((*center).to_owned(), everywhere)));
                // ALTER keeps what data centres have; the factor is for new ones.
                if let Some(Replication::NetworkTopology { factors: before }) = before {
                    factors.extend(before.clone());
                }
            } else if options.is_empty() {
                factors.extend(centers.iter().map(|center| ((*center).to_owned(), 1)));
            }
            for (option, text) in &options {
                if *option == "replication_factor" {
                    continue;
                }
                if !centers.contains(option) {
                    return Err(unrecognized(option));
                }
                factors.insert((*option).to_owned(), factor(text)?);
            }
            factors.retain(|_, factor| *factor > 0);
            Ok(Replication::NetworkTopology { factors })
        }
        "LocalStrategy" => Err(ServerError::configuration(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use.",
        )),
        other => Err(ServerError::configuration(format!(
            "Unable to find replication strategy class 'org.apache.cassandra.locator.{other}'"
        ))),
    }
}

/// The type of a column.
fn column_type(keyspace: &str, definition: &ColumnDefinition, is_key: bool) -> Result<DataType, ServerError> {
    let name = &definition.name;
    let written = &definition.type_name;
    check_type(keyspace, written)?;
    let data_type = data_type_of(written).ok_or_else(|| not_simulated(written))?;
    let is_frozen = matches!(written, TypeName::Frozen(_) | TypeName::Native(_));
    if is_key {
        if !is_frozen {
            return Err(invalid(format!(
                "Invalid non-frozen collection type {} for PRIMARY KEY column '{name}'",
                type_name(&data_type)
            )));
        }
        if matches!(data_type, DataType::Counter | DataType::Duration) {
            return Err(invalid(format!(
                "{} type is not supported for PRIMARY KEY column '{name}'",
                type_name(&data_type)
            )));
        }
    }
    if !is_frozen {
        return Err(invalid(format!(
            "a collection that is not frozen is not simulated: {name} {0} (frozen<{0}> is)",
            type_name(&data_type)
        )));
    }
    Ok(data_type)
}

fn not_simulated(written: &TypeName) -> ServerError {
    match written {
        TypeName::Other(text) => invalid(format!("the type {text} is not simulated")),
        _ => invalid("this type is not simulated".to_owned()),
    }
}

fn check_type(keyspace: &str, written: &TypeName) -> Result<(), ServerError> {
    let inside = |inner: &TypeName| match inner {
        TypeName::List(_) | TypeName::Set(_) | TypeName::Map(..) => true,
        TypeName::Native(_) | TypeName::Frozen(_) | TypeName::Named(..) | TypeName::Other(_) => false,
    };
    let nested = |inner: &TypeName, frozen: bool| {
        check_type(keyspace, inner)?;
        if inside(inner) && !frozen {
            let whole = data_type_of(written).map(|data_type| written_name(&data_type)).unwrap_or_default();
            return Err(invalid(format!(
                "Non-frozen collections are not allowed inside collections: {whole}"
            )));
        }
        Ok(())
    };
    match written {
        TypeName::Native(_) => Ok(()),
        TypeName::List(inner) | TypeName::Set(inner) => nested(inner, false),
        TypeName::Map(key, value) => {
            nested(key, false)?;
            nested(value, false)
        }
        TypeName::Frozen(inner) => match &**inner {
            TypeName::Native(native) => Err(ServerError::Syntax(format!(
                "frozen<> is only allowed on collections, tuples, and user-defined types (got {})",
                type_name(native)
            ))),
            // Freezing a collection freezes what is in it.
            TypeName::List(inner) | TypeName::Set(inner) => check_frozen(keyspace, inner),
            TypeName::Map(key, value) => {
                check_frozen(keyspace, key)?;
                check_frozen(keyspace, value)
            }
            other => check_type(keyspace, other),
        },
        TypeName::Named(of, name) => {
            let of = of.as_deref().unwrap_or(keyspace);
            Err(invalid(format!("Unknown type {of}.{name}")))
        }
        TypeName::Other(_) => Err(not_simulated(written)),
    }
}

fn check_frozen(keyspace: &str, written: &TypeName) -> Result<(), ServerError> {
    match written {
        TypeName::List(_) | TypeName::Set(_) | TypeName::Map(..) => {
            check_type(keyspace, &TypeName::Frozen(Box::new(written.clone())))
        }
        other => check_type(keyspace, other),
    }
}

/// A type as it would be written without any frozen.
fn written_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(inner) => format!("list<{}>", written_name(inner)),
        DataType::Set(inner) => format!("set<{}>", written_name(inner)),
        DataType::Map(key, value) => format!("map<{}, {}>", written_name(key), written_name(value)),
        native => type_name(native),
    }
}

fn create_table(create: &CreateTable, around: &Surroundings<'_>) -> Result<Option<Change>, ServerError> {
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
            "{full}: Table name must not be empty, more than {LONGEST_NAME} characters long, or contain \
             non-alphanumeric-underscore characters (got \"{name}\")"
        )));
    }
    let table = Table::new(around.id, keyspace, name, columns, options);
    let told = notice(ChangeKind::Created, keyspace, Some(name));
    Ok(Some((SchemaChange::PutTable(Arc::new(table)), told)))
}

fn clustering_orders(written: &[(String, bool)], clustering: &[String]) -> Result<Vec<Order>, ServerError> {
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

fn alter_table(
    name: &TableName,
    if_exists: bool,
    change: &AlterTableChange,
    around: &Surroundings<'_>,
) -> Result<Option<Change>, ServerError> {
    let keyspace = keyspace_of(name, around)?;
    if is_system_keyspace(keyspace) {
        writable_table(keyspace)?;
    }
    let full = format!("{keyspace}.{}", name.name);
    if let AlterTableChange::Properties(properties) = change {
        // Unknown ones are told before a missing table.
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
                if data_type == DataType::Counter {
                    return Err(ServerError::configuration(format!(
                        "{full}: Cannot have a counter column (\"{}\") in a non counter table",
                        definition.name
                    )));
                }
                if definition.is_static && table.clustering.components().is_empty() {
                    return Err(invalid(
                        "Static columns are only useful (and thus allowed) if the table has at least one clustering \
                         column"
                            .to_owned(),
                    ));
                }
                let kind = if definition.is_static { ColumnKind::Static } else { ColumnKind::Regular };
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
                let at = timestamp.unwrap_or(around.timestamp);
                dropped.insert(column.name.clone(), at);
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
    let told = notice(ChangeKind::Updated, keyspace, Some(&name.name));
    Ok(Some((SchemaChange::PutTable(Arc::new(next)), told)))
}

/// Options that are kept as text, and the check that each has to pass.
const TEXTS: [&str; 10] = [
    "additional_write_policy",
    "allow_auto_snapshot",
    "bloom_filter_fp_chance",
    "cdc",
    "crc_check_chance",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
];

/// Options that are maps; kept as `name.key`.
const MAPS: [&str; 4] = ["caching", "compaction", "compression", "extensions"];

/// Options with a meaning here.
const MEANT: [&str; 5] =
    ["comment", "default_time_to_live", "gc_grace_seconds", "read_repair", "speculative_retry"];

fn options(
    mut options: TableOptions,
    properties: &[(String, Property)],
) -> Result<TableOptions, ServerError> {
    let mut known: Vec<&str> = vec!["id"];
    known.extend(TEXTS);
    known.extend(MAPS);
    known.extend(MEANT);
    let found = by_name(properties, &known)?;
    let seconds = |name: &str, property: &Property| {
        let text = text(name, property)?;
        let number: i64 = text
            .parse::<i32>()
            .map_err(|_| ServerError::Syntax(format!("Invalid integer value {text} for '{name}'")))?
            .into();
        u32::try_from(number).map_err(|_| {
            ServerError::configuration(format!("{name} must be greater than or equal to 0 (got {number})"))
        })
    };
    for (name, property) in found {
        match name {
            "id" => return Err(invalid("a table's id cannot be chosen in the simulation".to_owned())),
            "comment" => options.comment = text(name, property)?.to_owned(),
            "gc_grace_seconds" => options.gc_grace_seconds = seconds(name, property)?,
            "default_time_to_live" => options.default_time_to_live = seconds(name, property)?,
            "read_repair" => {
                options.read_repair = match text(name, property)?.to_ascii_uppercase().as_str() {
                    "BLOCKING" => ReadRepair::Blocking,
                    "NONE" => ReadRepair::None,
                    other => {
                        return Err(ServerError::configuration(format!(
                            "Invalid value {other} for option 'read_repair'"
                        )));
                    }
                };
            }
            "speculative_retry" => {
                let text = text(name, property)?;
                options.speculative_retry = speculative_retry(text).ok_or_else(|| {
                    ServerError::configuration(format!("Invalid value {text} for option 'speculative_retry'"))
                })?;
            }
            name if MAPS.contains(&name) => {
                let prefix = format!("{name}.");
                options.others.retain(|key, _| !key.starts_with(&prefix));
                for (key, value) in map(name, property)? {
                    options.others.insert(format!("{prefix}{key}"), value.clone());
                }
            }
            name => {
                options.others.insert(name.to_owned(), text(name, property)?.to_owned());
            }
        }
    }
    Ok(options)
}

/// `99p`, `99PERCENTILE`, `50ms`, `ALWAYS`, `NEVER`, `NONE`.
fn speculative_retry(text: &str) -> Option<SpeculativeRetry> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "ALWAYS" => return Some(SpeculativeRetry::Always),
        "NEVER" | "NONE" => return Some(SpeculativeRetry::Never),
        _ => {}
    }
    if let Some(millis) = upper.strip_suffix("MS") {
        let millis: f64 = millis.trim().parse().ok().filter(|millis| (0.0..1e9).contains(millis))?;
        return Some(SpeculativeRetry::After((millis * 1000.0) as u64));
    }
    let percentile = upper.strip_suffix("PERCENTILE").or_else(|| upper.strip_suffix('P'))?;
    let percentile: f64 = percentile.trim().parse().ok().filter(|it| (0.0..=100.0).contains(it))?;
    Some(if percentile == 99.0 {
        SpeculativeRetry::Percentile99
    } else {
        SpeculativeRetry::Percentile(percentile)
    })
}
