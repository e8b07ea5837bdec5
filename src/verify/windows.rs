//! Compares the log's counts of windows with the stored counts and alerts, in bounded memory.
//!
//! Counts are kept in a map of limited size. When the map is full, it is merged into a table of a temporary SQLite file
//! and cleared; stored counts and alerts go into the same table. So memory does not grow with the data. At the end, one
//! pass over the table in the order of its key compares them.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};
use tempfile::NamedTempFile;

use crate::store::{Count, WindowKey};

use super::difference::Difference;
use super::error::VerifyError;

/// The log's events of one window in one partition.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Counted events of the judged log, and the offset of the last one; -1 if there is none.
    low: i64,
    low_through: i64,
    /// Counted events after it, which workers may have counted already, and the offset of the last one.
    possible: i64,
    possible_through: i64,
    /// True if the window holds stored events whose records are gone.
    gone: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { low: 0, low_through: -1, possible: 0, possible_through: -1, gone: false }
    }
}

/// The state of an event's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordState {
    /// It is in the judged log.
    Judged,
    /// It is in the log after the judged part.
    After,
    /// The log no longer has it: the event is only in the tables.
    Gone,
}

/// The value of `stored` for a damaged row, of which only its existence is known.
const DAMAGED: i64 = i64::MIN;

/// The value of `partition` for an alert: lower than that of any count.
const ALERT: i64 = i64::MIN;

pub(super) struct Windows {
    memory: BTreeMap<(String, i64, i32), Window>,
    max_in_memory: usize,
    connection: Connection,
    /// Deleted when dropped, after the connection.
    file: NamedTempFile,
}

/// The number of rows that were judged.
pub(super) struct Judged {
    pub alerts: u64,
    pub counts: u64,
    pub windows_not_judged: u64,
}

impl Windows {
    pub fn new(folder: Option<&Path>, max_in_memory: usize) -> Result<Self, VerifyError> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        let file = tempfile::Builder::new()
            .prefix("exactlyonce-verify-")
            .suffix(".sqlite")
            .tempfile_in(&folder)
            .map_err(|source| VerifyError::Folder { folder: folder.display().to_string(), source })?;
        let open = || {
            let connection = Connection::open(file.path())?;
            // The file is not needed after a crash.
            connection.execute_batch(
                "PRAGMA journal_mode = OFF;
                 PRAGMA synchronous = OFF;
                 PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA cache_size = -8192;
                 CREATE TABLE windows (
                     source TEXT NOT NULL,
                     window_end INTEGER NOT NULL,
                     partition INTEGER NOT NULL,
                     low INTEGER NOT NULL DEFAULT 0,
                     low_through INTEGER NOT NULL DEFAULT -1,
                     possible INTEGER NOT NULL DEFAULT 0,
                     possible_through INTEGER NOT NULL DEFAULT -1,
                     gone INTEGER NOT NULL DEFAULT 0,
                     stored INTEGER,
                     through_offset INTEGER,
                     PRIMARY KEY (source, window_end, partition)
                 ) WITHOUT ROWID;",
            )?;
            Ok(connection)
        };
        let connection = open().map_err(spill_error("create a table", file.path()))?;
        Ok(Self { memory: BTreeMap::new(), max_in_memory: max_in_memory.max(1), connection, file })
    }

    /// Counts the event at a position in one of its windows.
    pub fn add(
        &mut self,
        source: &str,
        window_end: i64,
        (partition, offset): (i32, i64),
        state: RecordState,
    ) -> Result<(), VerifyError> {
        let window = self.memory.entry((source.to_owned(), window_end, partition)).or_default();
        match state {
            RecordState::Judged => {
                window.low += 1;
                window.low_through = window.low_through.max(offset);
            }
            RecordState::After => {
                window.possible += 1;
                window.possible_through = window.possible_through.max(offset);
            }
            RecordState::Gone => window.gone = true,
        }
        if self.memory.len() >= self.max_in_memory {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), VerifyError> {
        let Self { memory, connection, file, .. } = self;
        let mut write = || {
            let transaction = connection.transaction()?;
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO windows (source, window_end, partition, low, low_through, possible, possible_through, gone)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET low = low + excluded.low, possible = possible + excluded.possible,
                     low_through = max(low_through, excluded.low_through),
                     possible_through = max(possible_through, excluded.possible_through),
                     gone = max(gone, excluded.gone)",
            )?;
            while let Some(((source, end, partition), window)) = memory.pop_first() {
                let Window { low, low_through, possible, possible_through, gone } = window;
                upsert.execute(params![
                    source,
                    end,
                    partition,
                    low,
                    low_through,
                    possible,
                    possible_through,
                    gone
                ])?;
            }
            drop(upsert);
            transaction.commit()
        };
        write().map_err(spill_error("add window counts", file.path()))
    }

    /// Adds stored alerts, `None` for a damaged one. An alert that is read twice was raised in between.
    pub fn add_alerts(&mut self, alerts: &[(WindowKey, Option<i32>)]) -> Result<(), VerifyError> {
        let rows = alerts.iter().map(|(window, count)| (window, ALERT, count.map(|count| (count.into(), 0))));
        self.add_stored("add alerts", rows)
    }

    /// Adds stored counts, `None` for a damaged one.
    pub fn add_counts(&mut self, counts: &[(i32, WindowKey, Option<Count>)]) -> Result<(), VerifyError> {
        let rows = counts.iter().map(|(partition, window, count)| {
            (window, i64::from(*partition), count.map(|count| (count.count, count.through_offset)))
        });
        self.add_stored("add stored counts", rows)
    }

    fn add_stored<'a>(
        &mut self,
        request: &'static str,
        rows: impl Iterator<Item = (&'a WindowKey, i64, Option<(i64, i64)>)>,
    ) -> Result<(), VerifyError> {
        let Self { connection, file, .. } = self;
        let write = || {
            let transaction = connection.transaction()?;
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO windows (source, window_end, partition, stored, through_offset)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET stored = excluded.stored, through_offset = excluded.through_offset
                 WHERE stored IS NULL OR (excluded.through_offset, excluded.stored) > (through_offset, stored)",
            )?;
            for (window, partition, stored) in rows {
                let (stored, through_offset) = stored.unwrap_or((DAMAGED, 0));
                upsert.execute(params![window.source, window.end, partition, stored, through_offset])?;
            }
            drop(upsert);
            transaction.commit()
        };
        write().map_err(spill_error(request, file.path()))
    }

    /// Compares every stored count and alert with the log's counts of its window, and reports the differences by source
    /// and window end. `any_gone` is true if records are gone that may have been counted in any window.
    pub fn judge(
        mut self,
        threshold: i32,
        any_gone: bool,
        mut report: impl FnMut(Difference),
    ) -> Result<Judged, VerifyError> {
        self.spill()?;
        let threshold = i64::from(threshold);
        let mut read = || {
            let mut judged = Judged { alerts: 0, counts: 0, windows_not_judged: 0 };
            let mut rows = self.connection.prepare(
                "SELECT source, window_end, partition, low, low_through, possible, possible_through, gone, stored,
                     through_offset
                 FROM windows ORDER BY source, window_end, partition",
            )?;
            let mut rows = rows.query([])?;
            let mut all: Option<Sum> = None;
            let end = |sum: Option<Sum>, judged: &mut Judged, report: &mut dyn FnMut(Difference)| {
                let Some(Sum { source, window_end, window, alert }) = sum else { return };
                judged.windows_not_judged += u64::from(window.gone);
                if let Some(difference) = alert_difference(source, window_end, window, alert, threshold) {
                    report(difference);
                }
            };
            while let Some(row) = rows.next()? {
                let (source, window_end, partition): (String, i64, i64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let window = Window {
                    low: row.get(3)?,
                    low_through: row.get(4)?,
                    possible: row.get(5)?,
                    possible_through: row.get(6)?,
                    gone: row.get::<_, bool>(7)? || any_gone,
                };
                let stored: Option<i64> = row.get(8)?;
                if all.as_ref().is_none_or(|sum| (&sum.source, sum.window_end) != (&source, window_end)) {
                    end(all.take(), &mut judged, &mut report);
                }
                let sum = all.get_or_insert_with(|| Sum {
                    source: source.clone(),
                    window_end,
                    window: Window { gone: any_gone, ..Window::default() },
                    alert: None,
                });
                sum.window.low += window.low;
                sum.window.possible += window.possible;
                sum.window.gone |= window.gone;
                match i32::try_from(partition) {
                    Err(_) => {
                        judged.alerts += 1;
                        sum.alert = stored;
                    }
                    Ok(partition) => {
                        judged.counts += u64::from(stored.is_some());
                        let stored = match stored {
                            None => None,
                            Some(DAMAGED) => continue,
                            Some(count) => Some(Count { count, through_offset: row.get(9)? }),
                        };
                        if let Some(difference) =
                            count_difference(partition, source, window_end, window, stored)
                        {
                            report(difference);
                        }
                    }
                }
            }
            end(all.take(), &mut judged, &mut report);
            Ok(judged)
        };
        read().map_err(spill_error("read windows", self.file.path()))
    }
}

/// A window over all partitions, with its alert.
struct Sum {
    source: String,
    window_end: i64,
    window: Window,
    alert: Option<i64>,
}

fn spill_error(request: &'static str, file: &Path) -> impl FnOnce(rusqlite::Error) -> VerifyError {
    let file = file.display().to_string();
    move |source| VerifyError::Spill { request, file, source }
}

/// What is wrong with a partition's count of a window, or with having none. See the [module's docs](super).
fn count_difference(
    partition: i32,
    source: String,
    window_end: i64,
    window: Window,
    stored: Option<Count>,
) -> Option<Difference> {
    let Window { low, low_through, possible, possible_through, gone } = window;
    let most = low + possible;
    let Some(stored) = stored else {
        let missing = Difference::MissingCount { partition, source, window_end, counted: low };
        return (low > 0).then_some(missing);
    };
    let Count { count, through_offset } = stored;
    if !gone && most == 0 {
        return Some(Difference::ForeignCount { partition, source, window_end, count, through_offset });
    }
    // If there are events after the judged log, one of them may be the last counted event.
    let last = if possible > 0 { possible_through } else { low_through };
    let correct = count >= low.max(1)
        && through_offset >= low_through.max(0)
        && (gone
            || (count <= most
                && through_offset <= last
                && (count == low) == (through_offset == low_through)
                && (count == most) == (through_offset == last)));
    (!correct).then_some(Difference::WrongCount {
        partition,
        source,
        window_end,
        count,
        through_offset,
        least: low.max(1),
        most: (!gone).then_some(most),
        least_through: low_through.max(0),
        most_through: (!gone).then_some(last),
    })
}

/// What is wrong with a window's alert, or with having none. See the [module's docs](super) for the rule.
fn alert_difference(
    source: String,
    window_end: i64,
    window: Window,
    stored: Option<i64>,
    threshold: i64,
) -> Option<Difference> {
    let Window { low, possible, gone, .. } = window;
    let most = low + possible;
    let Some(stored) = stored else {
        let missing = low >= threshold;
        return missing.then_some(Difference::MissingAlert { source, window_end, counted: low });
    };
    if stored == DAMAGED {
        return None;
    }
    if !gone && most < threshold {
        return Some(Difference::PhantomAlert { source, window_end, stored, counted: most });
    }
    let least = low.max(threshold);
    let correct = stored >= least && (gone || stored <= most);
    (!correct).then_some(Difference::WrongAlertCount {
        source,
        window_end,
        stored,
        least: if gone { low } else { least },
        most: (!gone).then_some(most),
    })
}
