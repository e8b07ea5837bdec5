//! Statements as they were written, before anything is known of the schema.

use super::lexer::Kind;

/// A table's name, maybe with its keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The keyspace; the session's if `None`.
    pub keyspace: Option<String>,
    /// The table.
    pub name: String,
}

/// What kind of constant it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number with a point or an exponent, NaN or Infinity.
    Float,
    /// True or false.
    Boolean,
    /// A UUID.
    Uuid,
    /// Bytes in hexadecimal.
    Hex,
    /// A duration.
    Duration,
}

impl LiteralKind {
    /// As errors name it.
    pub fn name(self) -> &'static str {
        match self {
            LiteralKind::String => "STRING",
            LiteralKind::Integer => "INTEGER",
            LiteralKind::Float => "FLOAT",
            LiteralKind::Boolean => "BOOLEAN",
            LiteralKind::Uuid => "UUID",
            LiteralKind::Hex => "HEX",
            LiteralKind::Duration => "DURATION",
        }
    }

    pub(super) fn of(kind: Kind) -> Option<LiteralKind> {
        match kind {
            Kind::Text => Some(LiteralKind::String),
            Kind::Integer => Some(LiteralKind::Integer),
            Kind::Float => Some(LiteralKind::Float),
            Kind::Hex => Some(LiteralKind::Hex),
            Kind::Uuid => Some(LiteralKind::Uuid),
            Kind::Duration => Some(LiteralKind::Duration),
            Kind::Word | Kind::Quoted | Kind::Sign | Kind::Hidden | Kind::Broken | Kind::End => None,
        }
    }
}

/// A term: a value, or an expression for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A constant: its kind, and its text without quotes.
    Literal(LiteralKind, String),
    /// `null`.
    Null,
    /// The marker of this number, from 0.
    Marker(usize),
    /// `[a, b]`
    List(Vec<Term>),
    /// `{a, b}`, or `{}`, which may be a map as well.
    Set(Vec<Term>),
    /// `{a: b, c: d}`
    Map(Vec<(Term, Term)>),
    /// `(a, b)`
    Tuple(Vec<Term>),
    /// `name(a, b)`
    Call(String, Vec<Term>),
    /// `(type) a`
    Cast(TypeName, Box<Term>),
}

/// A type as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// A native type.
    Native(crate::types::DataType),
    /// `list<a>`
    List(Box<TypeName>),
    /// `set<a>`
    Set(Box<TypeName>),
    /// `map<a, b>`
    Map(Box<TypeName>, Box<TypeName>),
    /// `frozen<a>`
    Frozen(Box<TypeName>),
    /// A name that is no native type.
    Named(Option<String>, String),
    /// A type that is not simulated, as it was written.
    Other(String),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `!=`
    NotEqual,
    /// `CONTAINS`
    Contains,
    /// `CONTAINS KEY`
    ContainsKey,
}

impl Operator {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::NotEqual => "!=",
            Operator::Contains => "CONTAINS",
            Operator::ContainsKey => "CONTAINS KEY",
        }
    }
}

/// What stands on the right of `IN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InValues {
    /// `(a, b, c)`
    Terms(Vec<Term>),
    /// A marker for the whole list.
    Marker(usize),
}

/// A condition of a WHERE clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `column = a`
    Single(String, Operator, Term),
    /// `column IN (a, b)`
    In(String, InValues),
    /// `column IS NOT NULL`
    IsNotNull(String),
    /// `column LIKE a`
    Like(String, Term),
    /// `column[key] = a`
    Element(String, Term, Operator, Term),
    /// `token(a, b) > c`
    Token(Vec<String>, Operator, Term),
    /// `(a, b) > (c, d)`
    Multi(Vec<String>, Operator, Term),
    /// `(a, b) IN ((c, d), (e, f))`
    MultiIn(Vec<String>, InValues),
}

/// What a SELECT shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A column.
    Column(String),
    /// `count(*)`, or `count(1)`.
    CountRows,
    /// `writetime(column)`
    WriteTime(String),
    /// `maxwritetime(column)`
    MaxWriteTime(String),
    /// `ttl(column)`
    Ttl(String),
    /// `name(a, b)`
    Call(String, Vec<Selector>),
    /// `cast(a AS type)`
    Cast(Box<Selector>, TypeName),
    /// A constant or a marker.
    Term(Term),
    /// What is not simulated, as it was written.
    Other(String),
}

/// Ascending or descending.
pub type Descending = bool;

/// A SELECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Which table.
    pub table: TableName,
    /// `SELECT JSON`
    pub json: bool,
    /// `SELECT DISTINCT`
    pub distinct: bool,
    /// What to show and what to call it; all columns if empty.
    pub selectors: Vec<(Selector, Option<String>)>,
    /// The WHERE clause.
    pub relations: Vec<Relation>,
    /// `GROUP BY`
    pub group_by: Vec<Selector>,
    /// `ORDER BY`
    pub order_by: Vec<(String, Descending)>,
    /// `PER PARTITION LIMIT`
    pub per_partition_limit: Option<Term>,
    /// `LIMIT`
    pub limit: Option<Term>,
    /// `ALLOW FILTERING`
    pub allow_filtering: bool,
}

/// `USING TIMESTAMP a AND TTL b`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The timestamp.
    pub timestamp: Option<Term>,
    /// The time to live, in seconds.
    pub ttl: Option<Term>,
}

/// What a conditional statement depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: it is not conditional.
    #[default]
    None,
    /// `IF NOT EXISTS`
    NotExists,
    /// `IF EXISTS`
    Exists,
    /// `IF a = 1 AND b IN (2, 3)`
    Columns(Vec<Relation>),
}

/// An INSERT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// Which table.
    pub table: TableName,
    /// The columns.
    pub columns: Vec<String>,
    /// Their values.
    pub values: Vec<Term>,
    /// `IF NOT EXISTS`, or nothing.
    pub condition: Condition,
    /// `USING`
    pub attributes: Attributes,
}

/// What an UPDATE does to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// `column = a`
    Set(Term),
    /// `column = column + a`, `column += a`, `column[a] = b`: what only counters, collections that are not frozen
    /// and user types can do; the text is the operator.
    Other(&'static str),
}

/// An UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which table.
    pub table: TableName,
    /// `USING`
    pub attributes: Attributes,
    /// `SET`
    pub assignments: Vec<(String, Assignment)>,
    /// The WHERE clause.
    pub relations: Vec<Relation>,
    /// `IF`
    pub condition: Condition,
}

/// A DELETE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Which table.
    pub table: TableName,
    /// Which columns; whole rows if empty.
    pub columns: Vec<String>,
    /// `column[a]` or `column.a`: what only collections that are not frozen and user types have.
    pub elements: Vec<String>,
    /// `USING TIMESTAMP`
    pub attributes: Attributes,
    /// The WHERE clause.
    pub relations: Vec<Relation>,
    /// `IF`
    pub condition: Condition,
}

/// A statement that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modification {
    /// INSERT
    Insert(Insert),
    /// UPDATE
    Update(Update),
    /// DELETE
    Delete(Delete),
}

/// `BEGIN BATCH ... APPLY BATCH`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its kind.
    pub kind: crate::protocol::BatchKind,
    /// `USING`
    pub attributes: Attributes,
    /// Its statements.
    pub statements: Vec<Modification>,
}

/// The value of a property in a WITH clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A constant, as text.
    Simple(String),
    /// `{'a': 'b'}`, as text, in the order written.
    Map(Vec<(String, String)>),
}

/// A column of a CREATE TABLE or an ALTER TABLE ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: TypeName,
    /// `STATIC`
    pub is_static: bool,
}

/// CREATE TABLE
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// Which table.
    pub table: TableName,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The columns.
    pub columns: Vec<ColumnDefinition>,
    /// Every PRIMARY KEY that was written: the partition key's columns and the clustering columns.
    pub primary_keys: Vec<(Vec<String>, Vec<String>)>,
    /// `CLUSTERING ORDER BY`
    pub clustering_order: Vec<(String, Descending)>,
    /// `COMPACT STORAGE`
    pub compact_storage: bool,
    /// The other properties.
    pub properties: Vec<(String, Property)>,
}

/// What an ALTER TABLE does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterTableChange {
    /// `ADD`
    Add {
        /// `IF NOT EXISTS`
        if_not_exists: bool,
        /// The new columns.
        columns: Vec<ColumnDefinition>,
    },
    /// `DROP`
    Drop {
        /// `IF EXISTS`
        if_exists: bool,
        /// The columns to drop.
        columns: Vec<String>,
        /// `USING TIMESTAMP`, in microseconds
        timestamp: Option<i64>,
    },
    /// `RENAME a TO b`
    Rename {
        /// `IF EXISTS`
        if_exists: bool,
        /// The old and the new names.
        columns: Vec<(String, String)>,
    },
    /// `ALTER a TYPE b`
    Type,
    /// `WITH`
    Properties(Vec<(String, Property)>),
    /// `DROP COMPACT STORAGE`
    DropCompactStorage,
}

/// What DESCRIBE describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Describe {
    /// The cluster.
    Cluster,
    /// All keyspaces (`true`: the system's, too).
    Schema(bool),
    /// Names of keyspaces.
    Keyspaces,
    /// One keyspace (`true`: without what it holds).
    Keyspace(Option<String>, bool),
    /// Names of tables.
    Tables,
    /// One table.
    Table(TableName),
    /// A keyspace or a table.
    Any(TableName),
    /// Names of types, functions or aggregates: there are none.
    Nothing,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// SELECT
    Select(Select),
    /// INSERT, UPDATE, DELETE
    Modification(Modification),
    /// BEGIN BATCH
    Batch(Batch),
    /// USE
    Use(String),
    /// TRUNCATE
    Truncate(TableName),
    /// CREATE KEYSPACE
    CreateKeyspace {
        /// Its name.
        name: String,
        /// `IF NOT EXISTS`
        if_not_exists: bool,
        /// The properties.
        properties: Vec<(String, Property)>,
    },
    /// ALTER KEYSPACE
    AlterKeyspace {
        /// Its name.
        name: String,
        /// `IF EXISTS`
        if_exists: bool,
        /// The properties.
        properties: Vec<(String, Property)>,
    },
    /// DROP KEYSPACE
    DropKeyspace {
        /// Its name.
        name: String,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// CREATE TABLE
    CreateTable(CreateTable),
    /// ALTER TABLE
    AlterTable {
        /// Which table.
        table: TableName,
        /// `IF EXISTS`
        if_exists: bool,
        /// What to do.
        change: AlterTableChange,
    },
    /// DROP TABLE
    DropTable {
        /// Which table.
        table: TableName,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// DESCRIBE
    Describe(Describe),
}
