//! SELECT, and the WHERE clause that it shares with UPDATE and DELETE.

use super::super::ast::{InValues, Operator, Relation, Select, Selector, Term};
use super::cursor::Cursor;
use super::term::{check_number, function_name, literal, term, type_name};
use crate::protocol::ServerError;

/// A SELECT.
pub(super) fn select(cursor: &mut Cursor<'_>) -> Result<Select, ServerError> {
    cursor.expect_keyword("select")?;
    // JSON and DISTINCT are names of columns as well.
    let is_prefix = |cursor: &Cursor<'_>| {
        let is_column = [",", "("].iter().any(|sign| cursor.sign_ahead(1, sign))
            || ["from", "as"].iter().any(|keyword| cursor.keyword_ahead(1, keyword));
        !is_column
    };
    let json = cursor.at_keyword("json") && is_prefix(cursor) && cursor.keyword("json");
    let distinct = cursor.at_keyword("distinct") && is_prefix(cursor) && cursor.keyword("distinct");
    let mut selectors = Vec::new();
    if !cursor.sign("*") {
        loop {
            selectors.push(aliased(cursor)?);
            if !cursor.sign(",") {
                break;
            }
        }
    }
    // A token that is not FROM may be a misspelling of it; the grammar notices at the token after the selector.
    cursor.expect_keyword("from")?;
    let table = cursor.table_name()?;
    let relations = if cursor.keyword("where") { relations(cursor)? } else { Vec::new() };
    let mut group_by = Vec::new();
    if cursor.keyword("group") {
        cursor.expect_keyword("by")?;
        group_by.push(selector(cursor)?);
        while cursor.sign(",") {
            group_by.push(selector(cursor)?);
        }
    }
    let mut order_by = Vec::new();
    if cursor.keyword("order") {
        cursor.expect_keyword("by")?;
        loop {
            let column = cursor.name()?;
            if cursor.at_keyword("ann") {
                return Err(cursor.not_simulated("ORDER BY ANN OF"));
            }
            let descending = !cursor.keyword("asc") && cursor.keyword("desc");
            order_by.push((column, descending));
            if !cursor.sign(",") {
                break;
            }
        }
    }
    let mut per_partition_limit = None;
    if cursor.keyword("per") {
        cursor.expect_keyword("partition")?;
        cursor.expect_keyword("limit")?;
        per_partition_limit = Some(cursor.whole_number()?);
    }
    let limit = if cursor.keyword("limit") { Some(cursor.whole_number()?) } else { None };
    let mut allow_filtering = false;
    if cursor.keyword("allow") {
        cursor.expect_keyword("filtering")?;
        allow_filtering = true;
    }
    Ok(Select {
        table,
        json,
        distinct,
        selectors,
        relations,
        group_by,
        order_by,
        per_partition_limit,
        limit,
        allow_filtering,
    })
}

fn aliased(cursor: &mut Cursor<'_>) -> Result<(Selector, Option<String>), ServerError> {
    let selector = selector(cursor)?;
    let alias = if cursor.keyword("as") { Some(cursor.name()?) } else { None };
    Ok((selector, alias))
}

fn selector(cursor: &mut Cursor<'_>) -> Result<Selector, ServerError> {
    let place = cursor.place();
    let selector = cursor.nested(simple_selector)?;
    for sign in ["+", "-", "*", "/", "%"] {
        if cursor.at_sign(sign) {
            return Err(cursor.not_simulated(&format!("the operator {sign} in a selection")));
        }
    }
    if cursor.at_sign("[") || (cursor.at_sign(".") && matches!(selector, Selector::Column(_))) {
        while cursor.at_sign("[") || cursor.at_sign(".") {
            if cursor.sign(".") {
                cursor.name()?;
            } else {
                cursor.advance();
                term(cursor)?;
                cursor.expect_sign("]")?;
            }
        }
        return Ok(Selector::Other(cursor.written_since(place).to_owned()));
    }
    Ok(selector)
}

fn simple_selector(cursor: &mut Cursor<'_>) -> Result<Selector, ServerError> {
    if let Some((kind, text)) = literal(cursor) {
        check_number(cursor, kind, &text)?;
        return Ok(Selector::Term(Term::Literal(kind, text)));
    }
    if cursor.keyword("null") {
        return Ok(Selector::Term(Term::Null));
    }
    if cursor.at_marker() {
        return cursor.marker().map(|marker| Selector::Term(Term::Marker(marker)));
    }
    for (sign, what) in [("(", "a tuple or a cast"), ("[", "a list"), ("{", "a set or map")] {
        if cursor.at_sign(sign) {
            return Err(cursor.not_simulated(&format!("{what} in a selection")));
        }
    }
    if cursor.sign_ahead(1, "(") {
        let of_column = |cursor: &mut Cursor<'_>| {
            cursor.advance();
            cursor.advance();
            let column = cursor.name()?;
            if cursor.at_sign("[") || cursor.at_sign(".") {
                return Err(cursor.not_simulated("the write time or TTL of an element"));
            }
            cursor.expect_sign(")")?;
            Ok(column)
        };
        if cursor.at_keyword("count") && cursor.sign_ahead(2, "*") {
            for _ in 0..3 {
                cursor.advance();
            }
            cursor.expect_sign(")")?;
            return Ok(Selector::CountRows);
        }
        if cursor.at_keyword("writetime") {
            return of_column(cursor).map(Selector::WriteTime);
        }
        if cursor.at_keyword("maxwritetime") {
            return of_column(cursor).map(Selector::MaxWriteTime);
        }
        if cursor.at_keyword("ttl") {
            return of_column(cursor).map(Selector::Ttl);
        }
        if cursor.at_keyword("cast") {
            cursor.advance();
            cursor.advance();
            let inner = selector(cursor)?;
            cursor.expect_keyword("as")?;
            let to = type_name(cursor)?;
            cursor.expect_sign(")")?;
            return Ok(Selector::Cast(Box::new(inner), to));
        }
    }
    if let Some(name) = function_name(cursor)? {
        let mut arguments = Vec::new();
        if !cursor.sign(")") {
            arguments.push(selector(cursor)?);
            while cursor.sign(",") {
                arguments.push(selector(cursor)?);
            }
            cursor.expect_sign(")")?;
        }
        return Ok(Selector::Call(name, arguments));
    }
    if !cursor.at_name() {
        return Err(cursor.no_alternative());
    }
    // The grammar looks one token further before it takes a name for a column.
    let follows = [",", ")", ".", "[", "+", "-", "*", "/", "%"].iter().any(|sign| cursor.sign_ahead(1, sign))
        || cursor.keyword_ahead(1, "from")
        || cursor.keyword_ahead(1, "as")
        || cursor.keyword_ahead(1, "order")
        || cursor.keyword_ahead(1, "per")
        || cursor.keyword_ahead(1, "limit")
        || cursor.keyword_ahead(1, "allow")
        || cursor.peek(1).kind == super::super::lexer::Kind::End
        || cursor.sign_ahead(1, ";");
    if !follows {
        return Err(cursor.no_alternative_ahead(1));
    }
    cursor.name().map(Selector::Column)
}

/// The operator that is next, if one is.
fn operator(cursor: &mut Cursor<'_>) -> Option<Operator> {
    let operators = [
        Operator::Equal,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::NotEqual,
    ];
    operators.into_iter().find(|operator| cursor.sign(operator.sign()))
}

/// `a = 1 AND b > 2`
pub(super) fn relations(cursor: &mut Cursor<'_>) -> Result<Vec<Relation>, ServerError> {
    let mut all = vec![cursor.nested(relation)?];
    while cursor.keyword("and") {
        all.push(cursor.nested(relation)?);
    }
    Ok(all)
}

fn relation(cursor: &mut Cursor<'_>) -> Result<Relation, ServerError> {
    if cursor.at_keyword("token") && cursor.sign_ahead(1, "(") {
        cursor.advance();
        cursor.advance();
        let columns = cursor.names()?;
        let operator = operator(cursor).ok_or_else(|| cursor.no_alternative())?;
        return Ok(Relation::Token(columns, operator, term(cursor)?));
    }
    if cursor.at_sign("(") {
        let is_relation = cursor.name_ahead(1) && !cursor.sign_ahead(2, ",") && !cursor.sign_ahead(2, ")");
        cursor.advance();
        if is_relation || cursor.at_keyword("token") || cursor.at_sign("(") {
            let inner = cursor.nested(relation)?;
            cursor.expect_sign(")")?;
            return Ok(inner);
        }
        let columns = cursor.names()?;
        if cursor.keyword("in") {
            let values = in_values(cursor)?;
            if let InValues::Terms(terms) = &values {
                // Either all are tuples or all are markers.
                let is_marker = |term: &Term| matches!(term, Term::Marker(_));
                let is_tuple = |term: &Term| matches!(term, Term::Tuple(_));
                if !terms.iter().all(is_marker) && !terms.iter().all(is_tuple) {
                    return Err(cursor.mismatch("'('"));
                }
            }
            return Ok(Relation::MultiIn(columns, values));
        }
        let place = cursor.place();
        let operator = operator(cursor).ok_or_else(|| cursor.no_alternative())?;
        if !cursor.at_sign("(") && !cursor.at_marker() {
            cursor.back_to(place);
            return Err(cursor.no_alternative_ahead(1));
        }
        return Ok(Relation::Multi(columns, operator, term(cursor)?));
    }
    let column = cursor.name()?;
    column_relation(cursor, column)
}

/// What may follow a column's name.
fn column_relation(cursor: &mut Cursor<'_>, column: String) -> Result<Relation, ServerError> {
    if cursor.keyword("in") {
        return in_values(cursor).map(|values| Relation::In(column, values));
    }
    if cursor.keyword("is") {
        cursor.expect_keyword("not")?;
        cursor.expect_keyword("null")?;
        return Ok(Relation::IsNotNull(column));
    }
    if cursor.keyword("like") {
        return term(cursor).map(|term| Relation::Like(column, term));
    }
    if cursor.keyword("contains") {
        let operator = if cursor.keyword("key") { Operator::ContainsKey } else { Operator::Contains };
        return Ok(Relation::Single(column, operator, term(cursor)?));
    }
    if cursor.sign("[") {
        let key = term(cursor)?;
        cursor.expect_sign("]")?;
        let operator = operator(cursor).ok_or_else(|| cursor.no_alternative())?;
        return Ok(Relation::Element(column, key, operator, term(cursor)?));
    }
    let operator = operator(cursor).ok_or_else(|| cursor.no_alternative())?;
    Ok(Relation::Single(column, operator, term(cursor)?))
}

/// `a = 1 AND b IN (2)`, after IF.
pub(super) fn conditions(cursor: &mut Cursor<'_>) -> Result<Vec<Relation>, ServerError> {
    let mut all = Vec::new();
    loop {
        let column = cursor.name()?;
        all.push(column_relation(cursor, column)?);
        if !cursor.keyword("and") {
            return Ok(all);
        }
    }
}

fn in_values(cursor: &mut Cursor<'_>) -> Result<InValues, ServerError> {
    if cursor.at_marker() {
        return cursor.marker().map(InValues::Marker);
    }
    cursor.expect_sign("(")?;
    let mut terms = Vec::new();
    if !cursor.sign(")") {
        terms.push(term(cursor)?);
        while cursor.sign(",") {
            terms.push(term(cursor)?);
        }
        cursor.expect_sign(")")?;
    }
    Ok(InValues::Terms(terms))
}
