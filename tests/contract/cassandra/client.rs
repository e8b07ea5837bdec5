//! The driver with a fixed coordinator, and its errors and rows as short, stable text.

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvHasher;
use futures_util::future::join_all;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::policies::host_filter::AllowListHostFilter;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};
use tokio::time::{Instant, sleep};

use super::backend::Backend;
use crate::suite::Observations;

/// Longer than all timeouts of the nodes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// A session that sends every request to one node, without retries.
#[derive(Clone)]
pub struct Client {
    /// The driver's session.
    pub session: Arc<Session>,
    consistency: Consistency,
    keyspace: String,
}

impl Client {
    /// A session with one node, at consistency level QUORUM.
    pub async fn connect<W: Backend>(backend: &W, node: usize) -> Self {
        let address = backend.addresses()[node];
        let profile = ExecutionProfile::builder()
            .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(
                NodeIdentifier::NodeAddress(address),
                None,
            ))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .speculative_execution_policy(None)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .serial_consistency(Some(SerialConsistency::Serial))
            .build();
        let connect = async || {
            SessionBuilder::new()
                .known_node_addr(address)
                .host_filter(Arc::new(AllowListHostFilter::new([address]).expect("a valid address")))
                .default_execution_profile_handle(profile.clone().into_handle())
                .pool_size(PoolSize::PerHost(1.try_into().expect("one is not zero")))
                .fetch_schema_metadata(false)
                .auto_await_schema_agreement(false)
                .build()
                .await
        };
        // A node that has just started may refuse the first connections.
        let end = Instant::now() + Duration::from_secs(30);
        let session = loop {
            match connect().await {
                Ok(session) => break session,
                Err(error) if Instant::now() > end => panic!("node {node} at {address}: {error}"),
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        };
        Self { session: Arc::new(session), consistency: Consistency::Quorum, keyspace: String::new() }
    }

    /// The same session at a different consistency level.
    pub fn at(&self, consistency: Consistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// The text with every `KS.` replaced by the keyspace of the case.
    fn text(&self, cql: &str) -> String {
        cql.replace("KS.", &format!("{}.", self.keyspace))
    }

    /// The statement as this client would run it.
    pub fn statement(&self, cql: &str) -> Statement {
        let mut statement = Statement::new(self.text(cql));
        statement.set_consistency(self.consistency);
        statement
    }

    /// Runs a statement without paging. `KS.` in it stands for the keyspace of the case.
    pub async fn run(&self, cql: &str) -> Result<QueryResult, ExecutionError> {
        self.session.query_unpaged(self.statement(cql), ()).await
    }

    /// Runs a statement that must succeed.
    pub async fn ok(&self, cql: &str) -> QueryResult {
        self.run(cql).await.unwrap_or_else(|error| panic!("{}: {}", self.text(cql), full(&error)))
    }

    /// The rows of a statement that must succeed, as text.
    pub async fn rows(&self, cql: &str) -> String {
        rows(self.ok(cql).await)
    }

    /// The result of a statement as text: its rows, `ok`, or the error without its message.
    pub async fn ends(&self, cql: &str) -> String {
        ending(self.run(cql).await)
    }

    /// The error of a statement that must fail, with its message.
    pub async fn refusal(&self, cql: &str) -> String {
        match self.run(cql).await {
            Ok(result) => panic!("{}: was not refused, but returned {}", self.text(cql), rows(result)),
            Err(error) => full(&error).replace(&self.keyspace, "KS"),
        }
    }

    /// Runs a statement, records its result, and compares it with the expected one.
    pub async fn expect(&self, seen: &Observations, what: &str, cql: &str, expected: &str) {
        seen.check(what, &self.ends(cql).await, expected);
    }

    /// Repeats a read until the rows are the expected ones, and records them.
    pub async fn expect_within(
        &self,
        seen: &Observations,
        limit: Duration,
        what: &str,
        cql: &str,
        expected: &str,
    ) {
        let end = Instant::now() + limit;
        while Instant::now() < end && self.ends(cql).await != expected {
            sleep(Duration::from_millis(100)).await;
        }
        self.expect(seen, what, cql, expected).await;
    }

    /// Prepares a statement, which must succeed.
    pub async fn prepare(&self, cql: &str) -> PreparedStatement {
        let text = self.text(cql);
        let mut prepared =
            self.session.prepare(text.clone()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        prepared.set_consistency(self.consistency);
        prepared
    }

    /// Executes a prepared statement that must succeed.
    pub async fn execute(&self, prepared: &PreparedStatement, values: impl SerializeRow) -> QueryResult {
        let text = prepared.get_statement();
        let result = self.session.execute_unpaged(prepared, values).await;
        result.unwrap_or_else(|error| panic!("{text}: {}", full(&error)))
    }
}

/// The keyspace of a case, with three replicas, and a session with each node.
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// A session with each node.
    pub clients: Vec<Client>,
}

impl Keyspace {
    /// Recreates the keyspace with these tables: each is the text after `CREATE TABLE KS.`.
    pub async fn with<W: Backend>(backend: &W, seen: &Observations, tables: &[&str]) -> Self {
        let name = keyspace_of(seen.case);
        let clients = join_all((0..3).map(|node| Client::connect(backend, node))).await;
        let clients = clients.into_iter().map(|client| Client { keyspace: name.clone(), ..client }).collect();
        let keyspace = Self { name: name.clone(), clients };
        let client = &keyspace.clients[0];
        client.ok(&format!("DROP KEYSPACE IF EXISTS {name}")).await;
        client
            .ok(&format!("CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}"))
            .await;
        for table in tables {
            client.ok(&format!("CREATE TABLE KS.{table}")).await;
        }
        keyspace.agree().await;
        keyspace
    }

    /// The sessions.
    pub fn clients(&self) -> [&Client; 3] {
        [&self.clients[0], &self.clients[1], &self.clients[2]]
    }

    /// Waits until all nodes agree on the schema.
    pub async fn agree(&self) {
        // A node that missed a change pulls the schema after a minute.
        let end = Instant::now() + Duration::from_secs(100);
        loop {
            let mut versions = Vec::new();
            for client in &self.clients {
                versions
                    .push(client.at(Consistency::One).rows("SELECT schema_version FROM system.local").await);
            }
            if versions.iter().all(|version| *version == versions[0]) {
                return;
            }
            assert!(Instant::now() < end, "the nodes do not agree on the schema: {versions:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A new session with a node, as after its restart.
    pub async fn reconnect<W: Backend>(&mut self, backend: &W, node: usize) {
        self.clients[node] = Client { keyspace: self.name.clone(), ..Client::connect(backend, node).await };
    }
}

/// The name of the keyspace of a case: short and unique.
pub fn keyspace_of(case: &str) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(case.as_bytes());
    format!("contract_{:016x}", hasher.finish())
}

/// The rows of a result, as text.
pub fn rows(result: QueryResult) -> String {
    let Ok(result) = result.into_rows_result() else { return "ok".to_owned() };
    let rows = result.rows::<Row>().expect("any row is a Row");
    let rows: Vec<_> = rows.map(|row| tuple(&row.expect("any row is a Row").columns)).collect();
    if rows.is_empty() { "no rows".to_owned() } else { rows.join(" ") }
}

/// The result of a request as text: its rows, `ok`, or the error without its message.
pub fn ending(result: Result<QueryResult, ExecutionError>) -> String {
    match result {
        Ok(result) => rows(result),
        Err(error) => kind(&error),
    }
}

fn tuple(columns: &[Option<CqlValue>]) -> String {
    let mut text = String::from("(");
    for (i, column) in columns.iter().enumerate() {
        let _ = write!(text, "{}{}", if i > 0 { ", " } else { "" }, value(column.as_ref()));
    }
    text + ")"
}

fn value(value: Option<&CqlValue>) -> String {
    let list =
        |values: &[CqlValue]| values.iter().map(|one| self::value(Some(one))).collect::<Vec<_>>().join(", ");
    match value {
        None => "null".to_owned(),
        Some(CqlValue::Empty) => "empty".to_owned(),
        Some(CqlValue::Boolean(value)) => value.to_string(),
        Some(CqlValue::Int(value)) => value.to_string(),
        Some(CqlValue::BigInt(value)) => value.to_string(),
        Some(CqlValue::Timestamp(value)) => value.0.to_string(),
        Some(CqlValue::Text(value)) => format!("'{value}'"),
        Some(CqlValue::Uuid(value)) => value.to_string(),
        Some(CqlValue::Blob(value)) => format!("0x{}", hex::encode(value)),
        Some(CqlValue::Set(values)) => format!("{{{}}}", list(values)),
        Some(CqlValue::List(values)) => format!("[{}]", list(values)),
        Some(CqlValue::Map(values)) => {
            let pairs = values
                .iter()
                .map(|(key, value)| format!("{}: {}", self::value(Some(key)), self::value(Some(value))));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Some(other) => format!("{other:?}"),
    }
}

/// The kind and the fields of an error.
pub fn kind(error: &ExecutionError) -> String {
    kind_and_message(error).0
}

/// The kind, the fields and the message of an error.
pub fn full(error: &ExecutionError) -> String {
    let (kind, message) = kind_and_message(error);
    if message.is_empty() { kind } else { format!("{kind}: {message}") }
}

fn kind_and_message(error: &ExecutionError) -> (String, String) {
    match error {
        ExecutionError::LastAttemptError(attempt)
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt: attempt }) => {
            match attempt {
                RequestAttemptError::DbError(error, message) => (db_error(error), message.clone()),
                RequestAttemptError::BrokenConnectionError(_) => {
                    ("broken connection".to_owned(), String::new())
                }
                other => (format!("{other:?}"), String::new()),
            }
        }
        ExecutionError::RequestTimeout(_) => ("the client's own timeout".to_owned(), String::new()),
        ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => {
            ("no connection".to_owned(), String::new())
        }
        other => (format!("{other:?}"), String::new()),
    }
}

/// An error of a node as text.
pub fn db_error(error: &DbError) -> String {
    match error {
        DbError::Unavailable { consistency, required, alive } => {
            format!("Unavailable({consistency:?}, required {required}, alive {alive})")
        }
        DbError::WriteTimeout { consistency, received, required, write_type } => {
            format!("WriteTimeout({consistency:?}, received {received}, required {required}, {write_type:?})")
        }
        DbError::ReadTimeout { consistency, received, required, data_present } => {
            format!(
                "ReadTimeout({consistency:?}, received {received}, required {required}, data present {data_present})"
            )
        }
        DbError::WriteFailure { consistency, received, required, numfailures, write_type } => format!(
            "WriteFailure({consistency:?}, received {received}, required {required}, failures {numfailures}, {write_type:?})"
        ),
        DbError::ReadFailure { consistency, received, required, numfailures, data_present } => format!(
            "ReadFailure({consistency:?}, received {received}, required {required}, failures {numfailures}, data present {data_present})"
        ),
        DbError::AlreadyExists { table, .. } if table.is_empty() => "AlreadyExists(keyspace)".to_owned(),
        DbError::AlreadyExists { table, .. } => format!("AlreadyExists(table {table})"),
        other => format!("{other:?}"),
    }
}
