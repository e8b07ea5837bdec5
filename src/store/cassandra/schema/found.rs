//! Reads the tables of a cluster from `system_schema`.

use std::collections::BTreeMap;
use std::fmt;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::frame::types::Consistency as Level;
use scylla::statement::unprepared::Statement;

use crate::store::cassandra::CassandraOptions;
use crate::store::cassandra::error::{ConnectError, DriverError};
use crate::store::cql::Order;

/// The schema found in a cluster.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) keyspace: Option<FoundKeyspace>,
    pub(super) tables: BTreeMap<String, FoundTable>,
}

#[derive(Debug)]
pub(super) struct FoundKeyspace {
    pub(super) durable_writes: bool,
    pub(super) replication: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct FoundTable {
    pub(super) columns: BTreeMap<String, FoundColumn>,
    /// Names of columns that were dropped at any time.
    pub(super) dropped: Vec<String>,
    pub(super) compaction: String,
    pub(super) time_to_live: i32,
}

/// A column: its type and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundColumn {
    pub(super) data: String,
    pub(super) role: ColumnRole,
}

/// The role of a column. Positions are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnRole {
    PartitionKey(usize),
    ClusteringKey(usize, Order),
    Static,
    Regular,
}

impl fmt::Display for FoundColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, role } = self;
        match role {
            ColumnRole::PartitionKey(position) => {
                write!(f, "{data}, number {} of the partition key", position + 1)
            }
            ColumnRole::ClusteringKey(position, order) => {
                let order = match order {
                    Order::Ascending => "asc",
                    Order::Descending => "desc",
                };
                write!(f, "{data}, number {} of the clustering key, {order}", position + 1)
            }
            ColumnRole::Static => write!(f, "{data}, static"),
            ColumnRole::Regular => write!(f, "{data}, not in the key"),
        }
    }
}

impl Found {
    pub(super) async fn read(session: &Session, options: &CassandraOptions) -> Result<Self, ConnectError> {
        let keyspace = &options.keyspace;
        let of = |table: &str, columns: &str| {
            format!("SELECT {columns} FROM system_schema.{table} WHERE keyspace_name = '{keyspace}'")
        };
        let found: Vec<(bool, BTreeMap<String, String>)> =
            select(session, options, of("keyspaces", "durable_writes, replication")).await?;
        let keyspace = found.into_iter().next();
        let keyspace =
            keyspace.map(|(durable_writes, replication)| FoundKeyspace { durable_writes, replication });
        let mut tables: BTreeMap<String, FoundTable> = BTreeMap::new();
        let found: Vec<(String, BTreeMap<String, String>, i32)> =
            select(session, options, of("tables", "table_name, compaction, default_time_to_live")).await?;
        for (name, compaction, time_to_live) in found {
            let compaction = compaction.get("class").cloned().unwrap_or_default();
            tables.insert(name, FoundTable { compaction, time_to_live, ..FoundTable::default() });
        }
        let columns = "table_name, column_name, kind, position, clustering_order, type";
        let found: Vec<(String, String, String, i32, String, String)> =
            select(session, options, of("columns", columns)).await?;
        for (table, name, kind, position, order, data) in found {
            let position = usize::try_from(position).unwrap_or_default();
            let role = match kind.as_str() {
                "partition_key" => ColumnRole::PartitionKey(position),
                "clustering" if order.eq_ignore_ascii_case("desc") => {
                    ColumnRole::ClusteringKey(position, Order::Descending)
                }
                "clustering" => ColumnRole::ClusteringKey(position, Order::Ascending),
                "static" => ColumnRole::Static,
                _ => ColumnRole::Regular,
            };
            let column = FoundColumn { data, role };
            // Views have columns, too, but are not tables.
            if let Some(table) = tables.get_mut(&table) {
                table.columns.insert(name, column);
            }
        }
        let found: Vec<(String, String)> =
            select(session, options, of("dropped_columns", "table_name, column_name")).await?;
        for (table, column) in found {
            if let Some(table) = tables.get_mut(&table) {
                table.dropped.push(column);
            }
        }
        Ok(Self { keyspace, tables })
    }
}

/// All rows of a query of the node's system tables.
async fn select<R: for<'f, 'm> DeserializeRow<'f, 'm>>(
    session: &Session,
    options: &CassandraOptions,
    cql: String,
) -> Result<Vec<R>, ConnectError> {
    let what = format!("run {cql:?}");
    let unread = |error: DriverError| ConnectError::unavailable(options, &what, error);
    let mut statement = Statement::new(cql.as_str());
    statement.set_consistency(Level::One);
    let response = session.query_unpaged(statement, ()).await;
    let response = response.map_err(|error| ConnectError::of_request(options, &what, &error))?;
    let rows = response.into_rows_result().map_err(|error| unread(DriverError::new(error)))?;
    let rows = rows.rows::<R>().map_err(|error| unread(DriverError::new(error)))?;
    rows.map(|row| row.map_err(|error| unread(DriverError::new(error)))).collect()
}
