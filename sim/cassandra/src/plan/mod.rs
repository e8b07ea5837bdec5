//! From statements to reads and writes: names are looked up in a schema, types and rules are checked, and what a
//! statement will do is fixed but for the values of its markers.
//!
//! Errors have the messages of Cassandra 5.0.

mod aggregate;
mod catalog;
mod condition;
pub mod definition;
mod early;
mod function;
mod json;
mod markers;
mod math;
mod modification;
mod restriction;
mod select;
mod selector;
mod term;

pub use catalog::{TableLookup, column};
pub use condition::{BoundConditions, Conditions};
pub use markers::Markers;
pub use modification::{BatchPlan, ModificationPlan, RowWrite, Stamp};
pub use restriction::{BoundRows, Filter};
pub use select::{BoundSelect, SelectPlan};
pub use selector::{Collector, RowView};
pub use term::Context;

use std::sync::Arc;

use crate::cql::Parsed;
use crate::cql::ast::Statement;
use crate::protocol::{ColumnSpec, ServerError};

/// What a statement does, as far as the schema shows.
#[derive(Debug)]
pub enum Plan {
    /// It reads.
    Select(SelectPlan),
    /// It writes.
    Modification(ModificationPlan),
    /// It is a batch as text.
    Batch(BatchPlan),
    /// Anything else: done from the text, each time.
    Other(Statement),
}

/// A statement that was planned.
#[derive(Debug)]
pub struct Planned {
    /// What it does.
    pub plan: Plan,
    /// Its markers.
    pub markers: Vec<ColumnSpec>,
    /// Which markers make up the partition key; empty if they do not.
    pub partition_key: Vec<u16>,
}

/// Plans a statement for a schema; `keyspace` is the session's.
///
/// # Errors
/// If the statement does not fit the schema.
pub fn plan(
    parsed: Parsed,
    tables: &dyn TableLookup,
    keyspace: Option<&str>,
) -> Result<Planned, ServerError> {
    let Parsed { statement, markers } = parsed;
    let mut markers = Markers::new(markers);
    let mut partition_key = Vec::new();
    let plan = match statement {
        Statement::Select(select) => {
            let table = tables.find(keyspace, &select.table)?;
            markers.of(Arc::clone(&table));
            let plan = SelectPlan::new(select, table, &mut markers)?;
            partition_key = markers.partition_key();
            Plan::Select(plan)
        }
        Statement::Modification(statement) => {
            let plan = ModificationPlan::new(statement, tables, keyspace, &mut markers)?;
            partition_key = markers.partition_key();
            Plan::Modification(plan)
        }
        Statement::Batch(batch) => {
            let plan = BatchPlan::new(batch, tables, keyspace, &mut markers)?;
            let mut ids = plan.statements.iter().map(|statement| statement.table().id);
            if let Some(first) = ids.next()
                && ids.all(|id| id == first)
            {
                partition_key = markers.partition_key();
            }
            Plan::Batch(plan)
        }
        other => Plan::Other(other),
    };
    Ok(Planned { plan, markers: markers.finish()?, partition_key })
}
