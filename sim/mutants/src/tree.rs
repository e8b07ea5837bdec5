//! The folders of a run: the repository, and a copy of it with all mutants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::switch::Switched;

/// Folders of the repository's root that neither the library nor its tests need.
const NOT_COPIED: [&str; 3] = ["target", "sim", "fuzz"];

/// The folders.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The root of the repository.
    pub root: PathBuf,
    /// The target directory of the ordinary build.
    pub target: PathBuf,
}

/// The copy cannot be brought up to date.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum TreeError {
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is not a manifest")]
    Manifest { path: PathBuf, source: toml::de::Error },
    #[error("{path} cannot be written as TOML")]
    ManifestOut { path: PathBuf, source: toml::ser::Error },
}

fn of(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    |source| TreeError::File { path, source }
}

impl Tree {
    /// The folder of everything that this program writes, but for the results.
    pub fn folder(&self) -> PathBuf {
        self.target.join("mutants")
    }

    /// The copy of the repository.
    pub fn copy(&self) -> PathBuf {
        self.folder().join("copy")
    }

    /// A file of the repository.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.root.join(file))
    }

    /// Makes the copy equal to the repository, except for these files. Nothing is written that is the same already, so that
    /// what was built from it stays valid; a file that is written gets the present as its time, whatever its text was before.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn update(&self, changed: &BTreeMap<String, Switched>) -> Result<(), TreeError> {
        let mut kept = BTreeSet::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            for entry in fs::read_dir(&path).map_err(of(&path))? {
                let entry = entry.map_err(of(&path))?;
                let name = entry.file_name();
                let is_root = folder.as_os_str().is_empty();
                let is_skipped = NOT_COPIED.iter().any(|skipped| name == *skipped)
                    || name.to_string_lossy().starts_with('.');
                if is_root && is_skipped {
                    continue;
                }
                let file = folder.join(&name);
                let kind = entry.file_type().map_err(of(&entry.path()))?;
                if kind.is_dir() {
                    folders.push(file);
                } else if kind.is_file() {
                    let text = match file.to_str().and_then(|file| changed.get(file)) {
                        Some(switched) => switched.text.clone().into_bytes(),
                        None if file == Path::new("Cargo.toml") => self.manifest()?.into_bytes(),
                        None => fs::read(entry.path()).map_err(of(&entry.path()))?,
                    };
                    self.write(&file, &text)?;
                    kept.insert(file);
                }
            }
        }
        self.remove_others(&kept)
    }

    fn write(&self, file: &Path, text: &[u8]) -> Result<(), TreeError> {
        write_if_changed(&self.copy().join(file), text)
    }

    /// Removes the files of the copy that the repository does not have.
    fn remove_others(&self, kept: &BTreeSet<PathBuf>) -> Result<(), TreeError> {
        let copy = self.copy();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let path = copy.join(&folder);
            for entry in fs::read_dir(&path).map_err(of(&path))? {
                let entry = entry.map_err(of(&path))?;
                let file = folder.join(entry.file_name());
                if entry.file_type().map_err(of(&entry.path()))?.is_dir() {
                    folders.push(file);
                } else if !kept.contains(&file) {
                    fs::remove_file(entry.path()).map_err(of(&entry.path()))?;
                }
            }
        }
        Ok(())
    }

    /// The manifest of the copy: that of the repository as a member of another workspace, whose paths still lead to the
    /// packages of the repository.
    fn manifest(&self) -> Result<String, TreeError> {
        let (path, mut manifest) = self.read_manifest()?;
        manifest.remove("workspace");
        manifest.remove("profile");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(toml::Value::Table(dependencies)) = manifest.get_mut(kind) else { continue };
            for dependency in dependencies.iter_mut().filter_map(|(_, each)| each.as_table_mut()) {
                if let Some(toml::Value::String(to)) = dependency.get_mut("path") {
                    *to = self.root.join(&to).to_string_lossy().into_owned();
                }
            }
        }
        toml::to_string(&manifest).map_err(|source| TreeError::ManifestOut { path, source })
    }

    fn read_manifest(&self) -> Result<(PathBuf, toml::Table), TreeError> {
        let path = self.root.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(of(&path))?;
        let manifest = text.parse().map_err(|source| TreeError::Manifest { path: path.clone(), source })?;
        Ok((path, manifest))
    }

    /// Makes the folder above the copy a workspace with the profiles and the lock file of the repository, in which the copy
    /// can be tested.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn write_workspace(&self) -> Result<(), TreeError> {
        let (path, manifest) = self.read_manifest()?;
        let workspace: toml::Table = [
            ("members".to_owned(), toml::Value::from(vec!["copy"])),
            ("resolver".to_owned(), toml::Value::from("3")),
        ]
        .into_iter()
        .collect();
        let mut above = toml::Table::from_iter([("workspace".to_owned(), toml::Value::Table(workspace))]);
        if let Some(profile) = manifest.get("profile") {
            above.insert("profile".to_owned(), profile.clone());
        }
        let text = toml::to_string(&above).map_err(|source| TreeError::ManifestOut { path, source })?;
        write_if_changed(&self.folder().join("Cargo.toml"), text.as_bytes())?;
        let lock = self.root.join("Cargo.lock");
        let text = fs::read(&lock).map_err(of(&lock))?;
        write_if_changed(&self.folder().join("Cargo.lock"), &text)
    }
}

fn write_if_changed(path: &Path, text: &[u8]) -> Result<(), TreeError> {
    if fs::read(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(of(folder))?;
    }
    fs::write(path, text).map_err(of(path))
}
