//! The writes: the content of requests, and their concurrency.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, MaybeUnset};
use tracing::warn;

use super::execute::concurrently;
use super::{Connection, Failed, RequestKind};
use crate::event::{Body, DeadLetter, Event, Row};
use crate::store::{Alert, Progress, row_timestamp};

/// Maximum statements of one request: the number is 16 bits wide in the protocol.
const MOST_STATEMENTS: usize = u16::MAX as usize;

/// Bytes that the protocol adds to the values of one statement of a batch: kind, id, number of values, and a length for
/// each of them. (An upper bound.)
pub(super) const STATEMENT_BYTES: usize = 1 + 2 + 16 + 2 + 11 * 4;

/// Maximum partitions of the store of one write, and its maximum bytes where it has several. A node logs a warning about a
/// batch of more than 10 partitions, or of several that has more than 5 KiB
/// (`unlogged_batch_across_partitions_warn_threshold`, `batch_size_warn_threshold`).
const MOST_PARTITIONS: usize = 10;
const SEVERAL_PARTITIONS_BYTES: usize = 4 << 10;

/// Maximum number of batches that are kept for reuse, and maximum statements of one of them.
const KEPT_BATCHES: usize = 32;
const KEPT_STATEMENTS: usize = 512;

/// A row to write.
pub(super) trait RequestRow: SerializeRow + Sync {
    /// Its approximate size in a request, in bytes.
    fn bytes(&self) -> usize;

    /// True if both belong to one partition of the store.
    fn same_partition(&self, other: &Self) -> bool;
}

struct EventRow<'a> {
    partition: i32,
    bucket: Option<i64>,
    offset: i64,
    event: &'a Event,
}

impl SerializeRow for EventRow<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        let Event { id, ts, source, client, health } = self.event;
        let (partition, offset, ts) = (self.partition, self.offset, CqlTimestamp(*ts));
        let (health, timestamp) = (health.code(), row_timestamp(offset));
        match self.bucket {
            None => (partition, offset, id, ts, source, client, health, timestamp).serialize(context, writer),
            Some(bucket) => (partition, bucket, offset, id, ts, source, client, health, timestamp)
                .serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl RequestRow for EventRow<'_> {
    fn bytes(&self) -> usize {
        STATEMENT_BYTES + 48 + self.event.source.len() + self.event.client.len()
    }

    fn same_partition(&self, other: &Self) -> bool {
        (self.partition, self.bucket) == (other.partition, other.bucket)
    }
}

struct DeadLetterRow<'a> {
    partition: i32,
    offset: i64,
    letter: &'a DeadLetter,
}

fn set<T>(value: Option<T>) -> MaybeUnset<T> {
    value.map_or(MaybeUnset::Unset, MaybeUnset::Set)
}

impl SerializeRow for DeadLetterRow<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        let DeadLetter { reason, timestamp, body } = self.letter;
        let (key, value, key_length, value_length, sha256) = match body {
            Body::Whole { key, value } => (key.as_deref(), value.as_deref(), None, None, None),
            Body::Digest { key_length, value_length, sha256 } => {
                (None, None, *key_length, *value_length, Some(sha256.as_slice()))
            }
        };
        let values = (
            (self.partition, self.offset, reason.code(), CqlTimestamp(*timestamp)),
            (set(key), set(value), set(key_length), set(value_length), set(sha256)),
        );
        let ((partition, offset, reason, timestamp), (key, value, key_length, value_length, sha256)) = values;
        let written_at = row_timestamp(offset);
        (partition, offset, reason, timestamp, key, value, key_length, value_length, sha256, written_at)
            .serialize(context, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl RequestRow for DeadLetterRow<'_> {
    fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let body = match &self.letter.body {
            Body::Whole { key, value } => length(key) + length(value),
            Body::Digest { .. } => 48,
        };
        STATEMENT_BYTES + 64 + body
    }

    fn same_partition(&self, other: &Self) -> bool {
        self.partition == other.partition
    }
}

impl SerializeRow for &Alert {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        let Alert { source, ts, event_count } = self;
        (source, CqlTimestamp(*ts), event_count, i64::from(*event_count)).serialize(context, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl RequestRow for &Alert {
    fn bytes(&self) -> usize {
        STATEMENT_BYTES + 20 + self.source.len()
    }

    fn same_partition(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

type BoxedRows<'a, T> = Box<dyn Iterator<Item = T> + Send + 'a>;

/// Splits rows into requests: each of one partition of the store, and of at most this many bytes unless it is a single
/// row. Lazily, so that only rows in flight are in memory twice.
pub(super) fn requests<T: RequestRow>(
    rows: impl Iterator<Item = T>,
    most_bytes: usize,
) -> impl Iterator<Item = (Vec<T>, usize)> {
    let mut rows = rows.peekable();
    std::iter::from_fn(move || {
        let first = rows.next()?;
        let mut bytes = first.bytes();
        let mut request = vec![first];
        while let Some(row) = rows.next_if(|row| {
            bytes.saturating_add(row.bytes()) <= most_bytes
                && request.len() < MOST_STATEMENTS
                && row.same_partition(&request[0])
        }) {
            bytes += row.bytes();
            request.push(row);
        }
        Some((request, bytes))
    })
}

/// Splits rows, sorted by partition of the store, into requests of one partition each, or of several if they are small: a
/// write of one row costs a node some 0.4 ms, most of it for the request.
pub(super) fn shared_requests<T: RequestRow>(
    rows: impl Iterator<Item = T>,
    most_bytes: usize,
) -> impl Iterator<Item = (Vec<T>, usize)> {
    let most_shared = most_bytes.min(SEVERAL_PARTITIONS_BYTES);
    let mut of_one_partition = requests(rows, most_bytes).peekable();
    std::iter::from_fn(move || {
        let (mut request, mut bytes) = of_one_partition.next()?;
        for _ in 1..MOST_PARTITIONS {
            let Some((rows, more)) = of_one_partition.next_if(|(_, more)| bytes + more <= most_shared) else {
                break;
            };
            request.extend(rows);
            bytes += more;
        }
        Some((request, bytes))
    })
}

/// Batches for the insert of events, kept from request to request: a batch needs a copy of its statement for each row,
/// and most batches have about as many rows as the previous one.
#[derive(Default)]
pub(super) struct Batches(Mutex<Vec<Batch>>);

impl Batches {
    fn take(&self, statement: &PreparedStatement, rows: usize) -> Batch {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut batch = kept.unwrap_or_else(|| batch_of(Vec::new()));
        batch.statements.resize_with(rows, || BatchStatement::PreparedStatement(statement.clone()));
        batch
    }

    fn give(&self, batch: Batch) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_BATCHES && batch.statements.len() <= KEPT_STATEMENTS {
            kept.push(batch);
        }
    }
}

fn batch_of(statements: Vec<BatchStatement>) -> Batch {
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_is_idempotent(true);
    batch
}

pub(super) fn copies(statement: &PreparedStatement, rows: usize) -> Batch {
    batch_of(vec![BatchStatement::PreparedStatement(statement.clone()); rows])
}

/// Decides when to warn about a large partition of the store.
pub(super) struct SizeWarnings {
    warn_rows: i64,
    /// For each partition, the number of rows of the next warning.
    next: Mutex<BTreeMap<i32, i64>>,
}

impl SizeWarnings {
    pub(super) fn new(warn_rows: i64) -> Self {
        Self { warn_rows: warn_rows.max(1), next: Mutex::default() }
    }

    /// True if a warning is due at this many rows: the first time that they exceed the limit, and each time that they
    /// have doubled since.
    fn passes(&self, partition: i32, rows: i64) -> bool {
        if rows < self.warn_rows {
            return false;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next.entry(partition).or_insert(self.warn_rows);
        let passed = rows >= *next;
        while rows >= *next && *next < i64::MAX {
            *next = next.saturating_mul(2);
        }
        passed
    }
}

impl Connection {
    pub(super) async fn write_progress(&self, partition: i32, progress: Progress) -> Result<(), Failed> {
        let what = || {
            format!(
                "write progress {} of partition {partition} into {}.progress",
                progress.next_offset, self.keyspace
            )
        };
        let Progress { origin, next_offset } = progress;
        // One mutation, so that a row is never written in part.
        let statements = [&self.statements.insert_next_offset, &self.statements.insert_origin];
        let batch = batch_of(statements.map(|statement| statement.clone().into()).into());
        let values = ((partition, next_offset, progress.write_timestamp()), (partition, origin, 1i64));
        let _admitted = self.limits.admit(0).await;
        self.requests.add(RequestKind::WriteProgress);
        self.session.batch(&batch, values).await.map_err(|error| self.failed(what, &error))?;
        let rows = next_offset.saturating_sub(origin);
        if self.layout.events.bucket(0).is_none() && self.size_warnings.passes(partition, rows) {
            warn!(
                partition,
                rows,
                table = %format_args!("{}.events", self.keyspace),
                "all rows of a partition of the topic are in one partition of the table, which becomes slow to \
                 compact and to repair: the layout in buckets, chosen with a new keyspace, has no such limit"
            );
        }
        Ok(())
    }

    pub(super) async fn write_alerts(&self, alerts: &[Alert]) -> Result<(), Failed> {
        let mut alerts: Vec<&Alert> = alerts.iter().collect();
        alerts.sort();
        let write = shared_requests(alerts.into_iter(), self.request_bytes)
            .map(|(alerts, bytes)| self.write_some_alerts(alerts, bytes));
        concurrently(write, self.limits.requests(), drop).await
    }

    /// One request.
    async fn write_some_alerts(&self, alerts: Vec<&Alert>, bytes: usize) -> Result<(), Failed> {
        let what = || {
            let source = |alert: Option<&&Alert>| alert.map_or("", |alert| &alert.source).to_owned();
            let (first, last) = (source(alerts.first()), source(alerts.last()));
            let number = alerts.len();
            format!("write {number} alerts of sources {first:?} to {last:?} into {}.alerts", self.keyspace)
        };
        let _admitted = self.limits.admit(bytes).await;
        self.requests.add(RequestKind::WriteAlerts);
        let insert = &self.statements.insert_alert;
        // A single one costs less without a batch.
        let result = match alerts[..] {
            [alert] => self.session.execute_unpaged(insert, alert).await.map(drop),
            _ => self.session.batch(&copies(insert, alerts.len()), &alerts[..]).await.map(drop),
        };
        result.map_err(|error| self.failed(what, &error))
    }

    pub(super) async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Result<(), Failed> {
        // Boxed, because the compiler does not infer that futures with these closures are `Send`.
        let events: BoxedRows<'_, EventRow<'_>> =
            Box::new(rows.iter().filter_map(|(offset, row)| match row {
                Row::Event(event) => {
                    let (offset, bucket) = (*offset, self.layout.events.bucket(*offset));
                    Some(EventRow { partition, bucket, offset, event })
                }
                Row::DeadLetter(_) => None,
            }));
        let letters: BoxedRows<'_, DeadLetterRow<'_>> =
            Box::new(rows.iter().filter_map(|(offset, row)| match row {
                Row::DeadLetter(letter) => Some(DeadLetterRow { partition, offset: *offset, letter }),
                Row::Event(_) => None,
            }));
        let write_events =
            requests(events, self.request_bytes).map(|(rows, bytes)| self.write_events(rows, bytes));
        let write_letters =
            requests(letters, self.request_bytes).map(|(rows, bytes)| self.write_letters(rows, bytes));
        let at_once = self.limits.requests();
        tokio::try_join!(
            concurrently(write_events, at_once, drop),
            concurrently(write_letters, at_once, drop),
        )?;
        Ok(())
    }

    async fn write_events(&self, rows: Vec<EventRow<'_>>, bytes: usize) -> Result<(), Failed> {
        let what = || match &rows[..] {
            [first, .., last] => format!(
                "write events of partition {} offsets {} to {} into {}.events",
                first.partition, first.offset, last.offset, self.keyspace
            ),
            rows => format!(
                "write an event of partition {:?} into {}.events",
                rows.first().map(|row| (row.partition, row.offset)),
                self.keyspace
            ),
        };
        let _admitted = self.limits.admit(bytes).await;
        let batch = self.batches.take(&self.statements.insert_event, rows.len());
        self.requests.add(RequestKind::WriteEvents);
        let result = self.session.batch(&batch, &rows[..]).await;
        self.batches.give(batch);
        result.map(drop).map_err(|error| self.failed(what, &error))
    }

    async fn write_letters(&self, rows: Vec<DeadLetterRow<'_>>, bytes: usize) -> Result<(), Failed> {
        let what = || {
            let offsets = rows.first().zip(rows.last()).map(|(first, last)| (first.offset, last.offset));
            let (first, last) = offsets.unwrap_or_default();
            format!("write dead letters at offsets {first} to {last} into {}.dead_letters", self.keyspace)
        };
        let _admitted = self.limits.admit(bytes).await;
        let batch = copies(&self.statements.insert_dead_letter, rows.len());
        self.requests.add(RequestKind::WriteDeadLetters);
        let result = self.session.batch(&batch, &rows[..]).await;
        result.map(drop).map_err(|error| self.failed(what, &error))
    }
}

#[cfg(test)]
pub(super) mod sizes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Health;
    use crate::store::Layout;

    fn event(length: usize) -> Event {
        Event { id: 1, ts: 2, source: "s".repeat(length), client: String::new(), health: Health::Nominal }
    }

    /// The sizes of the requests for rows at `offsets`.
    fn lengths(offsets: &[i64], event: &Event, layout: Layout, most_bytes: usize) -> Vec<usize> {
        let row = |offset: &i64| EventRow {
            partition: 1,
            bucket: layout.events.bucket(*offset),
            offset: *offset,
            event,
        };
        let rows = || offsets.iter().map(row);
        let lengths: Vec<usize> = requests(rows(), most_bytes).map(|(rows, _)| rows.len()).collect();
        let sizes: usize = requests(rows(), most_bytes).map(|(_, bytes)| bytes).sum();
        assert_eq!(sizes, rows().map(|row| row.bytes()).sum::<usize>(), "every byte is counted once");
        lengths
    }

    #[test]
    fn a_request_closes_before_it_holds_too_many_bytes() {
        let offsets: Vec<i64> = (0..10).collect();
        let event = event(100);
        let row = EventRow { partition: 0, bucket: None, offset: 0, event: &event }.bytes();
        assert_eq!(lengths(&offsets, &event, Layout::ORIGINAL, 4 * row), [4, 4, 2]);
        assert_eq!(lengths(&offsets, &event, Layout::ORIGINAL, 4 * row - 1), [3, 3, 3, 1]);
        assert_eq!(lengths(&[], &event, Layout::ORIGINAL, 4 * row), [0usize; 0]);
    }

    #[test]
    fn a_row_larger_than_a_request_goes_alone() {
        assert_eq!(lengths(&[0, 1, 2], &event(1_000), Layout::ORIGINAL, 10), [1, 1, 1]);
        assert_eq!(lengths(&[0, 1], &event(1_000), Layout::ORIGINAL, 0), [1, 1]);
    }

    #[test]
    fn a_request_has_no_more_statements_than_the_protocol_can_count() {
        let offsets: Vec<i64> = (0..70_000).collect();
        let lengths = lengths(&offsets, &event(1), Layout::ORIGINAL, usize::MAX);
        assert_eq!(lengths, [65_535, 70_000 - 65_535]);
    }

    #[test]
    fn a_request_is_of_one_bucket() {
        let layout = Layout::bucketed(std::num::NonZeroU32::new(4).unwrap());
        assert_eq!(lengths(&[0, 1, 2, 3, 4, 7, 8, 100], &event(1), layout, usize::MAX), [4, 2, 1, 1]);
        assert_eq!(lengths(&[0, 4, 1], &event(1), layout, usize::MAX), [1, 1, 1]);
    }

    #[test]
    fn a_request_has_few_alerts_of_at_most_ten_sources_or_many_of_one() {
        let alerts = |sources: u8, windows: i64| -> Vec<Alert> {
            let alert = |source: u8, ts| Alert {
                source: char::from(b'A' + source).to_string().into(),
                ts,
                event_count: 10,
            };
            (0..sources).flat_map(|source| (0..windows).map(move |ts| alert(source, ts))).collect()
        };
        let lengths = |alerts: &[Alert], most_bytes| -> Vec<usize> {
            shared_requests(alerts.iter(), most_bytes).map(|(alerts, _)| alerts.len()).collect()
        };
        let one = (&alerts(1, 1)[0]).bytes();
        assert_eq!(lengths(&alerts(23, 1), usize::MAX), [10, 10, 3]);
        assert_eq!(lengths(&alerts(23, 2), usize::MAX), [20, 20, 6]);
        assert_eq!(lengths(&alerts(5, 1_000), usize::MAX), [1_000; 5], "a node would warn of a larger batch");
        assert_eq!(lengths(&alerts(5, 30), usize::MAX), [30; 5]);
        assert_eq!(lengths(&alerts(4, 10), usize::MAX), [40]);
        assert_eq!(lengths(&alerts(5, 1), 2 * one), [2, 2, 1]);
        assert_eq!(lengths(&alerts(2, 3), 2 * one), [2, 1, 2, 1]);
        assert_eq!(lengths(&[], usize::MAX), [0usize; 0]);
    }

    #[test]
    fn a_large_partition_is_warned_of_once_and_each_time_it_has_doubled() {
        let size_warnings = SizeWarnings::new(100);
        let passes =
            |rows: &[i64]| -> Vec<bool> { rows.iter().map(|rows| size_warnings.passes(1, *rows)).collect() };
        assert_eq!(
            passes(&[0, 99, 100, 101, 199, 200, 201, 399, 900, 901]),
            [false, false, true, false, false, true, false, false, true, false]
        );
        assert!(size_warnings.passes(2, 150), "each partition has its own");
        assert!(size_warnings.passes(3, i64::MAX));
        assert!(SizeWarnings::new(0).passes(1, 1), "a limit of nothing is one row");
    }
}
