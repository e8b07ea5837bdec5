//! The lock that lets one worker at a time process a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use thiserror::Error;

/// How long to wait for the id of a process that has the lock but has not yet written its id.
const ID_WAITS: u32 = 20;
const ID_WAIT: Duration = Duration::from_millis(5);

/// Why a folder's lock could not be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another worker has it.
    #[error("folder {} is being processed by another worker, process {owner}: stop it first", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// Process id of the worker; `unknown` if the lock file does not contain it.
        owner: String,
    },
    /// The lock file cannot be used.
    #[error("the lock file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A folder's lock, held until this is dropped or the process ends in any way: it is a lock of the operating system, not
/// the file's existence. The file `worker.lock` remains and contains the id of the last owner.
#[derive(Debug)]
pub struct WorkerLock {
    file: File,
}

impl WorkerLock {
    /// Takes the folder's lock. Does not wait for it.
    ///
    /// # Errors
    /// [`LockError::Taken`] while another worker has it, of this process or another.
    pub fn acquire(folder: impl AsRef<Path>) -> Result<Self, LockError> {
        let folder = folder.as_ref();
        let path = folder.join("worker.lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        // Not truncated: it may contain the owner's id.
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Taken { folder: folder.to_owned(), owner: owner(&mut file) });
            }
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for WorkerLock {
    fn drop(&mut self) {
        // Closing would unlock, too, but only after a child that is being started has closed its copy.
        let _ = self.file.unlock();
    }
}

/// The content of the lock file. It is empty between the owner's lock and its first write.
fn owner(file: &mut File) -> String {
    for _ in 0..ID_WAITS {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
        if read.is_ok()
            && let Some(id) = text.strip_suffix('\n')
        {
            return id.to_owned();
        }
        sleep(ID_WAIT);
    }
    "unknown".to_owned()
}
