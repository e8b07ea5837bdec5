//! The statements, in CQL and prepared.

use std::future::Future;

use scylla::statement::prepared::PreparedStatement;

use crate::store::EventLayout;
use crate::store::cql::{Keyspace, derived_tables};

/// Rows of one page of a read. A page is kept in memory, so pages of rows that may be large have few rows: an event takes
/// up to about 2 KiB, a dead letter about as much as the largest record.
const EVENTS_PAGE: i32 = 1_000;
const DEAD_LETTERS_PAGE: i32 = 32;
const SMALL_ROWS_PAGE: i32 = 5_000;

/// The key of the only row of `registry`.
pub(super) const REGISTRY: &str = "partitions";

pub(super) struct Statements {
    pub(super) select_binding: PreparedStatement,
    pub(super) insert_binding: PreparedStatement,
    /// For each of [`derived_tables`], by name: a read of any row.
    pub(super) select_any: Vec<(&'static str, PreparedStatement)>,
    pub(super) select_all_progress: PreparedStatement,
    pub(super) select_progress: PreparedStatement,
    pub(super) insert_next_offset: PreparedStatement,
    pub(super) insert_origin: PreparedStatement,
    pub(super) select_registry: PreparedStatement,
    pub(super) insert_registry: PreparedStatement,
    pub(super) select_counts: Selects,
    pub(super) select_counts_between: Selects,
    pub(super) select_all_counts: PreparedStatement,
    pub(super) insert_count: PreparedStatement,
    pub(super) insert_alert: PreparedStatement,
    pub(super) select_alerts: PreparedStatement,
    pub(super) insert_event: PreparedStatement,
    pub(super) select_events: PreparedStatement,
    pub(super) select_last_events: PreparedStatement,
    pub(super) select_event_partitions: PreparedStatement,
    pub(super) insert_dead_letter: PreparedStatement,
    pub(super) select_dead_letters: PreparedStatement,
    pub(super) select_last_dead_letters: PreparedStatement,
    pub(super) select_dead_letter_partitions: PreparedStatement,
}

/// A read of one partition of the store, which the driver sends to a replica, and the same of several.
pub(super) struct Selects {
    pub(super) of_one: PreparedStatement,
    pub(super) of_several: PreparedStatement,
}

const BINDING: &str = "topic, topic_id, window_size_ms, window_slide_ms, threshold, health, max_mutation_bytes, \
                       decoder_version, layout, count_block_ms, count_shards, schema_version, consistency, \
                       datacenter, origins";
const EVENT: &str = "offset, id, ts, source, client, health";
const DEAD_LETTER: &str = "offset, reason, timestamp, key, value, key_length, value_length, sha256";

impl Statements {
    /// Prepares all of them, one after another.
    ///
    /// # Errors
    /// The first error of `prepare`.
    pub(super) async fn prepare<E, F: Future<Output = Result<PreparedStatement, E>>>(
        keyspace: &Keyspace,
        layout: EventLayout,
        prepare: impl Fn(String) -> F,
    ) -> Result<Self, E> {
        let idempotent = async |cql: String, page: i32| {
            let mut statement = prepare(cql).await?;
            statement.set_is_idempotent(true);
            statement.set_page_size(page);
            Ok(statement)
        };
        let small = async |cql: String| idempotent(cql, SMALL_ROWS_PAGE).await;
        let bucket = match layout {
            EventLayout::Original => ("", "", ""),
            EventLayout::Bucketed { .. } => (", bucket", ", ?", " AND bucket = ?"),
        };
        let event_key = format!("partition{}", bucket.0);
        let events = |order: &str| {
            format!(
                "SELECT {EVENT} FROM {keyspace}.events WHERE partition = ?{} AND offset >= ? AND offset < ? \
                 ORDER BY offset {order} LIMIT ?",
                bucket.2
            )
        };
        let dead_letters = |order: &str| {
            format!(
                "SELECT {DEAD_LETTER} FROM {keyspace}.dead_letters WHERE partition = ? AND offset >= ? \
                 AND offset < ? ORDER BY offset {order} LIMIT ?"
            )
        };
        let counts = async |which: &str| {
            let select = |of: &str| {
                small(format!(
                    "SELECT partition, window_end, source, count, through_offset FROM {keyspace}.window_counts \
                     WHERE partition {of} AND block {of} AND shard = ? AND {which}"
                ))
            };
            Ok(Selects { of_one: select("= ?").await?, of_several: select("IN ?").await? })
        };
        let mut select_any = Vec::new();
        for table in derived_tables(layout) {
            let column = table.partition_key[0];
            let select = small(format!("SELECT {column} FROM {keyspace}.{} LIMIT 1", table.name)).await?;
            select_any.push((table.name, select));
        }
        let select_progress = format!("SELECT partition, origin, next_offset FROM {keyspace}.progress");
        Ok(Self {
            select_binding: small(format!("SELECT {BINDING} FROM {keyspace}.pipeline WHERE name = ?")).await?,
            // The only one that is not idempotent: repeated, it reports that the row exists.
            insert_binding: prepare(format!(
                "INSERT INTO {keyspace}.pipeline (name, {BINDING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 IF NOT EXISTS"
            ))
            .await?,
            select_any,
            select_all_progress: small(select_progress.clone()).await?,
            select_progress: small(format!("{select_progress} WHERE partition = ?")).await?,
            insert_next_offset: small(format!(
                "INSERT INTO {keyspace}.progress (partition, next_offset) VALUES (?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            insert_origin: small(format!(
                "INSERT INTO {keyspace}.progress (partition, origin) VALUES (?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            select_registry: small(format!("SELECT partitions FROM {keyspace}.registry WHERE name = ?")).await?,
            insert_registry: small(format!(
                "INSERT INTO {keyspace}.registry (name, partitions) VALUES (?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            select_counts: counts("(window_end, source) IN ?").await?,
            select_counts_between: counts(
                "(window_end, source) >= (?, ?) AND (window_end, source) <= (?, ?) PER PARTITION LIMIT ?",
            )
            .await?,
            select_all_counts: small(format!(
                "SELECT partition, block, shard, window_end, source, count, through_offset FROM {keyspace}.window_counts"
            ))
            .await?,
            insert_count: small(format!(
                "INSERT INTO {keyspace}.window_counts \
                 (partition, block, shard, window_end, source, count, through_offset) \
                 VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            insert_alert: small(format!(
                "INSERT INTO {keyspace}.alerts (source, ts, event_count) VALUES (?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            select_alerts: small(format!("SELECT source, ts, event_count FROM {keyspace}.alerts")).await?,
            insert_event: small(format!(
                "INSERT INTO {keyspace}.events ({event_key}, {EVENT}) VALUES (?{}, ?, ?, ?, ?, ?, ?) \
                 USING TIMESTAMP ?",
                bucket.1
            ))
            .await?,
            select_events: idempotent(events("ASC"), EVENTS_PAGE).await?,
            select_last_events: idempotent(events("DESC"), EVENTS_PAGE).await?,
            select_event_partitions: small(format!("SELECT DISTINCT {event_key} FROM {keyspace}.events")).await?,
            insert_dead_letter: small(format!(
                "INSERT INTO {keyspace}.dead_letters (partition, {DEAD_LETTER}) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            select_dead_letters: idempotent(dead_letters("ASC"), DEAD_LETTERS_PAGE).await?,
            select_last_dead_letters: idempotent(dead_letters("DESC"), DEAD_LETTERS_PAGE).await?,
            select_dead_letter_partitions: small(format!(
                "SELECT DISTINCT partition FROM {keyspace}.dead_letters"
            ))
            .await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::cql::tables;

    #[test]
    fn every_column_outside_the_written_key_is_read_and_written() {
        for (name, key, columns) in [
            ("pipeline", "name", BINDING),
            ("events", "partition", EVENT),
            ("dead_letters", "partition", DEAD_LETTER),
        ] {
            let table = tables(EventLayout::Original).into_iter().find(|table| table.name == name).unwrap();
            let all: BTreeSet<&str> = table.columns.iter().map(|column| column.name).collect();
            let named: BTreeSet<&str> = [key].into_iter().chain(columns.split(", ")).collect();
            assert_eq!(named, all, "{name}");
        }
    }
}
