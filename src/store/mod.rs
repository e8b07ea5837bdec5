//! The tables: what the pipeline requires of a store.
//!
//! A store keeps cells with write timestamps and resolves two writes of one cell by them: the greater
//! timestamp wins, and at a tie the greater bytes do (Cassandra, `Cells.resolveRegular`). The timestamps are
//! positions of the log, see each write below; no other program may write to these tables with another clock.
//!
//! Contract of every implementation:
//! - a write that is [`Outcome::Acknowledged`] is durable and seen by every later read, from any worker (in Cassandra:
//!   both at QUORUM);
//! - a call may write many rows and need not be atomic: after [`Outcome::Unknown`] any part of it may
//!   have been written, or may be later. Repeating the same call with the same arguments is always correct;
//! - calls may overlap, in any number and order.

#[cfg(feature = "cassandra")]
pub mod cassandra;
pub mod cell;
pub mod cql;
mod damaged;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod layout;
pub mod memory;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::binding::{Binding, Bound, BoundConsistency, SCHEMA_VERSION, StoredBinding};
use crate::error::Cause;
use crate::event::{DeadLetter, Event, Row};
use crate::guarantee::Finding;
pub use damaged::{Damaged, RowKey, Stored};
pub(crate) use damaged::{Flaw, event_count};
pub use layout::{CountLayout, CountPlace, EventLayout, Layout, LayoutError};

/// Partitions whose counts are read concurrently for sums, by a store that reads each of them by itself.
const PARTITIONS_AT_ONCE: usize = 8;

/// The error of a request to a store.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct StoreError {
    /// What was requested, and of which table, partition or file.
    pub what: String,
    /// The store's error.
    #[source]
    pub cause: Option<Cause>,
}

impl StoreError {
    /// An error with a cause.
    pub fn new(what: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self { what: what.into(), cause: Some(cause.into()) }
    }

    /// An error without a cause.
    pub fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    /// The damaged row that made the request fail, if there is one.
    pub fn damaged(&self) -> Option<&Damaged> {
        self.cause.as_ref()?.downcast_ref()
    }
}

/// What is known about a request after it ended. Treating *unknown* as one of the others would lose or duplicate
/// events.
#[must_use = "a request's outcome decides whether it must be repeated"]
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was applied and is durable; for a read, this is the result.
    Acknowledged(T),
    /// It was not applied and never will be: the request is invalid, or not allowed.
    Refused(StoreError),
    /// It may have been applied, may be applied later, or never: timeouts, broken connections, overload. A read has no
    /// result. It must be retried with the same bytes.
    Unknown(StoreError),
}

impl<T> Outcome<T> {
    /// Maps the result.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Outcome::Acknowledged(value) => Outcome::Acknowledged(f(value)),
            Outcome::Refused(error) => Outcome::Refused(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    /// The result, or the error, for callers that do not retry.
    ///
    /// # Errors
    /// The error of a refused request, or of one with an unknown outcome.
    pub fn into_result(self) -> Result<T, StoreError> {
        match self {
            Outcome::Acknowledged(value) => Ok(value),
            Outcome::Refused(error) | Outcome::Unknown(error) => Err(error),
        }
    }
}

/// The progress of a partition: a row of the table `progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where this pipeline started. Never changes.
    pub origin: i64,
    /// Everything from `origin` up to here is durable in every table.
    pub next_offset: i64,
}

impl Progress {
    /// Write timestamp of `next_offset`: one more than it, so that 0 is written at 1.
    pub fn write_timestamp(&self) -> i64 {
        self.next_offset.saturating_add(1)
    }
}

/// A window of a source. Compared by its end first: an event has many windows of one source, which may have a long name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    /// The window's end in milliseconds since the epoch.
    pub end: i64,
    /// The source.
    pub source: Arc<str>,
}

/// What one partition has counted in one window: a row of the table `window_counts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Counted events of this partition.
    pub count: i64,
    /// The offset of the last one of them.
    pub through_offset: i64,
}

impl Count {
    /// Nothing counted yet: every offset is past it.
    pub const NONE: Count = Count { count: 0, through_offset: -1 };

    /// Counts the event at `offset`, unless it is counted already.
    pub fn add(&mut self, offset: i64) {
        if offset > self.through_offset {
            self.count += 1;
            self.through_offset = offset;
        }
    }

    /// Write timestamp of both cells. `count` is a pure function of the partition's log up to
    /// `through_offset`, so an older writer loses and an equal one writes the same bytes.
    pub fn write_timestamp(&self) -> i64 {
        self.through_offset.saturating_add(1)
    }
}

/// A row of the table `alerts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alert {
    /// The source.
    pub source: Arc<str>,
    /// The window's end in milliseconds since the epoch.
    pub ts: i64,
    /// Counted events of the source in the window, over all partitions. Its write timestamp, too: the sum
    /// only grows, so the greater one wins.
    pub event_count: i32,
}

/// A row of the table `window_counts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCount {
    /// The partition of the log.
    pub partition: i32,
    /// Where the row was found, in a store that keys counts by [`CountPlace`].
    pub place: Option<CountPlace>,
    /// The window.
    pub window: WindowKey,
    /// The count.
    pub count: Stored<Count>,
}

/// All values, or the error of the first damaged row.
fn undamaged<T>(request: &str, outcome: Outcome<Vec<Stored<T>>>) -> Outcome<Vec<T>> {
    match outcome {
        Outcome::Acknowledged(rows) => match rows.into_iter().collect() {
            Ok(rows) => Outcome::Acknowledged(rows),
            Err(damaged) => Outcome::Refused(StoreError::new(
                format!("{request}: a row is damaged: it contains a value that this program does not write"),
                damaged,
            )),
        },
        Outcome::Refused(error) => Outcome::Refused(error),
        Outcome::Unknown(error) => Outcome::Unknown(error),
    }
}

/// The value of the registry that includes a partition among those that may have counts; also its write timestamp.
pub fn registration(partition: i32) -> i32 {
    partition.saturating_add(1)
}

/// Write timestamp of an event's or a dead letter's cells: the row is a function of its position.
pub fn row_timestamp(offset: i64) -> i64 {
    offset.saturating_add(1)
}

/// Where a scan continues: the token of a page, passed back unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the store.
    pub rows: Vec<T>,
    /// Where to continue; `None` at the end.
    pub next: Option<Cursor>,
}

/// The tables. Cheap to clone; every clone uses the same store.
pub trait Store: Clone + Send + Sync + 'static {
    /// The layout that this store writes and reads its tables with. It must be compared with the binding's before
    /// anything else is written or read: with a different layout, rows are not found.
    fn layout(&self) -> Layout;

    /// The consistency of this store's reads and writes. It must be compared with the binding's before anything
    /// else is written or read: a worker that uses a different one misses counts.
    fn consistency(&self) -> BoundConsistency;

    /// Checks what the guarantee requires of this store; see [`crate::guarantee`]. A store of one file has nothing to
    /// check. A check for which the caller lacks a permission is a finding, not an error.
    fn guarantees(&self) -> impl Future<Output = Outcome<Vec<Finding>>> + Send {
        std::future::ready(Outcome::Acknowledged(Vec::new()))
    }

    /// How many rows a call of [`Store::write_rows`] should have if there are enough. More save time only where each call
    /// has a cost of its own, and take more memory.
    fn rows_per_call(&self) -> usize {
        800
    }

    /// The binding, if `init` wrote one, damaged columns included.
    fn stored_binding(&self) -> impl Future<Output = Outcome<Option<StoredBinding>>> + Send;

    /// The binding, if `init` wrote one. Refused where a column is damaged.
    fn binding(&self) -> impl Future<Output = Outcome<Option<Binding>>> + Send {
        async move {
            let stored = self.stored_binding().await;
            let stored = stored.map(|stored| stored.map(StoredBinding::undamaged).into_iter().collect());
            undamaged("read the binding", stored).map(|bindings| bindings.into_iter().next())
        }
    }

    /// Writes the binding if there is none: of two concurrent calls, one wins and the other gets the winner's binding.
    /// Linearizable: every read that begins after an acknowledged call finds the binding, also one that an interrupted call
    /// has left where only some reads find it.
    fn bind(&self, binding: &Binding) -> impl Future<Output = Outcome<Bound>> + Send;

    /// True if any table other than `pipeline` has a row. Without a binding, such rows come from another program.
    fn holds_rows(&self) -> impl Future<Output = Outcome<bool>> + Send;

    /// The progress of every partition that has a row, damaged rows included.
    fn stored_progress(&self) -> impl Future<Output = Outcome<BTreeMap<i32, Stored<Progress>>>> + Send;

    /// The progress of every partition that has a row. Refused where a row is damaged.
    fn progress_of_all(&self) -> impl Future<Output = Outcome<BTreeMap<i32, Progress>>> + Send {
        async move {
            let rows = self.stored_progress().await;
            let rows = rows.map(|rows| rows.into_iter().map(|(p, row)| Ok((p, row?))).collect());
            undamaged("read progress", rows).map(BTreeMap::from_iter)
        }
    }

    /// A partition's progress.
    fn progress(&self, partition: i32) -> impl Future<Output = Outcome<Option<Progress>>> + Send;

    /// Writes a partition's progress: `next_offset` at [`Progress::write_timestamp`], `origin` at 1.
    fn write_progress(&self, partition: i32, progress: Progress) -> impl Future<Output = Outcome<()>> + Send;

    /// Registers a partition: `partitions` = `partition` + 1, at the timestamp of that number, so that the greatest
    /// one is kept. A partition must be registered, with acknowledgement, before its first count is written.
    fn register(&self, partition: i32) -> impl Future<Output = Outcome<()>> + Send;

    /// The number of registered partitions, which may have counts: those below it. 0 if none is registered.
    fn registered(&self) -> impl Future<Output = Outcome<i32>> + Send;

    /// A partition's count of each window, in the order given; `None` where there is no row.
    fn counts(
        &self,
        partition: i32,
        windows: &[WindowKey],
    ) -> impl Future<Output = Outcome<Vec<Option<Count>>>> + Send;

    /// The sum of these partitions' counts of each window, in the order of the windows; a partition without a row counts
    /// nothing. A sum that exceeds an `i64` is its greatest value.
    fn sums(
        &self,
        partitions: &[i32],
        windows: &[WindowKey],
    ) -> impl Future<Output = Outcome<Vec<i64>>> + Send {
        async move {
            let mut sums = vec![0i64; windows.len()];
            let mut reads = stream::iter(partitions.to_vec())
                .map(|partition| self.counts(partition, windows))
                .buffer_unordered(PARTITIONS_AT_ONCE);
            while let Some(read) = reads.next().await {
                let counts = match read {
                    Outcome::Acknowledged(counts) => counts,
                    Outcome::Refused(error) => return Outcome::Refused(error),
                    Outcome::Unknown(error) => return Outcome::Unknown(error),
                };
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum = sum.saturating_add(count.map_or(0, |count| count.count));
                }
            }
            Outcome::Acknowledged(sums)
        }
    }

    /// Writes a partition's counts, each at [`Count::write_timestamp`]. Only that partition's worker does so.
    fn write_counts(
        &self,
        partition: i32,
        counts: &[(WindowKey, Count)],
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// Writes alerts, each at the timestamp `event_count`.
    fn write_alerts(&self, alerts: &[Alert]) -> impl Future<Output = Outcome<()>> + Send;

    /// Writes events and dead letters of one partition, each at [`row_timestamp`].
    fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> impl Future<Output = Outcome<()>> + Send;

    /// The last `limit` rows of a partition from `from` up to and without `below`, events and dead letters
    /// together, by ascending offset. An offset that both tables have is returned twice. The lower bound saves a
    /// store with buckets from searching back to its first one.
    fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> impl Future<Output = Outcome<Vec<(i64, Row)>>> + Send;

    /// Events of a partition from `from` up to and without `to`, by ascending offset, at most `limit`, damaged rows
    /// included.
    fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> impl Future<Output = Outcome<Vec<(i64, Stored<Event>)>>> + Send;

    /// Events, as [`Store::stored_events`]. Refused where a row is damaged.
    fn events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> impl Future<Output = Outcome<Vec<(i64, Event)>>> + Send {
        async move {
            let rows = self.stored_events(partition, from, to, limit).await;
            let rows = rows.map(|rows| rows.into_iter().map(|(offset, row)| Ok((offset, row?))).collect());
            undamaged("read events", rows)
        }
    }

    /// Dead letters, as [`Store::stored_events`].
    fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> impl Future<Output = Outcome<Vec<(i64, Stored<DeadLetter>)>>> + Send;

    /// Dead letters, as [`Store::events`].
    fn dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> impl Future<Output = Outcome<Vec<(i64, DeadLetter)>>> + Send {
        async move {
            let rows = self.stored_dead_letters(partition, from, to, limit).await;
            let rows = rows.map(|rows| rows.into_iter().map(|(offset, row)| Ok((offset, row?))).collect());
            undamaged("read dead letters", rows)
        }
    }

    /// The partitions of which `events` or `dead_letters` have rows.
    fn partitions(&self) -> impl Future<Output = Outcome<Vec<i32>>> + Send;

    /// The partition numbers that are no `i32`, in a store whose columns can hold them: one for each number and table, at
    /// most 1,000 for each table. No other method returns rows with such numbers.
    fn invalid_partitions(&self) -> impl Future<Output = Outcome<Vec<Damaged>>> + Send {
        std::future::ready(Outcome::Acknowledged(Vec::new()))
    }

    /// All alerts (the key and `event_count`), in any order, a page at a time, damaged rows included. Not a snapshot.
    fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Outcome<Page<(WindowKey, Stored<i32>)>>> + Send;

    /// All alerts, as [`Store::stored_alerts`]. Refused where a row is damaged.
    fn alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Outcome<Page<Alert>>> + Send {
        async move {
            let mut next = None;
            let rows = self.stored_alerts(after, limit).await.map(|page| {
                next = page.next;
                let alert = |(window, count): (WindowKey, Stored<i32>)| {
                    Ok(Alert { source: window.source, ts: window.end, event_count: count? })
                };
                page.rows.into_iter().map(alert).collect()
            });
            undamaged("read alerts", rows).map(|rows| Page { rows, next })
        }
    }

    /// All counts of all partitions, in any order, a page at a time, damaged rows included. Not a snapshot.
    fn all_counts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Outcome<Page<StoredCount>>> + Send;
}
