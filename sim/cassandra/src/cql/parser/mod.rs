//! The parser (the part of Cassandra's `Parser.g` that is about tables and their rows).

mod cursor;
mod definition;
mod modification;
mod select;
mod term;

#[cfg(test)]
mod tests;

use cursor::Cursor;

use super::ast::{Describe, Statement, TableName};
use crate::protocol::ServerError;

/// A statement and its markers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its markers in the order of the text: `?` without, `:name` with a name.
    pub markers: Vec<Option<String>>,
}

/// Parses one statement, which may end with a semicolon.
///
/// # Errors
/// [`ServerError::Syntax`] if it is no CQL, and Invalid if it is CQL that is not simulated.
pub fn parse(query: &str) -> Result<Parsed, ServerError> {
    let mut cursor = Cursor::new(query)?;
    let statement = statement(&mut cursor)?;
    cursor.end()?;
    Ok(Parsed { statement, markers: cursor.into_markers() })
}

/// Whether a name has to be quoted to be read as it is.
pub fn needs_quotes(name: &str) -> bool {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    !plain || cursor::is_reserved(name)
}

fn statement(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    if cursor.at_keyword("select") {
        return select::select(cursor).map(Statement::Select);
    }
    if cursor.at_keyword("insert") || cursor.at_keyword("update") || cursor.at_keyword("delete") {
        return modification::modification(cursor).map(Statement::Modification);
    }
    if cursor.at_keyword("begin") {
        return modification::batch(cursor).map(Statement::Batch);
    }
    if cursor.keyword("use") {
        return cursor.name().map(Statement::Use);
    }
    if cursor.keyword("truncate") {
        if !cursor.keyword("table") {
            cursor.keyword("columnfamily");
        }
        return cursor.table_name().map(Statement::Truncate);
    }
    if cursor.at_keyword("create") || cursor.at_keyword("alter") || cursor.at_keyword("drop") {
        return definition::definition(cursor);
    }
    if cursor.keyword("describe") || cursor.keyword("desc") {
        return describe(cursor).map(Statement::Describe);
    }
    for other in ["grant", "revoke", "list"] {
        if cursor.at_keyword(other) {
            return Err(cursor.not_simulated(&other.to_uppercase()));
        }
    }
    Err(cursor.no_alternative())
}

fn describe(cursor: &mut Cursor<'_>) -> Result<Describe, ServerError> {
    let described = if cursor.keyword("cluster") {
        Describe::Cluster
    } else if cursor.keyword("full") {
        cursor.expect_keyword("schema")?;
        Describe::Schema(true)
    } else if cursor.keyword("schema") {
        Describe::Schema(false)
    } else if cursor.keyword("keyspaces") {
        Describe::Keyspaces
    } else if cursor.keyword("tables") {
        Describe::Tables
    } else if cursor.keyword("types") || cursor.keyword("functions") || cursor.keyword("aggregates") {
        Describe::Nothing
    } else {
        let only = cursor.keyword("only");
        if only || cursor.at_keyword("keyspace") {
            cursor.expect_keyword("keyspace")?;
            let name = if cursor.at_name() { Some(cursor.name()?) } else { None };
            Describe::Keyspace(name, only)
        } else if cursor.keyword("table") || cursor.keyword("columnfamily") {
            Describe::Table(cursor.table_name()?)
        } else {
            for other in ["index", "materialized", "type", "function", "aggregate"] {
                if cursor.at_keyword(other) {
                    return Err(cursor.not_simulated(&format!("DESCRIBE {}", other.to_uppercase())));
                }
            }
            let TableName { keyspace, name } = cursor.table_name()?;
            Describe::Any(TableName { keyspace, name })
        }
    };
    if cursor.keyword("with") {
        cursor.expect_keyword("internals")?;
        return Err(cursor.not_simulated("DESCRIBE WITH INTERNALS"));
    }
    Ok(described)
}
