//! The tables at the end of a run: `events`, `dead_letters`, `alerts` and `window_counts` must equal the ground truth of the
//! whole log, `progress` its ends, and `registry` must have the partitions with counts and no other than the topic's: once when the workers have drained the log (`progress` says that everything is
//! durable), and again when every delayed request has been applied.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, BrokerError};
use exactlyonce::event::Record;
use exactlyonce::store::{Binding, Outcome, Store, WindowKey};
use exactlyonce::truth::{self, Tables};
use tokio::time::sleep;

use crate::oracle::{Difference, Position, Violation, Window};
use crate::scenario::options::TOPIC;

/// Differences of a kind that are kept.
const KEPT: usize = 3;

/// The differences of the tables, at most a few of each kind.
pub fn compare(found: &Tables, expected: &Tables) -> Vec<Violation> {
    let position = |(partition, offset): &(i32, i64)| Position { partition: *partition, offset: *offset };
    let window = |key: &WindowKey| Window::from(key);
    let (events, letters, alerts) = (&expected.events, &expected.dead_letters, &expected.alerts);
    let mut violations = differences(&found.events, events, |at, found, expected| match (found, expected) {
        (None, _) => Violation::LostEvent(position(at)),
        (_, None) => Violation::ForeignEvent(position(at)),
        (Some(found), Some(expected)) => {
            Violation::AlteredEvent(position(at), Difference::of(found, expected))
        }
    });
    violations.extend(differences(&found.dead_letters, letters, |at, found, expected| {
        match (found, expected) {
            (None, _) => Violation::LostDeadLetter(position(at)),
            (_, None) => Violation::ForeignDeadLetter(position(at)),
            (Some(found), Some(expected)) => {
                Violation::AlteredDeadLetter(position(at), Difference::of_letters(found, expected))
            }
        }
    }));
    let in_both = found.events.keys().filter(|at| found.dead_letters.contains_key(at));
    violations.extend(in_both.take(KEPT).map(|at| Violation::DuplicateRow(position(at))));
    violations.extend(differences(&found.alerts, alerts, |at, found, expected| match (found, expected) {
        (None, _) => Violation::MissingAlert(window(at)),
        (_, None) => Violation::PhantomAlert(window(at)),
        (Some(found), Some(expected)) => {
            Violation::WrongAlertCount(window(at), Difference::of(found, expected))
        }
    }));
    violations.extend(differences(&found.counts, &expected.counts, |(partition, key), found, expected| {
        Violation::WrongCount(*partition, window(key), Difference::of(&found, &expected))
    }));
    violations
}

/// The violation if the registry does not have each partition that has counts, or has more than the topic.
fn registry(registered: i32, found: &Tables, most: i32) -> Option<Violation> {
    let least = found.counts.keys().map(|(partition, _)| partition.saturating_add(1)).max().unwrap_or(0);
    (!(least..=most).contains(&registered)).then_some(Violation::WrongRegistry { registered, least, most })
}

/// The first keys at which two tables differ.
fn differences<K: Ord, V: PartialEq>(
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    violation: impl Fn(&K, Option<&V>, Option<&V>) -> Violation,
) -> Vec<Violation> {
    if found == expected {
        return Vec::new();
    }
    let foreign = found.keys().filter(|key| !expected.contains_key(key));
    let lost = expected.keys().filter(|key| !found.contains_key(key));
    let altered = expected.iter().filter(|(key, value)| found.get(key).is_some_and(|found| found != *value));
    let altered = altered.map(|(key, _)| key);
    let keys = lost.take(KEPT).chain(foreign.take(KEPT)).chain(altered.take(KEPT));
    keys.map(|key| violation(key, found.get(key), expected.get(key))).collect()
}

/// Reads the run's log and tables.
#[derive(Clone)]
pub(crate) struct Checker<S> {
    log: MemoryBroker,
    tables: S,
    binding: Binding,
    /// What the tables must contain in the end, once it is known.
    expected: Arc<OnceLock<Tables>>,
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
        Self { log, tables, binding, expected: Arc::default() }
    }

    /// A checker of other tables of the same log.
    pub fn of<U: Store>(&self, tables: U) -> Checker<U> {
        let (log, binding, expected) = (self.log.clone(), self.binding.clone(), self.expected.clone());
        Checker { log, tables, binding, expected }
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

    /// Compares the tables of a run that has drained with the ground truth. Nothing is appended to its log any more.
    pub async fn check_tables(&self) -> Vec<Violation> {
        let positions = self.positions().await;
        let mut violations = Vec::new();
        let mut records = Vec::new();
        let partitions = positions.keys().next_back().map_or(0, |last| last.saturating_add(1));
        for (partition, (next_offset, log_end)) in positions {
            if next_offset.unwrap_or(0) != log_end {
                violations.push(Violation::WrongProgress { partition, next_offset, log_end });
            }
            records.extend(self.records(partition, self.binding.origin(partition)).await);
        }
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
        let registered = known(|| self.tables.registered()).await;
        violations.extend(registry(registered, &found, partitions));
        let expected = self.expected.get_or_init(|| truth::tables(&records, &self.binding));
        violations.extend(compare(&found, expected));
        violations
    }

    /// The records of a partition from an offset on; none if the log no longer has the offset.
    async fn records(&self, partition: i32, from: i64) -> Vec<Record> {
        match self.log.fetch(TOPIC, partition, from, usize::MAX, usize::MAX).await {
            Ok(fetched) => fetched.records,
            Err(BrokerError::OutOfRange { .. }) => Vec::new(),
            Err(error) => panic!("{EXPECTED}: {error}"),
        }
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
        compare(&found, &good()).into_iter().next()
    }

    #[test]
    fn a_registry_without_a_partition_that_has_counts_or_with_one_that_no_topic_has_is_a_violation() {
        let wrong = |registered| Some(Violation::WrongRegistry { registered, least: 2, most: 3 });
        assert_eq!(registry(1, &good(), 3), wrong(1));
        assert_eq!(registry(2, &good(), 3), None);
        assert_eq!(registry(3, &good(), 3), None);
        assert_eq!(registry(4, &good(), 3), wrong(4));
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
        let twice = violation_after(|tables| {
            drop(tables.events.insert((0, 6), good().events[&(0, 5)].clone()));
        });
        assert_eq!(twice, Some(Violation::ForeignEvent(position(0, 6))));
        let mut twice = good();
        twice.events.insert((0, 6), good().events[&(0, 5)].clone());
        assert_eq!(compare(&twice, &twice), [Violation::DuplicateRow(position(0, 6))]);
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
