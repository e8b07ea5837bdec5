//! The writer thread: all waiting requests share one transaction.
//!
//! Each commit costs one disk flush, regardless of its size, so requests that arrive during a commit share the next
//! one. A transaction takes requests until [`TRANSACTION_BYTES`]; a single request is never split.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, Statement, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use crate::event::{Event, Health, Row};
use crate::sqlite::{ErrorClass, Panicked, SqliteError, Thread, diagnose};
use crate::store::cell::{Cells, DeadLetterCells, Tie};
use crate::store::embedded::schema::{EVENT_PARAMETERS, Events, ROWS_AT_ONCE};
use crate::store::embedded::{Operation, read};
use crate::store::{Alert, Binding, Count, Outcome, Progress, WindowKey, row_timestamp};

/// A transaction is closed when its requests have this many bytes.
const TRANSACTION_BYTES: usize = 4 << 20;

/// Length of the queue of requests.
const QUEUE: usize = 256;

/// A write.
#[derive(Debug)]
pub(super) enum Change {
    Bind(Box<Binding>),
    Progress(i32, Progress),
    Register(i32),
    Counts(i32, Vec<(WindowKey, Count)>),
    Alerts(Vec<Alert>),
    Rows(i32, PackedRows),
}

/// The rows of a call, copied without one allocation per row.
#[derive(Debug, Default)]
pub(super) struct PackedRows {
    events: Vec<PackedEvent>,
    /// The concatenated sources and clients of the events.
    text: String,
    dead_letters: Vec<(i64, DeadLetterCells)>,
}

#[derive(Debug)]
struct PackedEvent {
    offset: i64,
    id: i64,
    ts: i64,
    health: Health,
    source_bytes: usize,
    client_bytes: usize,
}

impl PackedEvent {
    /// Takes its source and client from the beginning of the text of all events from it on.
    fn take_text<'a>(&self, text: &mut &'a str) -> (&'a str, &'a str) {
        let (source, remaining) = text.split_at(self.source_bytes);
        let (client, remaining) = remaining.split_at(self.client_bytes);
        *text = remaining;
        (source, client)
    }
}

impl From<&[(i64, Row)]> for PackedRows {
    fn from(rows: &[(i64, Row)]) -> Self {
        let text = rows.iter().map(|(_, row)| match row {
            Row::Event(event) => event.source.len() + event.client.len(),
            Row::DeadLetter(_) => 0,
        });
        let mut packed = Self {
            events: Vec::with_capacity(rows.len()),
            text: String::with_capacity(text.sum()),
            dead_letters: Vec::new(),
        };
        for (offset, row) in rows {
            match row {
                Row::Event(event) => {
                    packed.text.push_str(&event.source);
                    packed.text.push_str(&event.client);
                    packed.events.push(PackedEvent {
                        offset: *offset,
                        id: event.id,
                        ts: event.ts,
                        health: event.health,
                        source_bytes: event.source.len(),
                        client_bytes: event.client.len(),
                    });
                }
                Row::DeadLetter(letter) => packed.dead_letters.push((*offset, letter.clone().into())),
            }
        }
        packed
    }
}

impl Change {
    /// Its approximate size in bytes.
    fn bytes(&self) -> usize {
        match self {
            Change::Bind(_) | Change::Progress(..) | Change::Register(_) => 64,
            Change::Counts(_, counts) => counts.iter().map(|(key, _)| 64 + key.source.len()).sum(),
            Change::Alerts(alerts) => alerts.iter().map(|alert| 64 + alert.source.len()).sum(),
            Change::Rows(_, rows) => {
                let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
                let letters =
                    rows.dead_letters.iter().map(|(_, cells)| 64 + bytes(&cells.key) + bytes(&cells.value));
                rows.events.len() * 64 + rows.text.len() + letters.sum::<usize>()
            }
        }
    }

    /// Applies it. For a binding, returns the existing one.
    fn apply(&self, file: &Connection, events: &Events) -> Result<Option<Binding>> {
        match self {
            Change::Bind(binding) => return bind(file, binding),
            Change::Progress(partition, progress) => write_progress(file, *partition, *progress)?,
            Change::Register(partitions) => register(file, *partitions)?,
            Change::Counts(partition, counts) => write_counts(file, *partition, counts)?,
            Change::Alerts(alerts) => write_alerts(file, alerts)?,
            Change::Rows(partition, rows) => write_rows(file, events, *partition, rows)?,
        }
        Ok(None)
    }
}

#[derive(Debug)]
struct Request {
    operation: Operation,
    change: Change,
    reply: oneshot::Sender<Outcome<Option<Binding>>>,
}

/// The handle of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    thread: Thread<Request>,
    path: PathBuf,
}

impl Writer {
    pub fn start(connection: Connection, path: PathBuf, events: Arc<Events>) -> std::io::Result<Self> {
        let mut writer = WriterLoop { connection, path: path.clone(), events };
        let thread = Thread::start("store writer", QUEUE, move |requests| writer.run(requests))?;
        Ok(Self { thread, path })
    }

    pub async fn write(&self, operation: Operation, change: Change) -> Outcome<Option<Binding>> {
        let (reply, response) = oneshot::channel();
        if let Err(panicked) = self.thread.send(Request { operation, change, reply }).await {
            return operation.panicked(&self.path, panicked);
        }
        match response.await {
            Ok(outcome) => outcome,
            Err(_) => operation.panicked(&self.path, Panicked::During),
        }
    }
}

struct WriterLoop {
    connection: Connection,
    path: PathBuf,
    events: Arc<Events>,
}

impl WriterLoop {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let group = gather(first, &mut requests);
            if !group.is_empty() {
                self.serve(group);
            }
        }
    }

    fn serve(&mut self, group: Vec<Request>) {
        match self.transact(&group) {
            Ok(responses) => {
                for (request, response) in group.into_iter().zip(responses) {
                    let _ = request.reply.send(Outcome::Acknowledged(response));
                }
            }
            // It is unknown which request failed: each is retried alone.
            Err(error) if group.len() > 1 && diagnose(&error, &self.path).0 == ErrorClass::Refused => {
                for request in group {
                    self.serve(vec![request]);
                }
            }
            Err(error) => {
                let error = SqliteError::new(error);
                for Request { operation, reply, .. } in group {
                    let _ = reply.send(operation.failed(&self.path, error.clone()));
                }
            }
        }
    }

    /// Applies all of them or none.
    fn transact(&mut self, group: &[Request]) -> Result<Vec<Option<Binding>>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let responses: Result<Vec<_>> =
            group.iter().map(|request| request.change.apply(&transaction, &self.events)).collect();
        let responses = responses?;
        transaction.commit()?;
        Ok(responses)
    }
}

/// The requests of one transaction: the first one, and waiting ones up to [`TRANSACTION_BYTES`].
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.change.bytes();
    let mut group = vec![first];
    while bytes < TRANSACTION_BYTES
        && let Ok(next) = requests.try_recv()
    {
        bytes += next.change.bytes();
        group.push(next);
    }
    // Requests whose callers no longer wait are not applied.
    group.retain(|request| !request.reply.is_closed());
    group
}

fn bind(file: &Connection, binding: &Binding) -> Result<Option<Binding>> {
    if let Some(before) = read::binding(file)? {
        return Ok(Some(before));
    }
    let Binding {
        topic,
        topic_id,
        window,
        max_mutation_bytes,
        decoder_version,
        layout,
        schema_version,
        consistency,
        origins,
    } = binding;
    let (consistency, datacenter) = consistency.columns();
    let json = |text: serde_json::Result<String>| {
        text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    };
    file.prepare_cached(
        "INSERT INTO pipeline VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        topic,
        topic_id,
        window.size_ms,
        window.slide_ms,
        window.threshold,
        json(serde_json::to_string(&window.health))?,
        max_mutation_bytes,
        decoder_version,
        json(serde_json::to_string(&layout.events))?,
        layout.counts.block_ms,
        layout.counts.shards,
        schema_version,
        consistency,
        datacenter,
        json(serde_json::to_string(origins))?,
    ])?;
    Ok(None)
}

/// Resolves a write of existing cells; returns the cells to store, if they change.
fn resolved<T: Tie + Clone + PartialEq>(stored: Cells<T>, written: Cells<T>) -> Option<Cells<T>> {
    let mut cells = stored.clone();
    cells.merge(written);
    (cells != stored).then_some(cells)
}

fn write_progress(file: &Connection, partition: i32, progress: Progress) -> Result<()> {
    let mut next_offset = Cells { timestamp: progress.write_timestamp(), values: progress.next_offset };
    let mut origin = Cells { timestamp: 1, values: progress.origin };
    let stored = file
        .prepare_cached(
            "SELECT next_offset, next_offset_timestamp, origin, origin_timestamp FROM progress
             WHERE partition = ?1",
        )?
        .query_row([partition], |columns| {
            Ok((
                Cells { values: columns.get(0)?, timestamp: columns.get(1)? },
                Cells { values: columns.get(2)?, timestamp: columns.get(3)? },
            ))
        })
        .optional()?;
    if let Some((stored_next_offset, stored_origin)) = stored {
        next_offset.merge(stored_next_offset);
        origin.merge(stored_origin);
    }
    file.prepare_cached("INSERT OR REPLACE INTO progress VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        partition,
        next_offset.values,
        next_offset.timestamp,
        origin.values,
        origin.timestamp,
    ])?;
    Ok(())
}

/// A max-register: the greatest number is kept, as with write timestamps that equal it.
fn register(file: &Connection, partitions: i32) -> Result<()> {
    file.prepare_cached(
        "INSERT INTO registry VALUES (1, ?1) ON CONFLICT DO UPDATE SET partitions = ?1 WHERE partitions < ?1",
    )?
    .execute([partitions])?;
    Ok(())
}

fn write_counts(file: &Connection, partition: i32, counts: &[(WindowKey, Count)]) -> Result<()> {
    // A greater timestamp wins without a read of what it replaces; ties are resolved below.
    let mut write = file.prepare_cached(
        "INSERT INTO window_counts VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE
         SET count = ?4, through_offset = ?5, write_timestamp = ?6 WHERE write_timestamp < ?6",
    )?;
    let mut read = file.prepare_cached(
        "SELECT count, through_offset, write_timestamp FROM window_counts
         WHERE partition = ?1 AND window_end = ?2 AND source = ?3",
    )?;
    let mut replace = file.prepare_cached(
        "UPDATE window_counts SET count = ?4, through_offset = ?5, write_timestamp = ?6
         WHERE partition = ?1 AND window_end = ?2 AND source = ?3",
    )?;
    for (WindowKey { source, end }, count) in counts {
        let timestamp = count.write_timestamp();
        let row = params![partition, end, source, count.count, count.through_offset, timestamp];
        if write.execute(row)? == 1 {
            continue;
        }
        let stored = read.query_row(params![partition, end, source], |columns| {
            let values = Count { count: columns.get(0)?, through_offset: columns.get(1)? };
            Ok(Cells { values, timestamp: columns.get(2)? })
        })?;
        if let Some(Cells { timestamp, values }) = resolved(stored, Cells { timestamp, values: *count }) {
            let row = params![partition, end, source, values.count, values.through_offset, timestamp];
            replace.execute(row)?;
        }
    }
    Ok(())
}

fn write_alerts(file: &Connection, alerts: &[Alert]) -> Result<()> {
    let mut write = file.prepare_cached(
        "INSERT INTO alerts VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
         SET event_count = ?3, write_timestamp = ?4 WHERE write_timestamp < ?4",
    )?;
    let mut read =
        file.prepare_cached("SELECT event_count, write_timestamp FROM alerts WHERE source = ?1 AND ts = ?2")?;
    let mut replace = file.prepare_cached(
        "UPDATE alerts SET event_count = ?3, write_timestamp = ?4 WHERE source = ?1 AND ts = ?2",
    )?;
    for Alert { source, ts, event_count } in alerts {
        let timestamp = i64::from(*event_count);
        if write.execute(params![source, ts, event_count, timestamp])? == 1 {
            continue;
        }
        let stored = read.query_row(params![source, ts], |columns| {
            Ok(Cells { values: columns.get(0)?, timestamp: columns.get(1)? })
        })?;
        if let Some(cells) = resolved(stored, Cells { timestamp, values: *event_count }) {
            replace.execute(params![source, ts, cells.values, cells.timestamp])?;
        }
    }
    Ok(())
}

fn write_rows(file: &Connection, events: &Events, partition: i32, rows: &PackedRows) -> Result<()> {
    let mut write_many = file.prepare_cached(&events.insert_many)?;
    let mut text = rows.text.as_str();
    for chunk in rows.events.chunks(ROWS_AT_ONCE) {
        let before = text;
        if chunk.len() == ROWS_AT_ONCE {
            for (index, event) in chunk.iter().enumerate() {
                let (source, client) = event.take_text(&mut text);
                bind_event(&mut write_many, index * EVENT_PARAMETERS, partition, event, source, client)?;
            }
            if write_many.raw_execute()? == ROWS_AT_ONCE {
                continue;
            }
            // Some rows exist.
            text = before;
        }
        for event in chunk {
            let (source, client) = event.take_text(&mut text);
            write_event(file, events, partition, event, source, client)?;
        }
    }
    for (offset, cells) in &rows.dead_letters {
        let timestamp = row_timestamp(*offset);
        let insert =
            "INSERT INTO dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
        if write_dead_letter(file, insert, partition, *offset, cells)? == 1 {
            continue;
        }
        let stored = file
            .prepare_cached(read::DEAD_LETTER)?
            .query_row(params![partition, offset], |columns| read::dead_letter_cells(columns, 0))?;
        let stored = Cells { timestamp, values: stored };
        if let Some(Cells { values, .. }) = resolved(stored, Cells { timestamp, values: cells.clone() }) {
            let replace = "INSERT OR REPLACE INTO dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            write_dead_letter(file, replace, partition, *offset, &values)?;
        }
    }
    Ok(())
}

fn bind_event(
    statement: &mut Statement<'_>,
    before: usize,
    partition: i32,
    event: &PackedEvent,
    source: &str,
    client: &str,
) -> Result<()> {
    statement.raw_bind_parameter(before + 1, partition)?;
    statement.raw_bind_parameter(before + 2, event.offset)?;
    statement.raw_bind_parameter(before + 3, event.id)?;
    statement.raw_bind_parameter(before + 4, event.ts)?;
    statement.raw_bind_parameter(before + 5, source)?;
    statement.raw_bind_parameter(before + 6, client)?;
    statement.raw_bind_parameter(before + 7, event.health.code())
}

/// Writes one event, or resolves it with the one that is stored.
fn write_event(
    file: &Connection,
    events: &Events,
    partition: i32,
    event: &PackedEvent,
    source: &str,
    client: &str,
) -> Result<()> {
    let mut write = file.prepare_cached(&events.insert)?;
    bind_event(&mut write, 0, partition, event, source, client)?;
    if write.raw_execute()? == 1 {
        return Ok(());
    }
    let PackedEvent { offset, id, ts, health, .. } = *event;
    let timestamp = row_timestamp(offset);
    let stored = file
        .prepare_cached(&events.one)?
        .query_row(params![partition, offset], |columns| read::event(columns, 0, partition, offset))?;
    let values = Event { id, ts, source: source.to_owned(), client: client.to_owned(), health };
    let stored = Cells { timestamp, values: stored };
    if let Some(Cells { values, .. }) = resolved(stored, Cells { timestamp, values }) {
        file.prepare_cached(&events.replace)?.execute(params![
            partition,
            offset,
            values.id,
            values.ts,
            values.source,
            values.client,
            values.health.code(),
        ])?;
    }
    Ok(())
}

fn write_dead_letter(
    file: &Connection,
    statement: &str,
    partition: i32,
    offset: i64,
    cells: &DeadLetterCells,
) -> Result<usize> {
    file.prepare_cached(statement)?.execute(params![
        partition,
        offset,
        cells.reason,
        cells.timestamp,
        cells.key,
        cells.value,
        cells.key_length,
        cells.value_length,
        cells.sha256,
    ])
}

#[cfg(test)]
mod tests {
    use rusqlite::limits::Limit;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::event::{Body, DeadLetter, Reason};
    use crate::sqlite::{self, Options};
    use crate::store::EventLayout;
    use crate::store::embedded::schema::format;

    type Response = oneshot::Receiver<Outcome<Option<Binding>>>;

    fn writer() -> (TempDir, WriterLoop) {
        let folder = tempdir().unwrap();
        let format = format(EventLayout::Original);
        sqlite::create(folder.path(), &format, &Options::default()).unwrap();
        let connection = sqlite::open(folder.path(), &format, &Options::default()).unwrap();
        let path = folder.path().join(format.name);
        (folder, WriterLoop { connection, path, events: Events::new(EventLayout::Original).into() })
    }

    /// A request to write a dead letter of this size.
    fn request(offset: i64, bytes: usize) -> (Request, Response) {
        let body = Body::Whole { key: None, value: Some(vec![b'x'; bytes]) };
        let letter = DeadLetter { reason: Reason::NotJson, timestamp: 0, body };
        let rows = [(offset, Row::DeadLetter(letter))];
        let (reply, response) = oneshot::channel();
        let change = Change::Rows(0, rows[..].into());
        (Request { operation: Operation::about("write rows", 0), change, reply }, response)
    }

    fn refusal(response: &mut Response) -> String {
        match response.try_recv() {
            Ok(Outcome::Refused(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn offsets(writer: &WriterLoop) -> Vec<i64> {
        let rows = read::dead_letters(&writer.connection, 0, 0, i64::MAX, 100).unwrap();
        rows.into_iter().map(|row| row.0).collect()
    }

    #[test]
    fn one_bad_request_refuses_no_other_of_its_transaction() {
        let (_folder, mut writer) = writer();
        writer.connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 10_000).unwrap();
        let sizes = [10, 20_000, 30, 40_000, 50];
        let (group, mut responses): (Vec<_>, Vec<_>) =
            (0..).zip(sizes).map(|(offset, bytes)| request(offset, bytes)).unzip();
        writer.serve(group);
        for (response, bytes) in responses.iter_mut().zip(sizes) {
            match bytes {
                0..10_000 => assert!(matches!(response.try_recv(), Ok(Outcome::Acknowledged(None)))),
                _ => assert!(refusal(response).contains("cannot be stored")),
            }
        }
        assert_eq!(offsets(&writer), [0, 2, 4]);
    }

    #[test]
    fn a_full_disk_refuses_what_does_not_fit_and_loses_nothing() {
        let (_folder, mut writer) = writer();
        let pages: i64 = writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer.connection.pragma_update(None, "max_page_count", pages + 5).unwrap();
        let (group, mut responses): (Vec<_>, Vec<_>) =
            (0..).zip([10, 100_000, 30]).map(|(offset, bytes)| request(offset, bytes)).unzip();
        writer.serve(group);
        assert!(matches!(responses[0].try_recv(), Ok(Outcome::Acknowledged(None))));
        let text = refusal(&mut responses[1]);
        assert!(text.contains("the disk is full") && text.contains(writer.path.to_str().unwrap()), "{text}");
        assert!(matches!(responses[2].try_recv(), Ok(Outcome::Acknowledged(None))));
        assert_eq!(offsets(&writer), [0, 2]);
        writer.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        let (again, mut response) = request(1, 100_000);
        writer.serve(vec![again]);
        assert!(matches!(response.try_recv(), Ok(Outcome::Acknowledged(None))));
        assert_eq!(offsets(&writer), [0, 1, 2]);
    }

    #[test]
    fn a_request_whose_caller_no_longer_waits_is_not_applied() {
        let (_folder, mut writer) = writer();
        let (sender, receiver) = mpsc::channel(8);
        let (dropped, response) = request(0, 10);
        drop(response);
        let (kept, mut response) = request(1, 10);
        sender.try_send(dropped).unwrap();
        sender.try_send(kept).unwrap();
        drop(sender);
        writer.run(receiver);
        assert!(matches!(response.try_recv(), Ok(Outcome::Acknowledged(None))));
        assert_eq!(offsets(&writer), [1]);
    }

    #[test]
    fn requests_beyond_the_limit_of_a_transaction_go_into_the_next_one() {
        let (sender, mut receiver) = mpsc::channel(8);
        let (requests, _responses): (Vec<_>, Vec<_>) =
            (0..5).map(|offset| request(offset, TRANSACTION_BYTES / 2)).unzip();
        for request in requests {
            sender.try_send(request).unwrap();
        }
        let mut groups = Vec::new();
        while let Ok(first) = receiver.try_recv() {
            groups.push(gather(first, &mut receiver).len());
        }
        assert_eq!(groups, [2, 2, 1]);
    }
}
