//! The SQLite files of the embedded broker and the embedded store: opening, checking, a thread for each, and the lock of
//! their folder.
//!
//! A folder holds two SQLite files in WAL mode, `log.sqlite` (see [`crate::broker::embedded`]) and
//! `store.sqlite` (see [`crate::store::embedded`]), and `worker.lock`. The two files share no transaction:
//! exactness comes from the protocol, not from a shared commit. Any number of processes may read a folder
//! and append to its log, but only one worker at a time may process it ([`WorkerLock`]).
//!
//! A file is never overwritten unless it is known to belong to this program: SQLite's `application_id` identifies the program, and
//! `user_version` the version of the tables.

mod file;
mod lock;
mod thread;

pub use file::{Damage, FileError, SqliteError, is_damaged_file};
pub use lock::{LockError, WorkerLock};

pub(crate) use file::{ErrorClass, Format, Shape, create, damaged, diagnose, open};
pub(crate) use thread::{Connected, Panicked, Thread};

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When SQLite flushes writes to the disk. A killed process loses nothing with any of these, because its writes are in
/// the operating system's cache. They differ in the effect of a power loss or a crash of the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Never. A power loss may lose acknowledged writes and may damage the files.
    Off,
    /// Only at a checkpoint of the WAL. A power loss may lose the last acknowledged writes of either file, which then is
    /// in an earlier consistent state. The worker processes the log again, so the tables catch up; but the records that
    /// were appended last may be lost, and if the store is then ahead of the log, the worker refuses to continue.
    Normal,
    /// With every commit. A power loss loses nothing that was acknowledged.
    #[default]
    Full,
}

/// How the files of a folder are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When writes become durable.
    pub synchronous: Synchronous,
    /// How long a request waits while another process writes to the same file; after that its outcome is
    /// unknown, and it is retried.
    pub busy_timeout: Duration,
}

impl Default for Options {
    /// [`Synchronous::Full`], 5 s.
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, busy_timeout: Duration::from_secs(5) }
    }
}
