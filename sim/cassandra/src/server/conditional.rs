//! Conditional statements: the condition, the write, and what a client is shown of a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Inner;
use super::batch::Statement;
use super::statement::Reply;
use crate::coordinator::{
    ConditionalOutcome, ConditionalWrite, Consistency, Coordinator, Decision, RequestError, WriteMode,
};
use crate::plan::{BoundConditions, RowView, RowWrite, Stamp};
use crate::protocol::{ColumnSpec, Response, ResultMetadata, Rows, ServerError, is_serial};
use crate::schema::{Column, ColumnKind, Replication, Table};
use crate::storage::{ClusteringFilter, ColumnSelection, Position, ReadCommand, ReadResult, Row};
use crate::types::DataType;

/// One write and what it depends on.
struct Part {
    write: RowWrite,
    conditions: BoundConditions,
}

impl Part {
    /// Whether it depends on its row, and not on static columns only.
    fn is_of_row(&self) -> bool {
        match &self.conditions {
            BoundConditions::None => false,
            BoundConditions::NotExists | BoundConditions::Exists => true,
            BoundConditions::Columns(all) => all.iter().any(|(column, ..)| column.kind != ColumnKind::Static),
        }
    }
}

/// The row that a write is about, and whether it is there, in what was read.
fn with_row<T>(
    write: &RowWrite,
    key: &[Bytes],
    found: &ReadResult,
    look: impl FnOnce(bool, &RowView<'_>) -> T,
) -> T {
    let nothing = Row::default();
    let partition = found.partitions.first();
    let static_row = partition.map_or(&nothing, |partition| &partition.static_row);
    // By the order of the columns' types: 1.5 and 1.50 are one row.
    let row = write.row().and_then(|values| {
        let position_of_row = write.table.row(values.to_vec());
        partition?.rows.iter().find(|(position, _)| position.cmp(&position_of_row).is_eq())
    });
    let exists = match write.row() {
        Some(_) => row.is_some(),
        None => !static_row.cells.is_empty(),
    };
    let clustering = row.map(|(position, _)| position.values());
    let view = RowView { key, clustering, static_row, row: row.map(|(_, row)| row) };
    look(exists, &view)
}

impl<C: Coordinator> Inner<C> {
    /// Checks the levels of a conditional write (`StorageProxy.cas`).
    fn check_levels(
        &self,
        serial: Consistency,
        commit: Consistency,
        table: &Table,
    ) -> Result<(), ServerError> {
        if !is_serial(serial) {
            return Err(ServerError::invalid(
                "Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL",
            ));
        }
        if is_serial(commit) {
            return Err(ServerError::invalid(format!(
                "{commit} is not supported as conditional update commit consistency. Use ANY if you mean \"make sure it \
                 is accepted but I don't care how many replicas commit it for non-SERIAL reads\""
            )));
        }
        let schema = self.coordinator.schema();
        let keyspace = schema.keyspaces.get(&table.keyspace);
        if let (Consistency::EachQuorum, Some(Replication::Simple { .. })) =
            (commit, keyspace.map(|keyspace| &keyspace.replication))
        {
            return Err(ServerError::invalid(
                "consistency level EACH_QUORUM not compatible with replication strategy \
                 (org.apache.cassandra.locator.SimpleStrategy)",
            ));
        }
        Ok(())
    }

    pub(super) async fn write_if(
        &self,
        statements: Vec<Statement<'_>>,
        mode: WriteMode,
        consistency: Consistency,
        serial: Consistency,
    ) -> Result<Reply, ServerError> {
        let now = self.coordinator.now();
        let mut parts: Vec<Part> = Vec::new();
        if let Some(first) = statements.first()
            && statements.iter().any(|other| other.plan.table().id != first.plan.table().id)
        {
            return Err(ServerError::invalid("Batch with conditions cannot span multiple tables"));
        }
        let mut partition_key = None;
        for statement in &statements {
            let keys = statement.plan.bind_keys(&statement.context)?;
            if statement.plan.has_key_in() {
                let exception = "IllegalArgumentException: Batch with conditions cannot span multiple partitions (you \
                                 cannot use IN on the partition key)";
                return Err(RequestError::internal_error(exception).into());
            }
            let Some(key) = keys.first() else {
                // `token(...)` left none of the keys, and the first of them is named.
                let exception = "IndexOutOfBoundsException: Index 0 out of bounds for length 0";
                return Err(RequestError::internal_error(exception).into());
            };
            if partition_key.get_or_insert_with(|| key.clone()) != key {
                return Err(ServerError::invalid("Batch with conditions cannot span multiple partitions"));
            }
            if statement.plan.has_clustering_in() {
                return Err(ServerError::invalid(format!(
                    "IN on the clustering key columns is not supported with conditional {}",
                    if statement.plan.is_deletion() { "deletions" } else { "updates" }
                )));
            }
            let writes = statement.plan.bind(keys, &statement.context)?;
            let conditions = statement.plan.bind_conditions(&statement.context)?;
            parts.extend(writes.into_iter().map(|write| Part { write, conditions: conditions.clone() }));
        }
        check_conditions(&parts)?;
        let parts = Arc::new(parts);
        let Some(first) = parts.first() else {
            return Ok(Response::Void.into());
        };
        self.check_levels(serial, consistency, &first.write.table)?;
        let table = Arc::clone(&first.write.table);
        let partition_key = first.write.key.clone();
        let key = partition_key.components(table.partition_key.len()).unwrap_or_default();
        // Static columns come along with any row: if there are only such conditions the first row of the partition decides
        // whether there is such a partition (`CQL3CasRequest.readCommand`).
        let mut read = ReadCommand::of_partition(table.id, partition_key.clone(), now);
        let rows = parts.iter().filter(|part| part.is_of_row()).filter_map(|part| part.write.row());
        let rows: BTreeSet<_> = rows.map(|values| table.row(values.to_vec())).collect();
        let is_any_row = rows.is_empty();
        if !is_any_row {
            read.rows = ClusteringFilter::Names(rows);
        }
        // Which columns are read, and shown if there is any of them (`CQL3CasRequest.columnsToRead`): those of conditions,
        // all static ones if a conditional statement writes one, all others if any statement at all names rows.
        let regulars = statements.iter().any(|statement| statement.plan.is_of_rows());
        let statics = statements
            .iter()
            .any(|statement| statement.plan.conditions().is_conditional() && statement.plan.writes_statics());
        let tested: Vec<&Column> = statements
            .iter()
            .flat_map(|statement| statement.plan.conditions().columns().unwrap_or_default())
            .collect();
        let is_read = |column: &&Column| match column.kind {
            ColumnKind::Static => statics || tested.contains(column),
            ColumnKind::Regular => regulars || tested.contains(column),
            ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..) => false,
        };
        let names = table.columns.values().filter(is_read).map(|column| column.name.clone());
        read.columns = ColumnSelection::Queried(names.collect());
        let (deciding, key_of_rows) = (Arc::clone(&parts), key.clone());
        let decide = move |found: &ReadResult, timestamp| -> Result<Decision, RequestError> {
            let mut merged: Option<crate::storage::Mutation> = None;
            for part in deciding.iter() {
                let holds = with_row(&part.write, &key_of_rows, found, |exists, row| {
                    part.conditions.hold(exists, row)
                });
                match holds {
                    Ok(true) => {}
                    Ok(false) => return Ok(Decision::Refuse),
                    Err(ServerError::Request(error)) => return Err(error),
                    Err(other) => return Err(RequestError::Invalid(other.to_string())),
                }
                let mut mutation = part.write.mutation(Stamp { timestamp, now });
                // Those of whole rows meet the other writes of their rows with the same timestamp, before the proposal
                // makes them older; those around rows never do (`PartitionUpdate.Builder`).
                for update in mutation.updates.values_mut() {
                    update.stamp_deletions_around_rows(timestamp);
                }
                match &mut merged {
                    Some(merged) => merged.merge(mutation),
                    None => merged = Some(mutation),
                }
            }
            merged.map(Decision::Apply).ok_or_else(|| RequestError::Server("nothing to write".to_owned()))
        };
        let write = ConditionalWrite { table: table.id, key: partition_key, read, decide };
        let outcome = self.coordinator.write_if(write, serial, consistency).await?;
        let spec = |name: &str, data_type: DataType| ColumnSpec {
            keyspace: Arc::clone(&table.keyspace),
            table: Arc::clone(&table.name),
            name: name.to_owned(),
            data_type,
        };
        let applied = |yes: bool| Some(Bytes::copy_from_slice(&[u8::from(yes)]));
        let mut columns = vec![spec("[applied]", DataType::Boolean)];
        let found = match outcome {
            ConditionalOutcome::Applied => {
                let rows = vec![vec![applied(true)]];
                let metadata = ResultMetadata { columns, paging_state: None };
                return Ok(Response::Rows(Rows { metadata, skip_metadata: false, rows }).into());
            }
            ConditionalOutcome::Refused(found) => found,
        };
        let shown = shown_columns(&statements, mode, &table);
        let mut rows: Vec<Vec<Option<Bytes>>> = Vec::new();
        for partition in &found.partitions {
            let static_row = &partition.static_row;
            // Columns that are not requested are not even checked here.
            let is_seen = |row: &Row| regulars || row.liveness.is_some_and(|marker| marker.is_live(now));
            let of_rows = partition.rows.iter().filter(|(_, row)| is_seen(row)).map(|(position, row)| {
                RowView { key: &key, clustering: Some(position.values()), static_row, row: Some(row) }
            });
            let mut views: Vec<_> = of_rows.take(if is_any_row { 1 } else { usize::MAX }).collect();
            if views.is_empty() && !static_row.cells.is_empty() {
                views.push(RowView { key: &key, clustering: None, static_row, row: None });
            }
            for view in views {
                let values = shown.iter().map(|column| view.value(column));
                rows.push([applied(false)].into_iter().chain(values).collect());
            }
        }
        if rows.is_empty() {
            rows.push(vec![applied(false)]);
        } else {
            columns.extend(shown.iter().map(|column| spec(&column.name, column.data_type.clone())));
        }
        let metadata = ResultMetadata { columns, paging_state: None };
        Ok(Response::Rows(Rows { metadata, skip_metadata: false, rows }).into())
    }
}

/// Checks that the conditions on each row go together (`CQL3CasRequest.addConditions`, `addExistsCondition`).
fn check_conditions(parts: &[Part]) -> Result<(), ServerError> {
    // What each row's first condition is; `None` means the static columns.
    let mut by_row: Vec<(Option<Position>, &BoundConditions)> = Vec::new();
    for part in parts {
        let row = part.write.row().map(|values| part.write.table.row(values.to_vec()));
        // Conditions on static columns belong to the static row, whatever row their statement names.
        let places = match &part.conditions {
            BoundConditions::None => Vec::new(),
            BoundConditions::Exists | BoundConditions::NotExists => vec![row],
            BoundConditions::Columns(all) => {
                let is_static = |it: &(Column, _, _)| it.0.kind == ColumnKind::Static;
                let of_row = all.iter().any(|it| !is_static(it)).then_some(row);
                of_row.into_iter().chain(all.iter().any(is_static).then_some(None)).collect()
            }
        };
        for row in places {
            check_condition(&mut by_row, row, &part.conditions)?;
        }
    }
    Ok(())
}

/// Checks one condition on a row against the first on it, if there is one.
fn check_condition<'a>(
    by_row: &mut Vec<(Option<Position>, &'a BoundConditions)>,
    row: Option<Position>,
    conditions: &'a BoundConditions,
) -> Result<(), ServerError> {
    let kind = |conditions: &BoundConditions| std::mem::discriminant(conditions);
    let known = by_row.iter().find(|(other, _)| match (other, &row) {
        (Some(other), Some(row)) => other.cmp(row).is_eq(),
        (other, row) => other.is_none() && row.is_none(),
    });
    let Some((_, first)) = known else {
        by_row.push((row, conditions));
        return Ok(());
    };
    if kind(first) == kind(conditions) {
        return Ok(());
    }
    Err(ServerError::invalid(match (first, conditions) {
        (BoundConditions::Columns(_), BoundConditions::Exists) => {
            "Cannot mix IF conditions and IF EXISTS for the same row"
        }
        (BoundConditions::Columns(_), _) | (_, BoundConditions::Columns(_)) => {
            "Cannot mix IF conditions and IF NOT EXISTS for the same row"
        }
        _ => "Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row",
    }))
}

/// The columns that a refusal shows: those of the conditions, or all; of a batch the key's, too, to distinguish its rows
/// apart.
fn shown_columns(statements: &[Statement<'_>], mode: WriteMode, table: &Table) -> Vec<Column> {
    let of_kind =
        |kind: ColumnKind| table.columns.values().filter(move |column| column.kind == kind).cloned();
    let mut key: Vec<Column> = table.partition_key_columns().into_iter().cloned().collect();
    key.extend(table.clustering_columns().into_iter().cloned());
    let conditions = statements.iter().map(|statement| statement.plan.conditions());
    let mut shown = Vec::new();
    for conditions in conditions.filter(|conditions| conditions.is_conditional()) {
        match conditions.columns() {
            Some(columns) => shown.extend(columns.into_iter().cloned()),
            None => {
                key.extend(of_kind(ColumnKind::Static));
                key.extend(of_kind(ColumnKind::Regular));
                return key;
            }
        }
    }
    let mut all = if mode == WriteMode::Single { Vec::new() } else { key };
    for column in shown {
        if !all.iter().any(|known: &Column| known.name == column.name) {
            all.push(column);
        }
    }
    all
}
