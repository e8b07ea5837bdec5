//! WHERE: which partitions and which of their rows a statement is about.

mod bind;
mod conflicts;
mod filter;
mod relation;

pub use bind::BoundRows;
pub(super) use bind::validate_keys;
pub use filter::Filter;
pub(super) use filter::holds;
pub(super) use relation::in_values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::term::{Term, shown_type};
use super::{Markers, column};
use crate::cql::ast::{Operator, Relation};
use crate::protocol::ServerError;
use crate::schema::{Column, ColumnKind, Table};
use crate::types::DataType;
use filter::Test;
use relation::{Multi, OfColumn, Relations};

/// Which statement a WHERE clause belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// SELECT
    Select {
        /// Whether it selects static columns only.
        only_static: bool,
        /// ALLOW FILTERING
        allow_filtering: bool,
    },
    /// UPDATE
    Update,
    /// DELETE
    Delete,
}

impl Usage {
    fn name(self) -> &'static str {
        match self {
            Usage::Select { .. } => "SELECT",
            Usage::Update => "UPDATE",
            Usage::Delete => "DELETE",
        }
    }

    fn is_select(self) -> bool {
        matches!(self, Usage::Select { .. })
    }

    fn allows_filtering(self) -> bool {
        matches!(self, Usage::Select { allow_filtering: true, .. })
    }
}

/// One value or several.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// `= a`
    Equal(Term),
    /// `IN (a, b)`
    In(Vec<Term>),
    /// `IN ?`
    InMarker(Term, DataType),
}

/// Restrictions of the first clustering columns to whole values, one or several columns at a time.
#[derive(Clone, Debug)]
enum Prefix {
    /// One column.
    Single(Values),
    /// `(a, b) = (1, 2)`, `(a, b) IN ((1, 2), (3, 4))`
    Multi(Vec<Vec<Term>>),
    /// `(a, b) IN ?`: the list, and the types of the columns.
    MultiMarker(Term, Vec<DataType>),
}

/// An end of a slice: the values of one or more columns, and whether they belong to it.
#[derive(Clone, Debug)]
struct Bound {
    terms: Vec<Term>,
    inclusive: bool,
}

/// An end of a range of tokens, and whether it belongs to it; `None` for the end of the ring.
type TokenBound = Option<(Term, bool)>;

/// Which partitions.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    /// All.
    All,
    /// Those in a range of tokens: lower and upper bound.
    Tokens(TokenBound, TokenBound),
    /// Those with these values in the columns of the key.
    Columns(Vec<Values>),
}

/// A WHERE clause that fits a table.
#[derive(Clone, Debug)]
pub(super) struct Restrictions {
    pub keys: Keys,
    /// Of the partitions in `keys`, if these are named, those whose tokens are between lower and upper bound.
    within: Option<(TokenBound, TokenBound)>,
    prefix: Vec<Prefix>,
    from: Option<Bound>,
    to: Option<Bound>,
    pub filters: Vec<Filter>,
    /// Whether it requires reading more than it returns.
    pub needs_filtering: bool,
    /// Whether it names rows of partitions that it does not name.
    pub rows_of_any_partition: bool,
    /// Whether clustering columns are restricted.
    pub has_clustering: bool,
    /// Whether several rows of one partition are named with IN.
    pub has_clustering_in: bool,
    /// The places of clustering columns that have one value.
    pub equal_columns: BTreeSet<usize>,
    /// How many clustering columns have whole values.
    pub whole_columns: usize,
    /// Whether there is a slice after them.
    pub has_slice: bool,
}

pub(super) fn filtering_needed() -> ServerError {
    ServerError::invalid(
        "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. \
         If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING",
    )
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl Restrictions {
    /// The restrictions in `relations`.
    ///
    /// # Errors
    /// If they do not fit the table, or the kind of statement.
    pub fn new(
        relations: &[Relation],
        table: &Table,
        usage: Usage,
        markers: &mut Markers,
    ) -> Result<Restrictions, ServerError> {
        let mut all = Relations::new(usage.allows_filtering());
        for relation in relations {
            all.add(relation, table, markers)?;
        }
        let Relations { mut columns, multi, tokens, .. } = all;
        // Errors of columns outside the key, for later: errors of the key are reported first.
        let others = columns.iter().filter(|(name, _)| {
            let kind = table.columns.get(**name).map(|column| column.kind);
            matches!(kind, Some(ColumnKind::Static | ColumnKind::Regular))
        });
        let names: Vec<&str> = others.map(|(name, _)| *name).collect();
        let others: Vec<_> = names.into_iter().filter_map(|name| columns.remove_entry(name)).collect();
        let mut clause = Restrictions {
            keys: Keys::All,
            within: None,
            prefix: Vec::new(),
            from: None,
            to: None,
            filters: Vec::new(),
            needs_filtering: false,
            rows_of_any_partition: false,
            has_clustering: false,
            has_clustering_in: false,
            equal_columns: BTreeSet::new(),
            whole_columns: 0,
            has_slice: false,
        };
        clause.partition_key(&mut columns, table, usage, tokens)?;
        if usage.is_select() && clause.needs_filtering && !usage.allows_filtering() {
            return Err(filtering_needed());
        }
        if matches!(usage, Usage::Select { only_static: true, .. })
            && (!columns.is_empty() || !multi.is_empty())
        {
            return Err(ServerError::invalid(
                "Cannot restrict clustering columns when selecting only static columns",
            ));
        }
        clause.clustering(&mut columns, multi, table, usage)?;
        clause.other_columns(others, table, usage)?;
        if usage.is_select() && clause.needs_filtering && !usage.allows_filtering() {
            return Err(filtering_needed());
        }
        Ok(clause)
    }

    /// Takes static and regular columns, which can only be filtered by.
    fn other_columns(
        &mut self,
        others: Vec<(&str, OfColumn)>,
        table: &Table,
        usage: Usage,
    ) -> Result<(), ServerError> {
        if !usage.is_select() && !others.is_empty() {
            return Err(ServerError::invalid(format!(
                "Non PRIMARY KEY columns found in where clause: {} ",
                joined(others.iter().map(|(name, _)| *name))
            )));
        }
        for (name, said) in others {
            self.filter_by(column(table, name)?, said);
        }
        Ok(())
    }

    fn filter_by(&mut self, column: &Column, said: OfColumn) {
        self.needs_filtering = true;
        let mut add = |test| self.filters.push(Filter::new(column.clone(), test));
        if let Some(values) = said.values {
            add(Test::In(values));
        }
        for (bound, inclusive, exclusive) in [
            (said.from, Operator::GreaterOrEqual, Operator::Greater),
            (said.to, Operator::LessOrEqual, Operator::Less),
        ] {
            if let Some(Bound { terms, inclusive: includes }) = bound
                && let Some(term) = terms.into_iter().next()
            {
                add(Test::Compare(if includes { inclusive } else { exclusive }, term));
            }
        }
        said.filters.into_iter().for_each(add);
    }

    fn partition_key(
        &mut self,
        columns: &mut BTreeMap<&str, OfColumn>,
        table: &Table,
        usage: Usage,
        tokens: Option<(TokenBound, TokenBound)>,
    ) -> Result<(), ServerError> {
        let key = table.partition_key_columns();
        let mut said: Vec<Option<OfColumn>> =
            key.iter().map(|column| columns.remove(column.name.as_ref())).collect();
        let is_whole = |said: &OfColumn| said.values.is_some() && said.filters.is_empty();
        if said.iter().all(|said| said.as_ref().is_some_and(is_whole)) {
            // Tokens then only choose among the partitions that the columns name (`TokenFilter.isOnToken`).
            let values = said.iter_mut().filter_map(|said| said.as_mut().and_then(|said| said.values.take()));
            self.keys = Keys::Columns(values.collect());
            self.within = tokens;
            return Ok(());
        }
        if !usage.is_select() {
            let usage = usage.name();
            let missing: Vec<_> =
                key.iter().zip(&said).filter(|(_, said)| said.is_none()).map(|(column, _)| column).collect();
            return Err(ServerError::invalid(if tokens.is_some() {
                format!("The token function cannot be used in WHERE clauses for {usage} statements")
            } else if missing.is_empty() {
                format!(
                    "Only EQ and IN relation are supported on the partition key (unless you use the token() \
                     function) for {usage} statements"
                )
            } else {
                let missing = missing.into_iter().map(|column| column.name.as_ref());
                format!("Some partition key parts are missing: {}", joined(missing))
            }));
        }
        if let Some((lower, upper)) = tokens {
            self.keys = Keys::Tokens(lower, upper);
        }
        for (column, said) in key.into_iter().zip(said) {
            if let Some(said) = said {
                self.filter_by(column, said);
            }
        }
        Ok(())
    }

    fn clustering(
        &mut self,
        columns: &mut BTreeMap<&str, OfColumn>,
        multi: Vec<(Vec<usize>, Multi)>,
        table: &Table,
        usage: Usage,
    ) -> Result<(), ServerError> {
        let clustering = table.clustering_columns();
        self.has_clustering = !columns.is_empty() || !multi.is_empty();
        self.rows_of_any_partition = self.has_clustering && !matches!(self.keys, Keys::Columns(_));
        let mut multi: Vec<Option<(Vec<usize>, Multi)>> = multi.into_iter().map(Some).collect();
        // The first column that is not restricted to values, and what stopped it there.
        let mut at = 0;
        let mut gap: Option<&str> = None;
        while let Some(column) = clustering.get(at) {
            let here: Vec<usize> = (0..multi.len())
                .filter(|place| multi[*place].as_ref().is_some_and(|(places, _)| places.first() == Some(&at)))
                .collect();
            if !here.is_empty() {
                let mut width = 0;
                for place in here {
                    let Some((places, said)) = multi[place].take() else { continue };
                    width = width.max(places.len());
                    match said {
                        Multi::Values(values) => {
                            if values.len() == 1 {
                                self.equal_columns.extend(&places);
                            } else {
                                self.has_clustering_in = true;
                            }
                            self.whole_columns = at + places.len();
                            self.prefix.push(Prefix::Multi(values));
                        }
                        Multi::InMarker(term, types) => {
                            self.has_clustering_in = true;
                            self.whole_columns = at + places.len();
                            self.prefix.push(Prefix::MultiMarker(term, types));
                        }
                        Multi::From(bound) => {
                            self.has_slice = true;
                            self.from = Some(bound);
                        }
                        Multi::To(bound) => {
                            self.has_slice = true;
                            self.to = Some(bound);
                        }
                    }
                }
                // `(b, c) > (1, 2) AND b < 5`: what else is said of the column is the other end.
                if let Some(said) = columns.remove(column.name.as_ref()) {
                    self.from = self.from.take().or(said.from);
                    self.to = self.to.take().or(said.to);
                    if !said.filters.is_empty() {
                        self.filter_by(column, OfColumn { filters: said.filters, ..OfColumn::default() });
                    }
                }
                at += width;
                if self.has_slice {
                    break;
                }
                continue;
            }
            match columns.remove(column.name.as_ref()) {
                Some(said) if !said.filters.is_empty() => self.filter_by(column, said),
                Some(OfColumn { values: Some(values), .. }) => {
                    if values.is_in() {
                        self.has_clustering_in = true;
                    } else {
                        self.equal_columns.insert(at);
                    }
                    self.prefix.push(Prefix::Single(values));
                    self.whole_columns = at + 1;
                }
                Some(said) => {
                    self.has_slice = true;
                    self.from = said.from;
                    self.to = said.to;
                    at += 1;
                    break;
                }
                None => {
                    gap = Some(column.name.as_ref());
                    break;
                }
            }
            at += 1;
        }
        // What is left lies behind a gap or a slice.
        for column in &clustering {
            let in_tuple = multi.iter().flatten().any(|(places, _)| {
                places.first().is_some_and(|place| clustering[*place].name == column.name)
            });
            let Some(said) = columns.remove(column.name.as_ref()) else {
                if in_tuple {
                    return Err(behind(column, gap, at, &clustering));
                }
                continue;
            };
            if !usage.allows_filtering() {
                return Err(behind(column, gap, at, &clustering));
            }
            self.filter_by(column, said);
        }
        Ok(())
    }
}

/// A restriction of a column that has no place among those before it.
fn behind(column: &Column, gap: Option<&str>, at: usize, clustering: &[&Column]) -> ServerError {
    ServerError::invalid(match gap {
        Some(gap) => format!(
            "PRIMARY KEY column \"{}\" cannot be restricted as preceding column \"{gap}\" is not restricted",
            column.name
        ),
        None => format!(
            "Clustering column \"{}\" cannot be restricted (preceding column \"{}\" is restricted by a non-EQ relation)",
            column.name,
            at.checked_sub(1).and_then(|at| clustering.get(at)).map_or("", |column| column.name.as_ref())
        ),
    })
}

impl Values {
    /// Whether it is IN; with one value it is an equality.
    fn is_in(&self) -> bool {
        match self {
            Values::Equal(_) => false,
            Values::In(terms) => terms.len() != 1,
            Values::InMarker(..) => true,
        }
    }
}

impl Keys {
    /// Whether partitions are named with IN.
    pub fn has_in(&self) -> bool {
        match self {
            Keys::All | Keys::Tokens(..) => false,
            Keys::Columns(values) => values.iter().any(Values::is_in),
        }
    }
}

/// As messages show a column's type.
pub(super) fn column_type(column: &Column) -> String {
    shown_type(&column.data_type)
}

/// A table that is shared.
pub(super) type SharedTable = Arc<Table>;
