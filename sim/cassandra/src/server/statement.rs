//! One request: from the frame of a client to its response.

use std::sync::Arc;

use super::batch::Statement as BatchItem;
use super::connection::Session;
use super::{Inner, PreparedStatement};
use crate::coordinator::{Coordinator, Warnings, WriteMode};
use crate::cql::ast::{Statement, TableName};
use crate::plan::definition::{DefinitionContext, change};
use crate::plan::{Context, Plan, Planned, TableLookup};
use crate::protocol::{
    Batch, BatchKind, BatchQuery, BoundValue, ColumnSpec, Prepared, QueryParameters, Request, Response,
    ResultMetadata, Rows, ServerError,
};
use crate::schema::{Schema, TableId};
use crate::system::{self, AllTables, SystemState};

/// The response to a client.
#[derive(Debug)]
pub(super) struct Reply {
    pub response: Response,
    pub warnings: Warnings,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { response, warnings: Warnings::new() }
    }
}

/// Checks that pages can hold rows.
fn check_page_size(parameters: &QueryParameters) -> Result<(), ServerError> {
    match parameters.page_size {
        Some(0) => Err(ServerError::Protocol("The page size cannot be 0".to_owned())),
        _ => Ok(()),
    }
}

/// Values in the order of the markers.
fn by_position(
    markers: &[ColumnSpec],
    parameters: &QueryParameters,
    is_prepared: bool,
) -> Result<Vec<BoundValue>, ServerError> {
    let amount = || {
        // Two messages for one error (`QueryProcessor.process`, `processPrepared`).
        ServerError::invalid(match is_prepared {
            true => format!(
                "there were {} markers(?) in CQL but {} bound variables",
                markers.len(),
                parameters.values.len()
            ),
            false => "Invalid amount of bind variables".to_owned(),
        })
    };
    let Some(names) = &parameters.names else {
        if parameters.values.len() != markers.len() {
            return Err(amount());
        }
        return Ok(parameters.values.clone());
    };
    let mut values = Vec::with_capacity(markers.len());
    for marker in markers {
        let place = names.iter().position(|name| *name == marker.name);
        values.push(place.and_then(|place| parameters.values.get(place)).cloned().ok_or_else(amount)?);
    }
    Ok(values)
}

impl<C: Coordinator> Inner<C> {
    /// Carries out a request.
    pub(super) async fn handle(&self, session: &Session, request: Request) -> Result<Reply, ServerError> {
        let keyspace = session.keyspace();
        match request {
            Request::Query(query, parameters) => {
                check_page_size(&parameters)?;
                let keyspace = parameters.keyspace.clone().or(keyspace);
                let (planned, schema) = self.plan(&query, keyspace.as_deref())?;
                let values = by_position(&planned.markers, &parameters, false)?;
                self.run(session, &planned, &schema, &parameters, &values).await
            }
            Request::Prepare(query) => {
                let done = self.prepare(&query, keyspace.as_deref())?;
                let keyspace = keyspace.filter(|_| done.depends_on_keyspace);
                let warning = keyspace.and_then(|keyspace| session.warning_of_use(&keyspace, &done.id));
                let response = Response::Prepared(prepared(done.id, &done.statement));
                Ok(Reply { response, warnings: warning.into_iter().collect() })
            }
            Request::Execute(id, parameters) => {
                let statement = self.find_prepared(&id)?;
                check_page_size(&parameters)?;
                let schema = self.coordinator.schema();
                let values = by_position(&statement.planned.markers, &parameters, true)?;
                self.run(session, &statement.planned, &schema, &parameters, &values).await
            }
            Request::Batch(batch) => {
                let keyspace = batch.keyspace.clone().or(keyspace);
                self.protocol_batch(keyspace.as_deref(), batch).await
            }
            Request::Startup(_) | Request::Options | Request::Register(_) | Request::AuthResponse(_) => {
                Err(ServerError::Protocol("Unexpected message".to_owned()))
            }
        }
    }

    async fn run(
        &self,
        session: &Session,
        planned: &Planned,
        schema: &Schema,
        parameters: &QueryParameters,
        values: &[BoundValue],
    ) -> Result<Reply, ServerError> {
        let unique = || self.coordinator.unique();
        let context = Context { values, micros: self.coordinator.timestamp(), unique: &unique };
        match &planned.plan {
            Plan::Select(select) => self.select(select, schema, &context, parameters).await,
            Plan::Modification(statement) => {
                let item = BatchItem { plan: statement, context };
                self.write(
                    vec![item],
                    WriteMode::Single,
                    parameters.consistency,
                    parameters.serial_consistency,
                    parameters.timestamp,
                )
                .await
            }
            Plan::Batch(batch) => {
                let timestamp = batch.bind_timestamp(&context)?.or(parameters.timestamp);
                let is_conditional = batch.statements.iter().any(|it| it.conditions().is_conditional());
                if batch.has_timestamp() && is_conditional {
                    return Err(ServerError::invalid(
                        "Cannot provide custom timestamp for conditional BATCH",
                    ));
                }
                let items = batch.statements.iter().map(|plan| BatchItem { plan, context }).collect();
                let mode = mode(batch.kind, !batch.statements.is_empty())?;
                self.write(items, mode, parameters.consistency, parameters.serial_consistency, timestamp)
                    .await
            }
            Plan::Other(statement) => self.other(session, statement, schema).await,
        }
    }

    async fn protocol_batch(&self, keyspace: Option<&str>, batch: Batch) -> Result<Reply, ServerError> {
        let mut statements: Vec<(Arc<PreparedStatement>, Vec<BoundValue>)> = Vec::new();
        for statement in batch.statements {
            let found = match statement.query {
                BatchQuery::Prepared(id) => self.find_prepared(&id)?,
                BatchQuery::Text(query) => {
                    let (planned, _) = self.plan(&query, keyspace)?;
                    Arc::new(PreparedStatement { planned, tables: Vec::new() })
                }
            };
            if found.planned.markers.len() != statement.values.len() {
                return Err(ServerError::invalid(format!(
                    "There were {} markers(?) in CQL but {} bound variables",
                    found.planned.markers.len(),
                    statement.values.len()
                )));
            }
            statements.push((found, statement.values));
        }
        let unique = || self.coordinator.unique();
        let micros = self.coordinator.timestamp();
        let mut items = Vec::with_capacity(statements.len());
        for (statement, values) in &statements {
            let Plan::Modification(plan) = &statement.planned.plan else {
                return Err(ServerError::invalid(
                    "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.",
                ));
            };
            items.push(BatchItem { plan, context: Context { values, micros, unique: &unique } });
        }
        // Errors of its statements are reported first.
        let mode = mode(batch.kind, !items.is_empty())?;
        self.write(items, mode, batch.consistency, batch.serial_consistency, batch.timestamp).await
    }

    async fn other(
        &self,
        session: &Session,
        statement: &Statement,
        schema: &Schema,
    ) -> Result<Reply, ServerError> {
        let keyspace = session.keyspace();
        match statement {
            Statement::Use(name) => {
                if !AllTables(schema).has_keyspace(name) {
                    return Err(ServerError::invalid(format!("Keyspace '{name}' does not exist")));
                }
                session.set_keyspace(name);
                Ok(Response::SetKeyspace(name.clone()).into())
            }
            Statement::Truncate(name) => {
                let table = self.user_table(schema, keyspace.as_deref(), name)?;
                self.coordinator.truncate(table).await?;
                Ok(Response::Void.into())
            }
            Statement::Describe(what) => {
                let topology = self.coordinator.topology();
                let prepared = self.coordinator.stored_prepared();
                let around = SystemState { schema, topology: &topology, prepared: &prepared };
                let rows = system::describe(what, keyspace.as_deref(), &around)?;
                let metadata = ResultMetadata { columns: system::result_columns(what), paging_state: None };
                Ok(Response::Rows(Rows { metadata, skip_metadata: false, rows }).into())
            }
            definition => {
                let topology = self.coordinator.topology();
                let around = DefinitionContext {
                    schema,
                    tables: &AllTables(schema),
                    topology: &topology,
                    keyspace: keyspace.as_deref(),
                    id: TableId(self.coordinator.unique()),
                    timestamp: self.coordinator.timestamp(),
                };
                let Some((change, notice)) = change(definition, &around)? else {
                    return Ok(Response::Void.into());
                };
                self.coordinator.change_schema(change).await?;
                Ok(Response::SchemaChange(notice).into())
            }
        }
    }

    fn user_table(
        &self,
        schema: &Schema,
        keyspace: Option<&str>,
        name: &TableName,
    ) -> Result<TableId, ServerError> {
        let table = AllTables(schema).find(keyspace, name)?;
        if system::is_system_table(&table) {
            return Err(ServerError::invalid("Cannot truncate system keyspaces"));
        }
        Ok(table.id)
    }
}

/// How a batch of this kind is written. There are no counters, so a batch of counters has nothing to hold.
fn mode(kind: BatchKind, has_statements: bool) -> Result<WriteMode, ServerError> {
    match kind {
        BatchKind::Logged => Ok(WriteMode::LoggedBatch),
        BatchKind::Unlogged => Ok(WriteMode::UnloggedBatch),
        BatchKind::Counter if has_statements => {
            Err(ServerError::invalid("Cannot include non-counter statement in a counter batch"))
        }
        BatchKind::Counter => Ok(WriteMode::UnloggedBatch),
    }
}

fn prepared(id: bytes::Bytes, statement: &PreparedStatement) -> Prepared {
    let columns = match &statement.planned.plan {
        Plan::Select(select) => select.columns().to_vec(),
        // What a conditional statement shows depends on its outcome.
        Plan::Modification(_) | Plan::Batch(_) | Plan::Other(_) => Vec::new(),
    };
    Prepared {
        id,
        markers: statement.planned.markers.clone(),
        partition_key: statement.planned.partition_key.clone(),
        result: ResultMetadata { columns, paging_state: None },
    }
}
