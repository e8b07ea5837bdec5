//! The folder of a demonstration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::DemoError;

/// An existing, empty folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// A new temporary folder, removed when this is dropped.
    ///
    /// # Errors
    /// [`DemoError::Folder`].
    pub fn temporary() -> Result<Self, DemoError> {
        let created = tempfile::Builder::new().prefix("exactlyonce-demo-").tempdir();
        let created = created.map_err(|source| DemoError::Folder { path: std::env::temp_dir(), source })?;
        Ok(Self { path: created.path().to_owned(), temporary: Some(created) })
    }

    /// This folder, created if it does not exist, and never removed.
    ///
    /// # Errors
    /// [`DemoError::NotEmpty`] if anything is in it; [`DemoError::Folder`].
    pub fn given(path: impl Into<PathBuf>) -> Result<Self, DemoError> {
        let path = path.into();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&path).and_then(|()| fs::read_dir(&path))
            }
            entries => entries,
        };
        let first = entries.and_then(|mut entries| entries.next().transpose());
        match first {
            Ok(None) => Ok(Self { path, temporary: None }),
            Ok(Some(_)) => Err(DemoError::NotEmpty { path }),
            Err(source) => Err(DemoError::Folder { path, source }),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a temporary folder, for inspection.
    pub fn keep(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}
