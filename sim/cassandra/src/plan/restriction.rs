//! WHERE: which partitions and which of their rows a statement is about.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::selector::RowView;
use super::term::{Context, Receiver, Term, shown, shown_type, token_term};
use super::{Markers, column};
use crate::cql::ast::{self, InValues, Operator, Relation};
use crate::cql::value::{elements, whole};
use crate::protocol::{BoundValue, ServerError};
use crate::schema::{Column, ColumnKind, Table};
use crate::storage::{ClusteringFilter, DecoratedKey, PartitionRange, Slice, Token};
use crate::types::DataType;

/// Which statement a WHERE clause belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// SELECT
    Select,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
}

impl Usage {
    fn name(self) -> &'static str {
        match self {
            Usage::Select => "SELECT",
            Usage::Update => "UPDATE",
            Usage::Delete => "DELETE",
        }
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

/// A test that rows must pass after they were read.
#[derive(Clone, Debug)]
pub struct Filter {
    column: Column,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Compare(Operator, Term),
    In(Values),
}

/// A WHERE clause that fits a table.
#[derive(Clone, Debug)]
pub(super) struct Restrictions {
    pub keys: Keys,
    prefix: Vec<Prefix>,
    from: Option<Bound>,
    to: Option<Bound>,
    pub filters: Vec<Filter>,
    /// Whether it can only be answered by reading more than is shown.
    pub needs_filtering: bool,
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

/// The rows of a partition that a clause names, for some values of its markers.
#[derive(Clone, Debug)]
pub struct BoundRows {
    /// The values of the first clustering columns, in the order of the clustering, each once.
    pub prefixes: Vec<Vec<Bytes>>,
    /// What to read.
    pub filter: ClusteringFilter,
}

/// How many rows or partitions IN may name.
const MOST_COMBINATIONS: usize = 1 << 16;

/// What was said of one column.
#[derive(Default)]
struct OfColumn {
    values: Option<Values>,
    from: Option<Bound>,
    to: Option<Bound>,
    filters: Vec<Test>,
}

impl OfColumn {
    fn is_slice(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

fn filtering_needed() -> ServerError {
    ServerError::invalid(
        "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. \
         If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING",
    )
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// What a multi-column relation says.
enum Multi {
    Values(Vec<Vec<Term>>),
    From(Bound),
    To(Bound),
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
        allow_filtering: bool,
        markers: &mut Markers,
    ) -> Result<Restrictions, ServerError> {
        let mut columns: BTreeMap<&str, OfColumn> = BTreeMap::new();
        let mut multi: Vec<(Vec<usize>, Multi)> = Vec::new();
        let mut lower = None;
        let mut upper = None;
        let mut has_token = false;
        for relation in relations {
            match relation {
                Relation::Token(names, operator, term) => {
                    has_token = true;
                    let term = token_bound(names, *operator, term, table, markers)?;
                    match operator {
                        Operator::Equal => {
                            lower = Some((term.clone(), true));
                            upper = Some((term, true));
                        }
                        Operator::Greater | Operator::GreaterOrEqual => {
                            if lower.is_some() {
                                return Err(ServerError::invalid(format!(
                                    "More than one restriction was found for the start bound on {}",
                                    joined(names.iter().map(String::as_str))
                                )));
                            }
                            lower = Some((term, *operator == Operator::GreaterOrEqual));
                        }
                        _ => {
                            if upper.is_some() {
                                return Err(ServerError::invalid(format!(
                                    "More than one restriction was found for the end bound on {}",
                                    joined(names.iter().map(String::as_str))
                                )));
                            }
                            upper = Some((term, *operator == Operator::LessOrEqual));
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
                    multi.push((places, said));
                }
                Relation::MultiIn(names, values) => {
                    let shown_terms = ast::Term::Null;
                    let places = multi_columns(names, table, Operator::Equal, &shown_terms)?;
                    let InValues::Terms(terms) = values else {
                        return Err(ServerError::invalid(
                            "A marker for a whole list of tuples is not simulated: (a, b) IN ?",
                        ));
                    };
                    let rows = terms.iter().map(|term| tuple(term, names, &places, table, markers));
                    multi.push((places.clone(), Multi::Values(rows.collect::<Result<_, _>>()?)));
                }
                other => single(other, table, &mut columns, markers)?,
            }
        }
        let mut clause = Restrictions {
            keys: Keys::All,
            prefix: Vec::new(),
            from: None,
            to: None,
            filters: Vec::new(),
            needs_filtering: false,
            has_clustering: false,
            has_clustering_in: false,
            equal_columns: BTreeSet::new(),
            whole_columns: 0,
            has_slice: false,
        };
        clause.other_columns(&mut columns, table, usage)?;
        clause.partition_key(&mut columns, table, usage, has_token.then_some((lower, upper)))?;
        clause.clustering(&mut columns, multi, table, usage, allow_filtering)?;
        if usage == Usage::Select && clause.needs_filtering && !allow_filtering {
            return Err(filtering_needed());
        }
        Ok(clause)
    }

    /// Takes static and regular columns, which can only be filtered by.
    fn other_columns(
        &mut self,
        columns: &mut BTreeMap<&str, OfColumn>,
        table: &Table,
        usage: Usage,
    ) -> Result<(), ServerError> {
        let names: Vec<&str> = columns
            .keys()
            .copied()
            .filter(|name| {
                let kind = table.columns.get(*name).map(|column| column.kind);
                matches!(kind, Some(ColumnKind::Static | ColumnKind::Regular))
            })
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        if usage != Usage::Select {
            return Err(ServerError::invalid(format!(
                "Non PRIMARY KEY columns found in where clause: {} ",
                joined(names.into_iter())
            )));
        }
        for name in names {
            if let Some(said) = columns.remove(name) {
                self.filter_by(column(table, name)?, said);
            }
        }
        Ok(())
    }

    fn filter_by(&mut self, column: &Column, said: OfColumn) {
        self.needs_filtering = true;
        let mut add = |test| self.filters.push(Filter { column: column.clone(), test });
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
        if said.iter().flatten().any(|said| said.values.is_none()) && usage != Usage::Select {
            return Err(ServerError::invalid(format!(
                "Only EQ and IN relation are supported on the partition key (unless you use the token() function) \
                 for {} statements",
                usage.name()
            )));
        }
        if let Some((lower, upper)) = tokens {
            if usage != Usage::Select {
                return Err(ServerError::invalid(format!(
                    "The token function cannot be used in WHERE clauses for {} statements",
                    usage.name()
                )));
            }
            self.keys = Keys::Tokens(lower, upper);
        } else if said.iter().all(|said| said.as_ref().is_some_and(|said| said.values.is_some())) {
            let values = said.iter_mut().filter_map(|said| said.as_mut().and_then(|said| said.values.take()));
            self.keys = Keys::Columns(values.collect());
            return Ok(());
        } else if usage != Usage::Select {
            let missing = key.iter().zip(&said).filter(|(_, said)| said.is_none());
            return Err(ServerError::invalid(format!(
                "Some partition key parts are missing: {}",
                joined(missing.map(|(column, _)| column.name.as_ref()))
            )));
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
        allow_filtering: bool,
    ) -> Result<(), ServerError> {
        let clustering = table.clustering_columns();
        self.has_clustering = !columns.is_empty() || !multi.is_empty();
        if self.has_clustering && !matches!(self.keys, Keys::Columns(_)) {
            self.needs_filtering = true;
        }
        let mut multi: Vec<Option<(Vec<usize>, Multi)>> = multi.into_iter().map(Some).collect();
        // The first column that is not restricted to values, and what stopped it there.
        let mut at = 0;
        let mut gap: Option<&str> = None;
        while let Some(column) = clustering.get(at) {
            let here: Vec<usize> = (0..multi.len())
                .filter(|place| multi[*place].as_ref().is_some_and(|(places, _)| places.first() == Some(&at)))
                .collect();
            if !here.is_empty() {
                if let Some(said) = columns.get(column.name.as_ref()) {
                    let what = if said.is_slice() { "slice" } else { "single-column" };
                    return Err(ServerError::invalid(format!(
                        "Column \"{}\" cannot be restricted by both a tuple notation inequality and a single column \
                         inequality ({what})",
                        column.name
                    )));
                }
                let mut width = 0;
                for place in here {
                    let Some((places, said)) = multi[place].take() else { continue };
                    width = width.max(places.len());
                    let names = || joined(places.iter().map(|place| clustering[*place].name.as_ref()));
                    let twice = |end: &str| {
                        ServerError::invalid(format!(
                            "More than one restriction was found for the {end} bound on {}",
                            names().replace(", ", " ,")
                        ))
                    };
                    let equal = || {
                        ServerError::invalid(format!(
                            "{} cannot be restricted by more than one relation if it includes an Equal",
                            names()
                        ))
                    };
                    match said {
                        Multi::Values(values) => {
                            if self.has_slice || self.whole_columns > at {
                                return Err(equal());
                            }
                            if values.len() == 1 {
                                self.equal_columns.extend(&places);
                            } else {
                                self.has_clustering_in = true;
                            }
                            self.whole_columns = at + places.len();
                            self.prefix.push(Prefix::Multi(values));
                        }
                        Multi::From(_) | Multi::To(_) if self.whole_columns > at => return Err(equal()),
                        Multi::From(_) if self.from.is_some() => return Err(twice("start")),
                        Multi::To(_) if self.to.is_some() => return Err(twice("end")),
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
            if usage != Usage::Select || !allow_filtering {
                return Err(behind(column, gap, at, &clustering));
            }
            self.filter_by(column, said);
        }
        Ok(())
    }

    /// The partitions, for these values of markers: their keys in the order of the values, or a range.
    pub fn bind_keys(
        &self,
        table: &Table,
        context: &Context<'_>,
    ) -> Result<Vec<PartitionRange>, ServerError> {
        match &self.keys {
            Keys::All => Ok(vec![PartitionRange::Tokens { after: Token::MIN, up_to: Token(i64::MAX) }]),
            Keys::Tokens(lower, upper) => {
                let value = |bound: &Option<(Term, bool)>| -> Result<Option<(i64, bool)>, ServerError> {
                    let Some((term, inclusive)) = bound else { return Ok(None) };
                    let bytes = not_null(term, "partition key token", context)?;
                    let number = whole(&bytes).ok_or_else(|| {
                        ServerError::invalid("Invalid null value in condition for the partition key token")
                    })?;
                    Ok(Some((number, *inclusive)))
                };
                // Ranges here begin after their first token.
                let after = match value(lower)? {
                    Some((token, true)) => token.saturating_sub(1),
                    Some((token, false)) => token,
                    None => i64::MIN,
                };
                let up_to = match value(upper)? {
                    // The smallest token as an upper bound means the end of the ring.
                    Some((i64::MIN, _)) | None => i64::MAX,
                    Some((token, true)) => token,
                    Some((token, false)) => token - 1,
                };
                if after >= up_to {
                    return Ok(Vec::new());
                }
                Ok(vec![PartitionRange::Tokens { after: Token(after), up_to: Token(up_to) }])
            }
            Keys::Columns(values) => {
                let key = table.partition_key_columns();
                let mut keys: Vec<Vec<Bytes>> = vec![Vec::new()];
                for (column, values) in key.iter().zip(values) {
                    let choices = bind_values(values, column, context)?;
                    for choice in &choices {
                        if choice.is_empty() && key.len() == 1 {
                            return Err(ServerError::invalid("Key may not be empty"));
                        }
                        if choice.len() > usize::from(u16::MAX) {
                            return Err(ServerError::invalid(format!(
                                "Key length of {} is longer than maximum of {}",
                                choice.len(),
                                u16::MAX
                            )));
                        }
                    }
                    keys = product(keys, &choices)?;
                }
                Ok(keys
                    .into_iter()
                    .map(|values| PartitionRange::Key(DecoratedKey::of_components(&values)))
                    .collect())
            }
        }
    }

    /// The rows, for these values of markers.
    pub fn bind_rows(&self, table: &Table, context: &Context<'_>) -> Result<BoundRows, ServerError> {
        let clustering = table.clustering_columns();
        let mut prefixes: Vec<Vec<Bytes>> = vec![Vec::new()];
        let mut at = 0;
        for part in &self.prefix {
            match part {
                Prefix::Single(values) => {
                    let choices = match clustering.get(at) {
                        Some(column) => bind_values(values, column, context)?,
                        None => Vec::new(),
                    };
                    prefixes = product(prefixes, &choices)?;
                    at += 1;
                }
                Prefix::Multi(rows) => {
                    let mut next = Vec::new();
                    for prefix in &prefixes {
                        for row in rows {
                            let mut longer = prefix.clone();
                            for (term, column) in row.iter().zip(clustering.iter().skip(at)) {
                                longer.push(not_null(term, &column.name, context)?);
                            }
                            next.push(longer);
                        }
                    }
                    if next.len() > MOST_COMBINATIONS {
                        return Err(too_many());
                    }
                    at += rows.first().map_or(0, Vec::len);
                    prefixes = next;
                }
            }
        }
        let filter = if self.prefix.is_empty() && !self.has_slice {
            ClusteringFilter::All
        } else if at == clustering.len() {
            ClusteringFilter::Names(prefixes.iter().map(|values| table.row(values.clone())).collect())
        } else {
            let values = |bound: &Option<Bound>| -> Result<Option<(Vec<Bytes>, bool)>, ServerError> {
                let Some(bound) = bound else { return Ok(None) };
                let terms = bound.terms.iter().zip(clustering.iter().skip(at));
                let values = terms.map(|(term, column)| not_null(term, &column.name, context));
                Ok(Some((values.collect::<Result<_, _>>()?, bound.inclusive)))
            };
            let (from, to) = (values(&self.from)?, values(&self.to)?);
            let mut slices = Vec::new();
            for prefix in &prefixes {
                cut(table, prefix, from.as_ref(), to.as_ref(), &mut slices);
            }
            slices.retain(|slice| slice.start < slice.end);
            slices.sort_by(|left, right| left.start.cmp(&right.start));
            slices.dedup();
            ClusteringFilter::Slices(slices)
        };
        // In the order of the clustering, each once.
        let ordered: BTreeSet<_> = prefixes.into_iter().map(|values| table.row(values)).collect();
        let prefixes = ordered.into_iter().map(|position| position.values().to_vec()).collect();
        Ok(BoundRows { prefixes, filter })
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

fn too_many() -> ServerError {
    ServerError::invalid(format!("more than {MOST_COMBINATIONS} combinations of IN are not simulated"))
}

/// Each of `rows`, followed by each of `choices`.
fn product(rows: Vec<Vec<Bytes>>, choices: &[Bytes]) -> Result<Vec<Vec<Bytes>>, ServerError> {
    if rows.len().saturating_mul(choices.len()) > MOST_COMBINATIONS {
        return Err(too_many());
    }
    let longer = |row: &Vec<Bytes>, choice: &Bytes| row.iter().cloned().chain([choice.clone()]).collect();
    Ok(rows.iter().flat_map(|row| choices.iter().map(move |choice| longer(row, choice))).collect())
}

/// Adds the slices of the rows that begin with `prefix` and go on between two bounds of one or more columns.
///
/// A bound of several columns is no single place where their orders differ: `(b, c) > (1, 2)` is all of `b > 1`,
/// and of `b = 1` what has `c > 2`.
fn cut(
    table: &Table,
    prefix: &[Bytes],
    from: Option<&(Vec<Bytes>, bool)>,
    to: Option<&(Vec<Bytes>, bool)>,
    slices: &mut Vec<Slice>,
) {
    let Some(order) = table.clustering.components().get(prefix.len()) else {
        return;
    };
    let extended = |value: &Bytes| prefix.iter().cloned().chain([value.clone()]).collect::<Vec<_>>();
    let head = |bound: Option<&(Vec<Bytes>, bool)>| bound.and_then(|(values, _)| values.first().cloned());
    let rest = |bound: Option<&(Vec<Bytes>, bool)>| {
        bound.and_then(
            |(values, inclusive)| {
                if values.len() > 1 { Some((values[1..].to_vec(), *inclusive)) } else { None }
            },
        )
    };
    // Of several columns, the rows that are equal in the first need a closer look.
    let includes = |bound: Option<&(Vec<Bytes>, bool)>| {
        bound.is_some_and(|(values, inclusive)| values.len() == 1 && *inclusive)
    };
    let (low, high) = (head(from), head(to));
    let (low_rest, high_rest) = (rest(from), rest(to));
    if let (Some(low), Some(high)) = (&low, &high) {
        match order.data_type.compare(low, high) {
            Ordering::Greater => return,
            Ordering::Equal if low_rest.is_some() || high_rest.is_some() => {
                // An exclusive bound of one column leaves nothing of the rows that are equal in it.
                let open = |bound: Option<&(Vec<Bytes>, bool)>| {
                    bound.is_some_and(|(values, inclusive)| values.len() == 1 && !inclusive)
                };
                if !open(from) && !open(to) {
                    cut(table, &extended(low), low_rest.as_ref(), high_rest.as_ref(), slices);
                }
                return;
            }
            _ => {}
        }
    }
    if let (Some(low), Some(low_rest)) = (&low, &low_rest) {
        cut(table, &extended(low), Some(low_rest), None, slices);
    }
    if let (Some(high), Some(high_rest)) = (&high, &high_rest) {
        cut(table, &extended(high), None, Some(high_rest), slices);
    }
    let at_low = |value: &Bytes, inside: bool| {
        if inside { table.before(extended(value)) } else { table.after(extended(value)) }
    };
    let at_high = |value: &Bytes, inside: bool| {
        if inside { table.after(extended(value)) } else { table.before(extended(value)) }
    };
    // In descending order the upper bound comes first.
    let ((first, first_in), (last, last_in)) = if order.descending {
        ((&high, includes(to)), (&low, includes(from)))
    } else {
        ((&low, includes(from)), (&high, includes(to)))
    };
    let start = match first {
        Some(value) => at_low(value, first_in),
        None => table.before(prefix.to_vec()),
    };
    let end = match last {
        Some(value) => at_high(value, last_in),
        None => table.after(prefix.to_vec()),
    };
    slices.push(Slice { start, end });
}

/// A value that may be neither null nor unset.
pub(super) fn not_null(term: &Term, name: &str, context: &Context<'_>) -> Result<Bytes, ServerError> {
    match term.bind(context)? {
        BoundValue::Value(bytes) => Ok(bytes),
        BoundValue::Null => {
            Err(ServerError::invalid(format!("Invalid null value in condition for column {name}")))
        }
        BoundValue::Unset => Err(ServerError::invalid(format!("Invalid unset value for column {name}"))),
    }
}

/// The values of a column, in their order, each once.
fn bind_values(values: &Values, column: &Column, context: &Context<'_>) -> Result<Vec<Bytes>, ServerError> {
    let mut all = match values {
        Values::Equal(term) => vec![not_null(term, &column.name, context)?],
        Values::In(terms) => {
            terms.iter().map(|term| not_null(term, &column.name, context)).collect::<Result<_, _>>()?
        }
        Values::InMarker(term, list) => {
            let bytes = not_null(term, &column.name, context)?;
            elements(list, &bytes).ok_or_else(|| ServerError::invalid("Not enough bytes to read a list"))?
        }
    };
    all.sort_by(|left, right| column.data_type.compare(left, right));
    all.dedup_by(|left, right| column.data_type.compare(left, right).is_eq());
    if let ColumnKind::Clustering(_, crate::schema::Order::Descending) = column.kind {
        all.reverse();
    }
    Ok(all)
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
    if let ast::Term::Call(name, arguments) = term
        && name == "token"
    {
        return token_term(&table.partition_key, arguments, markers);
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
            return Err(ServerError::invalid("A marker for a whole tuple is not simulated: (a, b) > ?"));
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

/// Adds what a relation says of one column.
fn single<'a>(
    relation: &'a Relation,
    table: &Table,
    columns: &mut BTreeMap<&'a str, OfColumn>,
    markers: &mut Markers,
) -> Result<(), ServerError> {
    let (name, operator, term) = match relation {
        Relation::Single(name, operator, term) => (name, *operator, term),
        Relation::In(name, values) => {
            let column = column(table, name)?;
            let values = in_values(values, column, markers)?;
            let said = columns.entry(name).or_default();
            if said.values.is_some() || said.is_slice() {
                // IN with one value is an equality.
                let what = match &values {
                    Values::In(terms) if terms.len() == 1 => "an Equal",
                    _ => "a IN",
                };
                return Err(ServerError::invalid(format!(
                    "{name} cannot be restricted by more than one relation if it includes {what}"
                )));
            }
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
        return Err(ServerError::invalid(format!("Unsupported \"!=\" relation: {name} != {}", shown(term))));
    }
    let is_slice = matches!(
        operator,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
    );
    if is_slice && column.data_type == DataType::Duration {
        return Err(ServerError::invalid("Slice restrictions are not supported on duration columns"));
    }
    let value = Term::new(term, receiver, markers)?;
    let said = columns.entry(name).or_default();
    let including_equal = || {
        ServerError::invalid(format!(
            "{name} cannot be restricted by more than one relation if it includes an Equal"
        ))
    };
    let bound = |inclusive| Some(Bound { terms: vec![value.clone()], inclusive });
    let twice = |end: &str| {
        ServerError::invalid(format!("More than one restriction was found for the {end} bound on {name}"))
    };
    match operator {
        Operator::Equal => {
            if said.is_slice() {
                return Err(ServerError::invalid(format!(
                    "Column \"{name}\" cannot be restricted by both an equality and an inequality relation"
                )));
            }
            if said.values.is_some() {
                return Err(including_equal());
            }
            said.values = Some(Values::Equal(value));
        }
        Operator::Contains | Operator::ContainsKey => said.filters.push(Test::Compare(operator, value)),
        _ if said.values.is_some() => return Err(including_equal()),
        Operator::Greater | Operator::GreaterOrEqual => {
            if said.from.is_some() {
                return Err(twice("start"));
            }
            said.from = bound(operator == Operator::GreaterOrEqual);
        }
        _ => {
            if said.to.is_some() {
                return Err(twice("end"));
            }
            said.to = bound(operator == Operator::LessOrEqual);
        }
    }
    Ok(())
}

/// The values after IN.
pub(super) fn in_values(
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

impl Filter {
    /// The column it looks at.
    pub fn column(&self) -> &Column {
        &self.column
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
            Test::In(values) => {
                let values = bind_values(values, &self.column, context)?;
                Ok(values.iter().any(|wanted| self.column.data_type.compare(&value, wanted).is_eq()))
            }
            Test::Compare(operator, term) => {
                let wanted = not_null(term, &self.column.name, context)?;
                Ok(holds(*operator, &self.column.data_type, &value, &wanted))
            }
        }
    }
}

/// Whether `value operator wanted`.
pub(super) fn holds(operator: Operator, data_type: &DataType, value: &Bytes, wanted: &Bytes) -> bool {
    let order = || data_type.compare(value, wanted);
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
                    all.iter().any(|value| element.compare(value, wanted).is_eq())
                }
                (DataType::Map(key, _), Operator::ContainsKey) => {
                    all.iter().step_by(2).any(|value| key.compare(value, wanted).is_eq())
                }
                (DataType::Map(_, of_value), _) => {
                    all.iter().skip(1).step_by(2).any(|value| of_value.compare(value, wanted).is_eq())
                }
                _ => false,
            }
        }
    }
}

/// The markers that make up a partition key, if nothing but markers do.
pub(super) fn marked_key(keys: &Keys) -> Vec<u16> {
    let Keys::Columns(values) = keys else { return Vec::new() };
    let marker = |values: &Values| match values {
        Values::Equal(term) => term.marker().and_then(|marker| u16::try_from(marker).ok()),
        Values::In(_) | Values::InMarker(..) => None,
    };
    values.iter().map(marker).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// As messages show a column's type.
pub(super) fn column_type(column: &Column) -> String {
    shown_type(&column.data_type)
}

/// A table that is shared.
pub(super) type SharedTable = Arc<Table>;
