//! The store in a folder: the tables in one SQLite file, `store.sqlite`.
//!
//! Guarantees, beyond the contract of [`crate::store`]:
//! - a call is atomic: its rows are written in one transaction, shared with other calls that wait at the same
//!   time, and acknowledged when that is durable as [`Synchronous`](crate::sqlite::Synchronous) says;
//! - a refused call changed nothing, and never takes others with it;
//! - several processes may have the file open. Writers take turns; readers wait for nobody.
//!
//! Write timestamps: `progress`, `window_counts` and `alerts` keep them beside the cells. `events` and
//! `dead_letters` need not: every write of a row is made at [`row_timestamp`](crate::store::row_timestamp) of
//! its own key, so two writes of one row always tie.
//!
//! SQLite keeps no checksums of its pages. Damage to the file's structure is found when it is met; a value
//! that was changed into another valid one is not: that takes `verify`.

mod read;
mod schema;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use crate::event::{DeadLetter, Event, Row};
use crate::sqlite::{self, Connected, Fate, FileError, Gone, Options, SqliteError, diagnose};
use crate::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey, registration,
};
use schema::Events;
use write::{Change, Writer};

/// The tables of a folder. The file is closed when the last clone is dropped, which waits for a request that
/// is being served.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    layout: Layout,
    events: Arc<Events>,
    writer: Writer,
    reader: Connected,
}

/// What was asked, for messages.
#[derive(Clone, Copy, Debug)]
struct Asked {
    what: &'static str,
    partition: Option<i32>,
}

impl Asked {
    fn of(what: &'static str) -> Self {
        Self { what, partition: None }
    }

    fn about(what: &'static str, partition: i32) -> Self {
        Self { what, partition: Some(partition) }
    }

    fn failed<T>(self, path: &Path, error: SqliteError) -> Outcome<T> {
        if let rusqlite::Error::FromSqlConversionFailure(_, _, cause) = error.get()
            && let Some(damaged) = cause.downcast_ref::<Damaged>()
        {
            let what = format!("{self} in {}: the file holds a damaged row", path.display());
            return Outcome::Refused(StoreError::new(what, damaged.clone()));
        }
        let (fate, meaning) = diagnose(error.get(), path);
        let what = format!("{self} in {}: {meaning}", path.display());
        let error = StoreError::new(what, error);
        match fate {
            Fate::Refused => Outcome::Refused(error),
            Fate::Unknown => Outcome::Unknown(error),
        }
    }

    fn gone<T>(self, path: &Path, gone: Gone) -> Outcome<T> {
        let error = StoreError::of(format!("{self} in {}: the thread that does it panicked", path.display()));
        match gone {
            Gone::Before => Outcome::Refused(error),
            Gone::Meanwhile => Outcome::Unknown(error),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            None => f.write_str(self.what),
            Some(partition) => write!(f, "{} of partition {partition}", self.what),
        }
    }
}

impl EmbeddedStore {
    /// Makes the folder, the file and the tables, `events` in this layout, where they are not there yet. What
    /// is there stays as it is.
    ///
    /// # Errors
    /// See [`FileError`]; a file that is not ours, or in another layout, is not touched.
    pub fn apply_schema(
        folder: impl AsRef<Path>,
        options: &Options,
        layout: Layout,
    ) -> Result<(), FileError> {
        sqlite::create(folder.as_ref(), &schema::format(layout.events), options)
    }

    /// Opens the store of a folder.
    ///
    /// # Errors
    /// See [`FileError`]; [`FileError::Missing`] before [`EmbeddedStore::apply_schema`], [`FileError::Layout`]
    /// after it in another layout.
    pub fn open(folder: impl AsRef<Path>, options: &Options, layout: Layout) -> Result<Self, FileError> {
        let folder = folder.as_ref();
        let path = folder.join(schema::NAME);
        let threadless = |source| FileError::Thread { path: path.clone(), source };
        // Reads have a connection of their own, so that they do not wait for big writes.
        let format = schema::format(layout.events);
        let [writer, reader] =
            [sqlite::open(folder, &format, options)?, sqlite::open(folder, &format, options)?];
        let events = Arc::new(Events::new(layout.events));
        let writer = Writer::start(writer, path.clone(), events.clone()).map_err(threadless)?;
        let reader = Connected::with("store reader", reader).map_err(threadless)?;
        Ok(Self { shared: Arc::new(Shared { path, layout, events, writer, reader }) })
    }

    /// Runs queries in one transaction, so that they see one state.
    async fn read<T: Send + 'static>(
        &self,
        asked: Asked,
        query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Outcome<T> {
        let read = |connection: &mut Connection| query(&connection.transaction()?);
        match self.shared.reader.call(read).await {
            Ok(Ok(answer)) => Outcome::Acknowledged(answer),
            Ok(Err(error)) => asked.failed(&self.shared.path, SqliteError::new(error)),
            Err(gone) => asked.gone(&self.shared.path, gone),
        }
    }

    async fn write(&self, asked: Asked, change: Change) -> Outcome<()> {
        self.shared.writer.write(asked, change).await.map(|_| ())
    }
}

impl Store for EmbeddedStore {
    fn layout(&self) -> Layout {
        self.shared.layout
    }

    fn consistency(&self) -> BoundConsistency {
        BoundConsistency::Single
    }

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        self.read(Asked::of("read the binding"), |file| read::stored_binding(file)).await
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        let change = Change::Bind(Box::new(binding.clone()));
        let before = self.shared.writer.write(Asked::of("write the binding"), change).await;
        before.map(|before| before.map_or(Bound::Now, Bound::Before))
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        self.read(Asked::of("look for rows"), |file| read::holds_rows(file)).await
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        self.read(Asked::of("read progress"), |file| read::stored_progress(file)).await
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        let asked = Asked::about("read progress", partition);
        self.read(asked, move |file| read::progress(file, partition)).await
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let asked = Asked::about("write progress", partition);
        self.write(asked, Change::Progress(partition, progress)).await
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let asked = Asked::about("write the registration", partition);
        self.write(asked, Change::Register(registration(partition))).await
    }

    async fn registered(&self) -> Outcome<i32> {
        self.read(Asked::of("read the registry"), |file| read::registered(file)).await
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let windows = windows.to_vec();
        let asked = Asked::about("read counts", partition);
        self.read(asked, move |file| read::counts(file, partition, &windows)).await
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        let asked = Asked::about("write counts", partition);
        self.write(asked, Change::Counts(partition, counts.to_vec())).await
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        self.write(Asked::of("write alerts"), Change::Alerts(alerts.to_vec())).await
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        let asked = Asked::about("write rows", partition);
        self.write(asked, Change::Rows(partition, rows.into())).await
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        let (asked, events) = (Asked::about("read rows", partition), self.shared.events.clone());
        self.read(asked, move |file| read::rows_below(file, &events, partition, from, below, limit)).await
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        let (asked, events) = (Asked::about("read events", partition), self.shared.events.clone());
        self.read(asked, move |file| read::events(file, &events, partition, from, to, limit)).await
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        let asked = Asked::about("read dead letters", partition);
        self.read(asked, move |file| read::dead_letters(file, partition, from, to, limit)).await
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        self.read(Asked::of("list partitions"), |file| read::partitions(file)).await
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        let Ok(after) = after.map(read::position).transpose() else {
            return Outcome::Refused(StoreError::of("read alerts: not a cursor of this store"));
        };
        self.read(Asked::of("read alerts"), move |file| read::alerts(file, after, limit)).await
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        let Ok(after) = after.map(read::position).transpose() else {
            return Outcome::Refused(StoreError::of("read counts: not a cursor of this store"));
        };
        self.read(Asked::of("read counts"), move |file| read::all_counts(file, after, limit)).await
    }
}
