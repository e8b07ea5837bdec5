//! The tables in a cluster: creates missing ones (this file), reads them back (`found.rs`) and compares them with the
//! description in [`crate::store::cql`] (`compare.rs`).

mod compare;
mod found;

use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::unprepared::Statement;

use super::CassandraOptions;
use super::connect;
use super::error::{ConnectError, DriverError};
use crate::store::Layout;
use crate::store::cql::{self, Replication};
pub(super) use compare::Checked;
use found::Found;

/// Timeout of a statement that changes the schema.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates missing tables, waits until all nodes agree on the schema, and checks it. Does not change existing tables.
///
/// # Errors
/// See [`ConnectError`].
pub async fn apply_schema(
    options: &CassandraOptions,
    replication: &Replication,
    layout: Layout,
) -> Result<(), ConnectError> {
    let session = connect::session(options).await?;
    let found = Found::read(&session, options).await?;
    let tables = cql::tables(layout.events);
    let exists = std::iter::once(found.keyspace.is_some())
        .chain(tables.iter().map(|table| found.tables.contains_key(table.name)));
    for (cql, exists) in cql::statements(&options.keyspace, replication, layout).into_iter().zip(exists) {
        // Cassandra requires the permission to create even for what exists; for a keyspace, on all keyspaces.
        if exists {
            continue;
        }
        let what = format!("run {:?}", cql.chars().take(60).collect::<String>());
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(CHANGE_TIMEOUT));
        // Waits until the nodes agree.
        let done = session.query_unpaged(statement, ()).await;
        done.map_err(|error| ConnectError::of_request(options, &what, &error))?;
    }
    // Also for existing tables: another program may be creating them.
    agree(&session, options).await?;
    check(&session, options, layout).await.map(drop)
}

/// Compares the tables with those that this program requires.
///
/// # Errors
/// See [`ConnectError`].
pub async fn check_schema(options: &CassandraOptions, layout: Layout) -> Result<(), ConnectError> {
    check(&connect::session(options).await?, options, layout).await.map(drop)
}

async fn agree(session: &Session, options: &CassandraOptions) -> Result<(), ConnectError> {
    let agreed = session.await_schema_agreement().await;
    agreed.map(drop).map_err(|error| {
        ConnectError::unavailable(options, "reach schema agreement", DriverError::new(error))
    })
}

pub(super) async fn check(
    session: &Session,
    options: &CassandraOptions,
    layout: Layout,
) -> Result<Checked, ConnectError> {
    match Found::read(session, options).await?.difference(options, layout) {
        Ok(found) => Ok(found),
        // The node that responded may not know the latest change yet.
        Err(_) => {
            agree(session, options).await?;
            Ok(Found::read(session, options).await?.difference(options, layout)?)
        }
    }
}
