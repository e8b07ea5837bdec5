//! Checks a run: the tables at its end, and an invariant during it.
//!
//! At the end, `events`, `dead_letters`, `alerts` and `window_counts` must equal the ground truth of the whole log, and `progress` its
//! ends: once when the workers have drained the log (`progress` says that everything is durable), and again when every
//! delayed request has been applied. During the run, every record below `progress` must already be in `events` or
//! `dead_letters`. The checker only reads, and draws no random numbers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exactlyonce::broker::Broker;
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::event::Record;
use exactlyonce::store::{Binding, Outcome, Store, WindowKey};
use exactlyonce::truth::{self, Tables};
use strum::IntoStaticStr;
use tokio::time::sleep;

use crate::oracle::durability::{Holders, WrittenCell};
use crate::scenario::options::TOPIC;

/// What a run did wrong.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Violation {
    /// A valid record has no row in `events`.
    LostEvent(Position),
    /// A row of `events` without a valid record.
    ForeignEvent(Position),
    /// A row of `events` differs from its record.
    AlteredEvent(Position, Difference),
    /// An invalid record has no row in `dead_letters`.
    LostDeadLetter(Position),
    /// A row of `dead_letters` without an invalid record.
    ForeignDeadLetter(Position),
    /// A row of `dead_letters` differs from its record.
    AlteredDeadLetter(Position, Difference),
    /// A window that reached the threshold has no alert.
    MissingAlert(Window),
    /// A window that did not reach the threshold has an alert.
    PhantomAlert(Window),
    /// An alert's count differs from the number of events.
    WrongAlertCount(Window, Difference),
    /// A partition's count of a window is missing, is not the log's, or is of a window without counted events.
    WrongCount(i32, Window, Difference),
    /// A worker learned that a cell is written, and fewer replicas than a quorum have it.
    NotDurable {
        /// The cell.
        cell: WrittenCell,
        /// Who has it.
        holders: Holders,
    },
    /// `progress` has passed a record that is in no table.
    ProgressAheadOfData {
        /// The record.
        position: Position,
        /// The stored progress.
        next_offset: i64,
    },
    /// A worker read less progress than was acknowledged before.
    ProgressBack {
        /// Partition.
        partition: i32,
        /// What was acknowledged.
        acknowledged: i64,
        /// What was read.
        read: Option<i64>,
    },
    /// A worker ended because a request was refused, although nothing was wrong with it.
    RequestRefused {
        /// Which.
        worker: u8,
        /// Its error.
        error: String,
    },
    /// A worker without a retry deadline gave up on the store.
    GaveUp {
        /// Which.
        worker: u8,
        /// Its error.
        error: String,
    },
    /// `progress` is wrong at the end.
    WrongProgress {
        /// Partition.
        partition: i32,
        /// The stored progress.
        next_offset: Option<i64>,
        /// The log's end.
        log_end: i64,
    },
    /// The workers did not drain the log although all faults had ended.
    Stuck {
        /// For each partition, progress and the log's end.
        partitions: BTreeMap<i32, (Option<i64>, i64)>,
    },
    /// A worker refused to continue although log and tables agree.
    Refused {
        /// Which.
        worker: u8,
        /// Its error.
        error: String,
    },
    /// A worker ended without being asked to stop.
    EndedUnexpectedly {
        /// Which.
        worker: u8,
    },
    /// A worker was asked to stop and was still running long after its deadline.
    DidNotStop {
        /// Which.
        worker: u8,
    },
    /// Something panicked: production code, or the simulation.
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl Violation {
    /// Its name, without the evidence.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// A position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// A window of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The source.
    pub source: String,
    /// The window's end, in milliseconds of event time.
    pub end: i64,
}

/// Found and expected value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In the tables.
    pub found: String,
    /// According to the ground truth.
    pub expected: String,
}

impl Difference {
    fn of(found: &impl Debug, expected: &impl Debug) -> Self {
        Self { found: format!("{found:?}"), expected: format!("{expected:?}") }
    }
}

/// The first violation of the tables, if there is one.
pub fn compare(found: &Tables, expected: &Tables) -> Option<Violation> {
    let position = |(partition, offset): &(i32, i64)| Position { partition: *partition, offset: *offset };
    let window = |key: &WindowKey| Window { source: key.source.as_ref().to_owned(), end: key.end };
    let (events, letters, alerts) = (&expected.events, &expected.dead_letters, &expected.alerts);
    difference(&found.events, events, |at, found, expected| match (found, expected) {
        (None, _) => Violation::LostEvent(position(at)),
        (_, None) => Violation::ForeignEvent(position(at)),
        (Some(found), Some(expected)) => {
            Violation::AlteredEvent(position(at), Difference::of(found, expected))
        }
    })
    .or_else(|| {
        difference(&found.dead_letters, letters, |at, found, expected| match (found, expected) {
            (None, _) => Violation::LostDeadLetter(position(at)),
            (_, None) => Violation::ForeignDeadLetter(position(at)),
            (Some(found), Some(expected)) => {
                Violation::AlteredDeadLetter(position(at), Difference::of(found, expected))
            }
        })
    })
    .or_else(|| {
        difference(&found.alerts, alerts, |at, found, expected| match (found, expected) {
            (None, _) => Violation::MissingAlert(window(at)),
            (_, None) => Violation::PhantomAlert(window(at)),
            (Some(found), Some(expected)) => {
                Violation::WrongAlertCount(window(at), Difference::of(found, expected))
            }
        })
    })
    .or_else(|| {
        difference(&found.counts, &expected.counts, |(partition, key), found, expected| {
            Violation::WrongCount(*partition, window(key), Difference::of(&found, &expected))
        })
    })
}

/// The first key at which two tables differ.
fn difference<K: Ord, V: PartialEq>(
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    violation: impl Fn(&K, Option<&V>, Option<&V>) -> Violation,
) -> Option<Violation> {
    if found == expected {
        return None;
    }
    let keys = expected.keys().chain(found.keys());
    let (key, found, expected) = keys
        .map(|key| (key, found.get(key), expected.get(key)))
        .find(|(_, found, expected)| found != expected)?;
    Some(violation(key, found, expected))
}

/// Reads the run's log and tables.
#[derive(Clone)]
pub(crate) struct Checker<S> {
    log: MemoryBroker,
    tables: S,
    binding: Binding,
    /// What the tables must contain in the end, once it is known.
    expected: Arc<OnceLock<Tables>>,
    /// Below these offsets, every record was found in the tables.
    checked: BTreeMap<i32, i64>,
}

const EXPECTED: &str = "log and tables respond when no fault is active";

/// How often a request to the tables is tried before the run fails. The in-memory tables respond at once.
const ATTEMPTS: u32 = 300;

/// Retries a request until its outcome is known.
async fn known<T, F: Future<Output = Outcome<T>>>(mut request: impl FnMut() -> F) -> T {
    for _ in 1..ATTEMPTS {
        match request().await {
            Outcome::Unknown(_) => sleep(Duration::from_millis(100)).await,
            outcome => return outcome.into_result().expect(EXPECTED),
        }
    }
    request().await.into_result().expect(EXPECTED)
}

impl<S: Store> Checker<S> {
    pub fn new(log: MemoryBroker, tables: S, binding: Binding) -> Self {
        Self { log, tables, binding, expected: Arc::default(), checked: BTreeMap::new() }
    }

    /// A checker of other tables of the same log.
    pub fn of<U: Store>(&self, tables: U) -> Checker<U> {
        let (log, binding, expected) = (self.log.clone(), self.binding.clone(), self.expected.clone());
        Checker { log, tables, binding, expected, checked: BTreeMap::new() }
    }

    /// For each partition, progress and the log's end.
    pub async fn positions(&self) -> BTreeMap<i32, (Option<i64>, i64)> {
        let mut positions = BTreeMap::new();
        for partition in 0..self.log.topic(TOPIC).await.expect(EXPECTED).partitions {
            let progress = known(|| self.tables.progress(partition)).await;
            let end = self.log.offsets(TOPIC, partition).await.expect(EXPECTED).end;
            positions.insert(partition, (progress.map(|progress| progress.next_offset), end));
        }
        positions
    }

    /// True if progress is at the log's end everywhere. A partition without a record may have no progress.
    pub async fn has_drained(&self) -> bool {
        let positions = self.positions().await;
        positions.values().all(|(next_offset, end)| next_offset.unwrap_or(0) >= *end)
    }

    /// Checks that every record below progress is in the tables.
    pub async fn check_invariant(&mut self) -> Option<Violation> {
        for (partition, (next_offset, _)) in self.positions().await {
            let Some(next_offset) = next_offset else { continue };
            let from = *self.checked.get(&partition).unwrap_or(&self.binding.origin(partition));
            if from >= next_offset {
                continue;
            }
            let events = known(|| self.tables.events(partition, from, next_offset, usize::MAX)).await;
            let letters = known(|| self.tables.dead_letters(partition, from, next_offset, usize::MAX)).await;
            let mut stored: Vec<i64> = events.iter().map(|row| row.0).collect();
            stored.extend(letters.iter().map(|row| row.0));
            stored.sort_unstable();
            for record in self.records(partition, from).await {
                if record.offset < next_offset && stored.binary_search(&record.offset).is_err() {
                    let position = Position { partition, offset: record.offset };
                    return Some(Violation::ProgressAheadOfData { position, next_offset });
                }
            }
            self.checked.insert(partition, next_offset);
        }
        None
    }

    /// Compares the tables of a run that has drained with the ground truth. Nothing is appended to its log any more.
    pub async fn check_tables(&self) -> Option<Violation> {
        for (partition, (next_offset, log_end)) in self.positions().await {
            if next_offset.unwrap_or(0) != log_end {
                return Some(Violation::WrongProgress { partition, next_offset, log_end });
            }
        }
        if self.expected.get().is_none() {
            let mut records = Vec::new();
            for partition in self.positions().await.into_keys() {
                records.extend(self.records(partition, self.binding.origin(partition)).await);
            }
            // Nobody else has set it meanwhile.
            let _ = self.expected.set(truth::tables(&records, &self.binding));
        }
        let expected = self.expected.get().expect("it was set above");
        let mut attempts = 0;
        let found = loop {
            match truth::stored(&self.tables).await {
                Err(_) if attempts < ATTEMPTS => {
                    attempts += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                found => break found.expect(EXPECTED),
            }
        };
        compare(&found, expected)
    }

    async fn records(&self, partition: i32, from: i64) -> Vec<Record> {
        self.log.fetch(TOPIC, partition, from, usize::MAX, usize::MAX).await.expect(EXPECTED).records
    }
}

#[cfg(test)]
mod tests {
    use exactlyonce::event::{Body, DeadLetter, Event, Health, Reason};

    use super::*;

    fn key(end: i64) -> WindowKey {
        WindowKey { source: "s".into(), end }
    }

    fn good() -> Tables {
        let event =
            Event { id: 1, ts: 2, source: "s".to_owned(), client: "c".to_owned(), health: Health::Critical };
        let body = Body::Whole { key: None, value: None };
        let letter = DeadLetter { reason: Reason::NullValue, timestamp: 3, body };
        Tables {
            events: BTreeMap::from([((0, 5), event.clone()), ((1, 5), event)]),
            dead_letters: BTreeMap::from([((0, 6), letter)]),
            alerts: BTreeMap::from([(key(10), 2)]),
            counts: BTreeMap::from([((0, key(10)), (1, 5)), ((1, key(10)), (1, 5))]),
        }
    }

    /// What the checker finds in correct tables after a change.
    fn violation_after(change: impl FnOnce(&mut Tables)) -> Option<Violation> {
        let mut found = good();
        change(&mut found);
        compare(&found, &good())
    }

    #[test]
    fn equal_tables_are_no_violation() {
        assert_eq!(violation_after(|_| {}), None);
    }

    #[test]
    fn every_difference_of_the_tables_has_its_name_and_position() {
        let position = |partition, offset| Position { partition, offset };
        let window = |end| Window { source: "s".to_owned(), end };
        let lost = violation_after(|tables| drop(tables.events.remove(&(1, 5))));
        assert_eq!(lost, Some(Violation::LostEvent(position(1, 5))));
        let foreign =
            violation_after(|tables| drop(tables.events.insert((1, 4), good().events[&(0, 5)].clone())));
        assert_eq!(foreign, Some(Violation::ForeignEvent(position(1, 4))));
        let altered = violation_after(|tables| tables.events.get_mut(&(0, 5)).unwrap().id = 7);
        assert!(matches!(altered, Some(Violation::AlteredEvent(at, _)) if at == position(0, 5)));
        let lost = violation_after(|tables| tables.dead_letters.clear());
        assert_eq!(lost, Some(Violation::LostDeadLetter(position(0, 6))));
        let foreign = violation_after(|tables| {
            drop(tables.dead_letters.insert((0, 5), good().dead_letters[&(0, 6)].clone()))
        });
        assert_eq!(foreign, Some(Violation::ForeignDeadLetter(position(0, 5))));
        let altered = violation_after(|tables| tables.dead_letters.get_mut(&(0, 6)).unwrap().timestamp = 4);
        assert!(matches!(altered, Some(Violation::AlteredDeadLetter(at, _)) if at == position(0, 6)));
        let missing = violation_after(|tables| tables.alerts.clear());
        assert_eq!(missing, Some(Violation::MissingAlert(window(10))));
        let phantom = violation_after(|tables| tables.alerts.extend([(key(20), 2)]));
        assert_eq!(phantom, Some(Violation::PhantomAlert(window(20))));
        let wrong = violation_after(|tables| tables.alerts.extend([(key(10), 3)]));
        assert!(matches!(wrong, Some(Violation::WrongAlertCount(at, _)) if at == window(10)));
        let counts: [fn(&mut Tables); 3] = [
            |tables| {
                tables.counts.remove(&(1, key(10)));
            },
            |tables| {
                tables.counts.insert((1, key(10)), (1, 6));
            },
            |tables| {
                tables.counts.insert((1, key(10)), (2, 5));
            },
        ];
        for change in counts {
            let wrong = violation_after(change);
            assert!(matches!(wrong, Some(Violation::WrongCount(1, at, _)) if at == window(10)));
        }
    }
}
