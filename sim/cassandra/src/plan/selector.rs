//! What a SELECT shows of each row.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::aggregate::{Aggregate, State};
use super::function::{Argument, Function, can_cast};
use super::term::{Context, Receiver, Term, check_argument, data_type_of, shown};
use super::{Markers, column};
use crate::cql::{ast, type_name};
use crate::protocol::{BoundValue, ColumnSpec, ServerError};
use crate::schema::{Column, ColumnKind, ColumnName, Table};
use crate::storage::{Cell, ColumnSelection, DecoratedKey, NO_DELETION_TIME, Row, Seconds};
use crate::types::DataType;

/// A row as statements see it: the columns of its key, the static columns of its partition and its own.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    /// The columns of the partition key.
    pub key: &'a [Bytes],
    /// The clustering columns; `None` for a partition that has static columns only.
    pub clustering: Option<&'a [Bytes]>,
    /// The static columns.
    pub static_row: &'a Row,
    /// The other columns.
    pub row: Option<&'a Row>,
}

impl RowView<'_> {
    fn cell(&self, column: &Column) -> Option<&Cell> {
        match column.kind {
            ColumnKind::Static => self.static_row.cells.get(&column.name),
            ColumnKind::Regular => self.row?.cells.get(&column.name),
            ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..) => None,
        }
    }

    /// The value of a column.
    pub fn value(&self, column: &Column) -> Option<Bytes> {
        match column.kind {
            ColumnKind::PartitionKey(place) => self.key.get(place).cloned(),
            ColumnKind::Clustering(place, _) => self.clustering?.get(place).cloned(),
            ColumnKind::Static | ColumnKind::Regular => self.cell(column)?.value.clone(),
        }
    }
}

/// A column of the result.
#[derive(Clone, Debug)]
enum Selector {
    Column(Column),
    WriteTime(Column),
    Ttl(Column),
    Value(Term, DataType),
    Call(Function, Vec<Selector>),
    Aggregate(Aggregate, Option<Box<Selector>>, DataType),
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    selectors: Vec<Selector>,
    pub specs: Vec<ColumnSpec>,
    /// Whether it shows every column.
    pub is_wildcard: bool,
    pub is_aggregate: bool,
    columns: BTreeSet<ColumnName>,
}

/// The columns of a table in the order of `SELECT *`.
pub(super) fn all_columns(table: &Table) -> Vec<&Column> {
    let of_kind = |kind: ColumnKind| table.columns.values().filter(move |column| column.kind == kind);
    let mut all = table.partition_key_columns();
    all.extend(table.clustering_columns());
    all.extend(of_kind(ColumnKind::Static));
    all.extend(of_kind(ColumnKind::Regular));
    all
}

/// A column of a result that shows a column of the table.
pub(super) fn spec(table: &Table, name: String, data_type: DataType) -> ColumnSpec {
    ColumnSpec { keyspace: Arc::clone(&table.keyspace), table: Arc::clone(&table.name), name, data_type }
}

impl Selection {
    /// What the clause shows.
    ///
    /// # Errors
    /// If it does not fit the table.
    pub fn new(
        selectors: &[(ast::Selector, Option<String>)],
        table: &Table,
        markers: &mut Markers,
    ) -> Result<Selection, ServerError> {
        let mut selection = Selection {
            selectors: Vec::new(),
            specs: Vec::new(),
            is_wildcard: selectors.is_empty(),
            is_aggregate: false,
            columns: BTreeSet::new(),
        };
        if selectors.is_empty() {
            for column in all_columns(table) {
                selection.specs.push(spec(table, column.name.to_string(), column.data_type.clone()));
                selection.selectors.push(Selector::Column(column.clone()));
            }
            return Ok(selection);
        }
        for (written, alias) in selectors {
            let (selector, name) = selection.prepare(written, table, markers)?;
            let name = alias.clone().unwrap_or(name);
            selection.specs.push(spec(table, name, selector.data_type()));
            selection.is_aggregate |= selector.is_aggregate();
            selection.selectors.push(selector);
        }
        Ok(selection)
    }

    fn prepare(
        &mut self,
        written: &ast::Selector,
        table: &Table,
        markers: &mut Markers,
    ) -> Result<(Selector, String), ServerError> {
        let of_cell = |selection: &mut Selection, name: &str, function: &str| {
            let column = column(table, name)?;
            if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                return Err(ServerError::invalid(format!(
                    "Cannot use selection function {function} on PRIMARY KEY part {name}"
                )));
            }
            selection.columns.insert(column.name.clone());
            Ok((column.clone(), format!("{function}({name})")))
        };
        match written {
            ast::Selector::Column(name) => {
                let column = column(table, name)?;
                if matches!(column.kind, ColumnKind::Static | ColumnKind::Regular) {
                    self.columns.insert(column.name.clone());
                }
                Ok((Selector::Column(column.clone()), name.clone()))
            }
            ast::Selector::CountRows => {
                Ok((Selector::Aggregate(Aggregate::Count, None, DataType::BigInt), "count".to_owned()))
            }
            ast::Selector::WriteTime(name) => {
                let (column, name) = of_cell(self, name, "writetime")?;
                Ok((Selector::WriteTime(column), name))
            }
            ast::Selector::MaxWriteTime(name) => {
                let (column, name) = of_cell(self, name, "maxwritetime")?;
                Ok((Selector::WriteTime(column), name))
            }
            ast::Selector::Ttl(name) => {
                let (column, name) = of_cell(self, name, "ttl")?;
                Ok((Selector::Ttl(column), name))
            }
            ast::Selector::Call(name, arguments) => self.call(name, arguments, table, markers),
            ast::Selector::Cast(inner, to) => {
                let (inner, name) = self.prepare(inner, table, markers)?;
                let to = data_type_of(to).ok_or_else(|| {
                    ServerError::invalid("Unknown type in a cast, or one that is not simulated")
                })?;
                let from = inner.data_type();
                if from == to {
                    return Ok((inner, name));
                }
                if !can_cast(&from, &to) {
                    return Err(ServerError::invalid(format!(
                        "{} cannot be cast to {} (or that cast is not simulated)",
                        type_name(&from),
                        type_name(&to)
                    )));
                }
                let name = format!("cast({name} as {})", type_name(&to));
                Ok((Selector::Call(Function::Cast(from, to), vec![inner]), name))
            }
            ast::Selector::Term(term) => Err(ServerError::invalid(format!(
                "Cannot infer type for term {} in selection clause (try using a cast to force a type)",
                match term {
                    ast::Term::Null => "NULL".to_owned(),
                    term => shown(term),
                }
            ))),
            ast::Selector::Other(written) => {
                Err(ServerError::invalid(format!("{written} in a selection is not simulated")))
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        arguments: &[ast::Selector],
        table: &Table,
        markers: &mut Markers,
    ) -> Result<(Selector, String), ServerError> {
        if name == "count"
            && let [ast::Selector::Term(ast::Term::Literal(..))] = arguments
        {
            return self.prepare(&ast::Selector::CountRows, table, markers);
        }
        if let Some(aggregate) = Aggregate::named(name) {
            let [argument] = arguments else {
                return Err(ServerError::invalid(format!(
                    "Invalid number of arguments for function system.{name}(any)"
                )));
            };
            let (argument, argument_name) = self.prepare(argument, table, markers)?;
            if argument.is_aggregate() {
                return Err(ServerError::invalid(
                    "aggregate functions cannot be used as arguments of aggregate functions",
                ));
            }
            let data_type = argument.data_type();
            if data_type == DataType::Timestamp && matches!(aggregate, Aggregate::Sum | Aggregate::Avg) {
                // Its bytes could be those of either.
                return Err(ServerError::invalid(format!(
                    "Ambiguous call to function {name} (can be matched by following signatures: system.{name} : \
                     (varint) -> varint, system.{name} : (bigint) -> bigint): use type casts to disambiguate"
                )));
            }
            if aggregate.returns(&data_type).is_none() {
                let known =
                    Aggregate::NUMBERS.map(|number| format!("system.{name} : ({number}) -> {number}"));
                return Err(ServerError::invalid(format!(
                    "Invalid call to function {name}, none of its type signatures match (known type signatures: {})",
                    known.join(", ")
                )));
            }
            let selector = Selector::Aggregate(aggregate, Some(Box::new(argument)), data_type);
            return Ok((selector, format!("system.{name}({argument_name})")));
        }
        let mut typed = Vec::new();
        for argument in arguments {
            typed.push(match argument {
                ast::Selector::Term(ast::Term::Cast(to, _)) if data_type_of(to).is_some() => {
                    Argument::Typed(data_type_of(to).unwrap_or(DataType::Blob))
                }
                ast::Selector::Term(term) => Argument::Written(term),
                other => Argument::Typed(self.prepare(other, table, markers)?.0.data_type()),
            });
        }
        let function = match name {
            "token" => Function::token(&table.partition_key),
            name => Function::resolve(name, &typed, None)?
                .ok_or_else(|| ServerError::invalid(format!("Unknown function '{name}'")))?,
        };
        let shown_name = Function::shown_name(name);
        let parameters = function.arguments();
        if parameters.len() != arguments.len() {
            return Err(ServerError::invalid(format!(
                "Invalid number of arguments in call to function system.{name}: {} required but {} provided",
                parameters.len(),
                arguments.len()
            )));
        }
        let mut selectors = Vec::new();
        let mut names = Vec::new();
        for (argument, data_type) in arguments.iter().zip(parameters) {
            if let ast::Selector::Term(term) = argument {
                check_argument(name, names.len(), term, &data_type)?;
                let receiver_name = format!("arg(system.{name})");
                let receiver = Receiver { name: &receiver_name, data_type: &data_type };
                names.push(match term {
                    ast::Term::Null => "NULL".to_owned(),
                    term => shown(term),
                });
                selectors.push(Selector::Value(Term::new(term, receiver, markers)?, data_type));
                continue;
            }
            let (selector, argument_name) = self.prepare(argument, table, markers)?;
            if !data_type.takes(&selector.data_type()) {
                return Err(ServerError::invalid(format!(
                    "Type error: {argument_name} cannot be passed as argument {} of function system.{name} of type {}",
                    names.len(),
                    type_name(&data_type)
                )));
            }
            names.push(argument_name);
            selectors.push(selector);
        }
        Ok((Selector::Call(function, selectors), format!("system.{shown_name}({})", names.join(", "))))
    }

    /// The columns to read: those that are shown, and `more`.
    pub fn queried<'a>(&self, more: impl Iterator<Item = &'a Column>) -> ColumnSelection {
        if self.is_wildcard {
            return ColumnSelection::All;
        }
        let mut columns = self.columns.clone();
        columns.extend(
            more.filter(|column| matches!(column.kind, ColumnKind::Static | ColumnKind::Regular))
                .map(|column| column.name.clone()),
        );
        ColumnSelection::Queried(columns)
    }

    /// The columns that are shown, of the table.
    pub fn shown_columns(&self) -> impl Iterator<Item = &Column> {
        self.selectors.iter().flat_map(Selector::columns)
    }
}

impl Selector {
    fn data_type(&self) -> DataType {
        match self {
            Selector::Column(column) => column.data_type.clone(),
            Selector::WriteTime(_) => DataType::BigInt,
            Selector::Ttl(_) => DataType::Int,
            Selector::Value(_, data_type) => data_type.clone(),
            Selector::Call(function, _) => function.returns(),
            Selector::Aggregate(aggregate, _, data_type) => {
                aggregate.returns(data_type).unwrap_or(DataType::BigInt)
            }
        }
    }

    fn is_aggregate(&self) -> bool {
        match self {
            Selector::Aggregate(..) => true,
            Selector::Call(_, arguments) => arguments.iter().any(Selector::is_aggregate),
            Selector::Column(_) | Selector::WriteTime(_) | Selector::Ttl(_) | Selector::Value(..) => false,
        }
    }

    fn columns(&self) -> Vec<&Column> {
        match self {
            Selector::Column(column) | Selector::WriteTime(column) | Selector::Ttl(column) => vec![column],
            Selector::Value(..) => Vec::new(),
            Selector::Call(_, arguments) => arguments.iter().flat_map(Selector::columns).collect(),
            Selector::Aggregate(_, argument, _) => argument.iter().flat_map(|it| it.columns()).collect(),
        }
    }

    /// What it shows of a row, with aggregates replaced by `aggregated`, in their order.
    fn show(
        &self,
        row: Option<&RowView<'_>>,
        now: Seconds,
        context: &Context<'_>,
        aggregated: &mut dyn Iterator<Item = Option<Bytes>>,
    ) -> Result<Option<Bytes>, ServerError> {
        Ok(match self {
            Selector::Column(column) => row.and_then(|row| row.value(column)),
            Selector::WriteTime(column) => row
                .and_then(|row| row.cell(column))
                .map(|cell| Bytes::copy_from_slice(&cell.timestamp.to_be_bytes())),
            Selector::Ttl(column) => row.and_then(|row| row.cell(column)).and_then(|cell| {
                if !cell.is_expiring() || cell.local_deletion_time == NO_DELETION_TIME {
                    return None;
                }
                let left = i32::try_from(cell.local_deletion_time - now).unwrap_or(i32::MAX);
                Some(Bytes::copy_from_slice(&left.to_be_bytes()))
            }),
            Selector::Value(term, _) => match term.bind(context)? {
                BoundValue::Value(bytes) => Some(bytes),
                BoundValue::Null | BoundValue::Unset => None,
            },
            Selector::Call(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(argument.show(row, now, context, aggregated)?);
                }
                function.call(&values, context)?
            }
            Selector::Aggregate(..) => aggregated.next().flatten(),
        })
    }

    /// Its aggregates, in their order.
    fn aggregates<'a>(&'a self, all: &mut Vec<(Aggregate, Option<&'a Selector>, &'a DataType)>) {
        match self {
            Selector::Aggregate(aggregate, argument, data_type) => {
                all.push((*aggregate, argument.as_deref(), data_type));
            }
            Selector::Call(_, arguments) => arguments.iter().for_each(|argument| argument.aggregates(all)),
            Selector::Column(_) | Selector::WriteTime(_) | Selector::Ttl(_) | Selector::Value(..) => {}
        }
    }
}

/// Makes the rows of a result from the rows that were read, one after another.
#[derive(Debug)]
pub struct Collector<'a> {
    selection: &'a Selection,
    context: Context<'a>,
    now: Seconds,
    rows: Vec<Vec<Option<Bytes>>>,
    states: Vec<(Option<&'a Selector>, State)>,
    /// The values of columns next to aggregates: those of the first row.
    first: Option<Vec<Option<Bytes>>>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(selection: &'a Selection, context: Context<'a>, now: Seconds) -> Collector<'a> {
        let mut aggregates = Vec::new();
        selection.selectors.iter().for_each(|selector| selector.aggregates(&mut aggregates));
        let states = aggregates
            .into_iter()
            .map(|(aggregate, argument, data_type)| (argument, State::new(aggregate, data_type.clone())))
            .collect();
        Collector { selection, context, now, rows: Vec::new(), states, first: None }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If a function cannot take its values.
    pub fn add(&mut self, row: &RowView<'_>) -> Result<(), ServerError> {
        if !self.selection.is_aggregate {
            let mut none = std::iter::empty();
            let shown = self.selection.selectors.iter();
            let shown = shown.map(|selector| selector.show(Some(row), self.now, &self.context, &mut none));
            self.rows.push(shown.collect::<Result<_, _>>()?);
            return Ok(());
        }
        for (argument, state) in &mut self.states {
            match argument {
                // A count of rows counts each.
                None => state.add(Some(&Bytes::new()))?,
                Some(argument) => {
                    let value = argument.show(Some(row), self.now, &self.context, &mut std::iter::empty())?;
                    state.add(value.as_ref())?;
                }
            }
        }
        if self.first.is_none() {
            let shown = self.selection.selectors.iter().map(|selector| match selector {
                Selector::Aggregate(..) => Ok(None),
                other => other.show(Some(row), self.now, &self.context, &mut std::iter::empty()),
            });
            self.first = Some(shown.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// How many rows there are.
    pub fn length(&self) -> usize {
        self.rows.len()
    }

    /// The rows; of aggregates one.
    ///
    /// # Errors
    /// If a function cannot take its values.
    pub fn finish(self) -> Result<Vec<Vec<Option<Bytes>>>, ServerError> {
        if !self.selection.is_aggregate {
            return Ok(self.rows);
        }
        let mut aggregated = self.states.into_iter().map(|(_, state)| state.finish());
        let first = self.first.unwrap_or_else(|| vec![None; self.selection.selectors.len()]);
        let mut row = Vec::with_capacity(first.len());
        for (selector, first) in self.selection.selectors.iter().zip(first) {
            row.push(if selector.is_aggregate() {
                selector.show(None, self.now, &self.context, &mut aggregated)?
            } else {
                first
            });
        }
        Ok(vec![row])
    }
}

/// The columns of a partition key, or none if the bytes are not a key.
pub(super) fn key_columns(table: &Table, key: &DecoratedKey) -> Vec<Bytes> {
    key.components(table.partition_key.len()).unwrap_or_default()
}
