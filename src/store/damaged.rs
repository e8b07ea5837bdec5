//! Stored rows that this program did not write and cannot read.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

/// The part of a stored row's key that identifies it for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RowKey {
    /// A row of `events` or `dead_letters`.
    Position {
        /// Partition; outside the range of `i32` only in a damaged row.
        partition: i64,
        /// Offset.
        offset: i64,
    },
    /// A row of `progress`, or all rows of a partition in another table.
    Partition {
        /// Partition; outside the range of `i32` only in a damaged row.
        partition: i64,
    },
    /// A row of `window_counts`.
    Count {
        /// Partition; outside the range of `i32` only in a damaged row.
        partition: i64,
        /// The source.
        source: Arc<str>,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
    },
    /// A row of `alerts`.
    Window {
        /// The source.
        source: Arc<str>,
        /// The window's end in milliseconds since the epoch.
        window_end: i64,
    },
    /// The only row of `pipeline` or `registry`.
    Only {},
}

/// The row, after the name of its table. Control characters of a source are escaped.
impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowKey::Position { partition, offset } => write!(f, " partition {partition} offset {offset}"),
            RowKey::Partition { partition } => write!(f, " partition {partition}"),
            RowKey::Count { partition, source, window_end } => {
                write!(f, " partition {partition} source {source:?} window ending at {window_end}")
            }
            RowKey::Window { source, window_end } => {
                write!(f, " source {source:?} window ending at {window_end}")
            }
            RowKey::Only {} => Ok(()),
        }
    }
}

/// A stored row with a value that no version of this program writes. It is the cause of the
/// [`StoreError`](super::StoreError) of a request that requires the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{table}{key}: column {column}: {what}")]
pub struct Damaged {
    /// The table.
    pub table: &'static str,
    /// The row.
    #[serde(flatten)]
    pub key: RowKey,
    /// The column.
    pub column: &'static str,
    /// What is wrong with its value, for example "null".
    pub what: String,
}

/// A stored row: its value, or what is wrong with it.
pub type Stored<T> = Result<T, Damaged>;

/// What is wrong with one column of a row whose key is added later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub column: &'static str,
    pub what: String,
}

impl Flaw {
    pub fn new(column: &'static str, what: impl Into<String>) -> Self {
        Self { column, what: what.into() }
    }

    pub fn null(column: &'static str) -> Self {
        Self::new(column, "null")
    }

    pub fn of(self, table: &'static str, key: RowKey) -> Damaged {
        Damaged { table, key, column: self.column, what: self.what }
    }
}

/// The `event_count` of an alert, which is at least 1.
pub(crate) fn event_count(stored: Option<i64>) -> Result<i32, Flaw> {
    let stored = stored.ok_or_else(|| Flaw::null("event_count"))?;
    let count = i32::try_from(stored).ok().filter(|count| *count >= 1);
    count.ok_or_else(|| Flaw::new("event_count", format!("{stored} is not a count")))
}
