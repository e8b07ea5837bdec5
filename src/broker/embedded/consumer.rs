//! Delivery of a topic's records to the worker.
//!
//! A thread reads the log for the consumer. A read visits the partitions round-robin, up to the first one that has
//! records, and returns a chunk of it, the partitions before it that are at their end, and the topic's number of
//! partitions. While a chunk is being processed, the next read is in flight. Its result is compared with the positions
//! that the worker has set since then: what belongs to an earlier start or to another position is dropped and read
//! again.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::broker::embedded::log::{self, Failure};
use crate::broker::embedded::panicked;
use crate::broker::{Assignment, BrokerError, Consumer, Delivery, Fetched};
use crate::sqlite::Connected;

/// Maximum records and, after the first, approximate maximum bytes of one delivery.
const CHUNK_RECORDS: usize = 2_000;
const CHUNK_BYTES: usize = 1 << 20;

/// Time between two reads while there is nothing to deliver.
const IDLE_INTERVAL: Duration = Duration::from_millis(20);

/// The member of a group, which has all partitions.
#[derive(Debug)]
pub struct EmbeddedConsumer {
    topic: Arc<str>,
    path: Arc<Path>,
    reader: Connected,
    /// Partitions that were assigned.
    partitions: i32,
    positions: BTreeMap<i32, Position>,
    /// The partition that was served last.
    last: i32,
    /// What can be delivered without a read.
    inbox: VecDeque<Delivery>,
    /// The read in flight. It stays here between two polls.
    reading: Option<oneshot::Receiver<Result<ReadResult, BrokerError>>>,
    /// Version of the file at which there was nothing to deliver.
    idle_at: Option<i64>,
    /// No read before this.
    idle_until: Option<Instant>,
    /// Positions were started or resumed since the read in flight started, so it does not show that there is
    /// nothing to deliver.
    woken: bool,
}

#[derive(Debug)]
struct Position {
    assignment: Assignment,
    offset: i64,
    paused: bool,
    failed: bool,
    reported_end: Option<i64>,
}

/// An assignment and an offset in it.
type At = (Assignment, i64);

/// The result of a read.
#[derive(Debug)]
struct ReadResult {
    /// Version of the file; `None` if it has not changed.
    version: Option<i64>,
    partitions: i32,
    /// Positions that are at the log's end.
    ends: Vec<At>,
    chunk: Option<(At, Result<Fetched, BrokerError>)>,
}

impl EmbeddedConsumer {
    pub(super) fn new(topic: &str, path: Arc<Path>, reader: Connected, partitions: i32) -> Self {
        Self {
            topic: topic.into(),
            path,
            reader,
            partitions,
            positions: BTreeMap::new(),
            last: -1,
            inbox: VecDeque::from([Delivery::Assigned((0..partitions).collect())]),
            reading: None,
            idle_at: None,
            idle_until: None,
            woken: false,
        }
    }

    /// Starts a read of the partitions that are neither paused nor failed.
    fn start_read(&mut self) -> Result<(), BrokerError> {
        let after = self.positions.range(self.last.saturating_add(1)..);
        let before = self.positions.range(..=self.last);
        let wanted: Vec<At> = after
            .chain(before)
            .filter(|(_, position)| !position.paused && !position.failed)
            .map(|(_, position)| (position.assignment, position.offset))
            .collect();
        let (topic, path, idle_at) = (self.topic.clone(), self.path.clone(), self.idle_at);
        let read = move |file: &mut Connection| {
            let what = || format!("read topic {topic}");
            read_next(file, &topic, &path, idle_at, wanted).map_err(|failure| failure.into_error(what, &path))
        };
        let what = || format!("read topic {}", self.topic);
        let reading = self.reader.submit(read).map_err(|_| panicked(what, &self.path))?;
        self.reading = Some(reading);
        self.woken = false;
        Ok(())
    }

    /// The position, if it is still the same.
    fn position(&mut self, (assignment, offset): At) -> Option<&mut Position> {
        let position = self.positions.get_mut(&assignment.partition)?;
        (position.assignment == assignment && position.offset == offset).then_some(position)
    }

    /// Takes the result of a read; true if the next one should start immediately.
    fn take(&mut self, seen: ReadResult) -> bool {
        let Some(version) = seen.version else { return self.woken };
        if seen.partitions > self.partitions {
            self.inbox.push_back(Delivery::Assigned((self.partitions..seen.partitions).collect()));
            self.partitions = seen.partitions;
        }
        for (assignment, offset) in seen.ends {
            if let Some(position) = self.position((assignment, offset))
                && position.reported_end != Some(offset)
            {
                position.reported_end = Some(offset);
                self.inbox.push_back(Delivery::End { assignment, offset });
            }
        }
        if let Some((at, fetched)) = seen.chunk {
            let (assignment, offset) = at;
            let Some(position) = self.position(at) else { return true };
            match fetched {
                Ok(Fetched { records, next_offset }) => {
                    position.offset = next_offset;
                    self.last = assignment.partition;
                    self.inbox.push_back(Delivery::Records { assignment, records, next_offset });
                }
                Err(error) => {
                    position.failed = true;
                    self.inbox.push_back(Delivery::Failed { assignment, offset, error });
                }
            }
            return true;
        }
        if !self.woken {
            self.idle_at = Some(version);
        }
        self.woken || !self.inbox.is_empty()
    }

    /// Makes the next read start immediately, even if the file has not changed since the last one.
    fn wake(&mut self) {
        self.idle_at = None;
        self.idle_until = None;
        self.woken = true;
    }
}

/// One read, in one transaction. Only what makes all partitions unreadable is an error here.
fn read_next(
    file: &mut Connection,
    topic: &str,
    path: &Path,
    idle_at: Option<i64>,
    wanted: Vec<At>,
) -> Result<ReadResult, Failure> {
    // Read before the transaction: what is committed in between only makes the next read find it again.
    let version: i64 = file.pragma_query_value(None, "data_version", |row| row.get(0))?;
    let mut seen = ReadResult { version: Some(version), partitions: 0, ends: Vec::new(), chunk: None };
    if idle_at == Some(version) {
        return Ok(ReadResult { version: None, ..seen });
    }
    let transaction = file.transaction()?;
    match log::find(&transaction, topic) {
        Ok(found) => seen.partitions = found.partitions,
        // It was deleted: each partition reports that.
        Err(Failure::Log(_)) => {}
        Err(failure) => return Err(failure),
    }
    for (assignment, offset) in wanted {
        let partition = assignment.partition;
        match log::fetch(&transaction, topic, partition, offset, CHUNK_RECORDS, CHUNK_BYTES) {
            Ok(fetched) if fetched.records.is_empty() => seen.ends.push((assignment, offset)),
            Ok(fetched) => {
                seen.chunk = Some(((assignment, offset), Ok(fetched)));
                break;
            }
            Err(Failure::Sqlite(error)) => return Err(Failure::Sqlite(error)),
            Err(failure) => {
                let what = || format!("read topic {topic} partition {partition} from offset {offset}");
                seen.chunk = Some(((assignment, offset), Err(failure.into_error(what, path))));
                break;
            }
        }
    }
    Ok(seen)
}

impl Consumer for EmbeddedConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            if let Some(delivery) = self.inbox.pop_front() {
                if self.reading.is_none() && self.idle_until.is_none() {
                    // Reads ahead while the caller is busy. If this fails, the next poll reports it.
                    let _ = self.start_read();
                }
                return Ok(delivery);
            }
            let seen = match &mut self.reading {
                Some(reading) => reading.await,
                None => {
                    if let Some(until) = self.idle_until {
                        sleep_until(until).await;
                        self.idle_until = None;
                    }
                    self.start_read()?;
                    continue;
                }
            };
            self.reading = None;
            let what = || format!("read topic {}", self.topic);
            let seen = seen.map_err(|_| panicked(what, &self.path)).flatten();
            let more = seen.map(|seen| self.take(seen));
            if !matches!(more, Ok(true)) {
                self.idle_until = Some(Instant::now() + IDLE_INTERVAL);
            }
            more?;
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let partition = assignment.partition;
        self.inbox.retain(|delivery| match delivery {
            Delivery::Records { assignment, .. }
            | Delivery::End { assignment, .. }
            | Delivery::Failed { assignment, .. } => assignment.partition != partition,
            Delivery::Assigned(_) | Delivery::Revoked(_) | Delivery::Lost(_) => true,
        });
        let position = Position { assignment, offset, paused: false, failed: false, reported_end: None };
        self.positions.insert(partition, position);
        self.wake();
    }

    fn pause(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.paused = true;
        }
    }

    fn resume(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.paused = false;
        }
        self.wake();
    }

    fn release(&mut self, _partition: i32) {}

    fn report(&mut self, _partition: i32, _next_offset: i64) {}

    async fn leave(self) {}
}
