//! The store in a folder: the tables in one SQLite file, `store.sqlite`.
//!
//! Guarantees, beyond the contract of [`crate::store`]:
//! - a call is atomic: its rows are written in one transaction, which other waiting calls may share, and it is
//!   acknowledged when that is as durable as [`Synchronous`](crate::sqlite::Synchronous) specifies;
//! - a refused call changed nothing, and does not affect other calls;
//! - several processes may open the file. Writers wait for each other; readers never wait.
//!
//! Write timestamps: `progress`, `window_counts` and `alerts` store them beside the cells. `events` and
//! `dead_letters` do not: every write of a row has the timestamp [`row_timestamp`](crate::store::row_timestamp) of its
//! key, so two writes of one row always tie.
//!
//! SQLite has no page checksums. Damage to the file's structure is detected when it is read; a value that was changed
//! to another valid one is detected only by `verify`.

mod read;
mod schema;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use crate::event::{DeadLetter, Event, Row};
use crate::sqlite::{self, Connected, ErrorClass, FileError, Options, Panicked, SqliteError, diagnose};
use crate::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey, registration,
};
use schema::Events;
use write::{Change, Writer};

/// The tables of a folder. The file is closed when the last clone is dropped, which waits for a request in
/// flight.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    shared: Arc<StoreFile>,
}

#[derive(Debug)]
struct StoreFile {
    path: PathBuf,
    layout: Layout,
    events: Arc<Events>,
    writer: Writer,
    reader: Connected,
}

/// The name of a request, for messages.
#[derive(Clone, Copy, Debug)]
struct Operation {
    what: &'static str,
    partition: Option<i32>,
}

impl Operation {
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
        let (class, meaning) = diagnose(error.get(), path);
        let what = format!("{self} in {}: {meaning}", path.display());
        let error = StoreError::new(what, error);
        match class {
            ErrorClass::Refused => Outcome::Refused(error),
            ErrorClass::Unknown => Outcome::Unknown(error),
        }
    }

    fn panicked<T>(self, path: &Path, panicked: Panicked) -> Outcome<T> {
        let error = StoreError::of(format!("{self} in {}: its thread panicked", path.display()));
        match panicked {
            Panicked::Before => Outcome::Refused(error),
            Panicked::During => Outcome::Unknown(error),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            None => f.write_str(self.what),
            Some(partition) => write!(f, "{} of partition {partition}", self.what),
        }
    }
}

impl EmbeddedStore {
    /// Creates the folder, the file and the tables (`events` in this layout) if they do not exist. Existing ones are not
    /// changed.
    ///
    /// # Errors
    /// See [`FileError`]; a file of another program, or in another layout, is not changed.
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
        // Reads have a connection of their own, so that they do not wait for large writes.
        let format = schema::format(layout.events);
        let [writer, reader] =
            [sqlite::open(folder, &format, options)?, sqlite::open(folder, &format, options)?];
        let events = Arc::new(Events::new(layout.events));
        let writer = Writer::start(writer, path.clone(), events.clone()).map_err(threadless)?;
        let reader = Connected::with("store reader", reader).map_err(threadless)?;
        Ok(Self { shared: Arc::new(StoreFile { path, layout, events, writer, reader }) })
    }

    /// Runs queries in one transaction, so that they read one snapshot.
    async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Outcome<T> {
        let read = |connection: &mut Connection| query(&connection.transaction()?);
        match self.shared.reader.call(read).await {
            Ok(Ok(value)) => Outcome::Acknowledged(value),
            Ok(Err(error)) => operation.failed(&self.shared.path, SqliteError::new(error)),
            Err(panicked) => operation.panicked(&self.shared.path, panicked),
        }
    }

    async fn write(&self, operation: Operation, change: Change) -> Outcome<()> {
        self.shared.writer.write(operation, change).await.map(|_| ())
    }
}

impl Store for EmbeddedStore {
    fn layout(&self) -> Layout {
        self.shared.layout
    }

    fn consistency(&self) -> BoundConsistency {
        BoundConsistency::Single
    }

    /// Calls that arrive during a commit share the next transaction, and larger ones make fewer transactions.
    fn rows_per_call(&self) -> usize {
        2_500
    }

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        self.read(Operation::of("read the binding"), |file| read::stored_binding(file)).await
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        let change = Change::Bind(Box::new(binding.clone()));
        let before = self.shared.writer.write(Operation::of("write the binding"), change).await;
        before.map(|before| before.map_or(Bound::Now, Bound::Before))
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        self.read(Operation::of("check for rows"), |file| read::holds_rows(file)).await
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        self.read(Operation::of("read progress"), |file| read::stored_progress(file)).await
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        let operation = Operation::about("read progress", partition);
        self.read(operation, move |file| read::progress(file, partition)).await
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let operation = Operation::about("write progress", partition);
        self.write(operation, Change::Progress(partition, progress)).await
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let operation = Operation::about("write the registration", partition);
        self.write(operation, Change::Register(registration(partition))).await
    }

    async fn registered(&self) -> Outcome<i32> {
        self.read(Operation::of("read the registry"), |file| read::registered(file)).await
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let windows = windows.to_vec();
        let operation = Operation::about("read counts", partition);
        self.read(operation, move |file| read::counts(file, partition, &windows)).await
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        let operation = Operation::about("write counts", partition);
        self.write(operation, Change::Counts(partition, counts.to_vec())).await
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        self.write(Operation::of("write alerts"), Change::Alerts(alerts.to_vec())).await
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        let operation = Operation::about("write rows", partition);
        self.write(operation, Change::Rows(partition, rows.into())).await
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        let (operation, events) = (Operation::about("read rows", partition), self.shared.events.clone());
        self.read(operation, move |file| read::rows_below(file, &events, partition, from, below, limit)).await
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        let (operation, events) = (Operation::about("read events", partition), self.shared.events.clone());
        self.read(operation, move |file| read::events(file, &events, partition, from, to, limit)).await
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        let operation = Operation::about("read dead letters", partition);
        self.read(operation, move |file| read::dead_letters(file, partition, from, to, limit)).await
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        self.read(Operation::of("list partitions"), |file| read::partitions(file)).await
    }

    async fn invalid_partitions(&self) -> Outcome<Vec<Damaged>> {
        self.read(Operation::of("list invalid partitions"), |file| read::invalid_partitions(file)).await
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        let Ok(after) = after.map(read::position).transpose() else {
            return Outcome::Refused(StoreError::of("read alerts: not a cursor of this store"));
        };
        self.read(Operation::of("read alerts"), move |file| read::alerts(file, after, limit)).await
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        let Ok(after) = after.map(read::position).transpose() else {
            return Outcome::Refused(StoreError::of("read counts: not a cursor of this store"));
        };
        self.read(Operation::of("read counts"), move |file| read::all_counts(file, after, limit)).await
    }
}
