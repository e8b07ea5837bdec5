//! Values in a statement, of a known type.

use bytes::Bytes;

use super::Markers;
use super::aggregate::Aggregate;
use super::function::{Argument, Function};
use crate::cql::ast;
use crate::cql::value::{
    collection, components, elements, fits, is_null_if_empty, list, nullable_elements, parse, rewritten,
    validate,
};
use crate::cql::{type_name, type_named};
use crate::protocol::{BoundValue, ServerError};
use crate::types::DataType;

/// What a term is for: its name in messages, and the type it must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver<'a> {
    pub name: &'a str,
    pub data_type: &'a DataType,
}

/// What the values of a statement depend on when it is executed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Values of the markers.
    pub values: &'a [BoundValue],
    /// The coordinator's clock, in microseconds.
    pub micros: i64,
    /// Numbers that no other call returns.
    pub unique: &'a (dyn Fn() -> u128 + Sync),
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("values", &self.values).field("micros", &self.micros).finish()
    }
}

/// A value, or how it is made.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// A constant.
    Value(Option<Bytes>),
    /// A marker, and its type.
    Marker(usize, DataType),
    /// The elements of a list.
    List(Vec<Term>),
    /// The elements of a set.
    Set(DataType, Vec<Term>),
    /// The entries of a map.
    Map(DataType, Vec<(Term, Term)>),
    /// What a function of this name returns.
    Call(Function, String, Vec<Term>),
    /// The component at this place of a tuple.
    Component(Box<Term>, usize, Vec<DataType>),
}

/// Whether a term can have a type, judged by its form.
pub(super) fn could_be(term: &ast::Term, data_type: &DataType) -> bool {
    let all = |terms: &[ast::Term], data_type: &DataType| terms.iter().all(|term| could_be(term, data_type));
    match (term, data_type) {
        (ast::Term::Literal(kind, _), _) => fits(*kind, data_type),
        (ast::Term::List(terms), DataType::List(element))
        | (ast::Term::Set(terms), DataType::Set(element)) => all(terms, element),
        (ast::Term::Set(terms), DataType::Map(..)) => terms.is_empty(),
        (ast::Term::Map(entries), DataType::Map(key, value)) => {
            entries.iter().all(|entry| could_be(&entry.0, key) && could_be(&entry.1, value))
        }
        (ast::Term::List(_) | ast::Term::Set(_) | ast::Term::Map(_), _) => false,
        // An unknown function is reported with a better message elsewhere.
        (ast::Term::Call(name, arguments), _) => {
            returned_by(name, arguments).is_none_or(|returned| data_type.takes(&returned))
        }
        (ast::Term::Cast(to, _), _) => data_type_of(to).is_none_or(|to| data_type.takes(&to)),
        // Markers and null can be anything.
        _ => true,
    }
}

/// Checks the shape of an element of a collection.
fn check_element(
    of: &str,
    part: &str,
    term: &ast::Term,
    data_type: &DataType,
    receiver: Receiver<'_>,
) -> Result<(), ServerError> {
    if could_be(term, data_type) {
        return Ok(());
    }
    Err(ServerError::invalid(format!(
        "Invalid {of} literal for {}: {part} {} is not of type {}",
        receiver.name,
        shown(term),
        shown_type(data_type)
    )))
}

/// Something of the wrong shape for its receiver.
fn wrong_shape(shape: &str, receiver: Receiver<'_>) -> ServerError {
    if shape == "list" {
        return ServerError::invalid(format!(
            "Unexpected receiver type '{}'; only list and vector are expected",
            shown_type(receiver.data_type)
        ));
    }
    ServerError::invalid(format!(
        "Invalid {shape} literal for {} of type {}",
        receiver.name,
        shown_type(receiver.data_type)
    ))
}

/// A type as messages show it: collections of columns are frozen here.
pub(super) fn shown_type(data_type: &DataType) -> String {
    match data_type {
        DataType::List(_) | DataType::Set(_) | DataType::Map(..) => {
            format!("frozen<{}>", type_name(data_type))
        }
        native => type_name(native),
    }
}

/// The type of this name.
pub(super) fn data_type_of(name: &ast::TypeName) -> Option<DataType> {
    Some(match name {
        ast::TypeName::Native(native) => native.clone(),
        ast::TypeName::List(element) => DataType::List(Box::new(data_type_of(element)?)),
        ast::TypeName::Set(element) => DataType::Set(Box::new(data_type_of(element)?)),
        ast::TypeName::Map(key, value) => {
            DataType::Map(Box::new(data_type_of(key)?), Box::new(data_type_of(value)?))
        }
        ast::TypeName::Frozen(inner) => data_type_of(inner)?,
        ast::TypeName::Named(None, name) => return type_named(name),
        ast::TypeName::Named(..) | ast::TypeName::Other(_) => return None,
    })
}

impl Term {
    /// The term for a receiver.
    ///
    /// # Errors
    /// If it cannot have that type.
    pub fn new(term: &ast::Term, receiver: Receiver<'_>, markers: &mut Markers) -> Result<Term, ServerError> {
        let element = |data_type: &DataType, suffix: &str, term: &ast::Term, markers: &mut Markers| {
            let name = format!("{suffix}({})", receiver.name);
            Term::new(term, Receiver { name: &name, data_type }, markers)
        };
        match term {
            ast::Term::Null => Ok(Term::Value(None)),
            ast::Term::Literal(kind, text) => {
                if !fits(*kind, receiver.data_type) {
                    return Err(ServerError::invalid(format!(
                        "Invalid {} constant ({text}) for \"{}\" of type {}",
                        kind.name(),
                        receiver.name,
                        shown_type(receiver.data_type)
                    )));
                }
                // Bytes are not parsed as what they are for.
                let of = if *kind == ast::LiteralKind::Hex { &DataType::Blob } else { receiver.data_type };
                if *receiver.data_type == DataType::Timestamp && text.eq_ignore_ascii_case("now") {
                    return Ok(Term::Call(Function::CurrentTimestamp, text.clone(), Vec::new()));
                }
                Ok(Term::Value(Some(parse(of, text)?)))
            }
            ast::Term::Marker(marker) => {
                markers.set(*marker, receiver.name, receiver.data_type);
                Ok(Term::Marker(*marker, receiver.data_type.clone()))
            }
            ast::Term::List(terms) => match receiver.data_type {
                DataType::List(inner) => {
                    for term in terms {
                        check_element("list", "value", term, inner, receiver)?;
                    }
                    let terms = terms.iter().map(|term| element(inner, "value", term, markers));
                    Ok(Term::List(terms.collect::<Result<_, _>>()?))
                }
                _ => Err(wrong_shape("list", receiver)),
            },
            ast::Term::Set(terms) => match receiver.data_type {
                DataType::Set(inner) => {
                    for term in terms {
                        check_element("set", "value", term, inner, receiver)?;
                    }
                    let terms = terms.iter().map(|term| element(inner, "value", term, markers));
                    Ok(Term::Set(DataType::clone(inner), terms.collect::<Result<_, _>>()?))
                }
                DataType::Map(key, _) if terms.is_empty() => Ok(Term::Map(DataType::clone(key), Vec::new())),
                _ => Err(wrong_shape("set", receiver)),
            },
            ast::Term::Map(entries) => match receiver.data_type {
                DataType::Map(key_type, value_type) => {
                    for (key, value) in entries {
                        check_element("map", "key", key, key_type, receiver)?;
                        check_element("map", "value", value, value_type, receiver)?;
                    }
                    let entries = entries.iter().map(|(key, value)| {
                        let key = element(key_type, "key", key, markers)?;
                        Ok((key, element(value_type, "value", value, markers)?))
                    });
                    let entries = entries.collect::<Result<_, ServerError>>()?;
                    Ok(Term::Map(DataType::clone(key_type), entries))
                }
                _ => Err(wrong_shape("map", receiver)),
            },
            ast::Term::Tuple(terms) => match terms.as_slice() {
                // Parentheses around one term are only parentheses.
                [term] => Term::new(term, receiver, markers),
                _ => Err(wrong_shape("tuple type", receiver)),
            },
            ast::Term::Cast(to, inner) => {
                let to = data_type_of(to).ok_or_else(|| {
                    ServerError::invalid("Unknown type in a cast, or one that is not simulated")
                })?;
                if !receiver.data_type.takes(&to) {
                    return Err(ServerError::invalid(format!(
                        "Cannot assign value {} to {} of type {}",
                        shown(term),
                        receiver.name,
                        shown_type(receiver.data_type)
                    )));
                }
                Term::new(inner, receiver, markers)
            }
            ast::Term::Call(name, arguments) => call(name, arguments, receiver, markers),
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// If a bound value is none of its type.
    pub fn bind(&self, context: &Context<'_>) -> Result<BoundValue, ServerError> {
        let inner = |term: &Term| match term.bind(context)? {
            BoundValue::Value(bytes) => Ok(bytes),
            BoundValue::Null => Err(ServerError::invalid("null is not supported inside collections")),
            BoundValue::Unset => Err(ServerError::invalid("unset value is not supported inside collections")),
        };
        Ok(match self {
            Term::Value(Some(bytes)) => BoundValue::Value(bytes.clone()),
            Term::Value(None) => BoundValue::Null,
            Term::Marker(marker, data_type) => {
                let Some(value) = context.values.get(*marker) else {
                    return Err(ServerError::invalid("Invalid amount of bind variables"));
                };
                if let BoundValue::Value(bytes) = value {
                    validate(data_type, bytes)?;
                    return Ok(BoundValue::Value(in_order(data_type, bytes)));
                }
                value.clone()
            }
            Term::List(terms) => {
                let all = terms.iter().map(&inner).collect::<Result<Vec<_>, _>>()?;
                BoundValue::Value(collection(all.len(), &all))
            }
            Term::Set(element, terms) => {
                let all = terms.iter().map(&inner).collect::<Result<Vec<_>, _>>()?;
                BoundValue::Value(set(element, all))
            }
            Term::Map(key_type, entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((inner(key)?, inner(value)?)));
                BoundValue::Value(map(key_type, entries.collect::<Result<_, ServerError>>()?))
            }
            Term::Component(tuple, place, types) => match tuple.bind(context)? {
                BoundValue::Value(bytes) => {
                    let all = components(types, &bytes).unwrap_or_default();
                    all.into_iter().nth(*place).flatten().map_or(BoundValue::Null, BoundValue::Value)
                }
                other => other,
            },
            Term::Call(function, name, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    match argument.bind(context)? {
                        BoundValue::Value(bytes) => values.push(Some(bytes)),
                        BoundValue::Null => values.push(None),
                        BoundValue::Unset => {
                            return Err(ServerError::invalid(format!(
                                "Invalid unset value for argument in call to function {name}"
                            )));
                        }
                    }
                }
                match function.call(&values, context)? {
                    Some(bytes) => BoundValue::Value(bytes),
                    None => BoundValue::Null,
                }
            }
        })
    }
}

/// The elements of a set in their order, each once.
fn set(element: &DataType, mut all: Vec<Bytes>) -> Bytes {
    all.sort_by(|left, right| element.compare(left, right));
    all.dedup_by(|left, right| element.compare(left, right).is_eq());
    collection(all.len(), &all)
}

/// The entries of a map in the order of their keys; of equal keys the last counts.
fn map(key_type: &DataType, entries: Vec<(Bytes, Bytes)>) -> Bytes {
    let mut entries: Vec<_> = entries.into_iter().enumerate().collect();
    entries.sort_by(|(left_at, (left, _)), (right_at, (right, _))| {
        key_type.compare(left, right).then(right_at.cmp(left_at))
    });
    entries.dedup_by(|(_, (left, _)), (_, (right, _))| key_type.compare(left, right).is_eq());
    let count = entries.len();
    let all: Vec<Bytes> = entries.into_iter().flat_map(|(_, (key, value))| [key, value]).collect();
    collection(count, &all)
}

/// A bound collection as it is stored: clients may send sets and maps in any order.
fn in_order(data_type: &DataType, bytes: &Bytes) -> Bytes {
    match data_type {
        DataType::List(element) => match nullable_elements(bytes) {
            Some(mut all) => {
                // Elements are deserialized and serialized again (`ListSerializer`): of most types an empty one is none.
                if is_null_if_empty(element) {
                    all.iter_mut().for_each(|value| *value = value.take().filter(|it| !it.is_empty()));
                }
                all.iter_mut().flatten().for_each(|value| *value = rewritten(element, value));
                list(&all)
            }
            None => bytes.clone(),
        },
        DataType::Set(element) => match elements(data_type, bytes) {
            Some(all) => set(element, all.iter().map(|value| rewritten(element, value)).collect()),
            None => bytes.clone(),
        },
        DataType::Map(key_type, value_type) => match elements(data_type, bytes) {
            Some(all) => {
                let entries = all
                    .chunks_exact(2)
                    .map(|entry| (rewritten(key_type, &entry[0]), rewritten(value_type, &entry[1])));
                map(key_type, entries.collect())
            }
            None => bytes.clone(),
        },
        _ => bytes.clone(),
    }
}

/// A call of the function of this name (`FunctionCall.Raw.prepare`).
fn call(
    name: &str,
    arguments: &[ast::Term],
    receiver: Receiver<'_>,
    markers: &mut Markers,
) -> Result<Term, ServerError> {
    let function = match (name, markers.table()) {
        ("token", Some(table)) => Some(Function::token(&table.partition_key)),
        _ => Function::resolve(name, &typed(arguments), Some(receiver.data_type))?,
    };
    let Some(function) = function else {
        let Some(aggregate) = Aggregate::named(name) else {
            return Err(ServerError::invalid(format!("Unknown function {name} called")));
        };
        if let (Aggregate::Count, [argument]) = (aggregate, arguments) {
            check_argument(name, 0, argument, &DataType::Blob)?;
        }
        return Err(ServerError::invalid("Aggregation function are not supported in the where clause"));
    };
    let parameters = function.arguments();
    if parameters.len() != arguments.len() {
        return Err(ServerError::invalid(format!(
            "Invalid number of arguments in call to function system.{name}: {} required but {} provided",
            parameters.len(),
            arguments.len()
        )));
    }
    for (at, (argument, data_type)) in arguments.iter().zip(&parameters).enumerate() {
        check_argument(name, at, argument, data_type)?;
    }
    if !receiver.data_type.takes(&function.returns()) {
        return Err(ServerError::invalid(format!(
            "Type error: cannot assign result of function system.{name} (type {}) to {} (type {})",
            type_name(&function.returns()),
            receiver.name,
            shown_type(receiver.data_type)
        )));
    }
    let terms = arguments.iter().zip(&parameters).enumerate().map(|(at, (argument, data_type))| {
        let name = format!("arg{at}(system.{name})");
        Term::new(argument, Receiver { name: &name, data_type }, markers)
    });
    Ok(Term::Call(function, name.to_owned(), terms.collect::<Result<_, _>>()?))
}

/// Arguments, with their types if those are known.
fn typed(arguments: &[ast::Term]) -> Vec<Argument<'_>> {
    let typed = arguments.iter().map(|argument| match argument {
        ast::Term::Call(inner, inner_arguments) => match returned_by(inner, inner_arguments) {
            Some(data_type) => Argument::Typed(data_type),
            None => Argument::Written(argument),
        },
        ast::Term::Cast(to, _) => match data_type_of(to) {
            Some(data_type) => Argument::Typed(data_type),
            None => Argument::Written(argument),
        },
        other => Argument::Written(other),
    });
    typed.collect()
}

/// The type of what a call returns, if that is certain.
fn returned_by(name: &str, arguments: &[ast::Term]) -> Option<DataType> {
    match name {
        "token" => Some(DataType::BigInt),
        name => Function::resolve(name, &typed(arguments), None).ok().flatten().map(|it| it.returns()),
    }
}

/// Checks the shape of an argument of a function.
pub(super) fn check_argument(
    function: &str,
    at: usize,
    term: &ast::Term,
    data_type: &DataType,
) -> Result<(), ServerError> {
    if could_be(term, data_type) {
        return Ok(());
    }
    Err(ServerError::invalid(format!(
        "Type error: {} cannot be passed as argument {at} of function system.{function} of type {}",
        shown(term),
        type_name(data_type)
    )))
}

/// A term as it was written, for messages.
pub(super) fn shown(term: &ast::Term) -> String {
    let list = |terms: &[ast::Term]| terms.iter().map(shown).collect::<Vec<_>>().join(", ");
    match term {
        ast::Term::Literal(ast::LiteralKind::String, text) => format!("'{text}'"),
        ast::Term::Literal(_, text) => text.clone(),
        ast::Term::Null => "null".to_owned(),
        ast::Term::Marker(_) => "?".to_owned(),
        ast::Term::List(terms) => format!("[{}]", list(terms)),
        ast::Term::Set(terms) => format!("{{{}}}", list(terms)),
        ast::Term::Map(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}: {}", shown(key), shown(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        ast::Term::Tuple(terms) => format!("({})", list(terms)),
        ast::Term::Call(name, terms) => format!("{name}({})", list(terms)),
        ast::Term::Cast(to, inner) => match data_type_of(to) {
            Some(to) => format!("({}){}", type_name(&to), shown(inner)),
            None => shown(inner),
        },
    }
}
