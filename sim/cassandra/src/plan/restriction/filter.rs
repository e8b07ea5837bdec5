//! Tests that rows must pass after they were read.

use bytes::Bytes;

use super::Values;
use super::bind::{bind_values, not_null};
use crate::cql::ast::Operator;
use crate::cql::value::elements;
use crate::plan::selector::RowView;
use crate::plan::term::{Context, Term};
use crate::protocol::{BoundValue, ServerError};
use crate::schema::Column;
use crate::types::DataType;

/// A test that rows must pass after they were read.
#[derive(Clone, Debug)]
pub struct Filter {
    column: Column,
    test: Test,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// It compares to another so.
    Compare(Operator, Term),
    /// It is one of these.
    In(Values),
}

impl Filter {
    /// A test of the values of a column.
    pub(super) fn new(column: Column, test: Test) -> Filter {
        Filter { column, test }
    }

    /// The column it looks at.
    pub fn column(&self) -> &Column {
        &self.column
    }

    /// Checks that there is a value to compare with (`RowFilter.Expression.validate`).
    ///
    /// # Errors
    /// If there is not.
    pub fn check(&self, context: &Context<'_>) -> Result<(), ServerError> {
        let (term, refused) = match &self.test {
            Test::Compare(_, term) | Test::In(Values::Equal(term)) => (term, "Unsupported"),
            Test::In(Values::In(terms)) => match terms.as_slice() {
                [term] => (term, "Unsupported"),
                // Of several values, nulls match nothing.
                _ => return Ok(()),
            },
            Test::In(Values::InMarker(term, _)) => (term, "Invalid"),
        };
        let what = match term.bind(context)? {
            BoundValue::Value(_) => return Ok(()),
            BoundValue::Null => "null",
            BoundValue::Unset => "unset",
        };
        Err(ServerError::invalid(format!("{refused} {what} value for column {}", self.column.name)))
    }

    /// Whether a row passes. A null passes nothing.
    ///
    /// # Errors
    /// If a bound value is none of the column's type.
    pub fn passes(&self, row: &RowView<'_>, context: &Context<'_>) -> Result<bool, ServerError> {
        let Some(value) = row.value(&self.column) else {
            return Ok(false);
        };
        match &self.test {
            Test::In(Values::In(terms)) => {
                for term in terms {
                    if let BoundValue::Value(operand) = term.bind(context)?
                        && self.column.data_type.compare(&value, &operand).is_eq()
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Test::In(values) => {
                let values = bind_values(values, &self.column, context)?;
                Ok(values.iter().any(|operand| self.column.data_type.compare(&value, operand).is_eq()))
            }
            Test::Compare(operator, term) => {
                let operand = not_null(term, &self.column.name, context)?;
                Ok(holds(*operator, &self.column.data_type, &value, &operand))
            }
        }
    }
}

/// Whether `value operator operand`.
pub(in crate::plan) fn holds(
    operator: Operator,
    data_type: &DataType,
    value: &Bytes,
    operand: &Bytes,
) -> bool {
    let order = || data_type.compare(value, operand);
    match operator {
        Operator::Equal => order().is_eq(),
        Operator::NotEqual => order().is_ne(),
        Operator::Less => order().is_lt(),
        Operator::LessOrEqual => order().is_le(),
        Operator::Greater => order().is_gt(),
        Operator::GreaterOrEqual => order().is_ge(),
        Operator::Contains | Operator::ContainsKey => {
            let all = elements(data_type, value).unwrap_or_default();
            match (data_type, operator) {
                (DataType::List(element) | DataType::Set(element), _) => {
                    all.iter().any(|value| element.compare(value, operand).is_eq())
                }
                (DataType::Map(key, _), Operator::ContainsKey) => {
                    all.iter().step_by(2).any(|value| key.compare(value, operand).is_eq())
                }
                (DataType::Map(_, of_value), _) => {
                    all.iter().skip(1).step_by(2).any(|value| of_value.compare(value, operand).is_eq())
                }
                _ => false,
            }
        }
    }
}
