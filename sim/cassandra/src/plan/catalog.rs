//! Where tables and columns are looked up.

use std::sync::Arc;

use crate::cql::ast::TableName;
use crate::protocol::ServerError;
use crate::schema::{Column, Table};

/// Somewhere that tables are found.
pub trait TableLookup: Send + Sync {
    /// Whether there is such a keyspace.
    fn has_keyspace(&self, name: &str) -> bool;

    /// The table of this name in a keyspace.
    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>>;

    /// The table of this name; `keyspace` is the session's, for names without one.
    ///
    /// # Errors
    /// If there is none.
    fn find(&self, keyspace: Option<&str>, name: &TableName) -> Result<Arc<Table>, ServerError> {
        let Some(keyspace) = name.keyspace.as_deref().or(keyspace) else {
            return Err(ServerError::invalid(
                "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
            ));
        };
        self.table(keyspace, &name.name).ok_or_else(|| {
            ServerError::invalid(if self.has_keyspace(keyspace) {
                format!("table {} does not exist", name.name)
            } else {
                format!("keyspace {keyspace} does not exist")
            })
        })
    }
}

/// The column of this name.
///
/// # Errors
/// If the table has none.
pub fn column<'a>(table: &'a Table, name: &str) -> Result<&'a Column, ServerError> {
    table.columns.get(name).ok_or_else(|| {
        ServerError::invalid(format!(
            "Undefined column name {name} in table {}.{}",
            table.keyspace, table.name
        ))
    })
}
