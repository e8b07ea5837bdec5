//! The queries. None of them reads more of a table than it answers with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlResult, Type, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row as Columns, params};
use serde::de::DeserializeOwned;

use crate::event::{DeadLetter, Event, Health, Row};
use crate::sqlite::damaged;
use crate::store::cell::DeadLetterCells;
use crate::store::embedded::schema::Events;
use crate::store::{
    Alert, Binding, BoundConsistency, Count, CountLayout, Cursor, Layout, Page, Progress, WindowKey,
};
use crate::window::WindowSpec;

pub(super) const DEAD_LETTER: &str =
    "SELECT reason, timestamp, key, value, key_length, value_length, sha256 FROM dead_letters
     WHERE partition = ?1 AND offset = ?2";

/// A limit as SQLite takes it.
fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn json<T: DeserializeOwned>(columns: &Columns<'_>, column: usize) -> Result<T> {
    let text = columns.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| damaged(column, Type::Text, error))
}

/// A consistency, in this column and the next.
fn consistency(columns: &Columns<'_>, column: usize) -> Result<BoundConsistency> {
    let (consistency, datacenter) =
        (columns.get_ref(column)?.as_str()?, columns.get_ref(column + 1)?.as_str()?);
    BoundConsistency::from_columns(consistency, datacenter)
        .map_err(|error| damaged(column, Type::Text, error))
}

pub(super) fn binding(file: &Connection) -> Result<Option<Binding>> {
    let mut query = file.prepare_cached(
        "SELECT topic, topic_id, window_size_ms, window_slide_ms, threshold, health, max_mutation_bytes,
            decoder_version, layout, count_block_ms, count_shards, schema_version, consistency, datacenter, origins
            FROM pipeline",
    )?;
    let binding = |columns: &Columns<'_>| {
        Ok(Binding {
            topic: columns.get(0)?,
            topic_id: columns.get(1)?,
            window: WindowSpec {
                size_ms: columns.get(2)?,
                slide_ms: columns.get(3)?,
                threshold: columns.get(4)?,
                health: json(columns, 5)?,
            },
            max_mutation_bytes: columns.get(6)?,
            decoder_version: columns.get(7)?,
            layout: Layout {
                events: json(columns, 8)?,
                counts: CountLayout { block_ms: columns.get(9)?, shards: columns.get(10)? },
            },
            schema_version: columns.get(11)?,
            consistency: consistency(columns, 12)?,
            origins: json(columns, 14)?,
        })
    };
    query.query_row([], binding).optional()
}

pub(super) fn holds_rows(file: &Connection) -> Result<bool> {
    let mut query = file.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM progress) OR EXISTS (SELECT 1 FROM window_counts)
            OR EXISTS (SELECT 1 FROM registry)
            OR EXISTS (SELECT 1 FROM alerts) OR EXISTS (SELECT 1 FROM events)
            OR EXISTS (SELECT 1 FROM dead_letters)",
    )?;
    query.query_row([], |columns| columns.get(0))
}

pub(super) fn progress_of_all(file: &Connection) -> Result<BTreeMap<i32, Progress>> {
    let mut query = file.prepare_cached("SELECT partition, origin, next_offset FROM progress")?;
    let progress = |columns: &Columns<'_>| {
        Ok((columns.get(0)?, Progress { origin: columns.get(1)?, next_offset: columns.get(2)? }))
    };
    query.query_map([], progress)?.collect()
}

pub(super) fn progress(file: &Connection, partition: i32) -> Result<Option<Progress>> {
    let mut query = file.prepare_cached("SELECT origin, next_offset FROM progress WHERE partition = ?1")?;
    let progress =
        |columns: &Columns<'_>| Ok(Progress { origin: columns.get(0)?, next_offset: columns.get(1)? });
    query.query_row([partition], progress).optional()
}

/// 0 without a row.
pub(super) fn registered(file: &Connection) -> Result<i32> {
    let mut query = file.prepare_cached("SELECT partitions FROM registry")?;
    Ok(query.query_row([], |columns| columns.get(0)).optional()?.unwrap_or(0))
}

pub(super) fn counts(file: &Connection, partition: i32, windows: &[WindowKey]) -> Result<Vec<Option<Count>>> {
    let mut query = file.prepare_cached(
        "SELECT count, through_offset FROM window_counts
         WHERE partition = ?1 AND window_end = ?2 AND source = ?3",
    )?;
    let count = |columns: &Columns<'_>| Ok(Count { count: columns.get(0)?, through_offset: columns.get(1)? });
    let mut one =
        |key: &WindowKey| query.query_row(params![partition, key.end, key.source], count).optional();
    windows.iter().map(&mut one).collect()
}

/// The event whose columns begin at `first`.
pub(super) fn event(columns: &Columns<'_>, first: usize) -> Result<Event> {
    let code = columns.get(first + 4)?;
    let health = Health::from_code(code);
    Ok(Event {
        id: columns.get(first)?,
        ts: columns.get(first + 1)?,
        source: columns.get(first + 2)?,
        client: columns.get(first + 3)?,
        health: health.ok_or_else(|| damaged(first + 4, Type::Integer, format!("health {code}")))?,
    })
}

/// The cells of the dead letter whose columns begin at `first`.
pub(super) fn dead_letter_cells(columns: &Columns<'_>, first: usize) -> Result<DeadLetterCells> {
    Ok(DeadLetterCells {
        reason: columns.get(first)?,
        timestamp: columns.get(first + 1)?,
        key: columns.get(first + 2)?,
        value: columns.get(first + 3)?,
        key_length: columns.get(first + 4)?,
        value_length: columns.get(first + 5)?,
        sha256: columns.get(first + 6)?,
    })
}

fn dead_letter(columns: &Columns<'_>, first: usize) -> Result<DeadLetter> {
    let cells = dead_letter_cells(columns, first)?;
    DeadLetter::try_from(cells).map_err(|what| damaged(first, Type::Text, what))
}

pub(super) fn events(
    file: &Connection,
    statements: &Events,
    partition: i32,
    from: i64,
    to: i64,
    limit: usize,
) -> Result<Vec<(i64, Event)>> {
    let mut query = file.prepare_cached(&statements.first)?;
    let row = |columns: &Columns<'_>| Ok((columns.get(0)?, event(columns, 1)?));
    query.query_map(params![partition, from, to, rows_of(limit)], row)?.collect()
}

pub(super) fn dead_letters(
    file: &Connection,
    partition: i32,
    from: i64,
    to: i64,
    limit: usize,
) -> Result<Vec<(i64, DeadLetter)>> {
    let mut query = file.prepare_cached(
        "SELECT offset, reason, timestamp, key, value, key_length, value_length, sha256 FROM dead_letters
         WHERE partition = ?1 AND offset >= ?2 AND offset < ?3 ORDER BY offset LIMIT ?4",
    )?;
    let row = |columns: &Columns<'_>| Ok((columns.get(0)?, dead_letter(columns, 1)?));
    query.query_map(params![partition, from, to, rows_of(limit)], row)?.collect()
}

pub(super) fn rows_below(
    file: &Connection,
    statements: &Events,
    partition: i32,
    from: i64,
    below: i64,
    limit: usize,
) -> Result<Vec<(i64, Row)>> {
    let mut events = file.prepare_cached(&statements.last)?;
    let mut dead_letters = file.prepare_cached(
        "SELECT offset, reason, timestamp, key, value, key_length, value_length, sha256 FROM dead_letters
         WHERE partition = ?1 AND offset >= ?2 AND offset < ?3 ORDER BY offset DESC LIMIT ?4",
    )?;
    let range = params![partition, from, below, rows_of(limit)];
    let of_event = |columns: &Columns<'_>| Ok((columns.get(0)?, Row::Event(event(columns, 1)?)));
    let of_letter = |columns: &Columns<'_>| Ok((columns.get(0)?, Row::DeadLetter(dead_letter(columns, 1)?)));
    let mut rows: Vec<(i64, Row)> = events.query_map(range, of_event)?.collect::<Result<_>>()?;
    for row in dead_letters.query_map(range, of_letter)? {
        rows.push(row?);
    }
    rows.sort_by_key(|row| row.0);
    Ok(rows.split_off(rows.len().saturating_sub(limit)))
}

/// Goes from one partition to the next by the key, whatever lies between.
pub(super) fn partitions(file: &Connection) -> Result<Vec<i32>> {
    let after = |query: &mut CachedStatement<'_>, found: &mut BTreeSet<i32>| -> Result<()> {
        let mut last = i64::MIN;
        while let Some(partition) = query.query_row([last], |columns| columns.get(0)).optional()? {
            found.insert(partition);
            last = i64::from(partition);
        }
        Ok(())
    };
    let mut found = BTreeSet::new();
    let events = "SELECT partition FROM events WHERE partition > ?1 ORDER BY partition LIMIT 1";
    after(&mut file.prepare_cached(events)?, &mut found)?;
    let dead_letters = "SELECT partition FROM dead_letters WHERE partition > ?1 ORDER BY partition LIMIT 1";
    after(&mut file.prepare_cached(dead_letters)?, &mut found)?;
    Ok(found.into_iter().collect())
}

/// The key after which a scan of `alerts` goes on.
pub(super) struct Position {
    source: String,
    ts: i64,
}

/// What a cursor says; fails for one that [`alerts`] did not make.
pub(super) fn position(cursor: Cursor) -> std::result::Result<Position, ()> {
    let (ts, source) = cursor.0.split_first_chunk().ok_or(())?;
    let source = String::from_utf8(source.to_vec()).map_err(|_| ())?;
    Ok(Position { source, ts: i64::from_be_bytes(*ts) })
}

fn cursor(alert: &Alert) -> Cursor {
    Cursor([&alert.ts.to_be_bytes(), alert.source.as_bytes()].concat())
}

/// Text without a detour over `String`.
struct Text(Arc<str>);

impl FromSql for Text {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str().map(|text| Self(text.into()))
    }
}

pub(super) fn alerts(file: &Connection, after: Option<Position>, limit: usize) -> Result<Page<Alert>> {
    // One more than asked for tells whether there is more.
    let rows = rows_of(limit.saturating_add(1));
    let alert = |columns: &Columns<'_>| {
        let Text(source) = columns.get(0)?;
        Ok(Alert { source, ts: columns.get(1)?, event_count: columns.get(2)? })
    };
    let mut rows: Vec<Alert> = match after {
        None => file
            .prepare_cached("SELECT source, ts, event_count FROM alerts ORDER BY source, ts LIMIT ?1")?
            .query_map([rows], alert)?
            .collect::<Result<_>>()?,
        Some(Position { source, ts }) => file
            .prepare_cached(
                "SELECT source, ts, event_count FROM alerts WHERE (source, ts) > (?1, ?2)
                 ORDER BY source, ts LIMIT ?3",
            )?
            .query_map(params![source, ts, rows], alert)?
            .collect::<Result<_>>()?,
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(cursor);
    Ok(Page { rows, next })
}
