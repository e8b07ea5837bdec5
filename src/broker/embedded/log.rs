//! The operations on the log, in SQL.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Result as SqliteResult, TransactionBehavior, params};

use crate::broker::{BrokerError, Fetched, LogOffsets, NewRecord, Topic, partition_of_key};
use crate::event::Record;
use crate::sqlite::{Damage, ErrorClass, SqliteError, diagnose};

/// Maximum number of partitions of a topic.
const MAX_PARTITIONS: i32 = 100_000;

/// Records deleted in one transaction: few, so that appends do not wait for long.
const DELETED_PER_TRANSACTION: i64 = 10_000;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The log does not allow it.
    Log(BrokerError),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// The file's content is invalid.
    Damaged(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl Failure {
    /// The error for the caller.
    pub fn into_error(self, what: impl FnOnce() -> String, path: &Path) -> BrokerError {
        match self {
            Failure::Log(error) => error,
            Failure::Sqlite(error) => {
                let (class, meaning) = diagnose(&error, path);
                let what = format!("{} in {}: {meaning}", what(), path.display());
                let cause = Some(SqliteError::new(error).into());
                match class {
                    ErrorClass::Refused => BrokerError::Fatal { what, cause },
                    ErrorClass::Unknown => BrokerError::Retriable { what, cause },
                }
            }
            Failure::Damaged(damage) => {
                let what = format!("{} in {}: the file is damaged", what(), path.display());
                BrokerError::Fatal { what, cause: Some(Damage(damage).into()) }
            }
        }
    }
}

fn refused<T>(what: String) -> Result<T, Failure> {
    Err(Failure::Log(BrokerError::Fatal { what, cause: None }))
}

fn no_partition<T>(topic: &str, partition: i32) -> Result<T, Failure> {
    refused(format!("topic {topic} has no partition {partition}"))
}

/// A topic's number in the other tables, and its number of partitions.
pub(super) struct TopicRow {
    number: i64,
    pub partitions: i32,
}

pub(super) fn find(file: &Connection, topic: &str) -> Result<TopicRow, Failure> {
    let mut query = file.prepare_cached("SELECT number, partitions FROM topics WHERE name = ?1")?;
    let found = query.query_row([topic], |row| Ok(TopicRow { number: row.get(0)?, partitions: row.get(1)? }));
    found.optional()?.ok_or_else(|| Failure::Log(BrokerError::UnknownTopic(topic.to_owned())))
}

pub(super) fn describe(file: &Connection, topic: &str) -> Result<Topic, Failure> {
    let mut query =
        file.prepare_cached("SELECT id, partitions, replication, compacted FROM topics WHERE name = ?1")?;
    let description = query.query_row([topic], |row| {
        Ok(Topic {
            name: topic.to_owned(),
            id: row.get(0)?,
            partitions: row.get(1)?,
            replication: row.get(2)?,
            compacted: row.get(3)?,
        })
    });
    description.optional()?.ok_or_else(|| Failure::Log(BrokerError::UnknownTopic(topic.to_owned())))
}

pub(super) fn offsets(file: &Connection, topic: &str, partition: i32) -> Result<LogOffsets, Failure> {
    offsets_of(file, &find(file, topic)?, topic, partition)
}

fn offsets_of(
    file: &Connection,
    found: &TopicRow,
    topic: &str,
    partition: i32,
) -> Result<LogOffsets, Failure> {
    let mut query =
        file.prepare_cached("SELECT log_start, log_end FROM partitions WHERE topic = ?1 AND partition = ?2")?;
    let offsets = query
        .query_row(params![found.number, partition], |row| {
            Ok(LogOffsets { start: row.get(0)?, end: row.get(1)? })
        })
        .optional()?;
    match offsets {
        Some(offsets) => Ok(offsets),
        None => no_partition(topic, partition),
    }
}

/// Checksum of a record's content, without its position.
fn checksum(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&timestamp.to_be_bytes());
    for part in [key, value] {
        // Null and empty differ.
        hasher.update(&part.map_or(-1, |bytes| bytes.len() as i64).to_be_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.finalize()
}

pub(super) fn fetch(
    file: &Connection,
    topic: &str,
    partition: i32,
    offset: i64,
    max_records: usize,
    max_bytes: usize,
) -> Result<Fetched, Failure> {
    let found = find(file, topic)?;
    let log = offsets_of(file, &found, topic, partition)?;
    if !(log.start..=log.end).contains(&offset) {
        return Err(Failure::Log(BrokerError::OutOfRange { topic: topic.to_owned(), partition, offset }));
    }
    let mut query = file.prepare_cached(
        "SELECT offset, timestamp, key, value, checksum FROM records
         WHERE topic = ?1 AND partition = ?2 AND offset >= ?3 ORDER BY offset LIMIT ?4",
    )?;
    let limit = i64::try_from(max_records.max(1)).unwrap_or(i64::MAX).min(log.end - offset);
    let mut rows = query.query(params![found.number, partition, offset, limit])?;
    let (mut records, mut bytes, mut next_offset) = (Vec::new(), 0, offset);
    while next_offset < offset + limit && (records.is_empty() || bytes < max_bytes) {
        let here = |damage| {
            Failure::Damaged(format!("topic {topic} partition {partition} offset {next_offset} {damage}"))
        };
        let Some(row) = rows.next()?.filter(|row| row.get(0) == Ok(next_offset)) else {
            return Err(here("is missing"));
        };
        let (timestamp, key, value): (i64, Option<Vec<u8>>, Option<Vec<u8>>) =
            (row.get(1)?, row.get(2)?, row.get(3)?);
        if row.get::<_, u32>(4)? != checksum(timestamp, key.as_deref(), value.as_deref()) {
            return Err(here("was altered: its checksum is wrong"));
        }
        let record = Record { partition, offset: next_offset, timestamp, key, value };
        bytes += record.len();
        records.push(record);
        next_offset += 1;
    }
    Ok(Fetched { records, next_offset })
}

pub(super) fn create_topic(file: &mut Connection, topic: Topic) -> Result<Topic, Failure> {
    let Topic { name, id, partitions, replication, compacted } = &topic;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=249).contains(&name.len()) || !name.bytes().all(legal) || [".", ".."].contains(&name.as_str()) {
        return refused(format!(
            "a topic cannot be named {name:?}: 1 to 249 letters, digits, dots, underscores and hyphens"
        ));
    }
    if !(1..=MAX_PARTITIONS).contains(partitions) {
        return refused(format!("topic {name} cannot have {partitions} partitions: 1 to {MAX_PARTITIONS}"));
    }
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction.execute(
        "INSERT INTO topics (name, id, partitions, replication, compacted) VALUES (?1, ?2, 0, ?3, ?4)
         ON CONFLICT DO NOTHING",
        params![name, id, replication, compacted],
    )?;
    if inserted == 0 {
        return Err(Failure::Log(BrokerError::TopicExists(name.clone())));
    }
    grow(&transaction, name, *partitions)?;
    transaction.commit()?;
    Ok(topic)
}

/// Adds partitions up to that number.
fn grow(file: &Connection, topic: &str, partitions: i32) -> Result<(), Failure> {
    let found = find(file, topic)?;
    let mut add = file.prepare_cached("INSERT INTO partitions VALUES (?1, ?2, 0, 0)")?;
    for partition in found.partitions..partitions {
        add.execute(params![found.number, partition])?;
    }
    let partitions = partitions.max(found.partitions);
    file.execute("UPDATE topics SET partitions = ?2 WHERE number = ?1", params![found.number, partitions])?;
    Ok(())
}

pub(super) fn add_partitions(file: &mut Connection, topic: &str, partitions: i32) -> Result<(), Failure> {
    if partitions > MAX_PARTITIONS {
        return refused(format!("topic {topic} cannot have {partitions} partitions: 1 to {MAX_PARTITIONS}"));
    }
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    grow(&transaction, topic, partitions)?;
    Ok(transaction.commit()?)
}

pub(super) fn set_compacted(file: &mut Connection, topic: &str, compacted: bool) -> Result<(), Failure> {
    match file.execute("UPDATE topics SET compacted = ?2 WHERE name = ?1", params![topic, compacted])? {
        0 => Err(Failure::Log(BrokerError::UnknownTopic(topic.to_owned()))),
        _ => Ok(()),
    }
}

/// Appends in one transaction. Records without key and partition are distributed round-robin; `keyless` of them were
/// appended before.
pub(super) fn append(
    file: &mut Connection,
    topic: &str,
    records: Vec<NewRecord>,
    mut keyless: u32,
) -> Result<Vec<(i32, i64)>, Failure> {
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = find(&transaction, topic)?;
    let mut ends = BTreeMap::new();
    let mut positions = Vec::with_capacity(records.len());
    let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for NewRecord { key, value, timestamp, partition } in records {
        let partition = match (partition, &key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, found.partitions),
            (None, None) => {
                let partition = keyless % found.partitions.max(1) as u32;
                keyless = keyless.wrapping_add(1);
                partition as i32
            }
        };
        let end = match ends.entry(partition) {
            Entry::Occupied(end) => end.into_mut(),
            Entry::Vacant(slot) => slot.insert(offsets_of(&transaction, &found, topic, partition)?.end),
        };
        let checksum = checksum(timestamp, key.as_deref(), value.as_deref());
        insert.execute(params![found.number, partition, *end, timestamp, key, value, checksum])?;
        positions.push((partition, *end));
        *end += 1;
    }
    for (partition, end) in ends {
        transaction
            .prepare_cached("UPDATE partitions SET log_end = ?3 WHERE topic = ?1 AND partition = ?2")?
            .execute(params![found.number, partition, end])?;
    }
    drop(insert);
    transaction.commit()?;
    Ok(positions)
}

pub(super) fn delete_below(
    file: &mut Connection,
    topic: &str,
    partition: i32,
    start: i64,
) -> Result<(), Failure> {
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = find(&transaction, topic)?;
    let log = offsets_of(&transaction, &found, topic, partition)?;
    let start = start.min(log.end).max(log.start);
    transaction.execute(
        "UPDATE partitions SET log_start = ?3 WHERE topic = ?1 AND partition = ?2",
        params![found.number, partition, start],
    )?;
    transaction.commit()?;
    Ok(delete_records(file, found.number, partition, start)?)
}

/// Deletes the records of a partition below `end`, in chunks. If this is interrupted, the next deletion continues.
fn delete_records(file: &Connection, topic: i64, partition: i32, end: i64) -> SqliteResult<()> {
    let mut first = file.prepare_cached(
        "SELECT offset FROM records WHERE topic = ?1 AND partition = ?2 AND offset < ?3 ORDER BY offset LIMIT 1",
    )?;
    let mut delete =
        file.prepare_cached("DELETE FROM records WHERE topic = ?1 AND partition = ?2 AND offset < ?3")?;
    while let Some(first) =
        first.query_row(params![topic, partition, end], |row| row.get::<_, i64>(0)).optional()?
    {
        let end = end.min(first.saturating_add(DELETED_PER_TRANSACTION));
        delete.execute(params![topic, partition, end])?;
    }
    Ok(())
}

pub(super) fn delete_topic(file: &mut Connection, topic: &str) -> Result<(), Failure> {
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = find(&transaction, topic)?;
    transaction.execute("DELETE FROM topics WHERE number = ?1", [found.number])?;
    transaction.execute("DELETE FROM partitions WHERE topic = ?1", [found.number])?;
    transaction.commit()?;
    // Deletes the records of this topic, and of others whose deletion was interrupted here.
    let mut next = file.prepare_cached(
        "SELECT topic, partition FROM records WHERE (topic, partition) > (?1, ?2)
         ORDER BY topic, partition LIMIT 1",
    )?;
    let mut exists = file.prepare_cached("SELECT EXISTS (SELECT 1 FROM topics WHERE number = ?1)")?;
    let mut at = (i64::MIN, i32::MIN);
    while let Some(found) = next
        .query_row(params![at.0, at.1], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i32>(1)?)))
        .optional()?
    {
        at = found;
        match exists.query_row([at.0], |row| row.get(0))? {
            true => at.1 = i32::MAX,
            false => delete_records(file, at.0, at.1, i64::MAX)?,
        }
    }
    Ok(())
}
