//! A node's side of CQL connections.
//!
//! A [`Server`] belongs to one run of one node. Connections are anything that bytes can be read from and written
//! to; the acceptor passes them on. Requests of a connection are carried out concurrently, as in
//! Cassandra: a client that disconnects, or waits no longer, leaves its requests running.

mod batch;
mod conditional;
mod connection;
mod paging;
mod select;
mod statement;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use md5::{Digest, Md5};
use simulated_hosts::watch::Watched;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::coordinator::{Coordinator, StoredStatement};
use crate::cql::parse;
use crate::plan::{Plan, Planned, plan};
use crate::protocol::ServerError;
use crate::protocol::frame::Limits;
use crate::schema::{Schema, Table};
use crate::system::{AllTables, SystemCache, is_system_table};

/// A name and a password that clients must send.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How many plans are kept, of texts of up to so many bytes.
const PLANS: usize = 1_000;
const LONGEST_PLANNED: usize = 4_096;

/// What follows from a statement's text and the schema, and is the same on every node: clients send the same statements
/// on each of their connections. A clone is the same.
#[derive(Clone, Default)]
pub struct Caches {
    plans: Arc<Mutex<Plans>>,
    system: Arc<SystemCache>,
}

/// By version of the schema, session's keyspace and text.
type Plans = BTreeMap<(u128, Option<String>, String), Arc<Planned>>;

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

/// How a node serves its clients.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The credentials that clients must send; none if `None`.
    pub credentials: Option<Credentials>,
    /// How much of a request is kept in memory.
    pub limits: Limits,
    /// How many requests of one connection are carried out at once. More wait in the connection.
    pub requests_per_connection: usize,
    /// How many prepared statements are kept. The oldest go first.
    pub prepared_statements: usize,
    /// May be shared by the nodes of a cluster.
    pub caches: Caches,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            limits: Limits::default(),
            requests_per_connection: 1024,
            prepared_statements: 10_000,
            caches: Caches::default(),
        }
    }
}

/// A node's side of CQL connections. A clone is the same server.
pub struct Server<C> {
    inner: Arc<Inner<C>>,
}

impl<C> Clone for Server<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

pub(crate) struct Inner<C> {
    coordinator: C,
    options: ServerOptions,
    prepared: Mutex<PreparedStatements>,
    stopped: Watched<bool>,
}

/// A prepared statement.
pub(crate) struct PreparedStatement {
    planned: Arc<Planned>,
    /// Its tables as they were when it was planned.
    tables: Vec<Arc<Table>>,
}

impl PreparedStatement {
    /// Whether its tables are still what they were: otherwise it has to be prepared again.
    fn is_valid(&self, schema: &Schema) -> bool {
        self.tables.iter().all(|table| match schema.tables.get(&table.id) {
            Some(now) => Arc::ptr_eq(now, table) || now.columns == table.columns,
            None => is_system_table(table),
        })
    }
}

/// The result of PREPARE.
pub(crate) struct Preparation {
    id: Bytes,
    statement: Arc<PreparedStatement>,
    /// Whether a name in it depends on the session's keyspace.
    depends_on_keyspace: bool,
}

#[derive(Default)]
struct PreparedStatements {
    by_id: BTreeMap<Bytes, Arc<PreparedStatement>>,
    /// Ids from the oldest on.
    ages: VecDeque<Bytes>,
}

impl<C: Coordinator> Server<C> {
    /// The server of a node.
    pub fn new(coordinator: C, options: ServerOptions) -> Self {
        let inner = Inner {
            coordinator,
            options,
            prepared: Mutex::new(PreparedStatements::default()),
            stopped: Watched::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves a connection until the client disconnects, sends something invalid, or the server is
    /// stopped. Requests are tasks of the node.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn serve<S>(&self, connection: S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        connection::serve(Arc::clone(&self.inner), connection).await
    }

    /// Ends all connections, as the end of the node's process does.
    pub fn stop(&self) {
        self.inner.stopped.set(true);
    }

    /// The node.
    pub fn coordinator(&self) -> &C {
        &self.inner.coordinator
    }
}

impl<C: Coordinator> Inner<C> {
    fn prepared(&self) -> MutexGuard<'_, PreparedStatements> {
        // Nothing panics while it holds the lock half-way through a change.
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server is stopped.
    async fn stopped(&self) {
        self.stopped.watch().wait_for(|stopped| *stopped).await;
    }

    /// Plans a statement for the schema as the node knows it.
    fn plan(&self, query: &str, keyspace: Option<&str>) -> Result<(Arc<Planned>, Arc<Schema>), ServerError> {
        let schema = self.coordinator.schema();
        let key = (schema.version, keyspace.map(str::to_owned), query.to_owned());
        let plans = || self.options.caches.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(planned) = plans().get(&key) {
            return Ok((Arc::clone(planned), schema));
        }
        let planned = Arc::new(plan(parse(query)?, &AllTables(&schema), keyspace)?);
        if query.len() <= LONGEST_PLANNED {
            let mut plans = plans();
            if plans.len() >= PLANS {
                plans.clear();
            }
            plans.insert(key, Arc::clone(&planned));
        }
        Ok((planned, schema))
    }

    /// Prepares a statement. Its id is the MD5 of the keyspace, if a name depends on it, and the text.
    fn prepare(&self, query: &str, keyspace: Option<&str>) -> Result<Preparation, ServerError> {
        let (planned, _) = self.plan(query, keyspace)?;
        // Where every name is qualified, the session's keyspace makes no difference.
        let depends = self.plan(query, None).is_err();
        let mut hash = Md5::new();
        if let Some(keyspace) = keyspace.filter(|_| depends) {
            hash.update(keyspace.as_bytes());
        }
        hash.update(query.as_bytes());
        let id = Bytes::copy_from_slice(&hash.finalize());
        self.coordinator.store_prepared(
            id.clone(),
            StoredStatement {
                keyspace: keyspace.filter(|_| depends).map(str::to_owned),
                query: query.to_owned(),
            },
        );
        let statement = self.remember(&id, planned);
        Ok(Preparation { id, statement, depends_on_keyspace: depends })
    }

    /// Keeps a prepared statement in memory.
    fn remember(&self, id: &Bytes, planned: Arc<Planned>) -> Arc<PreparedStatement> {
        let tables = match &planned.plan {
            Plan::Select(select) => vec![Arc::clone(select.table())],
            Plan::Modification(statement) => vec![Arc::clone(statement.table())],
            Plan::Batch(batch) => batch.statements.iter().map(|it| Arc::clone(it.table())).collect(),
            Plan::Other(_) => Vec::new(),
        };
        let statement = Arc::new(PreparedStatement { planned, tables });
        let mut prepared = self.prepared();
        if prepared.by_id.insert(id.clone(), Arc::clone(&statement)).is_none() {
            prepared.ages.push_back(id.clone());
        }
        while prepared.by_id.len() > self.options.prepared_statements.max(1) {
            match prepared.ages.pop_front() {
                Some(oldest) => {
                    self.coordinator.remove_prepared(&oldest);
                    prepared.by_id.remove(&oldest)
                }
                None => break,
            };
        }
        statement
    }

    /// A prepared statement that still fits the schema.
    fn find_prepared(&self, id: &Bytes) -> Result<Arc<PreparedStatement>, ServerError> {
        let schema = self.coordinator.schema();
        let mut prepared = self.prepared();
        match prepared.by_id.get(id) {
            Some(statement) if statement.is_valid(&schema) => return Ok(Arc::clone(statement)),
            Some(_) => {
                prepared.by_id.remove(id);
                prepared.ages.retain(|known| known != id);
                self.coordinator.remove_prepared(id);
            }
            None => {}
        }
        drop(prepared);
        // Of an earlier run of this node (`QueryProcessor.preloadPreparedStatements`).
        let kept = self.coordinator.stored_statement(id);
        match kept.map(|kept| self.plan(&kept.query, kept.keyspace.as_deref())) {
            Some(Ok((planned, _))) => Ok(self.remember(id, planned)),
            Some(Err(_)) => {
                self.coordinator.remove_prepared(id);
                Err(ServerError::Unprepared { id: id.clone() })
            }
            None => Err(ServerError::Unprepared { id: id.clone() }),
        }
    }
}
