//! The tables in CQL.
//!
//! There is one description of the tables ([`tables`]). It is the source of the statements that create them
//! ([`statements`]), of the same statements with comments ([`schema`]; `schema/exactlyonce.cql` is that text with the
//! defaults), and of the comparison with a cluster. Nothing here requires a driver, so every build can print the schema
//! and check the names in a configuration.
//!
//! The parameters of a statement have types that contain only a valid name or number ([`Keyspace`], [`Replication`]),
//! so nothing else can be injected.

mod names;
mod render;
mod table;
mod tables;

pub use names::{
    KEYSPACE_LENGTH, KEYSPACE_RULE, Keyspace, REPLICAS, REPLICATION_RULE, Replication, SchemaError,
};
pub use render::{schema, statements};
pub use table::{Column, Order, Table, Type};
pub use tables::{derived_tables, tables};
