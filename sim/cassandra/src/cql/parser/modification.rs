//! INSERT, UPDATE, DELETE and BATCH.

use super::super::ast::{Assignment, Attributes, Batch, Condition, Delete, Insert, Modification, Update};
use super::cursor::Cursor;
use super::select::{conditions, relations};
use super::term::term;
use crate::protocol::{BatchKind, ServerError};

/// INSERT, UPDATE or DELETE.
pub(super) fn modification(cursor: &mut Cursor<'_>) -> Result<Modification, ServerError> {
    if cursor.keyword("insert") {
        return insert(cursor).map(Modification::Insert);
    }
    if cursor.keyword("update") {
        return update(cursor).map(Modification::Update);
    }
    if cursor.keyword("delete") {
        return delete(cursor).map(Modification::Delete);
    }
    Err(cursor.no_alternative())
}

fn insert(cursor: &mut Cursor<'_>) -> Result<Insert, ServerError> {
    cursor.expect_keyword("into")?;
    let table = cursor.table_name()?;
    if cursor.at_keyword("json") {
        return Err(cursor.not_simulated("INSERT JSON"));
    }
    if !cursor.sign("(") {
        return Err(cursor.no_alternative());
    }
    let columns = cursor.names()?;
    cursor.expect_keyword("values")?;
    cursor.expect_sign("(")?;
    let mut values = vec![term(cursor)?];
    while cursor.sign(",") {
        values.push(term(cursor)?);
    }
    cursor.expect_sign(")")?;
    let mut condition = Condition::None;
    if cursor.keyword("if") {
        cursor.expect_keyword("not")?;
        cursor.expect_keyword("exists")?;
        condition = Condition::NotExists;
    }
    let attributes = using(cursor, true)?;
    Ok(Insert { table, columns, values, condition, attributes })
}

/// `USING TIMESTAMP a AND TTL b`, if it is next.
fn using(cursor: &mut Cursor<'_>, with_ttl: bool) -> Result<Attributes, ServerError> {
    let mut attributes = Attributes::default();
    if !cursor.keyword("using") {
        return Ok(attributes);
    }
    loop {
        if cursor.keyword("timestamp") {
            attributes.timestamp = Some(cursor.whole_number()?);
        } else if with_ttl && cursor.keyword("ttl") {
            attributes.ttl = Some(cursor.whole_number()?);
        } else if with_ttl {
            return Err(cursor.no_alternative());
        } else {
            return Err(cursor.mismatch("K_TIMESTAMP"));
        }
        if !with_ttl || !cursor.keyword("and") {
            return Ok(attributes);
        }
    }
}

fn update(cursor: &mut Cursor<'_>) -> Result<Update, ServerError> {
    let table = cursor.table_name()?;
    let attributes = using(cursor, true)?;
    cursor.expect_keyword("set")?;
    let mut assignments = vec![assignment(cursor)?];
    while cursor.sign(",") {
        assignments.push(assignment(cursor)?);
    }
    cursor.expect_keyword("where")?;
    let relations = relations(cursor)?;
    let condition = condition(cursor)?;
    Ok(Update { table, attributes, assignments, relations, condition })
}

fn assignment(cursor: &mut Cursor<'_>) -> Result<(String, Assignment), ServerError> {
    let column = cursor.name()?;
    for sign in ["+=", "-="] {
        if cursor.sign(sign) {
            term(cursor)?;
            return Ok((column, Assignment::Other(sign)));
        }
    }
    if cursor.sign("[") {
        term(cursor)?;
        cursor.expect_sign("]")?;
        cursor.expect_sign("=")?;
        term(cursor)?;
        return Ok((column, Assignment::Other("[]")));
    }
    if cursor.sign(".") {
        cursor.name()?;
        cursor.expect_sign("=")?;
        term(cursor)?;
        return Ok((column, Assignment::Other(".")));
    }
    if !cursor.sign("=") {
        return Err(cursor.no_alternative());
    }
    // `a = a + 1`; `a = a -1`, where the minus belongs to the number.
    if cursor.at_name() && !cursor.sign_ahead(1, "(") && !cursor.sign_ahead(1, ".") {
        let other = cursor.name()?;
        let sign = if cursor.sign("+") { "+" } else { "-" };
        cursor.sign("-");
        if other != column {
            return Err(ServerError::Syntax(format!(
                "Only expressions of the form X = X {sign}<value> are supported."
            )));
        }
        term(cursor)?;
        return Ok((column, Assignment::Other(sign)));
    }
    let value = term(cursor)?;
    Ok((column, Assignment::Set(value)))
}

/// `IF EXISTS` or `IF a = 1`, if it is next.
fn condition(cursor: &mut Cursor<'_>) -> Result<Condition, ServerError> {
    if !cursor.keyword("if") {
        return Ok(Condition::None);
    }
    // EXISTS is a name as well.
    if cursor.at_keyword("exists")
        && !["=", "<", "<=", ">", ">=", "!=", "[", "."].iter().any(|sign| cursor.sign_ahead(1, sign))
        && !cursor.keyword_ahead(1, "in")
    {
        cursor.advance();
        return Ok(Condition::Exists);
    }
    conditions(cursor).map(Condition::Columns)
}

fn delete(cursor: &mut Cursor<'_>) -> Result<Delete, ServerError> {
    let mut columns = Vec::new();
    let mut elements = Vec::new();
    if !cursor.at_keyword("from") {
        loop {
            let column = cursor.name()?;
            if cursor.sign("[") {
                term(cursor)?;
                cursor.expect_sign("]")?;
                elements.push(column);
            } else if cursor.sign(".") {
                cursor.name()?;
                elements.push(column);
            } else {
                columns.push(column);
            }
            if !cursor.sign(",") {
                break;
            }
        }
    }
    cursor.expect_keyword("from")?;
    let table = cursor.table_name()?;
    let attributes = using(cursor, false)?;
    cursor.expect_keyword("where")?;
    let relations = relations(cursor)?;
    let condition = condition(cursor)?;
    Ok(Delete { table, columns, elements, attributes, relations, condition })
}

/// `BEGIN BATCH ... APPLY BATCH`
pub(super) fn batch(cursor: &mut Cursor<'_>) -> Result<Batch, ServerError> {
    cursor.expect_keyword("begin")?;
    let kind = if cursor.keyword("unlogged") {
        BatchKind::Unlogged
    } else if cursor.keyword("counter") {
        BatchKind::Counter
    } else {
        BatchKind::Logged
    };
    cursor.expect_keyword("batch")?;
    let attributes = using(cursor, true)?;
    let mut statements = Vec::new();
    while cursor.at_keyword("insert") || cursor.at_keyword("update") || cursor.at_keyword("delete") {
        statements.push(modification(cursor)?);
        cursor.sign(";");
    }
    cursor.expect_keyword("apply")?;
    cursor.expect_keyword("batch")?;
    Ok(Batch { kind, attributes, statements })
}
