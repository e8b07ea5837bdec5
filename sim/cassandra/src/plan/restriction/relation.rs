//! The relations of a WHERE clause one by one, and conflicts between them.

use std::collections::BTreeMap;

use super::conflicts::{Conflicts, Kind};
use super::filter::Test;
use super::{Bound, TokenBound, Values, joined};
use crate::cql::ast::{self, InValues, Operator, Relation};
use crate::plan::term::{Receiver, Term, shown};
use crate::plan::{Markers, column};
use crate::protocol::ServerError;
use crate::schema::{Column, ColumnKind, Table};
use crate::types::DataType;

/// The relations of one column.
#[derive(Default)]
pub(super) struct OfColumn {
    pub values: Option<Values>,
    pub from: Option<Bound>,
    pub to: Option<Bound>,
    pub filters: Vec<Test>,
}

/// A relation of several columns.
pub(super) enum Multi {
    Values(Vec<Vec<Term>>),
    InMarker(Term, Vec<DataType>),
    From(Bound),
    To(Bound),
}

/// All relations.
#[derive(Default)]
pub(super) struct Relations<'a> {
    /// Of columns, one at a time.
    pub columns: BTreeMap<&'a str, OfColumn>,
    /// Of the clustering columns at these places.
    pub multi: Vec<(Vec<usize>, Multi)>,
    /// Of tokens: lower and upper bound.
    pub tokens: Option<(TokenBound, TokenBound)>,
    /// Whether they are one token.
    has_equal_token: bool,
    conflicts: Conflicts,
}

impl<'a> Relations<'a> {
    /// None yet, of a statement with or without ALLOW FILTERING.
    pub fn new(allows_filtering: bool) -> Relations<'a> {
        Relations { conflicts: Conflicts::new(allows_filtering), ..Relations::default() }
    }

    /// Adds a relation.
    ///
    /// # Errors
    /// If it does not fit the table, or those before it.
    pub fn add(
        &mut self,
        relation: &'a Relation,
        table: &Table,
        markers: &mut Markers,
    ) -> Result<(), ServerError> {
        match relation {
            Relation::Token(names, operator, term) => {
                let term = token_bound(names, *operator, term, table, markers)?;
                let shown_names = || joined(names.iter().map(String::as_str));
                // The errors are those of `TokenRestriction.mergeWith`.
                if self.has_equal_token {
                    return Err(ServerError::invalid(format!(
                        "{} cannot be restricted by more than one relation if it includes an Equal",
                        shown_names()
                    )));
                }
                self.has_equal_token = *operator == Operator::Equal;
                if self.has_equal_token && self.tokens.is_some() {
                    return Err(ServerError::invalid(format!(
                        "Columns \"{}\" cannot be restricted by both an equality and an inequality relation",
                        shown_names()
                    )));
                }
                let (lower, upper) = self.tokens.get_or_insert_default();
                match operator {
                    Operator::Equal => {
                        *lower = Some((term.clone(), true));
                        *upper = Some((term, true));
                    }
                    Operator::Greater | Operator::GreaterOrEqual => {
                        if lower.is_some() {
                            return Err(ServerError::invalid(format!(
                                "More than one restriction was found for the start bound on {}",
                                shown_names()
                            )));
                        }
                        *lower = Some((term, *operator == Operator::GreaterOrEqual));
                    }
                    _ => {
                        if upper.is_some() {
                            return Err(ServerError::invalid(format!(
                                "More than one restriction was found for the end bound on {}",
                                shown_names()
                            )));
                        }
                        *upper = Some((term, *operator == Operator::LessOrEqual));
                    }
                }
            }
            Relation::Multi(names, operator, term) => {
                let places = multi_columns(names, table, *operator, term)?;
                let values = tuple(term, names, &places, table, markers)?;
                let bound = |inclusive| Bound { terms: values.clone(), inclusive };
                let said = match operator {
                    Operator::Equal => Multi::Values(vec![values]),
                    Operator::Greater => Multi::From(bound(false)),
                    Operator::GreaterOrEqual => Multi::From(bound(true)),
                    Operator::Less => Multi::To(bound(false)),
                    Operator::LessOrEqual => Multi::To(bound(true)),
                    other => {
                        return Err(ServerError::invalid(format!(
                            "Unsupported \"{}\" relation: ({}) {} {}",
                            other.sign(),
                            joined(names.iter().map(String::as_str)),
                            other.sign(),
                            shown(term)
                        )));
                    }
                };
                if let Some(kind) = Kind::of(*operator) {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    self.conflicts.merge(&names, table, kind)?;
                }
                self.multi.push((places, said));
            }
            Relation::MultiIn(names, values) => {
                let shown_terms = ast::Term::Null;
                let places = multi_columns(names, table, Operator::Equal, &shown_terms)?;
                let terms = match values {
                    InValues::Terms(terms) => terms,
                    InValues::Marker(marker) => {
                        let types = types_of(names, table)?;
                        let list = DataType::List(Box::new(DataType::Tuple(types.clone())));
                        let name = format!("in({})", names.join(","));
                        let receiver = Receiver { name: &name, data_type: &list };
                        let term = Term::new(&ast::Term::Marker(*marker), receiver, markers)?;
                        let names: Vec<_> = names.iter().map(String::as_str).collect();
                        self.conflicts.merge(&names, table, Kind::In)?;
                        self.multi.push((places, Multi::InMarker(term, types)));
                        return Ok(());
                    }
                };
                let rows = terms.iter().map(|term| tuple(term, names, &places, table, markers));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                self.conflicts.merge(&names, table, Kind::of_values(rows.len()))?;
                self.multi.push((places, Multi::Values(rows)));
            }
            other => self.single(other, table, markers)?,
        }
        Ok(())
    }

    /// Adds a relation of one column.
    fn single(
        &mut self,
        relation: &'a Relation,
        table: &Table,
        markers: &mut Markers,
    ) -> Result<(), ServerError> {
        let (name, operator, term) = match relation {
            Relation::Single(name, operator, term) => (name, *operator, term),
            Relation::In(name, values) => {
                let column = column(table, name)?;
                let values = in_values(values, column, markers)?;
                let kind = match &values {
                    Values::In(terms) => Kind::of_values(terms.len()),
                    Values::Equal(_) | Values::InMarker(..) => Kind::In,
                };
                self.conflicts.merge(&[name], table, kind)?;
                let said = self.columns.entry(name).or_default();
                said.values = Some(values);
                return Ok(());
            }
            Relation::IsNotNull(name) => {
                return Err(ServerError::invalid(format!("Unsupported restriction: {name} IS NOT NULL")));
            }
            Relation::Like(name, term) => {
                column(table, name)?;
                return Err(ServerError::invalid(format!(
                    "LIKE restriction is only supported on properly indexed columns. {name} LIKE {} is not valid.",
                    shown(term)
                )));
            }
            Relation::Element(name, ..) => {
                column(table, name)?;
                return Err(ServerError::invalid(format!(
                    "Map-entry equality predicates on frozen map column {name} are not supported"
                )));
            }
            // Those of several columns are not for here.
            Relation::Token(..) | Relation::Multi(..) | Relation::MultiIn(..) => return Ok(()),
        };
        let column = column(table, name)?;
        let inner_type;
        let receiver = match operator {
            Operator::Contains | Operator::ContainsKey => {
                let element = match (&column.data_type, operator) {
                    (DataType::List(element) | DataType::Set(element), Operator::Contains) => element,
                    (DataType::Map(_, value), Operator::Contains) => value,
                    (DataType::Map(key, _), _) => key,
                    _ => {
                        return Err(ServerError::invalid(format!(
                            "Cannot use {} on non-collection column {name}",
                            operator.sign()
                        )));
                    }
                };
                inner_type = DataType::clone(element);
                Receiver { name, data_type: &inner_type }
            }
            _ => Receiver { name, data_type: &column.data_type },
        };
        if operator == Operator::NotEqual {
            return Err(ServerError::invalid(format!(
                "Unsupported \"!=\" relation: {name} != {}",
                shown(term)
            )));
        }
        let is_slice = matches!(
            operator,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
        );
        if is_slice && column.data_type == DataType::Duration {
            return Err(ServerError::invalid("Slice restrictions are not supported on duration columns"));
        }
        let value = Term::new(term, receiver, markers)?;
        if let Some(kind) = Kind::of(operator) {
            self.conflicts.merge(&[name], table, kind)?;
        }
        let said = self.columns.entry(name).or_default();
        let bound = |inclusive| Some(Bound { terms: vec![value.clone()], inclusive });
        match operator {
            Operator::Equal => said.values = Some(Values::Equal(value)),
            Operator::Contains | Operator::ContainsKey => said.filters.push(Test::Compare(operator, value)),
            Operator::Greater | Operator::GreaterOrEqual => {
                said.from = bound(operator == Operator::GreaterOrEqual);
            }
            _ => said.to = bound(operator == Operator::LessOrEqual),
        }
        Ok(())
    }
}

fn token_bound(
    names: &[String],
    operator: Operator,
    term: &ast::Term,
    table: &Table,
    markers: &mut Markers,
) -> Result<Term, ServerError> {
    for name in names {
        column(table, name)?;
    }
    let key = table.partition_key_columns();
    let is_key =
        names.len() == key.len() && names.iter().all(|name| key.iter().any(|column| *column.name == **name));
    if !is_key {
        return Err(ServerError::invalid(
            "The token() function must be applied to all partition key components or none of them",
        ));
    }
    if !key.iter().zip(names).all(|(column, name)| *column.name == **name) {
        return Err(ServerError::invalid(format!(
            "The token function arguments must be in the partition key order: {}",
            joined(key.iter().map(|column| column.name.as_ref()))
        )));
    }
    if matches!(operator, Operator::NotEqual | Operator::Contains | Operator::ContainsKey) {
        return Err(ServerError::invalid(format!(
            "Unsupported \"{}\" relation: token({}) {} {}",
            operator.sign(),
            joined(names.iter().map(String::as_str)),
            operator.sign(),
            shown(term)
        )));
    }
    let receiver = Receiver { name: "partition key token", data_type: &DataType::BigInt };
    Term::new(term, receiver, markers)
}

/// The places of the columns of a tuple among the clustering columns.
fn multi_columns(
    names: &[String],
    table: &Table,
    operator: Operator,
    term: &ast::Term,
) -> Result<Vec<usize>, ServerError> {
    let relation =
        || format!("({}) {} {}", joined(names.iter().map(String::as_str)), operator.sign(), shown(term));
    let mut places: Vec<usize> = Vec::new();
    for name in names {
        let ColumnKind::Clustering(place, _) = column(table, name)?.kind else {
            return Err(ServerError::invalid(format!(
                "Multi-column relations can only be applied to clustering columns but was applied to: {name}"
            )));
        };
        if places.contains(&place) {
            return Err(ServerError::invalid(format!(
                "Column \"{name}\" appeared twice in a relation: {}",
                relation()
            )));
        }
        if places.last().is_some_and(|last| place != last + 1) {
            return Err(ServerError::invalid(format!(
                "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: {}",
                relation()
            )));
        }
        places.push(place);
    }
    Ok(places)
}

/// The types of columns.
fn types_of(names: &[String], table: &Table) -> Result<Vec<DataType>, ServerError> {
    names.iter().map(|name| column(table, name).map(|column| column.data_type.clone())).collect()
}

/// The values of a tuple.
fn tuple(
    term: &ast::Term,
    names: &[String],
    places: &[usize],
    table: &Table,
    markers: &mut Markers,
) -> Result<Vec<Term>, ServerError> {
    let terms = match term {
        ast::Term::Tuple(terms) => terms.as_slice(),
        ast::Term::Marker(_) => {
            let types = types_of(names, table)?;
            let of = DataType::Tuple(types.clone());
            let name = format!("({})", names.join(","));
            let whole = Term::new(term, Receiver { name: &name, data_type: &of }, markers)?;
            let component = |place| Term::Component(Box::new(whole.clone()), place, types.clone());
            return Ok((0..types.len()).map(component).collect());
        }
        other => std::slice::from_ref(other),
    };
    if terms.len() != places.len() {
        return Err(ServerError::invalid(format!(
            "Expected {} elements in value tuple, but got {}: {}",
            places.len(),
            terms.len(),
            shown(term)
        )));
    }
    let values = terms.iter().zip(names).map(|(term, name)| {
        let column = column(table, name)?;
        Term::new(term, Receiver { name, data_type: &column.data_type }, markers)
    });
    values.collect()
}

/// The values after IN.
pub(in crate::plan) fn in_values(
    values: &InValues,
    column: &Column,
    markers: &mut Markers,
) -> Result<Values, ServerError> {
    let receiver = Receiver { name: &column.name, data_type: &column.data_type };
    match values {
        InValues::Terms(terms) => {
            let terms = terms.iter().map(|term| Term::new(term, receiver, markers));
            Ok(Values::In(terms.collect::<Result<_, _>>()?))
        }
        InValues::Marker(marker) => {
            let list = DataType::List(Box::new(column.data_type.clone()));
            let name = format!("in({})", column.name);
            let receiver = Receiver { name: &name, data_type: &list };
            let term = Term::new(&ast::Term::Marker(*marker), receiver, markers)?;
            Ok(Values::InMarker(term, list))
        }
    }
}
