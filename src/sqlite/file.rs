//! One SQLite file: creating it, opening it, and describing its errors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use thiserror::Error;

use crate::error::Cause;
use crate::sqlite::{Options, Synchronous};

/// Size of the WAL, in pages of 4 KiB, at which a commit starts a checkpoint. With twice SQLite's default, a page that
/// several transactions change is copied once.
const CHECKPOINT_PAGES: i64 = 2_000;

/// Memory of one connection's page cache, in KiB.
const CACHE_KIB: i64 = 4_096;

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 32;

/// A kind of file: its content, and how it is identified.
#[derive(Debug)]
pub(crate) struct Format {
    /// Its name in the folder.
    pub name: &'static str,
    /// SQLite's `application_id`: four letters.
    pub application_id: i32,
    /// SQLite's `user_version`.
    pub version: i32,
    /// The statements that create the tables, as SQLite stores them.
    pub tables: Vec<Cow<'static, str>>,
    /// Set if the tables can have one of several shapes.
    pub shape: Option<Shape>,
    /// The command that creates the file.
    pub command: &'static str,
}

/// One of several shapes that the tables can have.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The shape of [`Format::tables`].
    pub name: String,
    /// The shape of a file's tables, by its statements.
    pub of: fn(&BTreeSet<String>) -> Option<String>,
}

/// An error of SQLite. (rusqlite's own type repeats its source's text.)
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct SqliteError(Arc<rusqlite::Error>);

impl SqliteError {
    pub(crate) fn new(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }

    /// The error itself.
    pub(crate) fn get(&self) -> &rusqlite::Error {
        &self.0
    }

    /// True if the file's content is invalid.
    pub fn is_damage(&self) -> bool {
        is_damage(&self.0)
    }
}

/// Invalid content of a file that SQLite can read.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Damage(pub(crate) String);

/// True if an error, or one of its causes, is that a file is damaged or is not an SQLite database.
pub fn is_damaged_file(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is = error.is::<Damage>()
            || error.downcast_ref().is_some_and(SqliteError::is_damage)
            || matches!(error.downcast_ref(), Some(FileError::Damaged { .. } | FileError::NotSqlite { .. }));
        if is {
            return true;
        }
        next = error.source();
    }
    false
}

/// Why a file of the folder cannot be used. The file was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The folder does not exist and cannot be created, or is not a folder.
    #[error("{} cannot be used as a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file does not exist, or is empty.
    #[error("{} does not exist, or has no tables yet: run `{command}` first", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The command that creates it.
        command: &'static str,
    },
    /// The file is not an SQLite database: its header is damaged, or it never was one.
    #[error(
        "{} is damaged or belongs to another program: it is not an SQLite database. it was not changed: restore it, or \
         use another folder",
        path.display()
    )]
    NotSqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Option<SqliteError>,
    },
    /// The file is an SQLite database of another program.
    #[error(
        "{} is an SQLite database of another program (application_id {application_id:#x}); it was not changed: \
         use another folder",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The other program's id.
        application_id: i32,
    },
    /// The file was written by a newer version of this program.
    #[error(
        "{} has tables of version {found}, this program supports up to version {known}: use a newer exactlyonce",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its tables.
        found: i32,
        /// The newest version that this program supports.
        known: i32,
    },
    /// The file was written by an older version of this program, and its tables have another shape.
    #[error(
        "{} has tables of version {found}, and this program needs version {known}: start over in another folder \
         (or keyspace), from the log's start or with `init --from`, and keep the old one until the new one has caught up",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        found: i32,
        /// The version that is needed.
        known: i32,
    },
    /// The file's content is invalid.
    #[error("{} is damaged: {what}. restore it, or start over in another folder", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// SQLite's error.
        #[source]
        source: Option<SqliteError>,
    },
    /// The file's tables are in another layout than the configured one.
    #[error(
        "{} has its tables in the layout {found}, not {configured}: use the layout that it was created with, or a \
         different keyspace",
        path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// The layout that it was created with.
        found: String,
        /// The configured layout.
        configured: String,
    },
    /// The file may be read, but not written.
    #[error("{} cannot be written: {what}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// Any other error of SQLite.
    #[error("{} cannot be opened: {what}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// A description.
        what: &'static str,
        /// SQLite's error.
        source: SqliteError,
    },
    /// No thread could be started.
    #[error("no thread could be started for {}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl FileError {
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let (code, meaning) = (error.sqlite_error_code(), diagnose(&error, &path).1);
        let source = SqliteError::new(error);
        match code {
            Some(ErrorCode::NotADatabase) => FileError::NotSqlite { path, source: Some(source) },
            Some(ErrorCode::DatabaseCorrupt) => {
                FileError::Damaged { path, what: "SQLite cannot read it".to_owned(), source: Some(source) }
            }
            Some(ErrorCode::ReadOnly) => FileError::ReadOnly { path, what: meaning },
            _ => FileError::Sqlite { path, what: meaning, source },
        }
    }

    fn is_busy(&self) -> bool {
        match self {
            FileError::Sqlite { source, .. } => {
                matches!(
                    source.0.sqlite_error_code(),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                )
            }
            _ => false,
        }
    }
}

/// What is known of a request that failed in SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// It did not happen, and repeating it will not help.
    Refused,
    /// It may have happened, or may succeed later.
    Unknown,
}

const DISK_FULL: &str = "the disk is full: free some space and start again";
const PERMISSIONS: &str = "no access: check the permissions of the file and of its folder";

/// True if the file's content is invalid.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..)
        | E::InvalidColumnType(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..) => true,
        error => {
            let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
            matches!(
                code,
                Some(
                    (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)
                        | (_, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS)
                )
            )
        }
    }
}

/// Why the folder of a file cannot be written to, if it cannot. SQLite reports most of these as an I/O error
/// without the operating system's reason, so this writes a small file to find it.
fn obstacle(path: &Path) -> Option<&'static str> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::tempfile_in(folder)?;
        // As large as SQLite's index of the WAL at least is (`-shm`).
        io::Write::write_all(&mut file, &[0; 64 << 10])?;
        file.sync_all()
    };
    write().err().and_then(|error| meaning_of(error.kind()))
}

fn meaning_of(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull => Some(DISK_FULL),
        io::ErrorKind::QuotaExceeded => {
            Some("the disk quota is used up: free some space or raise it, and start again")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("the file system is mounted read-only"),
        io::ErrorKind::PermissionDenied => Some(PERMISSIONS),
        io::ErrorKind::FileTooLarge => Some("a file would be larger than this process may write (ulimit -f)"),
        _ => None,
    }
}

/// What an error means for the request, and a description for messages.
///
/// A full disk is a refusal: a transaction is committed by the write of its last page, and SQLite reports a full disk
/// only for writes that were not made (a failed flush is an I/O error, so unknown).
pub(crate) fn diagnose(error: &rusqlite::Error, path: &Path) -> (ErrorClass, &'static str) {
    use rusqlite::Error as E;
    let code = match error {
        E::SqliteFailure(error, _) => error.code,
        E::FromSqlConversionFailure(..)
        | E::InvalidColumnType(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..) => {
            return (
                ErrorClass::Refused,
                "the file is damaged: it contains a value that this program does not write",
            );
        }
        E::ToSqlConversionFailure(_) => return (ErrorClass::Refused, "the value cannot be stored"),
        _ => return (ErrorClass::Unknown, "the request failed"),
    };
    match code {
        ErrorCode::DiskFull => (ErrorClass::Refused, DISK_FULL),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
            (ErrorClass::Refused, obstacle(path).unwrap_or(PERMISSIONS))
        }
        ErrorCode::DatabaseCorrupt => {
            (ErrorClass::Refused, "the file is damaged: restore it, or start over in another folder")
        }
        ErrorCode::NotADatabase => (ErrorClass::Refused, "the file is not an SQLite database (any more)"),
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => {
            (ErrorClass::Refused, "the value cannot be stored")
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            (ErrorClass::Unknown, "another process kept the file locked")
        }
        ErrorCode::SystemIoFailure => {
            (ErrorClass::Unknown, obstacle(path).unwrap_or("reading or writing failed"))
        }
        ErrorCode::OutOfMemory => (ErrorClass::Unknown, "there was not enough memory"),
        _ => (ErrorClass::Unknown, "the request failed"),
    }
}

/// The error for a stored value that this program does not write.
pub(crate) fn damaged(column: usize, kind: Type, what: impl Into<Cause>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, what.into())
}

/// Opens a file that [`create`] made.
pub(crate) fn open(folder: &Path, format: &Format, options: &Options) -> Result<Connection, FileError> {
    let path = folder.join(format.name);
    let missing = |path| FileError::Missing { path, command: format.command };
    match fs::metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(path)),
        Err(source) => return Err(FileError::Folder { path: folder.to_owned(), source }),
    }
    retry_while_busy(options, || {
        let connection = connect(&path, OpenFlags::empty(), options)?;
        match identify(&connection, &path, format)? {
            FileState::Ours => configure(&connection, &path, options).map(|()| connection),
            FileState::Empty => Err(missing(path.clone())),
        }
    })
}

/// Creates folder and file where they do not exist; a file of this program is not changed.
pub(crate) fn create(folder: &Path, format: &Format, options: &Options) -> Result<(), FileError> {
    let in_folder = |source| FileError::Folder { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(in_folder)?;
    let path = folder.join(format.name);
    let of = |error| FileError::of(&path, error);
    retry_while_busy(options, || {
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE, options)?;
        if identify(&connection, &path, format)? == FileState::Ours {
            return Ok(());
        }
        configure(&connection, &path, options)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
        // Another process may have created the tables in the meantime.
        if identify(&transaction, &path, format)? == FileState::Ours {
            return Ok(());
        }
        for table in &format.tables {
            transaction.execute_batch(table).map_err(of)?;
        }
        transaction.pragma_update(None, "application_id", format.application_id).map_err(of)?;
        transaction.pragma_update(None, "user_version", format.version).map_err(of)?;
        transaction.commit().map_err(of)
    })?;
    if cfg!(unix) && options.synchronous == Synchronous::Full {
        // So that a power loss does not lose the directory entries.
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(in_folder)?;
    }
    Ok(())
}

/// Retries while another process has the file locked: `busy_timeout` does not cover every step of opening.
fn retry_while_busy<T>(
    options: &Options,
    mut step: impl FnMut() -> Result<T, FileError>,
) -> Result<T, FileError> {
    let started = Instant::now();
    loop {
        match step() {
            Err(error) if error.is_busy() && started.elapsed() < options.busy_timeout => {
                sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn connect(path: &Path, more: OpenFlags, options: &Options) -> Result<Connection, FileError> {
    let of = |error| FileError::of(path, error);
    // Each connection belongs to one thread, so SQLite need not lock it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    // This build of SQLite treats a name that starts with `file:` as a URI; a path that starts with `./` is never one.
    let name = if path.is_relative() { Path::new(".").join(path) } else { path.to_owned() };
    let connection = Connection::open_with_flags(name, flags).map_err(of)?;
    connection.busy_timeout(options.busy_timeout).map_err(of)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn configure(connection: &Connection, path: &Path, options: &Options) -> Result<(), FileError> {
    let of = |error| FileError::of(path, error);
    if connection.is_readonly("main").map_err(of)? {
        let what = obstacle(path).unwrap_or(PERMISSIONS);
        return Err(FileError::ReadOnly { path: path.to_owned(), what });
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0)).map_err(of)?;
    if mode != "wal" {
        let what = format!("its journal mode is {mode} and cannot be changed to wal");
        return Err(FileError::Damaged { path: path.to_owned(), what, source: None });
    }
    let synchronous = match options.synchronous {
        Synchronous::Off => "off",
        Synchronous::Normal => "normal",
        Synchronous::Full => "full",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(of)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(of)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(of)
}

#[derive(PartialEq, Eq)]
enum FileState {
    Ours,
    /// An empty file, or one that an interrupted [`create`] left.
    Empty,
}

fn identify(connection: &Connection, path: &Path, format: &Format) -> Result<FileState, FileError> {
    let of = |error| FileError::of(path, error);
    // One transaction for all reads, because another process may be creating the tables.
    let _snapshot = match connection.is_autocommit() {
        true => Some(connection.unchecked_transaction().map_err(of)?),
        false => None,
    };
    let header = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(of);
    let (application_id, found) = (header("application_id")?, header("user_version")?);
    // SQLite stores the statements as they were given.
    let tables: BTreeSet<String> = connection
        .prepare("SELECT coalesce(sql, '') FROM sqlite_schema")
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .map_err(of)?;
    let path = path.to_owned();
    if application_id == 0 && found == 0 && tables.is_empty() {
        // SQLite treats a file of one byte as empty. (Only the size is read: opening and closing the file here would
        // drop the locks that this process has on it.)
        return match fs::metadata(&path) {
            Ok(file) if file.len() == 1 => Err(FileError::NotSqlite { path, source: None }),
            _ => Ok(FileState::Empty),
        };
    }
    if application_id != format.application_id {
        return Err(FileError::Foreign { path, application_id });
    }
    if found > format.version {
        return Err(FileError::Newer { path, found, known: format.version });
    }
    if (1..format.version).contains(&found) {
        return Err(FileError::Older { path, found, known: format.version });
    }
    if found < format.version {
        let what = format!("there never was a version {found} of its tables");
        return Err(FileError::Damaged { path, what, source: None });
    }
    if let Some(Shape { name, of }) = &format.shape
        && let Some(found) = of(&tables).filter(|found| found != name)
    {
        return Err(FileError::Layout { path, found, configured: name.clone() });
    }
    if let Some(table) = format.tables.iter().find(|table| !tables.contains(table.as_ref())) {
        let name = table.split_whitespace().nth(2).unwrap_or_default();
        let what = format!("it lacks the table {name}, or has it with other columns");
        return Err(FileError::Damaged { path, what, source: None });
    }
    Ok(FileState::Ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(result_code: i32) -> ErrorClass {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(result_code), None);
        diagnose(&error, Path::new("file")).0
    }

    #[test]
    fn only_errors_of_requests_that_certainly_changed_nothing_are_refusals() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_PERM,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CORRUPT_INDEX,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CONSTRAINT,
            ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
            ffi::SQLITE_MISMATCH,
            ffi::SQLITE_TOOBIG,
        ] {
            assert_eq!(class_of(code), ErrorClass::Refused, "{code}");
        }
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_INTERRUPT,
            ffi::SQLITE_PROTOCOL,
            ffi::SQLITE_ERROR,
            ffi::SQLITE_INTERNAL,
            ffi::SQLITE_MISUSE,
            ffi::SQLITE_SCHEMA,
        ] {
            assert_eq!(class_of(code), ErrorClass::Unknown, "{code}");
        }
    }

    #[test]
    fn the_reason_why_a_folder_cannot_be_written_to_is_reported() {
        for (code, expected) in [
            (28, "disk is full"),
            (122, "quota"),
            (30, "mounted read-only"),
            (13, "permissions"),
            (27, "ulimit"),
        ] {
            let meaning = meaning_of(io::Error::from_raw_os_error(code).kind());
            assert!(meaning.is_some_and(|meaning| meaning.contains(expected)), "{expected}: {meaning:?}");
        }
        assert_eq!(obstacle(&tempfile::tempdir().unwrap().path().join("file")), None);
    }

    #[test]
    fn damage_is_found_among_the_causes_of_an_error() {
        let corrupt = |code| SqliteError::new(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        let caused_by = |cause: Cause| crate::store::StoreError::new("read rows", cause);
        assert!(is_damaged_file(&caused_by(corrupt(ffi::SQLITE_CORRUPT_INDEX).into())));
        assert!(is_damaged_file(&caused_by(corrupt(ffi::SQLITE_NOTADB).into())));
        assert!(is_damaged_file(&caused_by(Damage("a gap".to_owned()).into())));
        assert!(is_damaged_file(&SqliteError::new(damaged(0, Type::Text, "health 9"))));
        assert!(!is_damaged_file(&caused_by(corrupt(ffi::SQLITE_FULL).into())));
        assert!(!is_damaged_file(&caused_by("damaged".into())));
    }

    #[test]
    fn a_write_to_a_file_that_may_only_be_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let error = connection.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        let (class, meaning) = diagnose(&error, &path);
        assert_eq!(class, ErrorClass::Refused);
        assert!(meaning.contains("permissions"), "{meaning}");
        let refused = configure(&connection, &path, &Options::default()).unwrap_err();
        assert!(matches!(refused, FileError::ReadOnly { .. }), "{refused}");
    }
}
