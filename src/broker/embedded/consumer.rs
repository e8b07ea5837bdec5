//! Delivery of a topic's records to the worker.
//!
//! The consumer asks a thread to look at the log: the thread reads a piece of the first partition, in turn,
//! that has records, and notices on the way which partitions are at their end and how many there are. While
//! a piece is being processed, the next look is under way. Its result is checked against what the worker has
//! said since then: what is of an older start, or of another position, is dropped and read again.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::broker::embedded::gone;
use crate::broker::embedded::log::{self, Failure};
use crate::broker::{Assignment, BrokerError, Consumer, Delivery, Fetched};
use crate::embedded::Connected;

/// Most records and, after the first, about most bytes of one delivery.
const PIECE_RECORDS: usize = 2_000;
const PIECE_BYTES: usize = 1 << 20;

/// Time between two looks while there is nothing to deliver.
const REST: Duration = Duration::from_millis(20);

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
    /// What is to be handed over without a look.
    inbox: VecDeque<Delivery>,
    /// The look under way. It stays here while nobody polls.
    looking: Option<oneshot::Receiver<Result<Seen, BrokerError>>>,
    /// State of the file in which there was nothing to deliver.
    idle_at: Option<i64>,
    /// No look before this.
    rest_until: Option<Instant>,
    /// Positions were started or resumed since the look under way began, so it does not tell that there is
    /// nothing to deliver.
    woken: bool,
}

#[derive(Debug)]
struct Position {
    assignment: Assignment,
    offset: i64,
    paused: bool,
    failed: bool,
    end_told: Option<i64>,
}

/// A start and how far it is.
type Place = (Assignment, i64);

/// What a look found.
#[derive(Debug)]
struct Seen {
    /// State of the file; `None` if it is as it was.
    version: Option<i64>,
    partitions: i32,
    /// Places that are at the log's end.
    ends: Vec<Place>,
    piece: Option<(Place, Result<Fetched, BrokerError>)>,
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
            looking: None,
            idle_at: None,
            rest_until: None,
            woken: false,
        }
    }

    /// Begins a look at the partitions that are neither paused nor failed.
    fn look(&mut self) -> Result<(), BrokerError> {
        let after = self.positions.range(self.last.saturating_add(1)..);
        let before = self.positions.range(..=self.last);
        let wanted: Vec<Place> = after
            .chain(before)
            .filter(|(_, position)| !position.paused && !position.failed)
            .map(|(_, position)| (position.assignment, position.offset))
            .collect();
        let (topic, path, idle_at) = (self.topic.clone(), self.path.clone(), self.idle_at);
        let look = move |file: &mut Connection| {
            let what = || format!("read topic {topic}");
            look(file, &topic, &path, idle_at, wanted).map_err(|failure| failure.into_error(what, &path))
        };
        let what = || format!("read topic {}", self.topic);
        let looking = self.reader.submit(look).map_err(|_| gone(what, &self.path))?;
        self.looking = Some(looking);
        self.woken = false;
        Ok(())
    }

    /// The position, if the place is still where it is.
    fn position(&mut self, (assignment, offset): Place) -> Option<&mut Position> {
        let position = self.positions.get_mut(&assignment.partition)?;
        (position.assignment == assignment && position.offset == offset).then_some(position)
    }

    /// Takes in what a look found, and says whether the next should follow at once.
    fn take(&mut self, seen: Seen) -> bool {
        let Some(version) = seen.version else { return self.woken };
        if seen.partitions > self.partitions {
            self.inbox.push_back(Delivery::Assigned((self.partitions..seen.partitions).collect()));
            self.partitions = seen.partitions;
        }
        for (assignment, offset) in seen.ends {
            if let Some(position) = self.position((assignment, offset))
                && position.end_told != Some(offset)
            {
                position.end_told = Some(offset);
                self.inbox.push_back(Delivery::End { assignment, offset });
            }
        }
        if let Some((place, fetched)) = seen.piece {
            let (assignment, offset) = place;
            let Some(position) = self.position(place) else { return true };
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

    /// The next look must read, and at once.
    fn wake(&mut self) {
        self.idle_at = None;
        self.rest_until = None;
        self.woken = true;
    }
}

/// One look, in one transaction. Only what makes all partitions unreadable is an error here.
fn look(
    file: &mut Connection,
    topic: &str,
    path: &Path,
    idle_at: Option<i64>,
    wanted: Vec<Place>,
) -> Result<Seen, Failure> {
    // Asked for before the transaction: what is committed in between only makes the next look read again.
    let version: i64 = file.pragma_query_value(None, "data_version", |row| row.get(0))?;
    let mut seen = Seen { version: Some(version), partitions: 0, ends: Vec::new(), piece: None };
    if idle_at == Some(version) {
        return Ok(Seen { version: None, ..seen });
    }
    let transaction = file.transaction()?;
    match log::find(&transaction, topic) {
        Ok(found) => seen.partitions = found.partitions,
        // It was deleted: each partition says so.
        Err(Failure::Log(_)) => {}
        Err(failure) => return Err(failure),
    }
    for (assignment, offset) in wanted {
        let partition = assignment.partition;
        match log::fetch(&transaction, topic, partition, offset, PIECE_RECORDS, PIECE_BYTES) {
            Ok(fetched) if fetched.records.is_empty() => seen.ends.push((assignment, offset)),
            Ok(fetched) => {
                seen.piece = Some(((assignment, offset), Ok(fetched)));
                break;
            }
            Err(Failure::Sqlite(error)) => return Err(Failure::Sqlite(error)),
            Err(failure) => {
                let what = || format!("read topic {topic} partition {partition} from offset {offset}");
                seen.piece = Some(((assignment, offset), Err(failure.into_error(what, path))));
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
                if self.looking.is_none() && self.rest_until.is_none() {
                    // Reads ahead while the caller is busy; an error would come again.
                    let _ = self.look();
                }
                return Ok(delivery);
            }
            let seen = match &mut self.looking {
                Some(looking) => looking.await,
                None => {
                    if let Some(until) = self.rest_until {
                        sleep_until(until).await;
                        self.rest_until = None;
                    }
                    self.look()?;
                    continue;
                }
            };
            self.looking = None;
            let what = || format!("read topic {}", self.topic);
            let seen = seen.map_err(|_| gone(what, &self.path)).flatten();
            let more = seen.map(|seen| self.take(seen));
            if !matches!(more, Ok(true)) {
                self.rest_until = Some(Instant::now() + REST);
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
        let position = Position { assignment, offset, paused: false, failed: false, end_told: None };
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
