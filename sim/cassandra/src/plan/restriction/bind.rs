//! Which partitions and rows a clause names, once the values of its markers are known.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Bound, Keys, Prefix, Restrictions, TokenBound, Values};
use crate::coordinator::RequestError;
use crate::cql::value::{components, elements, whole};
use crate::plan::term::{Context, Term};
use crate::protocol::{BoundValue, ServerError};
use crate::schema::{Column, ColumnKind, Table};
use crate::storage::{ClusteringFilter, DecoratedKey, PartitionRange, Slice, Token};
use crate::types::DataType;

/// The rows of a partition that a clause names, for some values of its markers.
#[derive(Clone, Debug)]
pub struct BoundRows {
    /// The values of the first clustering columns, in the order of the clustering, each once.
    pub prefixes: Vec<Vec<Bytes>>,
    /// What to read.
    pub filter: ClusteringFilter,
}

/// How many rows or partitions IN may name.
const MAX_COMBINATIONS: usize = 1 << 16;

impl Restrictions {
    /// The partitions, for these values of markers: their keys in the order of the values, or a range.
    pub fn bind_keys(
        &self,
        table: &Table,
        context: &Context<'_>,
    ) -> Result<Vec<PartitionRange>, ServerError> {
        match &self.keys {
            Keys::All => Ok(vec![PartitionRange::Tokens { after: Token::MIN, up_to: Token(i64::MAX) }]),
            Keys::Tokens(lower, upper) => {
                let of_bound =
                    |bound| token_of(bound, context, || ServerError::invalid("Invalid null token value"));
                let (lower, upper) = (of_bound(lower)?, of_bound(upper)?);
                // Ranges here begin after their first token.
                let after = match lower {
                    Some((token, true)) => token.saturating_sub(1),
                    Some((token, false)) => token,
                    None => i64::MIN,
                };
                let up_to = match upper {
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
                    keys = product(keys, &bind_values(values, column, context)?)?;
                }
                let mut keys: Vec<_> =
                    keys.into_iter().map(|values| DecoratedKey::of_components(&values)).collect();
                if let Some((lower, upper)) = &self.within {
                    // Cassandra fails here (`TokenFilter.toRangeSet`): it takes null for bytes.
                    let null = || {
                        let exception = "NullPointerException: Cannot invoke \"java.nio.ByteBuffer.position()\" because \
                                         \"bytes\" is null";
                        RequestError::internal_error(exception).into()
                    };
                    let of_bound = |bound| token_of(bound, context, null);
                    let (lower, upper) = (of_bound(lower)?, of_bound(upper)?);
                    keys.retain(|key| is_within(key.token(), lower, upper));
                }
                Ok(keys.into_iter().map(PartitionRange::Key).collect())
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
                Prefix::MultiMarker(term, types) => {
                    let name =
                        || clustering.iter().skip(at).take(types.len()).map(|column| column.name.as_ref());
                    let name = format!("({})", name().collect::<Vec<_>>().join(","));
                    let bytes = not_null(term, &name, context)?;
                    let list = DataType::List(Box::new(DataType::Tuple(types.clone())));
                    let tuples = elements(&list, &bytes)
                        .ok_or_else(|| ServerError::invalid("Not enough bytes to read a list"))?;
                    if prefixes.len().saturating_mul(tuples.len()) > MAX_COMBINATIONS {
                        return Err(too_many());
                    }
                    let mut next = Vec::new();
                    for prefix in &prefixes {
                        for tuple in &tuples {
                            let all: Option<Vec<Bytes>> =
                                components(types, tuple).and_then(|all| all.into_iter().collect());
                            let all = all.ok_or_else(|| {
                                ServerError::invalid(format!(
                                    "Invalid null value in condition for column {name}"
                                ))
                            })?;
                            next.push(prefix.iter().cloned().chain(all).collect());
                        }
                    }
                    at += types.len();
                    prefixes = next;
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
                    if next.len() > MAX_COMBINATIONS {
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
            // Nothing is more or less than null.
            for term in [&self.from, &self.to].into_iter().flatten().flat_map(|bound| &bound.terms) {
                if matches!(term.bind(context)?, BoundValue::Null) {
                    prefixes.clear();
                    break;
                }
            }
            let (from, to) = match prefixes.is_empty() {
                true => (None, None),
                false => (values(&self.from)?, values(&self.to)?),
            };
            let mut slices = Vec::new();
            for prefix in &prefixes {
                cut(table, prefix, from.as_ref(), to.as_ref(), &mut slices);
            }
            slices.retain(|slice| slice.start < slice.end);
            slices.sort_by(|left, right| left.start.cmp(&right.start));
            slices.dedup();
            ClusteringFilter::Slices(slices)
        };
        if prefixes.len() < 2 {
            return Ok(BoundRows { prefixes, filter });
        }
        // In the order of the clustering, each once.
        let ordered: BTreeSet<_> = prefixes.into_iter().map(|values| table.row(values)).collect();
        let prefixes = ordered.into_iter().map(|position| position.values().to_vec()).collect();
        Ok(BoundRows { prefixes, filter })
    }
}

/// A bound of tokens, and whether it belongs to what it bounds; `null` is said of null.
fn token_of(
    bound: &TokenBound,
    context: &Context<'_>,
    null: impl Fn() -> ServerError,
) -> Result<Option<(i64, bool)>, ServerError> {
    let Some((term, inclusive)) = bound else { return Ok(None) };
    match term.bind(context)? {
        BoundValue::Value(bytes) => Ok(Some((whole(&bytes).ok_or_else(null)?, *inclusive))),
        BoundValue::Null => Err(null()),
        // No bytes are then taken for a number.
        BoundValue::Unset => Err(RequestError::internal_error("IndexOutOfBoundsException").into()),
    }
}

/// Whether a token lies between two bounds. Where the lower is above the upper, they go around the ring
/// (`TokenFilter.toRangeSet`); alone, without keys, such bounds would name nothing.
fn is_within(token: Token, lower: Option<(i64, bool)>, upper: Option<(i64, bool)>) -> bool {
    let above = lower.is_none_or(|(bound, inclusive)| token.0 > bound || inclusive && token.0 == bound);
    let below = upper.is_none_or(|(bound, inclusive)| token.0 < bound || inclusive && token.0 == bound);
    match (lower, upper) {
        (Some((lower, _)), Some((upper, _))) if lower > upper => above || below,
        _ => above && below,
    }
}

/// Whether the keys of partitions are ones that a partition may have (`QueryProcessor.validateKey`).
///
/// # Errors
/// If one is empty or too long.
pub(in crate::plan) fn validate_keys(ranges: &[PartitionRange]) -> Result<(), ServerError> {
    for range in ranges {
        let PartitionRange::Key(key) = range else { continue };
        let length = key.bytes().len();
        if length == 0 {
            return Err(ServerError::invalid("Key may not be empty"));
        }
        if length > usize::from(u16::MAX) {
            return Err(ServerError::invalid(format!(
                "Key length of {length} is longer than maximum of {}",
                u16::MAX
            )));
        }
    }
    Ok(())
}

fn too_many() -> ServerError {
    ServerError::invalid(format!("more than {MAX_COMBINATIONS} combinations of IN are not simulated"))
}

/// Each of `rows`, followed by each of `choices`.
fn product(mut rows: Vec<Vec<Bytes>>, choices: &[Bytes]) -> Result<Vec<Vec<Bytes>>, ServerError> {
    if let [choice] = choices {
        rows.iter_mut().for_each(|row| row.push(choice.clone()));
        return Ok(rows);
    }
    if rows.len().saturating_mul(choices.len()) > MAX_COMBINATIONS {
        return Err(too_many());
    }
    let longer = |row: &Vec<Bytes>, choice: &Bytes| row.iter().cloned().chain([choice.clone()]).collect();
    Ok(rows.iter().flat_map(|row| choices.iter().map(move |choice| longer(row, choice))).collect())
}

/// Adds the slices of the rows that begin with `prefix` and continue between two bounds of one or more columns.
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
pub(in crate::plan) fn not_null(
    term: &Term,
    name: &str,
    context: &Context<'_>,
) -> Result<Bytes, ServerError> {
    match term.bind(context)? {
        BoundValue::Value(bytes) => Ok(bytes),
        BoundValue::Null => {
            Err(ServerError::invalid(format!("Invalid null value in condition for column {name}")))
        }
        BoundValue::Unset => Err(ServerError::invalid(format!("Invalid unset value for column {name}"))),
    }
}

/// The values of a column, in their order, each once.
pub(super) fn bind_values(
    values: &Values,
    column: &Column,
    context: &Context<'_>,
) -> Result<Vec<Bytes>, ServerError> {
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
