//! The queries. None of them reads more of a table than it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rusqlite::types::{FromSql, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Result, Row as Columns, params};
use serde::de::DeserializeOwned;

use crate::binding::{self, Column};
use crate::event::{DeadLetter, Event, Health, Row};
use crate::sqlite::damaged;
use crate::store::cell::DeadLetterCells;
use crate::store::embedded::schema::Events;
use crate::store::{
    Binding, Count, Cursor, Damaged, Flaw, Page, Progress, RowKey, Stored, StoredBinding, StoredCount,
    WindowKey, event_count,
};

pub(super) const DEAD_LETTER: &str =
    "SELECT reason, timestamp, key, value, key_length, value_length, sha256 FROM dead_letters
     WHERE partition = ?1 AND offset = ?2";

/// A limit in SQLite's type.
fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The error of a query that requires a damaged row.
fn unreadable(damaged_row: Damaged) -> rusqlite::Error {
    damaged(0, Type::Null, damaged_row)
}

/// A column of a row that another program may have written.
fn column<T: FromSql>(columns: &Columns<'_>, column: usize, name: &'static str) -> Column<T> {
    columns.get(column).map_err(|error| {
        Flaw::new(
            name,
            match error {
                rusqlite::Error::InvalidColumnType(_, _, Type::Null) => "null".to_owned(),
                rusqlite::Error::InvalidColumnType(_, _, kind) => format!("a value of type {kind}"),
                rusqlite::Error::IntegralValueOutOfRange(_, value) => format!("{value} is out of range"),
                rusqlite::Error::Utf8Error(_, error) => error.to_string(),
                other => other.to_string(),
            },
        )
    })
}

/// A column of JSON that another program may have written.
fn json<T: DeserializeOwned>(columns: &Columns<'_>, number: usize, name: &'static str) -> Column<T> {
    let text: String = column(columns, number, name)?;
    serde_json::from_str(&text).map_err(|error| Flaw::new(name, error.to_string()))
}

pub(super) fn stored_binding(file: &Connection) -> Result<Option<StoredBinding>> {
    let mut query = file.prepare_cached(
        "SELECT topic, topic_id, window_size_ms, window_slide_ms, threshold, health, max_mutation_bytes,
            decoder_version, layout, count_block_ms, count_shards, schema_version, consistency, datacenter, origins
            FROM pipeline",
    )?;
    let binding = |row: &Columns<'_>| {
        Ok(StoredBinding::from(binding::Columns {
            topic: column(row, 0, "topic"),
            topic_id: column(row, 1, "topic_id"),
            window_size_ms: column(row, 2, "window_size_ms"),
            window_slide_ms: column(row, 3, "window_slide_ms"),
            threshold: column(row, 4, "threshold"),
            health: json(row, 5, "health"),
            max_mutation_bytes: column(row, 6, "max_mutation_bytes"),
            decoder_version: column(row, 7, "decoder_version"),
            layout: json(row, 8, "layout"),
            count_block_ms: column(row, 9, "count_block_ms"),
            count_shards: column(row, 10, "count_shards"),
            schema_version: column(row, 11, "schema_version"),
            consistency: column(row, 12, "consistency"),
            datacenter: column(row, 13, "datacenter"),
            origins: json(row, 14, "origins"),
        }))
    };
    query.query_row([], binding).optional()
}

/// Fails where a column is damaged.
pub(super) fn binding(file: &Connection) -> Result<Option<Binding>> {
    stored_binding(file)?.map(StoredBinding::undamaged).transpose().map_err(unreadable)
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

fn stored_progress_row(partition: i32, columns: &Columns<'_>, first: usize) -> Stored<Progress> {
    let progress = || {
        Ok(Progress {
            origin: column(columns, first, "origin")?,
            next_offset: column(columns, first + 1, "next_offset")?,
        })
    };
    progress().map_err(|flaw: Flaw| flaw.of("progress", RowKey::Partition { partition: partition.into() }))
}

pub(super) fn stored_progress(file: &Connection) -> Result<BTreeMap<i32, Stored<Progress>>> {
    let mut query = file.prepare_cached(
        "SELECT partition, origin, next_offset FROM progress
         WHERE partition BETWEEN -0x80000000 AND 0x7fffffff",
    )?;
    let progress = |columns: &Columns<'_>| {
        let partition = columns.get(0)?;
        Ok((partition, stored_progress_row(partition, columns, 1)))
    };
    query.query_map([], progress)?.collect()
}

pub(super) fn progress(file: &Connection, partition: i32) -> Result<Option<Progress>> {
    let mut query = file.prepare_cached("SELECT origin, next_offset FROM progress WHERE partition = ?1")?;
    let progress = |columns: &Columns<'_>| stored_progress_row(partition, columns, 0).map_err(unreadable);
    query.query_row([partition], progress).optional()
}

/// 0 without a row.
pub(super) fn registered(file: &Connection) -> Result<i32> {
    let mut query = file.prepare_cached("SELECT partitions FROM registry")?;
    let partitions = |columns: &Columns<'_>| {
        column(columns, 0, "partitions").map_err(|flaw| unreadable(flaw.of("registry", RowKey::Only {})))
    };
    Ok(query.query_row([], partitions).optional()?.unwrap_or(0))
}

fn stored_count(partition: i32, window: &WindowKey, columns: &Columns<'_>, first: usize) -> Stored<Count> {
    let count = || {
        Ok(Count {
            count: column(columns, first, "count")?,
            through_offset: column(columns, first + 1, "through_offset")?,
        })
    };
    count().map_err(|flaw: Flaw| {
        let (source, window_end) = (window.source.clone(), window.end);
        flaw.of("window_counts", RowKey::Count { partition: partition.into(), source, window_end })
    })
}

pub(super) fn counts(file: &Connection, partition: i32, windows: &[WindowKey]) -> Result<Vec<Option<Count>>> {
    let mut query = file.prepare_cached(
        "SELECT count, through_offset FROM window_counts
         WHERE partition = ?1 AND window_end = ?2 AND source = ?3",
    )?;
    let mut one = |key: &WindowKey| {
        let count = |columns: &Columns<'_>| stored_count(partition, key, columns, 0).map_err(unreadable);
        query.query_row(params![partition, key.end, key.source], count).optional()
    };
    windows.iter().map(&mut one).collect()
}

fn stored_event(columns: &Columns<'_>, first: usize) -> std::result::Result<Event, Flaw> {
    let code: i64 = column(columns, first + 4, "health")?;
    let health = Health::from_code(code);
    Ok(Event {
        id: column(columns, first, "id")?,
        ts: column(columns, first + 1, "ts")?,
        source: column(columns, first + 2, "source")?,
        client: column(columns, first + 3, "client")?,
        health: health.ok_or_else(|| Flaw::new("health", format!("{code} is not a health")))?,
    })
}

/// The event at this position, whose columns begin at `first`.
pub(super) fn event(columns: &Columns<'_>, first: usize, partition: i32, offset: i64) -> Result<Event> {
    let key = RowKey::Position { partition: partition.into(), offset };
    stored_event(columns, first).map_err(|flaw| unreadable(flaw.of("events", key)))
}

/// The cells of the dead letter whose columns begin at `first`, to resolve a write against them.
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

fn stored_dead_letter(
    columns: &Columns<'_>,
    first: usize,
    partition: i32,
    offset: i64,
) -> Stored<DeadLetter> {
    let letter = || {
        let cells = DeadLetterCells {
            reason: column(columns, first, "reason")?,
            timestamp: column(columns, first + 1, "timestamp")?,
            key: column(columns, first + 2, "key")?,
            value: column(columns, first + 3, "value")?,
            key_length: column(columns, first + 4, "key_length")?,
            value_length: column(columns, first + 5, "value_length")?,
            sha256: column(columns, first + 6, "sha256")?,
        };
        DeadLetter::try_from(cells).map_err(|(column, what)| Flaw::new(column, what))
    };
    letter().map_err(|flaw: Flaw| {
        flaw.of("dead_letters", RowKey::Position { partition: partition.into(), offset })
    })
}

pub(super) fn events(
    file: &Connection,
    statements: &Events,
    partition: i32,
    from: i64,
    to: i64,
    limit: usize,
) -> Result<Vec<(i64, Stored<Event>)>> {
    let mut query = file.prepare_cached(&statements.first)?;
    let row = |columns: &Columns<'_>| {
        let offset = columns.get(0)?;
        let key = RowKey::Position { partition: partition.into(), offset };
        Ok((offset, stored_event(columns, 1).map_err(|flaw| flaw.of("events", key))))
    };
    query.query_map(params![partition, from, to, rows_of(limit)], row)?.collect()
}

pub(super) fn dead_letters(
    file: &Connection,
    partition: i32,
    from: i64,
    to: i64,
    limit: usize,
) -> Result<Vec<(i64, Stored<DeadLetter>)>> {
    let mut query = file.prepare_cached(
        "SELECT offset, reason, timestamp, key, value, key_length, value_length, sha256 FROM dead_letters
         WHERE partition = ?1 AND offset >= ?2 AND offset < ?3 ORDER BY offset LIMIT ?4",
    )?;
    let row = |columns: &Columns<'_>| {
        let offset = columns.get(0)?;
        Ok((offset, stored_dead_letter(columns, 1, partition, offset)))
    };
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
    let of_event = |columns: &Columns<'_>| {
        let offset = columns.get(0)?;
        Ok((offset, Row::Event(event(columns, 1, partition, offset)?)))
    };
    let of_letter = |columns: &Columns<'_>| {
        let offset = columns.get(0)?;
        let letter = stored_dead_letter(columns, 1, partition, offset).map_err(unreadable)?;
        Ok((offset, Row::DeadLetter(letter)))
    };
    let mut rows: Vec<(i64, Row)> = events.query_map(range, of_event)?.collect::<Result<_>>()?;
    for row in dead_letters.query_map(range, of_letter)? {
        rows.push(row?);
    }
    rows.sort_by_key(|row| row.0);
    Ok(rows.split_off(rows.len().saturating_sub(limit)))
}

/// The distinct partition numbers of a table within a range, ascending, at most `limit`. Seeks from one to the next by
/// the key, without reading the rows in between.
fn partition_numbers(
    file: &Connection,
    table: &str,
    range: RangeInclusive<i64>,
    limit: usize,
) -> Result<Vec<i64>> {
    let (mut from, to) = range.into_inner();
    let mut query = file.prepare_cached(&format!(
        "SELECT partition FROM {table} WHERE partition BETWEEN ?1 AND ?2 ORDER BY partition LIMIT 1"
    ))?;
    let mut found = Vec::<i64>::new();
    while found.len() < limit
        && let Some(partition) = query.query_row([from, to], |columns| columns.get(0)).optional()?
    {
        found.push(partition);
        match partition.checked_add(1) {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(found)
}

pub(super) fn partitions(file: &Connection) -> Result<Vec<i32>> {
    let mut found = BTreeSet::new();
    for table in ["events", "dead_letters"] {
        let range = i32::MIN.into()..=i32::MAX.into();
        found.extend(partition_numbers(file, table, range, usize::MAX)?);
    }
    // Only numbers in the range of an i32 were requested.
    Ok(found.into_iter().filter_map(|partition| i32::try_from(partition).ok()).collect())
}

/// The partition numbers that are no `i32`.
pub(super) fn invalid_partitions(file: &Connection) -> Result<Vec<Damaged>> {
    const LISTED: usize = 1_000;
    let mut found = Vec::new();
    for table in ["progress", "events", "dead_letters", "window_counts"] {
        let below = partition_numbers(file, table, i64::MIN..=i64::from(i32::MIN) - 1, LISTED)?;
        let above = partition_numbers(file, table, i64::from(i32::MAX) + 1..=i64::MAX, LISTED - below.len())?;
        found.extend(below.into_iter().chain(above).map(|partition| {
            let flaw = Flaw::new("partition", format!("{partition} is out of range"));
            flaw.of(table, RowKey::Partition { partition })
        }));
    }
    Ok(found)
}

/// The key after which a scan of `alerts` or `window_counts` continues. `partition` is used by the latter only.
pub(super) struct Position {
    partition: i64,
    end: i64,
    source: Vec<u8>,
}

/// Parses a cursor; fails for one that no scan returned.
pub(super) fn position(cursor: Cursor) -> std::result::Result<Position, ()> {
    let (partition, rest) = cursor.0.split_first_chunk().ok_or(())?;
    let (end, source) = rest.split_first_chunk().ok_or(())?;
    let (partition, end) = (i64::from_be_bytes(*partition), i64::from_be_bytes(*end));
    Ok(Position { partition, end, source: source.to_vec() })
}

fn cursor(partition: i64, end: i64, source: &[u8]) -> Cursor {
    Cursor([&partition.to_be_bytes(), &end.to_be_bytes(), source].concat())
}

/// A row of a scan, with the cursor that continues after it.
type Scanned<T> = (T, Cursor);

/// The first `limit` rows as a page, of one row more.
fn page<T>(mut rows: Vec<Scanned<T>>, limit: usize) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(_, cursor)| cursor.clone());
    Page { rows: rows.into_iter().map(|(row, _)| row).collect(), next }
}

/// A source as text, what is wrong with its bytes if they are not UTF-8, and its bytes.
type Source = (Arc<str>, std::result::Result<(), Flaw>, Vec<u8>);

/// The source in a column, also where its bytes are not UTF-8.
fn source(columns: &Columns<'_>, column: usize) -> Result<Source> {
    let bytes = match columns.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        other => other.as_str()?.as_bytes().to_vec(),
    };
    let flaw = std::str::from_utf8(&bytes).map(drop).map_err(|error| Flaw::new("source", error.to_string()));
    Ok((String::from_utf8_lossy(&bytes).into(), flaw, bytes))
}

pub(super) fn alerts(
    file: &Connection,
    after: Option<Position>,
    limit: usize,
) -> Result<Page<(WindowKey, Stored<i32>)>> {
    // One more row than requested shows whether there are more.
    let rows = rows_of(limit.saturating_add(1));
    let alert = |columns: &Columns<'_>| {
        let ((source, flaw, bytes), end) = (source(columns, 0)?, columns.get(1)?);
        let count = flaw.and_then(|()| event_count(column(columns, 2, "event_count")?));
        let key = || RowKey::Window { source: source.clone(), window_end: end };
        let count = count.map_err(|flaw| flaw.of("alerts", key()));
        Ok(((WindowKey { source: source.clone(), end }, count), cursor(0, end, &bytes)))
    };
    let rows = match after {
        None => file
            .prepare_cached("SELECT source, ts, event_count FROM alerts ORDER BY source, ts LIMIT ?1")?
            .query_map([rows], alert)?
            .collect::<Result<_>>()?,
        Some(Position { source, end, .. }) => file
            .prepare_cached(
                "SELECT source, ts, event_count FROM alerts WHERE (source, ts) > (CAST(?1 AS TEXT), ?2)
                 ORDER BY source, ts LIMIT ?3",
            )?
            .query_map(params![source, end, rows], alert)?
            .collect::<Result<_>>()?,
    };
    Ok(page(rows, limit))
}

pub(super) fn all_counts(
    file: &Connection,
    after: Option<Position>,
    limit: usize,
) -> Result<Page<StoredCount>> {
    let rows = rows_of(limit.saturating_add(1));
    let count = |columns: &Columns<'_>| {
        let (partition, end): (i32, i64) = (columns.get(0)?, columns.get(1)?);
        let (source, flaw, bytes) = source(columns, 2)?;
        let window = WindowKey { source, end };
        let count = match flaw {
            Ok(()) => stored_count(partition, &window, columns, 3),
            Err(flaw) => {
                let key = RowKey::Count {
                    partition: partition.into(),
                    source: window.source.clone(),
                    window_end: end,
                };
                Err(flaw.of("window_counts", key))
            }
        };
        let cursor = cursor(i64::from(partition), end, &bytes);
        Ok((StoredCount { partition, place: None, window, count }, cursor))
    };
    let columns = "SELECT partition, window_end, source, count, through_offset FROM window_counts
         WHERE partition <= 0x7fffffff";
    let order = "ORDER BY partition, window_end, source";
    let rows = match after {
        None => file
            .prepare_cached(&format!("{columns} AND partition >= -0x80000000 {order} LIMIT ?1"))?
            .query_map([rows], count)?
            .collect::<Result<_>>()?,
        Some(Position { partition, end, source }) => file
            .prepare_cached(&format!(
                "{columns} AND (partition, window_end, source) > (?1, ?2, CAST(?3 AS TEXT)) {order} LIMIT ?4"
            ))?
            .query_map(params![partition, end, source, rows], count)?
            .collect::<Result<_>>()?,
    };
    Ok(page(rows, limit))
}
