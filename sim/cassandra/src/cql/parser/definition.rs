//! CREATE, ALTER and DROP.

use super::super::ast::{AlterTableChange, ColumnDefinition, CreateTable, Property, Statement, Term};
use super::super::lexer::Kind;
use super::cursor::Cursor;
use super::term::{literal, term, type_name};
use crate::protocol::ServerError;

/// A statement that changes the schema.
pub(super) fn definition(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    let place = cursor.place();
    if cursor.keyword("create") {
        if keyspace_keyword(cursor) {
            let if_not_exists = if_not_exists(cursor)?;
            let name = cursor.name()?;
            cursor.expect_keyword("with")?;
            let properties = properties(cursor)?;
            return Ok(Statement::CreateKeyspace { name, if_not_exists, properties });
        }
        if cursor.at_keyword("table") || cursor.at_keyword("columnfamily") {
            cursor.advance();
            return create_table(cursor).map(Statement::CreateTable);
        }
    } else if cursor.keyword("alter") {
        if keyspace_keyword(cursor) {
            let if_exists = if_exists(cursor)?;
            let name = cursor.name()?;
            cursor.expect_keyword("with")?;
            let properties = properties(cursor)?;
            return Ok(Statement::AlterKeyspace { name, if_exists, properties });
        }
        if cursor.at_keyword("table") || cursor.at_keyword("columnfamily") {
            cursor.advance();
            return alter_table(cursor);
        }
    } else {
        cursor.expect_keyword("drop")?;
        if keyspace_keyword(cursor) {
            let if_exists = if_exists(cursor)?;
            return Ok(Statement::DropKeyspace { name: cursor.name()?, if_exists });
        }
        if cursor.at_keyword("table") || cursor.at_keyword("columnfamily") {
            cursor.advance();
            let if_exists = if_exists(cursor)?;
            return Ok(Statement::DropTable { table: cursor.table_name()?, if_exists });
        }
    }
    let others =
        ["index", "custom", "materialized", "type", "function", "aggregate", "or", "trigger", "user", "role"];
    for other in others {
        if cursor.at_keyword(other) {
            cursor.advance();
            let what = cursor.written_since(place).to_uppercase();
            return Err(cursor.not_simulated(&what));
        }
    }
    Err(cursor.no_alternative_since(place))
}

fn keyspace_keyword(cursor: &mut Cursor<'_>) -> bool {
    cursor.keyword("keyspace") || cursor.keyword("schema")
}

fn if_not_exists(cursor: &mut Cursor<'_>) -> Result<bool, ServerError> {
    if !cursor.keyword("if") {
        return Ok(false);
    }
    cursor.expect_keyword("not")?;
    cursor.expect_keyword("exists")?;
    Ok(true)
}

fn if_exists(cursor: &mut Cursor<'_>) -> Result<bool, ServerError> {
    if !cursor.keyword("if") {
        return Ok(false);
    }
    cursor.expect_keyword("exists")?;
    Ok(true)
}

fn create_table(cursor: &mut Cursor<'_>) -> Result<CreateTable, ServerError> {
    let if_not_exists = if_not_exists(cursor)?;
    let table = cursor.table_name()?;
    if cursor.at_keyword("like") {
        return Err(cursor.not_simulated("CREATE TABLE LIKE"));
    }
    let mut create = CreateTable {
        table,
        if_not_exists,
        columns: Vec::new(),
        primary_keys: Vec::new(),
        clustering_order: Vec::new(),
        compact_storage: false,
        properties: Vec::new(),
    };
    cursor.expect_sign("(")?;
    loop {
        if cursor.keyword("primary") {
            cursor.expect_keyword("key")?;
            cursor.expect_sign("(")?;
            create.primary_keys.push(primary_key(cursor)?);
        } else {
            let column = column(cursor)?;
            if cursor.keyword("primary") {
                cursor.expect_keyword("key")?;
                create.primary_keys.push((vec![column.name.clone()], Vec::new()));
            }
            create.columns.push(column);
        }
        // The grammar allows a comma before the parenthesis.
        while cursor.sign(",") {}
        if cursor.sign(")") {
            break;
        }
        if !cursor.at_keyword("primary") && !cursor.at_name() {
            return Err(cursor.mismatch("')'"));
        }
    }
    if cursor.keyword("with") {
        loop {
            if cursor.at_keyword("compact") && cursor.keyword_ahead(1, "storage") {
                cursor.advance();
                cursor.advance();
                create.compact_storage = true;
            } else if cursor.at_keyword("clustering") && cursor.keyword_ahead(1, "order") {
                cursor.advance();
                cursor.advance();
                cursor.expect_keyword("by")?;
                cursor.expect_sign("(")?;
                loop {
                    let name = cursor.name()?;
                    let descending = cursor.keyword("desc");
                    if !descending && !cursor.keyword("asc") {
                        return Err(cursor.no_alternative());
                    }
                    create.clustering_order.push((name, descending));
                    if !cursor.sign(",") {
                        break;
                    }
                }
                cursor.expect_sign(")")?;
            } else {
                create.properties.push(property(cursor)?);
            }
            if !cursor.keyword("and") {
                break;
            }
        }
    }
    Ok(create)
}

/// `(a, b), c)` or `a, b)`
fn primary_key(cursor: &mut Cursor<'_>) -> Result<(Vec<String>, Vec<String>), ServerError> {
    let partition = if cursor.sign("(") { cursor.names()? } else { vec![cursor.name()?] };
    let mut clustering = Vec::new();
    while cursor.sign(",") {
        clustering.push(cursor.name()?);
    }
    cursor.expect_sign(")")?;
    Ok((partition, clustering))
}

fn column(cursor: &mut Cursor<'_>) -> Result<ColumnDefinition, ServerError> {
    let name = cursor.name()?;
    let type_name = type_name(cursor)?;
    let is_static = cursor.keyword("static");
    if cursor.at_keyword("masked") {
        return Err(cursor.not_simulated("a masked column"));
    }
    Ok(ColumnDefinition { name, type_name, is_static })
}

fn alter_table(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    let table_if_exists = if_exists(cursor)?;
    let table = cursor.table_name()?;
    let change = if cursor.keyword("add") {
        let if_not_exists = if_not_exists(cursor)?;
        let mut columns = Vec::new();
        if cursor.sign("(") {
            columns.push(column(cursor)?);
            while cursor.sign(",") {
                columns.push(column(cursor)?);
            }
            cursor.expect_sign(")")?;
        } else {
            columns.push(column(cursor)?);
        }
        AlterTableChange::Add { if_not_exists, columns }
    } else if cursor.keyword("drop") {
        if cursor.at_keyword("compact") && cursor.keyword_ahead(1, "storage") {
            cursor.advance();
            cursor.advance();
            AlterTableChange::DropCompactStorage
        } else {
            let if_exists = if_exists(cursor)?;
            let columns = if cursor.sign("(") { cursor.names()? } else { vec![cursor.name()?] };
            let mut timestamp = None;
            if cursor.keyword("using") {
                cursor.expect_keyword("timestamp")?;
                if cursor.peek(0).kind != Kind::Integer {
                    return Err(cursor.mismatch("INTEGER"));
                }
                let text = cursor.peek(0).text.clone();
                timestamp = Some(
                    text.parse().map_err(|_| ServerError::Syntax(format!("For input string: \"{text}\"")))?,
                );
                cursor.advance();
            }
            AlterTableChange::Drop { if_exists, columns, timestamp }
        }
    } else if cursor.keyword("rename") {
        let if_exists = if_exists(cursor)?;
        let mut columns = Vec::new();
        loop {
            let from = cursor.name()?;
            cursor.expect_keyword("to")?;
            columns.push((from, cursor.name()?));
            if !cursor.keyword("and") {
                break;
            }
        }
        AlterTableChange::Rename { if_exists, columns }
    } else if cursor.keyword("alter") {
        let _ = if_exists(cursor)?;
        cursor.name()?;
        if !cursor.keyword("type") {
            return Err(cursor.not_simulated("masking"));
        }
        type_name(cursor)?;
        AlterTableChange::Type
    } else if cursor.keyword("with") {
        AlterTableChange::Properties(properties(cursor)?)
    } else {
        return Err(cursor.no_alternative());
    };
    Ok(Statement::AlterTable { table, if_exists: table_if_exists, change })
}

fn properties(cursor: &mut Cursor<'_>) -> Result<Vec<(String, Property)>, ServerError> {
    let mut all = vec![property(cursor)?];
    while cursor.keyword("and") {
        all.push(property(cursor)?);
    }
    Ok(all)
}

fn property(cursor: &mut Cursor<'_>) -> Result<(String, Property), ServerError> {
    let place = cursor.place();
    let name = cursor.name()?;
    cursor.expect_sign("=")?;
    if let Some((_, text)) = literal(cursor) {
        return Ok((name, Property::Simple(text)));
    }
    if cursor.sign("{") {
        let mut entries: Vec<(String, String)> = Vec::new();
        if !cursor.sign("}") {
            loop {
                let key = constant(cursor, |shown| format!("Invalid property name: {shown}"))?;
                cursor.expect_sign(":")?;
                let value =
                    constant(cursor, |shown| format!("Invalid property value: {shown} for property: {key}"))?;
                if entries.iter().any(|(known, _)| *known == key) {
                    return Err(ServerError::Syntax(format!("Multiple definition for property {key}")));
                }
                entries.push((key, value));
                if !cursor.sign(",") {
                    break;
                }
            }
            cursor.expect_sign("}")?;
        }
        return Ok((name, Property::Map(entries)));
    }
    // The grammar also takes some keywords for texts, of which no property makes use.
    Err(cursor.no_alternative_since(place))
}

/// A constant as text; what else a term can be is an error with this message.
fn constant(cursor: &mut Cursor<'_>, message: impl Fn(&str) -> String) -> Result<String, ServerError> {
    let place = cursor.place();
    match term(cursor)? {
        Term::Literal(_, text) => Ok(text),
        Term::Marker(_) => Err(ServerError::Syntax(format!(
            "{} (bind variables are not supported in DDL queries)",
            message(cursor.written_since(place))
        ))),
        _ => Err(ServerError::Syntax(message(cursor.written_since(place)))),
    }
}
