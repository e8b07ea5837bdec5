//! The tables in a cluster: made where they are missing, and compared with what `schema.rs` of this crate
//! says.
//!
//! What is compared comes out of the very statements that make the tables, so the two cannot differ. Beyond
//! columns and keys, options are refused under which the protocol would lose rows.

use std::collections::BTreeMap;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::frame::types::Consistency as Level;
use scylla::statement::unprepared::Statement;
use thiserror::Error;

use super::connect::{self, ConnectError};
use super::ddl::{Column, Columns, statements, tables};
use super::{CassandraOptions, Consistency};
use crate::schema::{self, Replication};
use crate::store::{Layout, SCHEMA_VERSION};

/// How long a statement that changes the schema may take.
const CHANGE: Duration = Duration::from_secs(60);

/// The first thing in a cluster that is not as the protocol needs it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Difference {
    /// There is no such keyspace.
    #[error("keyspace {keyspace} does not exist: `exactlyonce schema apply` creates it")]
    NoKeyspace {
        /// Its name.
        keyspace: String,
    },
    /// Writes to the keyspace bypass the commit log.
    #[error(
        "keyspace {keyspace} has durable_writes = false: a node that is killed loses what it acknowledged"
    )]
    NotDurable {
        /// Its name.
        keyspace: String,
    },
    /// The keyspace has no replicas where a local quorum is asked for.
    #[error(
        "keyspace {keyspace} has no replicas in datacenter {datacenter}, its replication is {replication}"
    )]
    NoReplicas {
        /// Its name.
        keyspace: String,
        /// The datacenter that was asked for.
        datacenter: String,
        /// As the cluster has it.
        replication: String,
    },
    /// There is no such table.
    #[error("table {table} does not exist: `exactlyonce schema apply` creates it")]
    NoTable {
        /// Keyspace and name.
        table: String,
    },
    /// The tables are those of an older version of this program.
    #[error(
        "table {table} is keyed as in schema version 1, and this program needs version {SCHEMA_VERSION}: start over in \
         a new keyspace (`store.keyspace`), from the log's start or with `init --from`, and keep the old one until the \
         new one has caught up"
    )]
    OlderVersion {
        /// Keyspace and name.
        table: String,
    },
    /// The table of events was made for another layout.
    #[error("table {table} {has} a column bucket, so its layout is not {layout}")]
    Layout {
        /// Keyspace and name.
        table: String,
        /// `has` or `has not`.
        has: &'static str,
        /// The layout that was asked for.
        layout: String,
    },
    /// A column is missing, or is one too many, or is another.
    #[error("table {table} column {column}: expected {expected}, found {found}")]
    Column {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
        /// Its type and place.
        expected: String,
        /// What the cluster has.
        found: String,
    },
    /// A column was dropped once and added again.
    #[error(
        "table {table} column {column} was dropped and added again: everything written at a timestamp before \
         that moment is hidden, and so is all that this program writes. use a keyspace of another name"
    )]
    AddedAgain {
        /// Keyspace and name.
        table: String,
        /// The column.
        column: String,
    },
    /// An option under which rows vanish.
    #[error("table {table} has {option}: {reason}")]
    Option {
        /// Keyspace and name.
        table: String,
        /// The option and its value.
        option: String,
        /// What it does.
        reason: &'static str,
    },
}

/// Creates what is missing, waits until all nodes agree on the schema, and checks it. Changes nothing that is
/// there.
///
/// # Errors
/// See [`ConnectError`].
pub async fn apply_schema(
    options: &CassandraOptions,
    replication: &Replication,
    layout: Layout,
) -> Result<(), ConnectError> {
    let session = connect::session(options).await?;
    for cql in statements(&schema::cql(&options.keyspace, replication, layout)) {
        let what = format!("run {:?}", cql.chars().take(60).collect::<String>());
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(CHANGE));
        // Waits until the nodes agree.
        let done = session.query_unpaged(statement, ()).await;
        done.map_err(|error| ConnectError::of_request(options, &what, &error))?;
    }
    // Also on what was there before: another one may be at it.
    agree(&session, options).await?;
    check(&session, options, layout).await.map(drop)
}

/// Compares the tables with what this program needs.
///
/// # Errors
/// See [`ConnectError`].
pub async fn check_schema(options: &CassandraOptions, layout: Layout) -> Result<(), ConnectError> {
    check(&connect::session(options).await?, options, layout).await.map(drop)
}

async fn agree(session: &Session, options: &CassandraOptions) -> Result<(), ConnectError> {
    let agreed = session.await_schema_agreement().await;
    agreed.map(drop).map_err(|error| {
        ConnectError::unavailable(options, "see the nodes agree on the schema", error.to_string())
    })
}

pub(super) async fn check(
    session: &Session,
    options: &CassandraOptions,
    layout: Layout,
) -> Result<Right, ConnectError> {
    match Found::read(session, options).await?.difference(options, layout) {
        Ok(found) => Ok(found),
        // The node that answered may not have heard of the latest change yet.
        Err(_) => {
            agree(session, options).await?;
            Ok(Found::read(session, options).await?.difference(options, layout)?)
        }
    }
}

/// What is in a cluster.
#[derive(Debug)]
struct Found {
    keyspace: Option<FoundKeyspace>,
    tables: BTreeMap<String, FoundTable>,
}

#[derive(Debug)]
struct FoundKeyspace {
    durable_writes: bool,
    replication: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct FoundTable {
    columns: Columns,
    dropped: Vec<String>,
    compaction: String,
    time_to_live: i32,
}

/// What is worth saying of a schema that is right.
pub(super) struct Right {
    /// Of which a quorum is more than half.
    pub(super) replicas: u32,
    /// Datacenters that the replication names; 0 if it names none.
    pub(super) datacenters: usize,
}

impl Found {
    async fn read(session: &Session, options: &CassandraOptions) -> Result<Self, ConnectError> {
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
            let kind = match kind.as_str() {
                "partition_key" => "partition_key",
                "clustering" => "clustering",
                "static" => "static",
                _ => "regular",
            };
            let column = Column { kind, position, order: order.to_ascii_lowercase(), data };
            // Views have columns, too, but are no tables.
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

    /// The first difference, in the order of the statements.
    fn difference(&self, options: &CassandraOptions, layout: Layout) -> Result<Right, Difference> {
        let keyspace = options.keyspace.to_string();
        let Some(found) = &self.keyspace else { return Err(Difference::NoKeyspace { keyspace }) };
        if !found.durable_writes {
            return Err(Difference::NotDurable { keyspace });
        }
        let replicas = found.replicas(options)?;
        // Which replication is of no matter here: it stands in no table.
        #[allow(clippy::expect_used)]
        let any = Replication::anywhere(1).expect("1 replica is a valid number of them");
        for (name, columns) in tables(&schema::cql(&options.keyspace, &any, layout), &options.keyspace) {
            let table = format!("{keyspace}.{name}");
            match self.tables.get(&name) {
                None => return Err(Difference::NoTable { table }),
                Some(found) => found.difference(&table, &columns, layout)?,
            }
        }
        Ok(Right { replicas, datacenters: found.datacenters() })
    }
}

impl FoundKeyspace {
    /// How many datacenters have replicas, as far as the replication names them.
    fn datacenters(&self) -> usize {
        if !self.replication.get("class").is_some_and(|class| class.ends_with("NetworkTopologyStrategy")) {
            return 0;
        }
        self.replication.iter().filter(|(key, value)| *key != "class" && *value != "0").count()
    }

    /// How many replicas there are of a row, as far as a quorum goes.
    fn replicas(&self, options: &CassandraOptions) -> Result<u32, Difference> {
        let number = |text: &String| text.parse::<u32>().ok();
        let mut counted = self.replication.iter().filter(|(key, _)| *key != "class");
        match (&options.datacenter, options.consistency) {
            (Some(datacenter), Consistency::LocalQuorum)
                if !self.replication.contains_key("replication_factor") =>
            {
                let replicas = self.replication.get(datacenter).and_then(number).filter(|n| *n > 0);
                replicas.ok_or_else(|| Difference::NoReplicas {
                    keyspace: options.keyspace.to_string(),
                    datacenter: datacenter.clone(),
                    replication: format!("{:?}", self.replication),
                })
            }
            _ => Ok(counted.by_ref().filter_map(|(_, value)| number(value)).sum()),
        }
    }
}

impl FoundTable {
    fn difference(&self, table: &str, expected: &Columns, layout: Layout) -> Result<(), Difference> {
        let keyed_by_source =
            |columns: &Columns| columns.get("source").is_some_and(|source| source.kind == "partition_key");
        if expected.contains_key("shard") && keyed_by_source(&self.columns) {
            return Err(Difference::OlderVersion { table: table.to_owned() });
        }
        if expected.contains_key("bucket") != self.columns.contains_key("bucket") {
            let has = if self.columns.contains_key("bucket") { "has" } else { "has not" };
            return Err(Difference::Layout {
                table: table.to_owned(),
                has,
                layout: layout.events.to_string(),
            });
        }
        let nothing = || "no such column".to_owned();
        let differ = |column: &str, expected: String, found: String| {
            Err(Difference::Column { table: table.to_owned(), column: column.to_owned(), expected, found })
        };
        for (name, column) in expected {
            match self.columns.get(name) {
                Some(found) if found == column => {}
                found => {
                    return differ(name, column.to_string(), found.map_or_else(nothing, Column::to_string));
                }
            }
            if self.dropped.contains(name) {
                return Err(Difference::AddedAgain { table: table.to_owned(), column: name.clone() });
            }
        }
        if let Some((name, found)) = self.columns.iter().find(|(name, _)| !expected.contains_key(*name)) {
            return differ(name, nothing(), found.to_string());
        }
        let wrong =
            |option: String, reason| Err(Difference::Option { table: table.to_owned(), option, reason });
        if self.compaction.ends_with("TimeWindowCompactionStrategy") {
            return wrong(
                "TimeWindowCompactionStrategy".to_owned(),
                "it sorts rows by their write timestamps, which here are no times",
            );
        }
        if self.time_to_live != 0 {
            let option = format!("default_time_to_live = {}", self.time_to_live);
            return wrong(
                option,
                "rows would vanish after so many seconds, and counts begin again from nothing",
            );
        }
        Ok(())
    }
}

/// All rows of a question to the node's own tables.
async fn select<R: for<'f, 'm> DeserializeRow<'f, 'm>>(
    session: &Session,
    options: &CassandraOptions,
    cql: String,
) -> Result<Vec<R>, ConnectError> {
    let what = format!("run {cql:?}");
    let unread = |error: String| ConnectError::unavailable(options, &what, error);
    let mut statement = Statement::new(cql.as_str());
    statement.set_consistency(Level::One);
    let answer = session.query_unpaged(statement, ()).await;
    let answer = answer.map_err(|error| ConnectError::of_request(options, &what, &error))?;
    let rows = answer.into_rows_result().map_err(|error| unread(error.to_string()))?;
    let rows = rows.rows::<R>().map_err(|error| unread(error.to_string()))?;
    rows.map(|row| row.map_err(|error| unread(error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Keyspace;

    const BUCKETED: Layout = Layout::bucketed(std::num::NonZeroU32::new(4).unwrap());

    fn keyspace() -> Keyspace {
        Keyspace::try_from("k".to_owned()).unwrap()
    }

    fn cql(layout: Layout) -> String {
        schema::cql(&keyspace(), &Replication::anywhere(1).unwrap(), layout)
    }

    /// A cluster that has what the statements make.
    fn right(layout: Layout) -> Found {
        let tables = tables(&cql(layout), &keyspace());
        let found = |columns| FoundTable { columns, ..FoundTable::default() };
        let replication = [("class", "SimpleStrategy"), ("replication_factor", "3")];
        let replication = replication.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Found {
            keyspace: Some(FoundKeyspace { durable_writes: true, replication: replication.into() }),
            tables: tables.into_iter().map(|(name, columns)| (name, found(columns))).collect(),
        }
    }

    fn options() -> CassandraOptions {
        CassandraOptions::new(vec!["a".to_owned()], keyspace())
    }

    #[test]
    fn what_the_statements_make_is_right() {
        for layout in [Layout::ORIGINAL, BUCKETED] {
            assert_eq!(right(layout).difference(&options(), layout).unwrap().replicas, 3);
        }
    }

    #[test]
    fn a_local_quorum_is_of_the_replicas_of_its_datacenter() {
        let mut found = right(Layout::ORIGINAL);
        let replication =
            [("class", "NetworkTopologyStrategy"), ("paris", "3"), ("oslo", "5"), ("rome", "0")];
        found.keyspace.as_mut().unwrap().replication =
            replication.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let replicas = |datacenter: &str, consistency| {
            let datacenter = Some(datacenter.to_owned());
            let options = CassandraOptions { datacenter, consistency, ..options() };
            found.difference(&options, Layout::ORIGINAL).map(|right| right.replicas)
        };
        assert_eq!(replicas("paris", Consistency::Quorum), Ok(8));
        assert_eq!(replicas("paris", Consistency::LocalQuorum), Ok(3));
        for none in ["rome", "lyon"] {
            let refused = replicas(none, Consistency::LocalQuorum);
            assert!(matches!(refused, Err(Difference::NoReplicas { .. })), "{refused:?}");
        }
    }
}
