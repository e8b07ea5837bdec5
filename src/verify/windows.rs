//! Counts of windows, and the alerts to hold against them, in bounded memory.
//!
//! Counts are kept in a map of limited size. When it is full, it is added to a table of a temporary SQLite
//! file and emptied; the alerts go into the same table. So the size of the data costs disk, not memory, and
//! the end is one pass over the table in the order of its key.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};
use tempfile::NamedTempFile;

use crate::store::Alert;

use super::difference::Difference;
use super::error::VerifyError;

/// What is known of one window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Counted events of the judged log.
    low: i64,
    /// Counted events behind it, which workers may have counted already.
    maybe: i64,
    /// True if the window holds stored events whose records are gone.
    gone: bool,
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

pub(super) struct Windows {
    memory: BTreeMap<(String, i64), Window>,
    most_in_memory: usize,
    connection: Connection,
    /// Deleted when dropped, after the connection.
    file: NamedTempFile,
}

/// What the judgement counted.
pub(super) struct Judged {
    pub alerts: u64,
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
                     low INTEGER NOT NULL DEFAULT 0,
                     maybe INTEGER NOT NULL DEFAULT 0,
                     gone INTEGER NOT NULL DEFAULT 0,
                     event_count INTEGER,
                     PRIMARY KEY (source, window_end)
                 ) WITHOUT ROWID;",
            )?;
            Ok(connection)
        };
        let connection = open().map_err(spill_error("make a table", file.path()))?;
        Ok(Self { memory: BTreeMap::new(), most_in_memory: most_in_memory.max(1), connection, file })
    }

    /// Counts one event in one of its windows.
    pub fn add(&mut self, source: &str, window_end: i64, found: Found) -> Result<(), VerifyError> {
        let window = self.memory.entry((source.to_owned(), window_end)).or_default();
        match found {
            Found::Judged => window.low += 1,
            Found::Behind => window.maybe += 1,
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
                "INSERT INTO windows (source, window_end, low, maybe, gone) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET low = low + excluded.low, maybe = maybe + excluded.maybe,
                     gone = max(gone, excluded.gone)",
            )?;
            while let Some(((source, end), Window { low, maybe, gone })) = memory.pop_first() {
                upsert.execute(params![source, end, low, maybe, gone])?;
            }
            drop(upsert);
            transaction.commit()
        };
        write().map_err(spill_error("add window counts", file.path()))
    }

    /// Takes alerts as the store has them. One that comes twice was raised in between.
    pub fn add_alerts(&mut self, alerts: &[Alert]) -> Result<(), VerifyError> {
        let Self { connection, file, .. } = self;
        let mut write = || {
            let transaction = connection.transaction()?;
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO windows (source, window_end, event_count) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET
                     event_count = max(coalesce(event_count, excluded.event_count), excluded.event_count)",
            )?;
            for alert in alerts {
                upsert.execute(params![alert.source, alert.ts, alert.event_count])?;
            }
            drop(upsert);
            transaction.commit()
        };
        write().map_err(spill_error("add alerts", file.path()))
    }

    /// Holds every alert against its window's counts, and tells the differences by source and window end.
    /// With `any_gone`, records are gone that may have been counted in any window.
    pub fn judge(
        mut self,
        threshold: i32,
        any_gone: bool,
        mut tell: impl FnMut(Difference),
    ) -> Result<Judged, VerifyError> {
        self.spill()?;
        let threshold = i64::from(threshold);
        let mut read = || {
            let mut judged = Judged { alerts: 0, windows_not_judged: 0 };
            let mut rows = self.connection.prepare(
                "SELECT source, window_end, low, maybe, gone, event_count FROM windows
                 ORDER BY source, window_end",
            )?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let (source, window_end): (String, i64) = (row.get(0)?, row.get(1)?);
                let window =
                    Window { low: row.get(2)?, maybe: row.get(3)?, gone: row.get::<_, bool>(4)? || any_gone };
                let stored: Option<i64> = row.get(5)?;
                judged.alerts += u64::from(stored.is_some());
                judged.windows_not_judged += u64::from(window.gone);
                if let Some(difference) = difference(source, window_end, window, stored, threshold) {
                    tell(difference);
                }
            }
            Ok(judged)
        };
        read().map_err(spill_error("read windows", self.file.path()))
    }
}

fn spill_error(request: &'static str, file: &Path) -> impl FnOnce(rusqlite::Error) -> VerifyError {
    let file = file.display().to_string();
    move |source| VerifyError::Spill { request, file, source }
}

/// What is wrong with a window's alert, or with having none. See the [module's docs](super) for the rule.
fn difference(
    source: String,
    window_end: i64,
    window: Window,
    stored: Option<i64>,
    threshold: i64,
) -> Option<Difference> {
    let Window { low, maybe, gone } = window;
    let most = low + maybe;
    let Some(stored) = stored else {
        let missing = low >= threshold;
        return missing.then_some(Difference::MissingAlert { source, window_end, counted: low });
    };
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
