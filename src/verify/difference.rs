//! The differences that a verification can find, by name, with the evidence.

use std::fmt;

use serde::Serialize;

use crate::event::{DeadLetter, Event};
use crate::store::cell::DeadLetterCells;
use crate::store::{Binding, Damaged};

/// A table with one row per offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// `events`
    Events,
    /// `dead_letters`
    DeadLetters,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Events => "events",
            Table::DeadLetters => "dead_letters",
        })
    }
}

/// Why the log has no record for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignReason {
    /// The offset is within the judged log, but has no record.
    NoRecord,
    /// The offset is below the partition's origin.
    BelowOrigin,
    /// The offset is at or past the log's end: the log was truncated.
    PastLogEnd,
    /// The topic has no such partition.
    NoPartition,
}

impl fmt::Display for ForeignReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForeignReason::NoRecord => "the log has no record there",
            ForeignReason::BelowOrigin => "it is below the origin",
            ForeignReason::PastLogEnd => "it is past the log's end",
            ForeignReason::NoPartition => "the topic has no such partition",
        })
    }
}

/// A column whose value differs from the log. Long values are shortened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlteredField {
    /// The column.
    pub field: &'static str,
    /// The stored value.
    pub stored: String,
    /// The value that follows from the log.
    pub expected: String,
}

/// One difference between the tables and the ground truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Difference {
    /// The log has an event here, but `events` has no row.
    Lost {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// The reason of the row that `dead_letters` has instead, if it has one.
        dead_letter: Option<String>,
    },
    /// Both tables have a row for the offset; only one is correct.
    Duplicate {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// The table that should have none; unknown if the log no longer has the record.
        wrong: Option<Table>,
    },
    /// The row exists, but its content differs.
    Altered {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// The table.
        table: Table,
        /// What differs.
        fields: Vec<AlteredField>,
    },
    /// A row without a record.
    Foreign {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// The table.
        table: Table,
        /// Why there is no record.
        why: ForeignReason,
    },
    /// The log has an invalid record here, but `dead_letters` has no row.
    MissingDeadLetter {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// The reason that the row should have.
        reason: String,
        /// True if `events` has a row instead.
        event: bool,
    },
    /// A window reached the threshold, but has no alert.
    MissingAlert {
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// Counted events in the judged log.
        counted: i64,
    },
    /// An alert whose count differs from the log.
    WrongAlertCount {
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// `event_count` of the alert.
        stored: i64,
        /// The least correct count.
        least: i64,
        /// The greatest correct count, which is greater than `least` only while workers run;
        /// `None` if part of the window's log is gone.
        most: Option<i64>,
    },
    /// An alert for a window that did not reach the threshold.
    PhantomAlert {
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// `event_count` of the alert.
        stored: i64,
        /// The maximum number of events of the window in the log.
        counted: i64,
    },
    /// The log has counted events of a window in a partition, and `window_counts` has no row.
    MissingCount {
        /// Partition.
        partition: i32,
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// Counted events in the judged log.
        counted: i64,
    },
    /// A row of `window_counts` with another count or offset than the log's.
    WrongCount {
        /// Partition.
        partition: i32,
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// `count` of the row.
        count: i64,
        /// `through_offset` of the row.
        through_offset: i64,
        /// The least correct count.
        least: i64,
        /// The greatest correct count; `None` if part of the window's log is gone.
        most: Option<i64>,
        /// The least correct offset.
        least_through: i64,
        /// The greatest correct offset; `None` if part of the window's log is gone.
        most_through: Option<i64>,
    },
    /// A row of `window_counts` for a window and partition of which the log has no counted event.
    ForeignCount {
        /// Partition.
        partition: i32,
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// `count` of the row.
        count: i64,
        /// `through_offset` of the row.
        through_offset: i64,
    },
    /// A row of `window_counts` in a block and shard where no reader looks for it.
    MisplacedCount {
        /// Partition.
        partition: i32,
        /// The source.
        source: String,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
        /// The block that has it.
        block: i64,
        /// The shard that has it.
        shard: i32,
        /// The block that should have it.
        expected_block: i64,
        /// The shard that should have it.
        expected_shard: i32,
    },
    /// A row of `progress` that cannot be correct.
    WrongProgress {
        /// Partition.
        partition: i32,
        /// `origin` of the row.
        origin: Option<i64>,
        /// `next_offset` of the row.
        next_offset: Option<i64>,
        /// Why it cannot be correct.
        why: WrongProgress,
    },
    /// `registry` has fewer partitions than have counts, or more than the topic has.
    WrongRegistry {
        /// `partitions` of the row, 0 if there is none.
        stored: i32,
        /// The least correct number: one more than the greatest partition with counts.
        least: i32,
        /// The greatest correct number: the topic's partitions.
        most: i32,
    },
    /// A row with a value that this program does not write. Nothing else about it is judged.
    Damaged(Damaged),
    /// A column of the row of `pipeline` with a value that this program does not write. The tables are checked as if
    /// it were `expected`.
    DamagedBinding {
        /// Table, column, and what is wrong with the value.
        #[serde(flatten)]
        damaged: Damaged,
        /// The assumed value.
        expected: String,
        /// The source of the assumed value.
        by: Evidence,
    },
    /// `pipeline` has no row, but other tables have rows. They are checked against `expected`: the configuration,
    /// with the current topic and the origins in `progress`.
    MissingBinding {
        /// `pipeline`
        table: &'static str,
        /// The assumed row.
        expected: Box<Binding>,
    },
}

/// The source of a value of the binding whose column is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The configuration.
    Configuration,
    /// The topic as the broker currently describes it.
    Topic,
    /// The table `progress`.
    Progress,
    /// This program, if the value is its version.
    Program,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::Configuration => "the configuration",
            Evidence::Topic => "the topic",
            Evidence::Progress => "progress",
            Evidence::Program => "this program",
        })
    }
}

/// Why a row of `progress` cannot be correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WrongProgress {
    /// There is no row, but other tables have rows of the partition.
    Missing,
    /// `origin` is not the binding's.
    Origin,
    /// `next_offset` is below the origin, or negative.
    BelowOrigin,
    /// `next_offset` is past the log's end: the log was truncated, or the row was changed.
    PastLogEnd,
    /// The topic has no such partition.
    NoPartition,
}

impl fmt::Display for WrongProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WrongProgress::Missing => "there is no row, but other tables have rows of the partition",
            WrongProgress::Origin => "origin differs from the binding",
            WrongProgress::BelowOrigin => "next_offset is below the origin",
            WrongProgress::PastLogEnd => "next_offset is past the log's end",
            WrongProgress::NoPartition => "the topic has no such partition",
        })
    }
}

impl Difference {
    /// The names of all differences, in the order in which reports list them.
    pub const NAMES: [&'static str; 17] = [
        "lost",
        "duplicate",
        "altered",
        "foreign",
        "missing_dead_letter",
        "missing_alert",
        "wrong_alert_count",
        "phantom_alert",
        "missing_count",
        "wrong_count",
        "foreign_count",
        "misplaced_count",
        "wrong_progress",
        "wrong_registry",
        "damaged",
        "damaged_binding",
        "missing_binding",
    ];

    /// The difference's name.
    pub fn name(&self) -> &'static str {
        match self {
            Difference::Lost { .. } => "lost",
            Difference::Duplicate { .. } => "duplicate",
            Difference::Altered { .. } => "altered",
            Difference::Foreign { .. } => "foreign",
            Difference::MissingDeadLetter { .. } => "missing_dead_letter",
            Difference::MissingAlert { .. } => "missing_alert",
            Difference::WrongAlertCount { .. } => "wrong_alert_count",
            Difference::PhantomAlert { .. } => "phantom_alert",
            Difference::MissingCount { .. } => "missing_count",
            Difference::WrongCount { .. } => "wrong_count",
            Difference::ForeignCount { .. } => "foreign_count",
            Difference::MisplacedCount { .. } => "misplaced_count",
            Difference::WrongProgress { .. } => "wrong_progress",
            Difference::WrongRegistry { .. } => "wrong_registry",
            Difference::Damaged(_) => "damaged",
            Difference::DamagedBinding { .. } => "damaged_binding",
            Difference::MissingBinding { .. } => "missing_binding",
        }
    }
}

/// One line. Control characters in external values are escaped.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Difference::Lost { partition, offset, dead_letter } => {
                write!(f, "partition {partition} offset {offset}: the event is not in events")?;
                match dead_letter {
                    Some(reason) => write!(f, ", but in dead_letters as {reason}"),
                    None => Ok(()),
                }
            }
            Difference::Duplicate { partition, offset, wrong } => {
                write!(f, "partition {partition} offset {offset}: both events and dead_letters have a row")?;
                match wrong {
                    Some(table) => write!(f, ", but {table} should not"),
                    None => f.write_str(", and the log no longer shows which one is wrong"),
                }
            }
            Difference::Altered { partition, offset, table, fields } => {
                write!(f, "partition {partition} offset {offset}: in {table}")?;
                for (i, AlteredField { field, stored, expected }) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma} {field} is {stored}, but the log has {expected}")?;
                }
                Ok(())
            }
            Difference::Foreign { partition, offset, table, why } => {
                write!(f, "partition {partition} offset {offset}: {table} has a row, but {why}")
            }
            Difference::MissingDeadLetter { partition, offset, reason, event } => {
                write!(f, "partition {partition} offset {offset}: {reason} is not in dead_letters")?;
                f.write_str(if *event { ", but in events" } else { "" })
            }
            Difference::MissingAlert { source, window_end, counted } => {
                write!(f, "source {source:?} window ending at {window_end}: {counted} events and no alert")
            }
            Difference::WrongAlertCount { source, window_end, stored, least, most } => {
                write!(f, "source {source:?} window ending at {window_end}: event_count is {stored}, but ")?;
                match most {
                    Some(most) if most == least => write!(f, "the log has {least}"),
                    Some(most) => write!(f, "the log has {least} to {most}"),
                    None => write!(f, "the remaining log has {least}"),
                }
            }
            Difference::PhantomAlert { source, window_end, stored, counted } => write!(
                f,
                "source {source:?} window ending at {window_end}: an alert with event_count {stored}, but the \
                 log has {counted}"
            ),
            Difference::MissingCount { partition, source, window_end, counted } => write!(
                f,
                "partition {partition} source {source:?} window ending at {window_end}: {counted} events and no row in \
                 window_counts"
            ),
            Difference::WrongCount {
                partition,
                source,
                window_end,
                count,
                through_offset,
                least,
                most,
                least_through,
                most_through,
            } => {
                write!(
                    f,
                    "partition {partition} source {source:?} window ending at {window_end}: count {count} through \
                     offset {through_offset}, but "
                )?;
                let range = |least: &i64, most: i64| match most == *least {
                    true => least.to_string(),
                    false => format!("{least} to {most}"),
                };
                match most.zip(*most_through) {
                    Some((most, through)) => {
                        let (count, through) = (range(least, most), range(least_through, through));
                        write!(f, "the log has {count} through {through}")
                    }
                    None => write!(f, "the remaining log has {least} through {least_through}"),
                }
            }
            Difference::ForeignCount { partition, source, window_end, count, through_offset } => write!(
                f,
                "partition {partition} source {source:?} window ending at {window_end}: count {count} through offset \
                 {through_offset}, but the log has no counted event"
            ),
            Difference::MisplacedCount {
                partition,
                source,
                window_end,
                block,
                shard,
                expected_block,
                expected_shard,
            } => write!(
                f,
                "partition {partition} source {source:?} window ending at {window_end}: the count is in block {block} \
                 shard {shard}, but it belongs in block {expected_block} shard {expected_shard}"
            ),
            Difference::WrongProgress { partition, origin, next_offset, why } => {
                write!(f, "partition {partition}: ")?;
                if let Some((origin, next_offset)) = origin.zip(*next_offset) {
                    write!(f, "origin {origin}, next_offset {next_offset}: ")?;
                }
                write!(f, "{why}")
            }
            Difference::WrongRegistry { stored, least, most } => {
                write!(f, "partitions is {stored}, but ")?;
                match stored < least {
                    true => write!(f, "window_counts has rows that need {least}"),
                    false => write!(f, "the topic has {most}"),
                }
            }
            Difference::Damaged(damaged) => write!(f, "{damaged}"),
            Difference::DamagedBinding { damaged, expected, by } => {
                write!(f, "{damaged}; {by} has {expected}, which all other checks assume")
            }
            Difference::MissingBinding { table, expected } => write!(
                f,
                "{table} has no row, but other tables have rows: they are checked against the configuration, topic {} with \
                 id {} and the origins in progress",
                expected.topic, expected.topic_id
            ),
        }
    }
}

/// The columns in which two events differ.
pub(super) fn altered_event(stored: &Event, expected: &Event) -> Vec<AlteredField> {
    let columns = |e: &Event| {
        [
            ("id", e.id.to_string()),
            ("ts", e.ts.to_string()),
            ("source", format!("{:?}", e.source)),
            ("client", format!("{:?}", e.client)),
            ("health", e.health.code().to_string()),
        ]
    };
    altered(columns(stored), columns(expected))
}

/// The columns in which two dead letters differ.
pub(super) fn altered_dead_letter(stored: DeadLetter, expected: DeadLetter) -> Vec<AlteredField> {
    fn bytes(bytes: &Option<Vec<u8>>) -> String {
        bytes.as_ref().map_or("unset".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
    }
    fn length(length: Option<i64>) -> String {
        length.map_or("unset".to_owned(), |length| length.to_string())
    }
    let columns = |letter: DeadLetter| {
        let cells = DeadLetterCells::from(letter);
        [
            ("reason", cells.reason),
            ("timestamp", cells.timestamp.to_string()),
            ("key", bytes(&cells.key)),
            ("value", bytes(&cells.value)),
            ("key_length", length(cells.key_length)),
            ("value_length", length(cells.value_length)),
            ("sha256", cells.sha256.as_deref().map_or("unset".to_owned(), hex::encode)),
        ]
    };
    altered(columns(stored), columns(expected))
}

fn altered<const N: usize>(
    stored: [(&'static str, String); N],
    expected: [(&'static str, String); N],
) -> Vec<AlteredField> {
    let pairs = stored.into_iter().zip(expected);
    let differing = pairs.filter(|(stored, expected)| stored.1 != expected.1);
    differing
        .map(|((field, stored), (_, expected))| {
            let same = stored.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
            AlteredField { field, stored: excerpt(&stored, same), expected: excerpt(&expected, same) }
        })
        .collect()
}

/// Maximum characters of an excerpt of a value: some equal ones before the first difference, and all together.
const SHOWN_SAME: usize = 20;
const SHOWN: usize = 80;

fn excerpt(text: &str, same: usize) -> String {
    let skipped = same.saturating_sub(SHOWN_SAME);
    let shown: String = text.chars().skip(skipped).take(SHOWN).collect();
    let before = if skipped > 0 { "..." } else { "" };
    let after = if text.chars().nth(skipped + SHOWN).is_some() { "..." } else { "" };
    format!("{before}{shown}{after}")
}
