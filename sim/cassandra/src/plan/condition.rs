//! IF: what a conditional statement depends on.

use bytes::Bytes;

use super::restriction::{Values, column_type, holds, in_values};
use super::term::{Context, Receiver, Term};
use super::{Markers, RowView, column};
use crate::cql::ast::{self, Operator, Relation};
use crate::cql::value::elements;
use crate::protocol::{BoundValue, ServerError};
use crate::schema::{Column, ColumnKind, Table};
use crate::types::DataType;

/// What a statement depends on.
#[derive(Clone, Debug)]
pub enum Conditions {
    /// Nothing: it is not conditional.
    None,
    /// IF NOT EXISTS.
    NotExists,
    /// That the row exists.
    Exists,
    /// Conditions on columns.
    Columns(Vec<ColumnCondition>),
}

/// A condition on one column.
#[derive(Clone, Debug)]
pub struct ColumnCondition {
    column: Column,
    operator: Operator,
    values: ConditionValues,
}

#[derive(Clone, Debug)]
enum ConditionValues {
    One(Term),
    In(Values),
}

/// Conditions with the values of their markers.
#[derive(Clone, Debug)]
pub enum BoundConditions {
    /// It is not conditional.
    None,
    /// IF NOT EXISTS.
    NotExists,
    /// That the row exists.
    Exists,
    /// Conditions on columns: any of the values matches.
    Columns(Vec<(Column, Operator, Vec<Option<Bytes>>)>),
}

impl Conditions {
    pub(super) fn new(
        written: &ast::Condition,
        table: &Table,
        markers: &mut Markers,
    ) -> Result<Conditions, ServerError> {
        Ok(match written {
            ast::Condition::None => Conditions::None,
            ast::Condition::NotExists => Conditions::NotExists,
            ast::Condition::Exists => Conditions::Exists,
            ast::Condition::Columns(relations) => {
                let mut all = Vec::new();
                for relation in relations {
                    let condition = condition(relation, table, markers)?;
                    let column = &condition.column;
                    if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                        return Err(ServerError::invalid(format!(
                            "PRIMARY KEY column '{}' cannot have IF conditions",
                            column.name
                        )));
                    }
                    all.push(condition);
                }
                Conditions::Columns(all)
            }
        })
    }

    /// Whether it depends on anything.
    pub fn is_conditional(&self) -> bool {
        !matches!(self, Conditions::None)
    }

    /// Whether it depends on no column of a row.
    pub fn is_static(&self) -> bool {
        match self {
            Conditions::Columns(all) => all.iter().all(|it| it.column.kind == ColumnKind::Static),
            Conditions::None | Conditions::NotExists | Conditions::Exists => true,
        }
    }

    /// The columns that a refusal shows; `None` for all of the table.
    pub fn columns(&self) -> Option<Vec<&Column>> {
        match self {
            Conditions::Columns(all) => {
                // Those of rows come before static ones.
                let mut columns: Vec<&Column> = Vec::new();
                let of_rows = all.iter().filter(|it| it.column.kind != ColumnKind::Static);
                for condition in of_rows.chain(all.iter().filter(|it| it.column.kind == ColumnKind::Static)) {
                    if !columns.iter().any(|known| known.name == condition.column.name) {
                        columns.push(&condition.column);
                    }
                }
                Some(columns)
            }
            Conditions::None | Conditions::NotExists | Conditions::Exists => None,
        }
    }

    /// The conditions, for these values of markers.
    ///
    /// # Errors
    /// If a value is none of its column's type.
    pub fn bind(&self, context: &Context<'_>) -> Result<BoundConditions, ServerError> {
        Ok(match self {
            Conditions::None => BoundConditions::None,
            Conditions::NotExists => BoundConditions::NotExists,
            Conditions::Exists => BoundConditions::Exists,
            Conditions::Columns(all) => {
                let mut bound = Vec::new();
                for condition in all {
                    if let Some(values) = condition.bind(context)? {
                        bound.push((condition.column.clone(), condition.operator, values));
                    }
                }
                BoundConditions::Columns(bound)
            }
        })
    }
}

impl ColumnCondition {
    fn bind(&self, context: &Context<'_>) -> Result<Option<Vec<Option<Bytes>>>, ServerError> {
        let value = |term: &Term| match term.bind(context)? {
            BoundValue::Value(bytes) => Ok(Some(bytes)),
            BoundValue::Null => Ok(None),
            BoundValue::Unset => Err(ServerError::invalid(format!(
                "Invalid 'unset' value in condition for {}",
                self.column.name
            ))),
        };
        Ok(Some(match &self.values {
            ConditionValues::One(term) => vec![value(term)?],
            ConditionValues::In(Values::Equal(term)) => vec![value(term)?],
            ConditionValues::In(Values::In(terms)) => terms.iter().map(value).collect::<Result<_, _>>()?,
            ConditionValues::In(Values::InMarker(term, list)) => match value(term)? {
                Some(bytes) => {
                    let all = elements(list, &bytes)
                        .ok_or_else(|| ServerError::invalid("Not enough bytes to read a list"))?;
                    all.into_iter().map(Some).collect()
                }
                None => {
                    return Err(ServerError::invalid(format!(
                        "Invalid null list in IN condition for {}",
                        self.column.name
                    )));
                }
            },
        }))
    }
}

fn condition(
    relation: &Relation,
    table: &Table,
    markers: &mut Markers,
) -> Result<ColumnCondition, ServerError> {
    match relation {
        Relation::Single(name, Operator::Contains | Operator::ContainsKey, _) => {
            column(table, name)?;
            Err(ServerError::invalid("CONTAINS in IF is not simulated"))
        }
        Relation::Single(name, operator, term) => {
            let column = column(table, name)?;
            let receiver = Receiver { name, data_type: &column.data_type };
            let term = Term::new(term, receiver, markers)?;
            let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
            if !is_equality && column.data_type == DataType::Duration {
                return Err(ServerError::invalid(format!(
                    "Slice conditions ( {} ) are not supported on durations",
                    operator.sign()
                )));
            }
            Ok(ColumnCondition {
                column: column.clone(),
                operator: *operator,
                values: ConditionValues::One(term),
            })
        }
        Relation::In(name, values) => {
            let column = column(table, name)?;
            let values = in_values(values, column, markers)?;
            Ok(ColumnCondition {
                column: column.clone(),
                operator: Operator::Equal,
                values: ConditionValues::In(values),
            })
        }
        Relation::Element(name, ..) => {
            let column = column(table, name)?;
            Err(ServerError::invalid(format!(
                "a condition on an element of {name} ({}) is not simulated",
                column_type(column)
            )))
        }
        Relation::IsNotNull(_)
        | Relation::Like(..)
        | Relation::Token(..)
        | Relation::Multi(..)
        | Relation::MultiIn(..) => Err(ServerError::invalid("this relation cannot stand after IF")),
    }
}

impl BoundConditions {
    /// Whether they hold for a row. `exists` is whether the row itself (for static columns: the static row) is
    /// there.
    ///
    /// # Errors
    /// If null is compared by order.
    pub fn hold(&self, exists: bool, row: &RowView<'_>) -> Result<bool, ServerError> {
        match self {
            BoundConditions::None => Ok(true),
            BoundConditions::NotExists => Ok(!exists),
            BoundConditions::Exists => Ok(exists),
            BoundConditions::Columns(all) => {
                for (column, operator, values) in all {
                    let found = row.value(column);
                    let mut any = false;
                    for operand in values {
                        any |= compare(*operator, column, found.as_ref(), operand.as_ref())?;
                    }
                    if !any {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

fn compare(
    operator: Operator,
    column: &Column,
    found: Option<&Bytes>,
    operand: Option<&Bytes>,
) -> Result<bool, ServerError> {
    match (found, operand) {
        (Some(found), Some(operand)) => Ok(holds(operator, &column.data_type, found, operand)),
        (found, None) => match operator {
            Operator::Equal => Ok(found.is_none()),
            Operator::NotEqual => Ok(found.is_some()),
            other => Err(ServerError::invalid(format!(
                "Invalid comparison with null for operator \"{}\"",
                other.sign()
            ))),
        },
        // Nothing is less or greater than null, and all values are unequal to it.
        (None, Some(_)) => Ok(operator == Operator::NotEqual),
    }
}
