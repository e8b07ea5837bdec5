//! Keyspaces, tables and columns.

mod definition;

pub use definition::{
    Column, ColumnKind, ColumnName, DroppedColumn, Keyspace, Order, ReadRepair, Replication, Schema,
    SchemaChange, SpeculativeRetry, Table, TableId, TableOptions, UnknownTable,
};
