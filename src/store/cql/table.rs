//! The description of a table in CQL.

use std::borrow::Cow;
use std::fmt;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name, without that of the keyspace.
    pub name: &'static str,
    /// A comment of one paragraph.
    pub comment: Cow<'static, str>,
    /// All columns, in the order in which they are printed.
    pub columns: Cow<'static, [Column]>,
    /// Names of the columns of the partition key, at least one.
    pub partition_key: &'static [&'static str],
    /// Names of the columns that rows of a partition are sorted by.
    pub clustering_key: &'static [(&'static str, Order)],
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: &'static str,
    /// Its type.
    pub data: Type,
    /// A comment, if the name does not say everything.
    pub comment: Option<&'static str>,
}

impl Column {
    /// A column whose name says everything.
    pub(super) const fn new(name: &'static str, data: Type) -> Self {
        Self { name, data, comment: None }
    }

    /// A column with a comment.
    pub(super) const fn with(name: &'static str, data: Type, comment: &'static str) -> Self {
        Self { name, data, comment: Some(comment) }
    }
}

/// A CQL type. As text it is the same as in Cassandra's `system_schema.columns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 64 bits.
    Bigint,
    /// Bytes.
    Blob,
    /// A map stored as one cell.
    FrozenMap(&'static Type, &'static Type),
    /// A set stored as one cell.
    FrozenSet(&'static Type),
    /// 32 bits.
    Int,
    /// UTF-8.
    Text,
    /// Milliseconds since 1970.
    Timestamp,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bigint => f.write_str("bigint"),
            Type::Blob => f.write_str("blob"),
            Type::FrozenMap(key, value) => write!(f, "frozen<map<{key}, {value}>>"),
            Type::FrozenSet(element) => write!(f, "frozen<set<{element}>>"),
            Type::Int => f.write_str("int"),
            Type::Text => f.write_str("text"),
            Type::Timestamp => f.write_str("timestamp"),
        }
    }
}

/// The order of a clustering column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ascending, CQL's default.
    Ascending,
    /// Descending.
    Descending,
}
