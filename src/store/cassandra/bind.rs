//! The binding: reads it, writes it once by a conditional insert, and changes it conditionally for the operator.
//!
//! Conditional writes are at SERIAL: of writes in two datacenters one must win, which LOCAL_SERIAL, a quorum of one
//! datacenter's replicas, does not guarantee. What they commit must then be seen by workers that read at LOCAL_QUORUM
//! in any datacenter:
//! - The insert commits at EACH_QUORUM if the keyspace names several datacenters, else at QUORUM. A worker that does
//!   not see it yet finds no binding and refuses to start, which loses nothing.
//! - The change commits at ALL. A worker that does not see it would still find the former binding and start
//!   concurrently with the new datacenter's workers. EACH_QUORUM is not sufficient: with `paxos_variant: v2` it is
//!   counted over all replicas, not in each datacenter (Cassandra, `PaxosCommit`: "Does not support EACH_QUORUM").

use std::collections::{BTreeMap, BTreeSet};

use scylla::errors::ExecutionError;
use scylla::frame::types::Consistency;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use super::outcomes::ErrorClass;
use super::{Connection, Failed, RequestKind};
use crate::binding::{Column, Columns};
use crate::event::Health;
use crate::store::{Binding, Bound, BoundConsistency, Flaw, LayoutError, StoredBinding};
use crate::window::HealthSet;

/// The key of the only row.
const NAME: &str = "pipeline";

/// Maximum attempts of the insert: concurrent ones may make each other time out.
const ATTEMPTS: usize = 4;

const READ: &str = "read the binding from";
const WRITE: &str = "write the binding into";

/// The result of [`CassandraStore::change_consistency`](super::CassandraStore::change_consistency).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The binding is changed, and every replica has it.
    Now,
    /// The binding was as requested already; every replica has it now.
    Before,
    /// The binding is neither as expected nor as requested. Nothing was changed.
    Not(BoundConsistency),
    /// There is no binding.
    Unbound,
}

/// The row as it is read: any column may be null.
type BindingColumns = (
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i32>,
    Option<BTreeSet<i32>>,
    Option<i64>,
    Option<i32>,
    Option<String>,
    Option<i64>,
    Option<i32>,
    Option<i32>,
    Option<String>,
    Option<String>,
    // An empty frozen collection is not null.
    Option<BTreeMap<i32, i64>>,
);

/// The columns, each with its value or what is wrong with it.
fn stored_binding(columns: BindingColumns) -> StoredBinding {
    fn some<T>(name: &'static str, value: Option<T>) -> Column<T> {
        value.ok_or_else(|| Flaw::null(name))
    }
    let (topic, topic_id, size_ms, slide_ms, threshold, levels, bytes, decoder, ..) = columns;
    let (.., events, block_ms, shards, schema, consistency, datacenter, origins) = columns;
    let health = some("health", levels).and_then(|codes| {
        let level = |code: i32| {
            let level = Health::from_code(code.into());
            level.ok_or_else(|| Flaw::new("health", format!("{code} is not a health")))
        };
        let levels: Result<Vec<Health>, Flaw> = codes.into_iter().map(level).collect();
        levels.map(|levels| HealthSet::of(&levels))
    });
    let layout = some("layout", events)
        .and_then(|text| text.parse().map_err(|error: LayoutError| Flaw::new("layout", error.to_string())));
    StoredBinding::from(Columns {
        topic: some("topic", topic),
        topic_id: some("topic_id", topic_id),
        window_size_ms: some("window_size_ms", size_ms),
        window_slide_ms: some("window_slide_ms", slide_ms),
        threshold: some("threshold", threshold),
        health,
        max_mutation_bytes: some("max_mutation_bytes", bytes),
        decoder_version: some("decoder_version", decoder),
        layout,
        count_block_ms: some("count_block_ms", block_ms),
        count_shards: some("count_shards", shards),
        schema_version: some("schema_version", schema),
        consistency: some("consistency", consistency),
        datacenter: some("datacenter", datacenter),
        origins: some("origins", origins),
    })
}

impl Connection {
    /// The binding, at the consistency of the protocol, damaged columns included.
    pub(super) async fn stored_binding(&self) -> Result<Option<StoredBinding>, Failed> {
        self.select_binding(&self.statements.select_binding).await
    }

    async fn read_binding(&self, statement: &PreparedStatement) -> Result<Option<Binding>, Failed> {
        let binding = self.select_binding(statement).await?.map(StoredBinding::undamaged).transpose();
        binding.map_err(|damaged| self.damaged(|| self.reading(), damaged))
    }

    async fn select_binding(&self, statement: &PreparedStatement) -> Result<Option<StoredBinding>, Failed> {
        let rows: Vec<BindingColumns> = self.select(|| self.reading(), statement, (NAME,), 1).await?;
        Ok(rows.into_iter().next().map(stored_binding))
    }

    fn reading(&self) -> String {
        format!("{READ} {}.pipeline", self.keyspace)
    }

    /// Writes the binding if there is none, and reads it back.
    ///
    /// The outcome of a conditional insert may be unknown like any other: if it was accepted, the next Paxos operation
    /// completes it. A serial read does so and returns the result. An equal row after an unknown attempt means that the
    /// attempt succeeded (or that another client wrote an equal row, which makes no difference).
    pub(super) async fn bind(&self, binding: &Binding) -> Result<Bound, Failed> {
        let mut unknown = None;
        for _ in 0..ATTEMPTS {
            let mine = match self.insert_binding(binding).await {
                Ok(applied) => applied,
                Err(failed) if failed.class == ErrorClass::Refused => return Err(failed),
                Err(failed) => {
                    unknown = Some(failed);
                    let mut statement = self.statements.select_binding.clone();
                    statement.set_consistency(Consistency::Serial);
                    if self.read_binding(&statement).await?.is_none() {
                        continue;
                    }
                    false
                }
            };
            // At the consistency that every worker reads with.
            return match self.read_binding(&self.statements.select_binding).await? {
                Some(there) if there == *binding && (mine || unknown.is_some()) => Ok(Bound::Now),
                Some(there) if !mine => Ok(Bound::Before(there)),
                there => {
                    let found = there.map_or("nothing".to_owned(), |there| format!("{there:?}"));
                    Err(Failed::unknown(format!("{WRITE} {}.pipeline: read back {found}", self.keyspace)))
                }
            };
        }
        Err(unknown.unwrap_or_else(|| Failed::unknown(format!("{WRITE} {}.pipeline", self.keyspace))))
    }

    /// Changes the consistency that is bound, if it is `from`, on every replica.
    ///
    /// An attempt of unknown outcome is followed by another one: if the first was accepted, the second finds `to`. A
    /// binding that is `to` already is written once more, because the earlier write may not have reached every
    /// replica.
    pub(super) async fn change_consistency(
        &self,
        from: &BoundConsistency,
        to: &BoundConsistency,
    ) -> Result<Changed, Failed> {
        let what = || format!("change the binding in {}", self.of("pipeline"));
        let cql = format!(
            "UPDATE {} SET consistency = ?, datacenter = ? WHERE name = ? IF consistency = ? AND datacenter = ?",
            self.of("pipeline")
        );
        let prepared = self.session.prepare(cql).await;
        let mut update = prepared.map_err(|error| self.failed(what, &ExecutionError::PrepareError(error)))?;
        update.set_consistency(Consistency::All);
        let mut serial_read = self.statements.select_binding.clone();
        serial_read.set_consistency(Consistency::Serial);
        let swap = async |from: &BoundConsistency| {
            let ((level, datacenter), (from_level, from_datacenter)) = (to.columns(), from.columns());
            let values = (level, datacenter, NAME, from_level, from_datacenter);
            self.applied(what, &update, values).await
        };
        let mut unknown = None;
        for _ in 0..ATTEMPTS {
            let outcome = match swap(from).await {
                Ok(true) if from != to => return Ok(Changed::Now),
                Ok(true) => return Ok(Changed::Before),
                Ok(false) => match self.read_binding(&serial_read).await {
                    Ok(None) => return Ok(Changed::Unbound),
                    Ok(Some(there)) if there.consistency != *to => {
                        return Ok(Changed::Not(there.consistency));
                    }
                    Ok(Some(_)) => swap(to).await,
                    Err(failed) => Err(failed),
                },
                Err(failed) => Err(failed),
            };
            match outcome {
                Ok(true) if unknown.is_some() => return Ok(Changed::Now),
                Ok(true) => return Ok(Changed::Before),
                // Another client changed it in between.
                Ok(false) => {}
                Err(failed) if failed.class == ErrorClass::Refused => return Err(failed),
                Err(failed) => unknown = Some(failed),
            }
        }
        Err(unknown.unwrap_or_else(|| Failed::unknown(format!("{}: it was changed concurrently", what()))))
    }

    /// True if this insert wrote the row, false if there was one.
    async fn insert_binding(&self, binding: &Binding) -> Result<bool, Failed> {
        let what = || format!("{WRITE} {}.pipeline", self.keyspace);
        let window = &binding.window;
        let (consistency, datacenter) = binding.consistency.columns();
        let values = (
            NAME,
            &binding.topic,
            &binding.topic_id,
            window.size_ms,
            window.slide_ms,
            window.threshold,
            window.health.levels().map(Health::code).collect::<BTreeSet<i32>>(),
            binding.max_mutation_bytes,
            binding.decoder_version,
            binding.layout.events.to_string(),
            binding.layout.counts.block_ms.get(),
            i32::from(binding.layout.counts.shards.get()),
            binding.schema_version,
            consistency,
            datacenter,
            &binding.origins,
        );
        self.applied(what, &self.statements.insert_binding, values).await
    }

    /// True if a conditional write was applied.
    async fn applied(
        &self,
        what: impl Fn() -> String,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, Failed> {
        let result = self.execute(RequestKind::Other, &what, statement, values).await?;
        // [applied], and if it was not, the existing row: the columns differ from response to response.
        let rows = result.into_rows_result().map_err(|error| Failed::unknown_because(what(), error))?;
        let first: Row = rows.first_row().map_err(|error| Failed::unknown_because(what(), error))?;
        match first.columns.first() {
            Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
            other => {
                Err(Failed::unknown(format!("{}: the response has {other:?} instead of [applied]", what())))
            }
        }
    }
}
