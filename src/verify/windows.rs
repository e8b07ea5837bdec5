//! The log's counts of windows, and the stored counts and alerts to compare with them, in bounded memory.
//!
//! Counts are kept in a map of limited size. When it is full, it is added to a table of a temporary SQLite
//! file and emptied; stored counts and alerts go into the same table. So the size of the data costs disk, not memory, and
//! the end is one pass over the table in the order of its key.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};
use tempfile::NamedTempFile;

use crate::store::{Count, WindowKey};

use super::difference::Difference;
use super::error::VerifyError;

/// What the log has of one window in one partition.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Counted events of the judged log, and the offset of the last one; -1 if there is none.
    low: i64,
    low_through: i64,
    /// Counted events behind it, which workers may have counted already, and the offset of the last one.
    maybe: i64,
    maybe_through: i64,
    /// True if the window holds stored events whose records are gone.
    gone: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { low: 0, low_through: -1, maybe: 0, maybe_through: -1, gone: false }
    }
}

/// Where an event of a window was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In the judged log.
    Judged,
    /// In the log behind it.
    Behind,
    /// In the tables only: the log no longer has the record.
    Gone,
}

/// The value of `stored` for a row that is damaged: it is there, and that is all that is known of it.
const DAMAGED: i64 = i64::MIN;

/// The partition of the row that has an alert: less than that of any count.
const ALERT: i64 = i64::MIN;

pub(super) struct Windows {
    memory: BTreeMap<(String, i64, i32), Window>,
    most_in_memory: usize,
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
    pub fn new(folder: Option<&Path>, most_in_memory: usize) -> Result<Self, VerifyError> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        let file = tempfile::Builder::new()
            .prefix("exactlyonce-verify-")
            .suffix(".sqlite")
            .tempfile_in(&folder)
            .map_err(|source| VerifyError::Folder { folder: folder.display().to_string(), source })?;
        let open = || {
            let connection = Connection::open(file.path())?;
            // Nothing of it is needed after a crash.
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
                     maybe INTEGER NOT NULL DEFAULT 0,
                     maybe_through INTEGER NOT NULL DEFAULT -1,
                     gone INTEGER NOT NULL DEFAULT 0,
                     stored INTEGER,
                     through_offset INTEGER,
                     PRIMARY KEY (source, window_end, partition)
                 ) WITHOUT ROWID;",
            )?;
            Ok(connection)
        };
        let connection = open().map_err(spill_error("make a table", file.path()))?;
        Ok(Self { memory: BTreeMap::new(), most_in_memory: most_in_memory.max(1), connection, file })
    }

    /// Counts the event at a position in one of its windows.
    pub fn add(
        &mut self,
        source: &str,
        window_end: i64,
        (partition, offset): (i32, i64),
        found: Found,
    ) -> Result<(), VerifyError> {
        let window = self.memory.entry((source.to_owned(), window_end, partition)).or_default();
        match found {
            Found::Judged => {
                window.low += 1;
                window.low_through = window.low_through.max(offset);
            }
            Found::Behind => {
                window.maybe += 1;
                window.maybe_through = window.maybe_through.max(offset);
            }
            Found::Gone => window.gone = true,
        }
        if self.memory.len() >= self.most_in_memory {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), VerifyError> {
        let Self { memory, connection, file, .. } = self;
        let mut write = || {
            let transaction = connection.transaction()?;
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO windows (source, window_end, partition, low, low_through, maybe, maybe_through, gone)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET low = low + excluded.low, maybe = maybe + excluded.maybe,
                     low_through = max(low_through, excluded.low_through),
                     maybe_through = max(maybe_through, excluded.maybe_through),
                     gone = max(gone, excluded.gone)",
            )?;
            while let Some(((source, end, partition), window)) = memory.pop_first() {
                let Window { low, low_through, maybe, maybe_through, gone } = window;
                upsert.execute(params![
                    source,
                    end,
                    partition,
                    low,
                    low_through,
                    maybe,
                    maybe_through,
                    gone
                ])?;
            }
            drop(upsert);
            transaction.commit()
        };
        write().map_err(spill_error("add window counts", file.path()))
    }

    /// Takes alerts as the store has them, `None` for a damaged one. One that comes twice was raised in between.
    pub fn add_alerts(&mut self, alerts: &[(WindowKey, Option<i32>)]) -> Result<(), VerifyError> {
        let rows = alerts.iter().map(|(window, count)| (window, ALERT, count.map(|count| (count.into(), 0))));
        self.add_stored("add alerts", rows)
    }

    /// Takes counts as the store has them, `None` for a damaged one.
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
    /// and window end. With `any_gone`, records are gone that may have been counted in any window.
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
                "SELECT source, window_end, partition, low, low_through, maybe, maybe_through, gone, stored,
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
                    maybe: row.get(5)?,
                    maybe_through: row.get(6)?,
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
                sum.window.maybe += window.maybe;
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
    let Window { low, low_through, maybe, maybe_through, gone } = window;
    let most = low + maybe;
    let Some(stored) = stored else {
        let missing = Difference::MissingCount { partition, source, window_end, counted: low };
        return (low > 0).then_some(missing);
    };
    let Count { count, through_offset } = stored;
    if !gone && most == 0 {
        return Some(Difference::ForeignCount { partition, source, window_end, count, through_offset });
    }
    // Where an event lies behind the judged log, it may be the last one that is counted.
    let last = if maybe > 0 { maybe_through } else { low_through };
    let right = count >= low.max(1)
        && through_offset >= low_through.max(0)
        && (gone
            || (count <= most
                && through_offset <= last
                && (count == low) == (through_offset == low_through)
                && (count == most) == (through_offset == last)));
    (!right).then_some(Difference::WrongCount {
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
    let Window { low, maybe, gone, .. } = window;
    let most = low + maybe;
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
    let right = stored >= least && (gone || stored <= most);
    (!right).then_some(Difference::WrongAlertCount {
        source,
        window_end,
        stored,
        least: if gone { low } else { least },
        most: (!gone).then_some(most),
    })
}
