//! The tables in CQL.
//!
//! There is one description of the tables ([`tables`]). From it come the statements that make them ([`statements`]),
//! the same statements with comments ([`schema`]; `schema/exactlyonce.cql` is that text with the defaults), and what
//! the store compares with a cluster. Nothing here needs a driver, so every build can print the schema and check the
//! names in a configuration.
//!
//! What is put into a statement comes from types that can hold nothing but a valid name or number ([`Keyspace`],
//! [`Replication`]), so it cannot contain anything else.

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
