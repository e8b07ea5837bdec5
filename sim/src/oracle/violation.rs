//! What a run did wrong: one variant for each anomaly, with its evidence.

use std::collections::BTreeMap;
use std::fmt::Debug;

use exactlyonce::event::{Body, DeadLetter};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::oracle::cell::{Cell, Seen};

/// What a run did wrong.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
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
    /// A record has a row in both tables.
    DuplicateRow(Position),
    /// A window that reached the threshold has no alert.
    MissingAlert(Window),
    /// A window that did not reach the threshold has an alert.
    PhantomAlert(Window),
    /// An alert's count differs from the number of events.
    WrongAlertCount(Window, Difference),
    /// An alert counts more events than the log has, or is written below the threshold, while the run goes on.
    AlertAheadOfTruth(Window, Difference),
    /// `progress` has passed events of a window, and its alert does not count them.
    AlertBehindProgress {
        /// The window.
        window: Window,
        /// What the replicas have.
        seen: Vec<Seen>,
        /// How many of its events `progress` has passed, over all partitions.
        passed: i64,
    },
    /// A partition's count of a window is not that of the log up to its `through_offset`: as a worker writes it, as a replica
    /// has it, or at the end.
    WrongCount(i32, Window, Difference),
    /// A worker learned that a cell is written, and fewer replicas than a quorum have it.
    NotDurable {
        /// The cell.
        cell: Cell,
        /// What each replica has.
        seen: Vec<Seen>,
    },
    /// A worker is about to write counts of a partition that fewer replicas than a quorum have registered.
    Unregistered {
        /// Partition.
        partition: i32,
        /// What each replica has.
        seen: Vec<Seen>,
    },
    /// A worker is about to write progress past counts, and has not begun to read the registry since they are acknowledged.
    RegistryNotRead {
        /// Partition.
        partition: i32,
        /// What the counts go through.
        through_offset: i64,
        /// The progress.
        next_offset: i64,
    },
    /// `progress` has passed a record whose row or count fewer replicas than a quorum have.
    ProgressAheadOfData {
        /// The record.
        position: Position,
        /// The stored progress, or the one that is about to be written.
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
    /// A worker reported a position to the group that is not durable.
    ReportedAhead {
        /// Which.
        worker: u8,
        /// Partition.
        partition: i32,
        /// What it reported.
        reported: i64,
        /// The progress that it has read or written.
        durable: Option<i64>,
    },
    /// A position was committed to the group that is not durable.
    CommittedAhead {
        /// Partition.
        partition: i32,
        /// The committed position.
        offset: i64,
        /// The greatest progress that any replica has, or that was acknowledged.
        durable: i64,
    },
    /// At the end, the group does not have the position of a partition, or a lesser one.
    CommittedBehind {
        /// Partition.
        partition: i32,
        /// The committed position.
        committed: Option<i64>,
        /// The acknowledged progress.
        durable: i64,
    },
    /// A worker started a partition at another position than the progress that it read.
    StartedElsewhere {
        /// Which.
        worker: u8,
        /// Partition.
        partition: i32,
        /// The position.
        offset: i64,
        /// What it read, or the origin.
        progress: i64,
    },
    /// A worker got records of a partition that it was asked to release, or had lost.
    DeliveredAfterRevocation {
        /// Which.
        worker: u8,
        /// The first of the records.
        position: Position,
    },
    /// The group gave a partition to another worker before its holder had released it.
    GivenBeforeRelease {
        /// Which held it.
        worker: u8,
        /// Partition.
        partition: i32,
        /// The worker that got it.
        to: u8,
    },
    /// A worker did not become a member of its group although all faults had ended long ago.
    OutsideGroup {
        /// Which.
        worker: u8,
    },
    /// A worker that ran, and was not asked to stop, left its group.
    LeftUnasked {
        /// Which.
        worker: u8,
    },
    /// A thread of a client called so often without waiting that it occupies a processor.
    ThreadSpins {
        /// Its name.
        thread: String,
        /// How often it called the C library without waiting.
        calls: u32,
    },
    /// A group gave a partition to two members in one generation.
    TwoOwners {
        /// Partition.
        partition: i32,
        /// The generation, or the members' epoch.
        epoch: i32,
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
    /// At the end, the registry has fewer partitions than have counts, or more than the topic has.
    WrongRegistry {
        /// How many are registered.
        registered: i32,
        /// One more than the last partition that has a count; 0 if there is none.
        least: i32,
        /// The partitions of the topic.
        most: i32,
    },
    /// A worker wrote the row of a record that was not delivered to its current assignment.
    StaleRecordApplied {
        /// Which.
        worker: u8,
        /// The record.
        position: Position,
    },
    /// A worker holds more records than its options allow.
    MemoryExceeded {
        /// Which.
        worker: u8,
        /// Partition.
        partition: i32,
        /// Bytes of records that waited in the inbox.
        bytes: usize,
        /// At most.
        limit: usize,
    },
    /// A record whose append was acknowledged is not in the log.
    AppendLost(Position),
    /// The broker delivered a record that differs from what was appended at its offset.
    LogChanged(Position),
    /// The broker delivered what follows a record, and has not delivered the record.
    RecordPassedOver {
        /// To which worker.
        worker: u8,
        /// The record.
        position: Position,
    },
    /// Two replicas differ although an anti-entropy repair has ended.
    ReplicasDiffer {
        /// The table.
        table: String,
        /// The nodes, counted from 0.
        nodes: (u8, u8),
    },
    /// A worker ended because a request was refused, although nothing was wrong with it.
    RequestRefused {
        /// Which.
        worker: u8,
        /// Its error.
        error: String,
    },
    /// `init` ended with an error of the broker that it does not repeat, although the topic exists.
    InitFailed {
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
    /// The workers did not drain the log although the faults had ended, or enough of them.
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
    /// Log and tables disagree, and neither did a worker refuse to continue nor did `verify` find a difference.
    NotRefused {
        /// The first difference.
        difference: String,
    },
    /// `verify` found a difference, or ended with an error, although log and tables agree.
    VerifyWrong {
        /// What it found.
        found: String,
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
    /// The process of the run ended without a report, or took too long: see [`crate::campaign::play`].
    Crashed {
        /// How it ended, and the end of what it wrote to its standard error.
        how: String,
    },
}

impl Violation {
    /// Its name, without the evidence.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// True if log, tables and replicas are not what they must be, or a worker gave up because of that.
    pub fn is_of_data(&self) -> bool {
        !matches!(
            self,
            Violation::StaleRecordApplied { .. }
                | Violation::MemoryExceeded { .. }
                | Violation::ReportedAhead { .. }
                | Violation::GivenBeforeRelease { .. }
                | Violation::RecordPassedOver { .. }
                | Violation::ThreadSpins { .. }
                | Violation::InitFailed { .. }
                | Violation::NotRefused { .. }
                | Violation::VerifyWrong { .. }
                | Violation::EndedUnexpectedly { .. }
                | Violation::DidNotStop { .. }
                | Violation::Panicked { .. }
                | Violation::Crashed { .. }
        )
    }

    /// True if a worker has ended for good, so the run cannot go on.
    pub fn ends_the_run(&self) -> bool {
        matches!(
            self,
            Violation::RequestRefused { .. }
                | Violation::InitFailed { .. }
                | Violation::GaveUp { .. }
                | Violation::Stuck { .. }
                | Violation::Refused { .. }
                | Violation::EndedUnexpectedly { .. }
                | Violation::DidNotStop { .. }
                | Violation::Panicked { .. }
                | Violation::Crashed { .. }
        )
    }
}

/// A position in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// A window of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The source.
    pub source: String,
    /// The window's end, in milliseconds of event time.
    pub end: i64,
}

impl From<&exactlyonce::store::WindowKey> for Window {
    fn from(key: &exactlyonce::store::WindowKey) -> Self {
        Self { source: key.source.as_ref().to_owned(), end: key.end }
    }
}

/// A dead letter as text.
fn letter(letter: &DeadLetter) -> String {
    let DeadLetter { reason, timestamp, body } = letter;
    let bytes = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        None => "null".to_owned(),
    };
    let length = |length: &Option<i64>| length.map_or("null".to_owned(), |length| length.to_string());
    let body = match body {
        Body::Whole { key, value } => format!("key {}, value {}", bytes(key), bytes(value)),
        Body::Digest { key_length, value_length, sha256 } => {
            let hash: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            format!(
                "key of {} bytes, value of {} bytes, SHA-256 {hash}",
                length(key_length),
                length(value_length)
            )
        }
    };
    format!("{} at {timestamp}: {body}", reason.code())
}

/// Found and expected value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// In the tables.
    pub found: String,
    /// According to the ground truth.
    pub expected: String,
}

impl Difference {
    pub(crate) fn of(found: &impl Debug, expected: &impl Debug) -> Self {
        Self { found: format!("{found:?}"), expected: format!("{expected:?}") }
    }

    /// The same of dead letters, with their bytes as text.
    pub(crate) fn of_letters(found: &DeadLetter, expected: &DeadLetter) -> Self {
        Self { found: letter(found), expected: letter(expected) }
    }
}

#[cfg(test)]
mod tests {
    use exactlyonce::event::Reason;

    use super::*;
    use crate::oracle::cell::Value;

    #[test]
    fn dead_letters_are_shown_as_text() {
        let whole = Body::Whole { key: Some(b"k\xff".to_vec()), value: None };
        let digest = Body::Digest { key_length: None, value_length: Some(7), sha256: [0xab; 32] };
        let of = |body| DeadLetter { reason: Reason::NullValue, timestamp: 3, body };
        let difference = Difference::of_letters(&of(whole), &of(digest));
        assert_eq!(difference.found, r#"null_value at 3: key "k\xff", value null"#);
        let hash = "ab".repeat(32);
        let expected = format!("null_value at 3: key of null bytes, value of 7 bytes, SHA-256 {hash}");
        assert_eq!(difference.expected, expected);
    }

    #[test]
    fn a_violation_is_what_its_json_contains() {
        let key = || exactlyonce::store::WindowKey { source: "a\u{7f}\"".into(), end: i64::MIN };
        let row = |is_dead_letter| Cell::Row { partition: 1, offset: i64::MAX, is_dead_letter };
        let cells = [Cell::Progress(3), Cell::Registry, Cell::Count(0, key()), Cell::Alert(key())];
        let count = exactlyonce::store::Count { count: 3, through_offset: 9 };
        let values =
            [Value::Progress(7), Value::Registry(2), Value::Count(count), Value::Alert(4), Value::Row];
        let seen: Vec<Seen> =
            values.map(Seen::Value).into_iter().chain([Seen::Down, Seen::Nothing]).collect();
        let cells = cells.into_iter().chain([row(false), row(true)]);
        let durable = cells.map(|cell| Violation::NotDurable { cell, seen: seen.clone() });
        let window = || Window::from(&key());
        let position = Position { partition: 1, offset: 40 };
        let others = [
            Violation::LostEvent(position),
            Violation::AlteredEvent(position, Difference::of(&1, &"\n")),
            Violation::WrongCount(2, window(), Difference::default()),
            Violation::AlertBehindProgress { window: window(), seen: seen.clone(), passed: -1 },
            Violation::WrongProgress { partition: 0, next_offset: None, log_end: 7 },
            Violation::ReplicasDiffer { table: "events".to_owned(), nodes: (0, 2) },
            Violation::Stuck { partitions: BTreeMap::from([(-1, (None, 3)), (2, (Some(1), i64::MAX))]) },
            Violation::Crashed { how: "signal: 11 (SIGSEGV)".to_owned() },
        ];
        for violation in durable.chain(others) {
            let json = serde_json::to_string(&violation).expect("it is written");
            let read: Violation =
                serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(read, violation, "{json}");
        }
    }
}
