//! CREATE, ALTER and DROP: from a statement to a change of the schema.

mod column;
mod keyspace;
mod options;
mod table;

use super::TableLookup;
use crate::coordinator::{ChangeKind, Topology};
use crate::cql::ast::{Statement, TableName};
use crate::protocol::{SchemaNotice, ServerError};
use crate::schema::{Schema, SchemaChange, TableId};
use crate::storage::Timestamp;
use keyspace::{alter_keyspace, create_keyspace};
use table::{alter_table, create_table};

/// A change of the schema, and the event that clients get.
pub type Change = (SchemaChange, SchemaNotice);

/// What a change depends on in addition to the statement.
pub struct DefinitionContext<'a> {
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

/// Keyspaces that cannot be changed.
const SYSTEM_KEYSPACES: [&str; 4] = ["system", "system_schema", "system_views", "system_virtual_schema"];

/// Keyspaces of the system that are replicated, and so may be altered in that.
const REPLICATED_SYSTEM_KEYSPACES: [&str; 3] = ["system_auth", "system_distributed", "system_traces"];

/// The longest name of a keyspace or a table.
const MAX_NAME_LENGTH: usize = 48;

fn invalid(message: String) -> ServerError {
    ServerError::invalid(message)
}

/// Whether a name belongs to the system.
pub fn is_system_keyspace(name: &str) -> bool {
    SYSTEM_KEYSPACES.contains(&name) || REPLICATED_SYSTEM_KEYSPACES.contains(&name)
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_LENGTH
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn notice(kind: ChangeKind, keyspace: &str, table: Option<&str>) -> SchemaNotice {
    SchemaNotice { kind, keyspace: keyspace.to_owned(), table: table.map(str::to_owned) }
}

/// The change that a statement makes; `None` if there is nothing to do (IF EXISTS, IF NOT EXISTS).
///
/// # Errors
/// If it cannot be made.
pub fn change(statement: &Statement, around: &DefinitionContext<'_>) -> Result<Option<Change>, ServerError> {
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
            let event = notice(ChangeKind::Dropped, name, None);
            Ok(Some((SchemaChange::DropKeyspace { name: name.as_str().into() }, event)))
        }
        Statement::CreateTable(create) => create_table(create, around),
        Statement::AlterTable { table, if_exists, change } => alter_table(table, *if_exists, change, around),
        Statement::DropTable { table, if_exists } => {
            let keyspace = keyspace_of(table, around)?;
            writable_table(keyspace)?;
            if around.schema.table(keyspace, &table.name).is_none() {
                return missing(*if_exists, format!("Table '{keyspace}.{}' doesn't exist", table.name));
            }
            let event = notice(ChangeKind::Dropped, keyspace, Some(&table.name));
            let change =
                SchemaChange::DropTable { keyspace: keyspace.into(), name: table.name.as_str().into() };
            Ok(Some((change, event)))
        }
        _ => Err(invalid("this statement does not change the schema".to_owned())),
    }
}

fn missing(if_exists: bool, message: String) -> Result<Option<Change>, ServerError> {
    if if_exists { Ok(None) } else { Err(invalid(message)) }
}

fn keyspace_of<'a>(table: &'a TableName, around: &DefinitionContext<'a>) -> Result<&'a str, ServerError> {
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
