//! Which relations do not go together.

use crate::cql::ast::Operator;
use crate::protocol::ServerError;
use crate::schema::{ColumnKind, Table};

/// The kind of a relation, by which others may or may not be added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Equal,
    In,
    Slice { from: bool, to: bool },
}

impl Kind {
    pub fn of(operator: Operator) -> Option<Kind> {
        match operator {
            Operator::Equal => Some(Kind::Equal),
            Operator::Greater | Operator::GreaterOrEqual => Some(Kind::Slice { from: true, to: false }),
            Operator::Less | Operator::LessOrEqual => Some(Kind::Slice { from: false, to: true }),
            Operator::NotEqual | Operator::Contains | Operator::ContainsKey => None,
        }
    }

    /// IN with one value is an equality.
    pub fn of_values(count: usize) -> Kind {
        if count == 1 { Kind::Equal } else { Kind::In }
    }
}

/// Which columns relations have been about, in their order, and what these were: the errors are those of
/// `SingleRestriction.mergeWith`.
#[derive(Default)]
pub(super) struct Conflicts {
    known: Vec<(Vec<String>, Kind)>,
    allows_filtering: bool,
}

impl Conflicts {
    /// None yet, of a statement with or without ALLOW FILTERING.
    pub fn new(allows_filtering: bool) -> Conflicts {
        Conflicts { known: Vec::new(), allows_filtering }
    }

    /// Adds a relation of these columns.
    ///
    /// # Errors
    /// If it does not go together with those before it.
    pub fn merge(&mut self, columns: &[&str], table: &Table, kind: Kind) -> Result<(), ServerError> {
        let disorder = self.disorder(columns, table, kind);
        self.add(columns, kind)?;
        disorder.map_or(Ok(()), Err)
    }

    /// What is wrong with a relation of clustering columns after those before it
    /// (`ClusteringColumnRestrictions.mergeWith`): a slice is of the last column.
    fn disorder(&self, columns: &[&str], table: &Table, kind: Kind) -> Option<ServerError> {
        let place = |name: &str| match table.columns.get(name)?.kind {
            ColumnKind::Clustering(place, _) => Some(place),
            _ => None,
        };
        let (first, known) = (*columns.first()?, self.known.iter());
        let at = place(first)?;
        let last = known.max_by_key(|(names, _)| names.iter().filter_map(|name| place(name)).max())?;
        let last_first = last.0.first()?;
        let last_at = place(last_first)?;
        let is_slice = |kind: Kind| matches!(kind, Kind::Slice { .. });
        if self.allows_filtering {
            return None;
        }
        if is_slice(last.1) && at > last_at {
            return Some(ServerError::invalid(format!(
                "Clustering column \"{first}\" cannot be restricted (preceding column \"{last_first}\" is restricted by \
                 a non-EQ relation)"
            )));
        }
        if is_slice(kind) && at < last_at {
            let names = self.known.iter().flat_map(|(names, _)| names);
            let behind = names.filter(|name| place(name).is_some_and(|it| it > at));
            let next = behind.min_by_key(|name| place(name))?;
            return Some(ServerError::invalid(format!(
                "PRIMARY KEY column \"{next}\" cannot be restricted (preceding column \"{first}\" is restricted by a \
                 non-EQ relation)"
            )));
        }
        None
    }

    fn add(&mut self, columns: &[&str], kind: Kind) -> Result<(), ServerError> {
        let mut columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let mut merged = kind;
        while let Some(place) =
            self.known.iter().position(|(known, _)| known.iter().any(|name| columns.contains(name)))
        {
            let (known, existing) = self.known.remove(place);
            let common: Vec<_> =
                known.iter().filter(|name| columns.contains(name)).map(String::as_str).collect();
            let common = common.join(" ,");
            let invalid = |message: String| Err(ServerError::invalid(message));
            merged = match (existing, merged) {
                (Kind::Equal, _) => {
                    return invalid(format!(
                        "{common} cannot be restricted by more than one relation if it includes an Equal"
                    ));
                }
                (Kind::In, _) => {
                    return invalid(format!(
                        "{common} cannot be restricted by more than one relation if it includes a IN"
                    ));
                }
                (Kind::Slice { .. }, Kind::Equal | Kind::In) => {
                    return invalid(format!(
                        "Column \"{common}\" cannot be restricted by both an equality and an inequality relation"
                    ));
                }
                (Kind::Slice { from, to }, Kind::Slice { from: also_from, to: also_to }) => {
                    if known.first() != columns.first() {
                        // The one that begins later.
                        let later = match known.first() {
                            Some(first) if columns.contains(first) => Some(first),
                            _ => columns.first(),
                        };
                        return invalid(format!(
                            "Column \"{}\" cannot be restricted by two inequalities not starting with the same column",
                            later.map_or("", String::as_str)
                        ));
                    }
                    for (twice, end) in [(from && also_from, "start"), (to && also_to, "end")] {
                        if twice {
                            return invalid(format!(
                                "More than one restriction was found for the {end} bound on {common}"
                            ));
                        }
                    }
                    Kind::Slice { from: from || also_from, to: to || also_to }
                }
            };
            if known.len() > columns.len() {
                columns = known;
            }
        }
        self.known.push((columns, merged));
        Ok(())
    }
}
