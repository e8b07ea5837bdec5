//! SELECT.

use std::cmp::Ordering;

use bytes::Bytes;

use super::early::only_static;
use super::restriction::{Filter, Keys, Restrictions, SharedTable, Usage, filtering_needed, validate_keys};
use super::selector::{Collector, Selection, key_columns};
use super::term::{Context, Receiver, Term};
use super::{Markers, RowView, column};
use crate::cql::ast;
use crate::cql::value::whole;
use crate::protocol::{BoundValue, ColumnSpec, ServerError};
use crate::schema::{ColumnKind, Order};
use crate::storage::{
    ClusteringFilter, ColumnSelection, PartitionRange, ReadCommand, ResultPartition, Seconds,
};
use crate::types::DataType;

/// A SELECT that fits its table.
#[derive(Debug)]
pub struct SelectPlan {
    table: SharedTable,
    selection: Selection,
    restrictions: Restrictions,
    reversed: bool,
    /// The places of the clustering columns that rows are ordered by.
    ordered: Vec<usize>,
    distinct: bool,
    limit: Option<Term>,
    per_partition_limit: Option<Term>,
}

/// A SELECT with the values of its markers.
#[derive(Clone, Debug)]
pub struct BoundSelect {
    /// What to read, one after another: for each range of partitions a command without limit or resumption.
    pub commands: Vec<ReadCommand>,
    /// How many rows to show; `u32::MAX` for all.
    pub limit: u32,
    /// Whether the ranges' rows are one order together, so that they cannot be shown page by page.
    pub merges: bool,
}

impl SelectPlan {
    pub(super) fn new(
        select: ast::Select,
        table: SharedTable,
        markers: &mut Markers,
    ) -> Result<SelectPlan, ServerError> {
        if select.json {
            return Err(ServerError::invalid("SELECT JSON is not simulated"));
        }
        if !select.group_by.is_empty() {
            return Err(ServerError::invalid("GROUP BY is not simulated"));
        }
        let only_static = only_static(&select.selectors, &table, markers)?;
        for (name, _) in &select.order_by {
            column(&table, name)?;
        }
        let usage = Usage::Select { only_static, allow_filtering: select.allow_filtering };
        let restrictions = Restrictions::new(&select.relations, &table, usage, markers)?;
        let selection = Selection::new(&select.selectors, &table, markers)?;
        if select.distinct {
            distinct(&select, &selection, &restrictions, &table)?;
        }
        if select.per_partition_limit.is_some() && selection.is_aggregate {
            return Err(ServerError::invalid("PER PARTITION LIMIT is not allowed with aggregate queries."));
        }
        if select.distinct
            && restrictions.keys.has_in()
            && let Some((name, _)) = select.order_by.first()
        {
            // What rows are ordered by is then read as if it were shown.
            return Err(ServerError::invalid(format!(
                "SELECT DISTINCT queries must only request partition key columns and/or static columns (not {name})"
            )));
        }
        let (reversed, ordered) = ordering(&select.order_by, &restrictions, &table)?;
        if restrictions.rows_of_any_partition && !select.allow_filtering {
            return Err(filtering_needed());
        }
        let mut limit = |term: &Option<ast::Term>, name: &str| match term {
            Some(term) => {
                let receiver = Receiver { name, data_type: &DataType::Int };
                Term::new(term, receiver, markers).map(Some)
            }
            None => Ok(None),
        };
        let per_partition_limit = limit(&select.per_partition_limit, "[per_partition_limit]")?;
        let limit = limit(&select.limit, "[limit]")?;
        Ok(SelectPlan {
            table,
            selection,
            restrictions,
            reversed,
            ordered,
            distinct: select.distinct,
            limit,
            per_partition_limit,
        })
    }

    /// The table that it reads.
    pub fn table(&self) -> &SharedTable {
        &self.table
    }

    /// The columns of its result.
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.selection.specs
    }

    /// Whether it shows one row for all that it reads.
    pub fn is_aggregate(&self) -> bool {
        self.selection.is_aggregate
    }

    /// What a node warns of before it carries out an aggregate (`SelectStatement.execute`).
    pub fn warning(&self) -> Option<&'static str> {
        let of_key = |filter: &Filter| matches!(filter.column().kind, ColumnKind::PartitionKey(_));
        match &self.restrictions.keys {
            _ if !self.selection.is_aggregate => None,
            Keys::All if !self.filters().iter().any(of_key) => {
                Some("Aggregation query used without partition key")
            }
            keys if keys.has_in() => {
                Some("Aggregation query used on multiple partition keys (IN restriction)")
            }
            _ => None,
        }
    }

    /// Tests that rows must pass after they were read.
    pub fn filters(&self) -> &[Filter] {
        &self.restrictions.filters
    }

    /// What to read, for these values of markers.
    ///
    /// # Errors
    /// If a value is not allowed at its position.
    pub fn bind(&self, context: &Context<'_>, now: Seconds) -> Result<BoundSelect, ServerError> {
        let limit = bind_limit(self.limit.as_ref(), context)?;
        let per_partition_limit = bind_limit(self.per_partition_limit.as_ref(), context)?;
        for filter in self.filters() {
            filter.check(context)?;
        }
        let ranges = self.restrictions.bind_keys(&self.table, context)?;
        let rows = self.restrictions.bind_rows(&self.table, context)?;
        let columns = self.queried();
        let nothing = match &rows.filter {
            ClusteringFilter::All => false,
            ClusteringFilter::Slices(slices) => slices.is_empty(),
            ClusteringFilter::Names(names) => names.is_empty(),
        };
        let command = |partitions: PartitionRange| ReadCommand {
            table: self.table.id,
            partitions,
            rows: rows.filter.clone(),
            reversed: self.reversed,
            columns: columns.clone(),
            limit: u32::MAX,
            per_partition_limit: if self.distinct { 1 } else { per_partition_limit },
            partition_limit: u32::MAX,
            now,
            resume: None,
        };
        if !nothing {
            validate_keys(&ranges)?;
        }
        let commands: Vec<_> = if nothing { Vec::new() } else { ranges.into_iter().map(command).collect() };
        let merges = !self.ordered.is_empty() && self.restrictions.keys.has_in();
        Ok(BoundSelect { commands, limit, merges })
    }

    /// Begins a result.
    pub fn collector<'a>(&'a self, context: Context<'a>, now: Seconds) -> Collector<'a> {
        Collector::new(&self.selection, context, now)
    }

    /// Shows every row of a partition that was read and passes the filters to `row`, until it returns false.
    ///
    /// # Errors
    /// Those of `row`, and of the filters' values.
    pub fn each_row(
        &self,
        partition: &ResultPartition,
        context: &Context<'_>,
        mut row: impl FnMut(&RowView<'_>) -> Result<bool, ServerError>,
    ) -> Result<bool, ServerError> {
        let key = key_columns(&self.table, &partition.key);
        let static_row = &partition.static_row;
        let mut views: Vec<RowView<'_>> = partition
            .rows
            .iter()
            .map(|(position, row)| RowView {
                key: &key,
                clustering: Some(position.values()),
                static_row,
                row: Some(row),
            })
            .collect();
        if views.is_empty() {
            // Without a row the static columns are one, unless certain rows were requested.
            if self.restrictions.has_clustering {
                return Ok(true);
            }
            views.push(RowView { key: &key, clustering: None, static_row, row: None });
        }
        for view in views {
            let mut passes = true;
            for filter in self.filters() {
                passes = passes && filter.passes(&view, context)?;
            }
            if passes && !row(&view)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Orders rows of several partitions, with their clustering values, as ORDER BY says, and by nothing else. Static
    /// columns alone have no such values and are the first (`ColumnComparator`).
    pub fn sort(&self, rows: &mut [(Vec<Bytes>, ResultPartition)]) {
        let components = self.table.clustering.components();
        let compare = |left: &[Bytes], right: &[Bytes]| {
            let of_place = |place: &usize| match (left.get(*place), right.get(*place), components.get(*place))
            {
                (Some(left), Some(right), Some(order)) => {
                    let found = order.data_type.compare(left, right);
                    if order.descending { found.reverse() } else { found }
                }
                (left, right, _) => left.is_some().cmp(&right.is_some()),
            };
            self.ordered.iter().map(of_place).find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
        };
        rows.sort_by(
            |(left, _), (right, _)| {
                if self.reversed { compare(right, left) } else { compare(left, right) }
            },
        );
    }

    /// The columns that are read. Where whole partitions are read, the static columns are among them whatever is
    /// shown: without any row they make one (`ColumnFilter.selection`, `returnStaticContentOnPartitionWithNoRows`).
    fn queried(&self) -> ColumnSelection {
        let statics = self
            .table
            .columns
            .values()
            .filter(|column| column.kind == ColumnKind::Static && !self.restrictions.has_clustering);
        self.selection.queried(self.filters().iter().map(Filter::column).chain(statics))
    }
}

fn distinct(
    select: &ast::Select,
    selection: &Selection,
    restrictions: &Restrictions,
    table: &SharedTable,
) -> Result<(), ServerError> {
    if select.per_partition_limit.is_some() {
        return Err(ServerError::invalid("PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries"));
    }
    if restrictions.has_clustering
        || restrictions.filters.iter().any(|filter| filter.column().kind == ColumnKind::Regular)
    {
        return Err(ServerError::invalid(
            "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.",
        ));
    }
    if let Some(other) = selection
        .shown_columns()
        .find(|column| !matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Static))
    {
        return Err(ServerError::invalid(format!(
            "SELECT DISTINCT queries must only request partition key columns and/or static columns (not {})",
            other.name
        )));
    }
    // With the whole key given, the result has one partition whatever is shown of it.
    if !matches!(restrictions.keys, Keys::Columns(_)) {
        for column in table.partition_key_columns() {
            if !selection.shown_columns().any(|shown| shown.name == column.name) {
                return Err(ServerError::invalid(format!(
                    "SELECT DISTINCT queries must request all the partition key columns (missing {})",
                    column.name
                )));
            }
        }
    }
    Ok(())
}

/// Whether rows come in reverse, and the places of the columns that they are ordered by.
fn ordering(
    order_by: &[(String, bool)],
    restrictions: &Restrictions,
    table: &SharedTable,
) -> Result<(bool, Vec<usize>), ServerError> {
    if order_by.is_empty() {
        return Ok((false, Vec::new()));
    }
    if !matches!(restrictions.keys, Keys::Columns(_)) {
        return Err(ServerError::invalid(
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        ));
    }
    let mut next = 0;
    let mut reversed = None;
    let mut places = Vec::new();
    for (name, descending) in order_by {
        let ColumnKind::Clustering(place, order) = column(table, name)?.kind else {
            return Err(ServerError::invalid(format!(
                "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got {name}"
            )));
        };
        places.push(place);
        while next != place {
            // Columns that have one value may be left out.
            if next > place || !restrictions.equal_columns.contains(&next) {
                return Err(ServerError::invalid(
                    "Order by currently only supports the ordering of columns following their declared order in the \
                     PRIMARY KEY",
                ));
            }
            next += 1;
        }
        next += 1;
        let against = *descending != (order == Order::Descending);
        if *reversed.get_or_insert(against) != against {
            return Err(ServerError::invalid("Unsupported order by relation"));
        }
    }
    Ok((reversed.unwrap_or(false), places))
}

fn bind_limit(term: Option<&Term>, context: &Context<'_>) -> Result<u32, ServerError> {
    let Some(term) = term else { return Ok(u32::MAX) };
    match term.bind(context)? {
        BoundValue::Unset => Ok(u32::MAX),
        BoundValue::Null => Err(ServerError::invalid("Invalid null value of limit")),
        BoundValue::Value(bytes) => match whole(&bytes).map(u32::try_from) {
            Some(Ok(limit)) if limit > 0 => Ok(limit),
            _ => Err(ServerError::invalid("LIMIT must be strictly positive")),
        },
    }
}
