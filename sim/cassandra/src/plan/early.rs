//! Checks of a SELECT clause that Cassandra makes before those of WHERE.

use super::selector::Selection;
use super::{Markers, column};
use crate::cql::ast;
use crate::protocol::ServerError;
use crate::schema::{Column, ColumnKind, Table};

/// Whether nothing but static columns is shown (`SelectStatement.selectOnlyStaticColumns`). Selectors are prepared only
/// as they are checked (`RawSelector.toSelectables`), which here is where their errors are reported; those of all others
/// come after those of WHERE.
///
/// # Errors
/// If a selector that is looked at does not fit the table.
pub(super) fn only_static(
    selectors: &[(ast::Selector, Option<String>)],
    table: &Table,
    markers: &mut Markers,
) -> Result<bool, ServerError> {
    if !table.columns.values().any(|column| column.kind == ColumnKind::Static) {
        return Ok(false);
    }
    let of_rows = |kind| !matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Static);
    Ok(any(selectors, table, markers, |kind| kind == ColumnKind::Static)?
        && !any(selectors, table, markers, of_rows)?)
}

/// Whether a selector shows a column of some kind; those after the first such one are not checked.
fn any(
    selectors: &[(ast::Selector, Option<String>)],
    table: &Table,
    markers: &mut Markers,
    matches: impl Fn(ColumnKind) -> bool,
) -> Result<bool, ServerError> {
    for selector in selectors {
        let columns = known_columns(&selector.0, table)?;
        if !is_checked_late(&selector.0, table) {
            Selection::new(std::slice::from_ref(selector), table, markers)?;
        }
        if columns.iter().any(|column| matches(column.kind)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The columns that a selector looks at.
///
/// # Errors
/// If the table has no such column.
fn known_columns<'a>(selector: &ast::Selector, table: &'a Table) -> Result<Vec<&'a Column>, ServerError> {
    match selector {
        ast::Selector::Column(name)
        | ast::Selector::WriteTime(name)
        | ast::Selector::MaxWriteTime(name)
        | ast::Selector::Ttl(name) => column(table, name).map(|column| vec![column]),
        ast::Selector::Call(_, arguments) => {
            let columns = arguments.iter().map(|argument| known_columns(argument, table));
            Ok(columns.collect::<Result<Vec<_>, _>>()?.concat())
        }
        ast::Selector::Cast(inner, _) => known_columns(inner, table),
        ast::Selector::CountRows | ast::Selector::Term(_) | ast::Selector::Other(_) => Ok(Vec::new()),
    }
}

/// Whether an error of a selector alone is reported after errors of WHERE: Cassandra looks functions up
/// before (`Selectable.Raw.prepare`), and what they are given after (`Selectable.newSelectorFactory`).
fn is_checked_late(selector: &ast::Selector, table: &Table) -> bool {
    match selector {
        ast::Selector::WriteTime(name) | ast::Selector::MaxWriteTime(name) | ast::Selector::Ttl(name) => {
            let kind = table.columns.get(name.as_str()).map(|column| column.kind);
            matches!(kind, Some(ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)))
        }
        ast::Selector::Term(_) => true,
        ast::Selector::Call(_, arguments) => {
            arguments.iter().any(|argument| is_checked_late(argument, table))
        }
        ast::Selector::Cast(inner, _) => is_checked_late(inner, table),
        ast::Selector::Column(_) | ast::Selector::CountRows | ast::Selector::Other(_) => false,
    }
}
