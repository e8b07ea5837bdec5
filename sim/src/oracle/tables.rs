//! The tables at the end of a run: `events`, `dead_letters`, `alerts` and `window_counts` must equal the ground truth of the
//! whole log, and `progress` its ends: once when the workers have drained the log (`progress` says that everything is
//! durable), and again when every delayed request has been applied.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exactlyonce::broker::Broker;
use exactlyonce::broker::memory::MemoryBroker;
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
    let window = |key: &WindowKey| Window { source: key.source.as_ref().to_owned(), end: key.end };
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
                Violation::AlteredDeadLetter(position(at), Difference::of(found, expected))
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
    let keys = expected.keys().chain(foreign);
    let all = keys.map(|key| (key, found.get(key), expected.get(key)));
    let different = all.filter(|(_, found, expected)| found != expected).take(KEPT);
    different.map(|(key, found, expected)| violation(key, found, expected)).collect()
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
        let Self { log, binding, expected, .. } = self.clone();
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

    /// True if progress is at the log's end everywhere. A partition without a record may have no progress.
    pub async fn has_drained(&self) -> bool {
        let positions = self.positions().await;
        positions.values().all(|(next_offset, end)| next_offset.unwrap_or(0) >= *end)
    }

    /// Compares the tables of a run that has drained with the ground truth. Nothing is appended to its log any more.
    pub async fn check_tables(&self) -> Vec<Violation> {
        let positions = self.positions().await;
        let mut violations = Vec::new();
        for (partition, (next_offset, log_end)) in &positions {
            let (partition, next_offset, log_end) = (*partition, *next_offset, *log_end);
            if next_offset.unwrap_or(0) != log_end {
                violations.push(Violation::WrongProgress { partition, next_offset, log_end });
            }
        }
        if self.expected.get().is_none() {
            let mut records = Vec::new();
            for partition in positions.into_keys() {
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
        violations.extend(compare(&found, expected));
        violations
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
        compare(&found, &good()).into_iter().next()
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
