//! Types of columns.

use super::invalid;
use crate::cql::ast::{ColumnDefinition, TypeName};
use crate::cql::type_name;
use crate::plan::term::{data_type_of, shown_type};
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
        let refused = match data_type {
            DataType::Counter => Some("counter"),
            _ if has_duration(&data_type) => Some("duration"),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(invalid(format!("{refused} type is not supported for PRIMARY KEY column '{name}'")));
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

/// Whether a duration is part of its values (`AbstractType.referencesDuration`).
fn has_duration(data_type: &DataType) -> bool {
    match data_type {
        DataType::Duration => true,
        DataType::List(inner) | DataType::Set(inner) => has_duration(inner),
        DataType::Map(key, value) => has_duration(key) || has_duration(value),
        _ => false,
    }
}

/// Checks the elements of a collection: counters cannot be any, and durations, which have no order, neither elements of
/// sets nor keys of maps (`CQL3Type.Raw.RawCollection.prepare`). `shown` is the collection's type in messages.
fn check_elements(written: &TypeName, shown: impl Fn(&DataType) -> String) -> Result<(), ServerError> {
    let Some(data_type) = data_type_of(written) else { return Ok(()) };
    let refused = |why: &str| Err(invalid(format!("{why}: {}", shown(&data_type))));
    match &data_type {
        DataType::List(inner) | DataType::Set(inner) if **inner == DataType::Counter => {
            refused("Counters are not allowed inside collections")
        }
        DataType::Map(key, value) if **key == DataType::Counter || **value == DataType::Counter => {
            refused("Counters are not allowed inside collections")
        }
        DataType::Set(inner) if **inner == DataType::Duration => {
            refused("Durations are not allowed inside sets")
        }
        DataType::Map(key, _) if **key == DataType::Duration => {
            refused("Durations are not allowed as map keys")
        }
        _ => Ok(()),
    }
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
        TypeName::List(inner) | TypeName::Set(inner) => {
            nested(inner, false)?;
            check_elements(written, type_name)
        }
        TypeName::Map(key, value) => {
            nested(key, false)?;
            nested(value, false)?;
            check_elements(written, type_name)
        }
        TypeName::Frozen(of) => match &**of {
            TypeName::Native(native) => Err(ServerError::Syntax(format!(
                "frozen<> is only allowed on collections, tuples, and user-defined types (got {})",
                type_name(native)
            ))),
            // Freezing a collection freezes what is in it.
            TypeName::List(inner) | TypeName::Set(inner) => {
                check_frozen(keyspace, inner)?;
                check_elements(of, shown_type)
            }
            TypeName::Map(key, value) => {
                check_frozen(keyspace, key)?;
                check_frozen(keyspace, value)?;
                check_elements(of, shown_type)
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
