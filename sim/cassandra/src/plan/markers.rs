//! The bind markers of a statement, and their meaning.

use std::sync::Arc;

use crate::protocol::{ColumnSpec, ServerError};
use crate::schema::{ColumnKind, Table};
use crate::types::DataType;

/// The bind markers of a statement, and their meaning as far as it is known.
#[derive(Debug)]
pub struct Markers {
    names: Vec<Option<String>>,
    found: Vec<Option<ColumnSpec>>,
    /// The column of its table's partition key that each marker alone is the value of.
    key_columns: Vec<Option<usize>>,
    table: Option<Arc<Table>>,
}

impl Markers {
    /// Markers with these names.
    pub fn new(names: Vec<Option<String>>) -> Markers {
        let found = names.iter().map(|_| None).collect();
        let key_columns = vec![None; names.len()];
        Markers { names, found, key_columns, table: None }
    }

    /// From here on they belong to a statement on this table.
    pub fn of(&mut self, table: Arc<Table>) {
        self.table = Some(table);
    }

    /// The table of the statement that they belong to.
    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref()
    }

    /// A marker is the value of `name`, unless it is a named marker, and has this type.
    pub fn set(&mut self, marker: usize, name: &str, data_type: &DataType) {
        let Some(place) = self.found.get_mut(marker) else { return };
        let column = self.table.as_ref().and_then(|table| table.columns.get(name));
        if let (Some(column), Some(key_column)) = (column, self.key_columns.get_mut(marker)) {
            *key_column = match column.kind {
                ColumnKind::PartitionKey(at) if column.data_type == *data_type => Some(at),
                _ => None,
            };
        }
        let own = self.names.get(marker).and_then(Option::as_deref);
        let (keyspace, table) = match &self.table {
            Some(table) => (Arc::clone(&table.keyspace), Arc::clone(&table.name)),
            None => (Arc::from(""), Arc::from("")),
        };
        *place = Some(ColumnSpec {
            keyspace,
            table,
            name: own.unwrap_or(name).to_owned(),
            data_type: data_type.clone(),
        });
    }

    /// For each column of the partition key of their only table the last marker that is its value; nothing if one has
    /// none (`VariableSpecifications.getPartitionKeyBindVariableIndexes`).
    pub(super) fn partition_key(&self) -> Vec<u16> {
        let Some(table) = &self.table else { return Vec::new() };
        let of_column = |at: usize| {
            let marker = self.key_columns.iter().rposition(|column| *column == Some(at))?;
            u16::try_from(marker).ok()
        };
        (0..table.partition_key.len()).map(of_column).collect::<Option<_>>().unwrap_or_default()
    }

    /// What they are the values of.
    ///
    /// # Errors
    /// If there is one where no marker is allowed.
    pub fn finish(self) -> Result<Vec<ColumnSpec>, ServerError> {
        self.found
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| ServerError::invalid("Invalid use of a bind variable"))
    }
}
