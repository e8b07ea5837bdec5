//! Values and types.

use super::super::ast::{LiteralKind, Term, TypeName};
use super::super::lexer::Kind;
use super::super::types::type_named;
use super::cursor::Cursor;
use crate::protocol::ServerError;

/// A term.
pub(super) fn term(cursor: &mut Cursor<'_>) -> Result<Term, ServerError> {
    let term = cursor.nested(simple_term)?;
    for sign in ["+", "-", "*", "/", "%"] {
        if cursor.at_sign(sign) {
            return Err(cursor.not_simulated(&format!("the operator {sign} between values")));
        }
    }
    Ok(term)
}

/// A constant, if one is next.
pub(super) fn literal(cursor: &mut Cursor<'_>) -> Option<(LiteralKind, String)> {
    let token = cursor.peek(0);
    let found = match LiteralKind::of(token.kind) {
        Some(kind) => (kind, token.text.clone()),
        None if token.kind == Kind::Word => {
            let lower = token.text.to_ascii_lowercase();
            let (kind, text) = match lower.as_str() {
                "true" | "false" => (LiteralKind::Boolean, lower.as_str()),
                "nan" | "-nan" => (LiteralKind::Float, "NaN"),
                "infinity" => (LiteralKind::Float, "Infinity"),
                "-infinity" => (LiteralKind::Float, "-Infinity"),
                _ => return None,
            };
            (kind, text.to_owned())
        }
        None => return None,
    };
    cursor.advance();
    Some(found)
}

/// Checks that a number with a point or an exponent is finite as a double, and that its exponent is one that a decimal can
/// have (`Constants.Literal.floatingPoint`).
pub(super) fn check_number(cursor: &Cursor<'_>, kind: LiteralKind, text: &str) -> Result<(), ServerError> {
    if kind != LiteralKind::Float || text.ends_with(['N', 'y']) {
        return Ok(());
    }
    let failed = |reason: &str| {
        Err(ServerError::Syntax(format!(
            "Failed parsing statement: [{}] reason: NumberFormatException {reason}",
            cursor.text()
        )))
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let scale = exponent
        .parse::<i32>()
        .ok()
        .map(i64::from)
        .and_then(|exponent| i64::try_from(fraction).ok()?.checked_sub(exponent));
    match scale {
        Some(scale) if i32::try_from(scale).is_ok() => {}
        Some(_) => return failed("Scale out of range."),
        None => return failed("Exponent overflow."),
    }
    if text.parse::<f64>().is_ok_and(f64::is_infinite) {
        return failed(
            "Character I is neither a decimal digit number, decimal point, nor \"e\" notation exponential mark.",
        );
    }
    Ok(())
}

fn simple_term(cursor: &mut Cursor<'_>) -> Result<Term, ServerError> {
    if let Some((kind, text)) = literal(cursor) {
        check_number(cursor, kind, &text)?;
        return Ok(Term::Literal(kind, text));
    }
    if cursor.keyword("null") {
        return Ok(Term::Null);
    }
    if cursor.at_marker() {
        return cursor.marker().map(Term::Marker);
    }
    if cursor.sign("[") {
        return list(cursor, "]").map(Term::List);
    }
    if cursor.sign("{") {
        return set_or_map(cursor);
    }
    if cursor.at_sign("(") {
        return in_parentheses(cursor);
    }
    if cursor.at_sign("-")
        && (cursor.sign_ahead(1, ".") || cursor.name_ahead(1) && !cursor.sign_ahead(2, "("))
    {
        // No value begins like that.
        cursor.advance();
        return Err(cursor.no_alternative());
    }
    if cursor.at_sign("-") {
        return Err(cursor.not_simulated("a minus before a value"));
    }
    if let Some(name) = function_name(cursor)? {
        let arguments = if cursor.sign(")") { Vec::new() } else { list(cursor, ")")? };
        return Ok(Term::Call(name, arguments));
    }
    Err(cursor.no_alternative())
}

/// The name of a function and its opening parenthesis, if they are next.
pub(super) fn function_name(cursor: &mut Cursor<'_>) -> Result<Option<String>, ServerError> {
    let qualified = cursor.name_ahead(0) && cursor.sign_ahead(1, ".");
    let at = if qualified { 2 } else { 0 };
    let named = cursor.name_ahead(at) || cursor.keyword_ahead(at, "token");
    if !named || !cursor.sign_ahead(at + 1, "(") {
        return Ok(None);
    }
    let mut keyspace = None;
    if qualified {
        keyspace = Some(cursor.name()?);
        cursor.advance();
    }
    let name = if cursor.keyword("token") { "token".to_owned() } else { cursor.name()? };
    cursor.advance();
    Ok(Some(match keyspace {
        Some(keyspace) if keyspace != "system" => format!("{keyspace}.{name}"),
        _ => name,
    }))
}

/// Terms up to `close`, which is passed; there may be none if `close` is `]`.
fn list(cursor: &mut Cursor<'_>, close: &str) -> Result<Vec<Term>, ServerError> {
    if close == "]" && cursor.sign(close) {
        return Ok(Vec::new());
    }
    let mut terms = vec![term(cursor)?];
    while cursor.sign(",") {
        terms.push(term(cursor)?);
    }
    cursor.expect_sign(close)?;
    Ok(terms)
}

fn set_or_map(cursor: &mut Cursor<'_>) -> Result<Term, ServerError> {
    if cursor.sign("}") {
        return Ok(Term::Set(Vec::new()));
    }
    let first = term(cursor)?;
    if !cursor.sign(":") {
        let mut terms = vec![first];
        while cursor.sign(",") {
            terms.push(term(cursor)?);
        }
        cursor.expect_sign("}")?;
        return Ok(Term::Set(terms));
    }
    let mut entries = vec![(first, term(cursor)?)];
    while cursor.sign(",") {
        let key = term(cursor)?;
        cursor.expect_sign(":")?;
        entries.push((key, term(cursor)?));
    }
    cursor.expect_sign("}")?;
    Ok(Term::Map(entries))
}

/// `(type) term` or `(term, term)`.
fn in_parentheses(cursor: &mut Cursor<'_>) -> Result<Term, ServerError> {
    let place = cursor.place();
    cursor.advance();
    if (cursor.at_name() || cursor.at_keyword("set"))
        && !cursor.sign_ahead(1, "(")
        && let Ok(type_name) = type_name(cursor)
        && cursor.sign(")")
    {
        let inner = cursor.nested(simple_term)?;
        return Ok(Term::Cast(type_name, Box::new(inner)));
    }
    cursor.back_to(place);
    cursor.advance();
    list(cursor, ")").map(Term::Tuple)
}

/// A type.
pub(super) fn type_name(cursor: &mut Cursor<'_>) -> Result<TypeName, ServerError> {
    cursor.nested(inner_type_name)
}

fn inner_type_name(cursor: &mut Cursor<'_>) -> Result<TypeName, ServerError> {
    let place = cursor.place();
    let token = cursor.peek(0);
    if token.kind == Kind::Text {
        let name = token.text.clone();
        cursor.advance();
        return Ok(TypeName::Other(format!("'{name}'")));
    }
    // SET is reserved, so it is no name.
    if cursor.at_keyword("set") {
        cursor.advance();
        cursor.expect_sign("<")?;
        let element = type_name(cursor)?;
        cursor.expect_sign(">")?;
        return Ok(TypeName::Set(Box::new(element)));
    }
    if !cursor.at_name() {
        return Err(cursor.no_alternative());
    }
    let quoted = token.kind == Kind::Quoted;
    let name = cursor.name()?;
    if !quoted {
        let generic = cursor.at_sign("<");
        match name.as_str() {
            "list" if generic => {
                cursor.advance();
                let element = type_name(cursor)?;
                cursor.expect_sign(">")?;
                return Ok(TypeName::List(Box::new(element)));
            }
            "frozen" if generic => {
                cursor.advance();
                let inner = type_name(cursor)?;
                cursor.expect_sign(">")?;
                return Ok(TypeName::Frozen(Box::new(inner)));
            }
            "map" if generic => {
                cursor.advance();
                let key = type_name(cursor)?;
                cursor.expect_sign(",")?;
                let value = type_name(cursor)?;
                cursor.expect_sign(">")?;
                return Ok(TypeName::Map(Box::new(key), Box::new(value)));
            }
            "tuple" if generic => {
                cursor.advance();
                type_name(cursor)?;
                while cursor.sign(",") {
                    type_name(cursor)?;
                }
                cursor.expect_sign(">")?;
                return Ok(TypeName::Other(cursor.written_since(place).to_owned()));
            }
            "vector" if generic => {
                cursor.advance();
                type_name(cursor)?;
                cursor.expect_sign(",")?;
                cursor.whole_number()?;
                cursor.expect_sign(">")?;
                return Ok(TypeName::Other(cursor.written_since(place).to_owned()));
            }
            _ => {}
        }
        if let Some(native) = type_named(&name) {
            return Ok(TypeName::Native(native));
        }
    }
    if cursor.sign(".") {
        return Ok(TypeName::Named(Some(name), cursor.name()?));
    }
    Ok(TypeName::Named(None, name))
}
