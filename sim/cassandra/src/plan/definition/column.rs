//! Types of columns.

use super::invalid;
use crate::cql::ast::{ColumnDefinition, TypeName};
use crate::cql::type_name;
use crate::plan::term::data_type_of;
use crate::protocol::ServerError;
use crate::types::DataType;

/// The type of a column.
pub(super) fn column_type(
    keyspace: &str,
    definition: &ColumnDefinition,
    is_key: bool,
) -> Result<DataType, ServerError> {
    let name = &definition.name;
    let written = &definition.type_name;
    check_type(keyspace, written)?;
    let data_type = data_type_of(written).ok_or_else(|| not_simulated(written))?;
    let is_frozen = matches!(written, TypeName::Frozen(_) | TypeName::Native(_));
    if is_key {
        if !is_frozen {
            return Err(invalid(format!(
                "Invalid non-frozen collection type {} for PRIMARY KEY column '{name}'",
                type_name(&data_type)
            )));
        }
        if matches!(data_type, DataType::Counter | DataType::Duration) {
            return Err(invalid(format!(
                "{} type is not supported for PRIMARY KEY column '{name}'",
                type_name(&data_type)
            )));
        }
    }
    if !is_frozen {
        return Err(invalid(format!(
            "a collection that is not frozen is not simulated: {name} {0} (frozen<{0}> is)",
            type_name(&data_type)
        )));
    }
    Ok(data_type)
}

pub(super) fn not_simulated(written: &TypeName) -> ServerError {
    match written {
        TypeName::Other(text) => invalid(format!("the type {text} is not simulated")),
        _ => invalid("this type is not simulated".to_owned()),
    }
}

pub(super) fn check_type(keyspace: &str, written: &TypeName) -> Result<(), ServerError> {
    let inside = |inner: &TypeName| match inner {
        TypeName::List(_) | TypeName::Set(_) | TypeName::Map(..) => true,
        TypeName::Native(_) | TypeName::Frozen(_) | TypeName::Named(..) | TypeName::Other(_) => false,
    };
    let nested = |inner: &TypeName, frozen: bool| {
        check_type(keyspace, inner)?;
        if inside(inner) && !frozen {
            let whole = data_type_of(written).map(|data_type| written_name(&data_type)).unwrap_or_default();
            return Err(invalid(format!(
                "Non-frozen collections are not allowed inside collections: {whole}"
            )));
        }
        Ok(())
    };
    match written {
        TypeName::Native(_) => Ok(()),
        TypeName::List(inner) | TypeName::Set(inner) => nested(inner, false),
        TypeName::Map(key, value) => {
            nested(key, false)?;
            nested(value, false)
        }
        TypeName::Frozen(inner) => match &**inner {
            TypeName::Native(native) => Err(ServerError::Syntax(format!(
                "frozen<> is only allowed on collections, tuples, and user-defined types (got {})",
                type_name(native)
            ))),
            // Freezing a collection freezes what is in it.
            TypeName::List(inner) | TypeName::Set(inner) => check_frozen(keyspace, inner),
            TypeName::Map(key, value) => {
                check_frozen(keyspace, key)?;
                check_frozen(keyspace, value)
            }
            other => check_type(keyspace, other),
        },
        TypeName::Named(of, name) => {
            let of = of.as_deref().unwrap_or(keyspace);
            Err(invalid(format!("Unknown type {of}.{name}")))
        }
        TypeName::Other(_) => Err(not_simulated(written)),
    }
}

pub(super) fn check_frozen(keyspace: &str, written: &TypeName) -> Result<(), ServerError> {
    match written {
        TypeName::List(_) | TypeName::Set(_) | TypeName::Map(..) => {
            check_type(keyspace, &TypeName::Frozen(Box::new(written.clone())))
        }
        other => check_type(keyspace, other),
    }
}

/// A type as it would be written without any frozen.
pub(super) fn written_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(inner) => format!("list<{}>", written_name(inner)),
        DataType::Set(inner) => format!("set<{}>", written_name(inner)),
        DataType::Map(key, value) => format!("map<{}, {}>", written_name(key), written_name(value)),
        native => type_name(native),
    }
}
