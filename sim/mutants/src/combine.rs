//! All patches in one set of files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use thiserror::Error;

use crate::difference::{Changes, Refused, difference};
use crate::patch::{Patch, PatchError};
use crate::source::{self, Container};
use crate::switch::{Conflict, ITERATOR_DECLARATION, Switched, Variant, switch};

/// The variable that chooses a mutant by its name. Without it, or empty, the pipeline is the unchanged one.
pub const VARIABLE: &str = "EXACTLYONCE_MUTANT";

/// The root of the library, which gets the function that reads the variable.
const LIBRARY: &str = "src/lib.rs";

/// Why a patch is not in the build.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum CombineError {
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error("{file} is not Rust with it, line {line}")]
    Syntax { file: String, line: usize, source: syn::Error },
    #[error("{file}")]
    Refused { file: String, source: Refused },
    #[error(transparent)]
    Conflict(Conflict),
    #[error("it changes nothing but comments")]
    NoChange,
    #[error("there is no world {0:?}")]
    World(String),
}

/// Patches that cannot be used, with the reasons.
pub type Refusals = Vec<(String, CombineError)>;

/// The files of the copy that differ from the original ones, and what is not in them.
#[derive(Debug, Default)]
pub struct Combined {
    /// The files, by their path in the repository.
    pub files: BTreeMap<String, Switched>,
    /// Patches that are not in them.
    pub refused: Refusals,
}

/// Combines patches. `read` returns a file by its path in the repository.
///
/// # Errors
/// If a file cannot be read.
pub fn combine(patches: &[Patch], read: impl Fn(&str) -> io::Result<String>) -> io::Result<Combined> {
    let mut refused = Vec::new();
    let mut changes = BTreeMap::<&str, BTreeMap<String, Changes>>::new();
    let mut originals = BTreeMap::new();
    for patch in patches {
        match changes_of(patch, &mut originals, &read) {
            Ok(found) => _ = changes.insert(&patch.name, found),
            Err(error) => refused.push((patch.name.clone(), error)),
        }
    }
    let mut left_out = BTreeSet::new();
    let mut files = loop {
        match switch_all(&changes, &left_out, &read)? {
            Ok(files) => break files,
            Err(conflict) => {
                left_out.insert(conflict.second.clone());
                refused.push((conflict.second.clone(), CombineError::Conflict(conflict)));
            }
        }
    };
    let names: Vec<&str> = changes.keys().copied().filter(|name| !left_out.contains(*name)).collect();
    let library = files.entry(LIBRARY.to_owned()).or_default();
    if library.text.is_empty() {
        library.text = read(LIBRARY)?;
    }
    // On a line that exists, so that the lines of errors stay right.
    library.text = format!("#![allow(warnings)] {}{}{ITERATOR_DECLARATION}", library.text, choice(&names));
    Ok(Combined { files, refused })
}

/// The changes of a patch by file. Files that several patches change are parsed once.
fn changes_of(
    patch: &Patch,
    originals: &mut BTreeMap<String, Container>,
    read: impl Fn(&str) -> io::Result<String>,
) -> Result<BTreeMap<String, Changes>, CombineError> {
    let mut all = BTreeMap::new();
    for (file, text) in patch.apply(&read)? {
        let of_file = |source| PatchError::File { file: file.clone(), source };
        let parse = |text: &str| {
            source::parse(text).map_err(|source| CombineError::Syntax {
                file: file.clone(),
                line: source.span().start().line,
                source,
            })
        };
        let original = match originals.entry(file.clone()) {
            Entry::Occupied(parsed) => parsed.into_mut(),
            Entry::Vacant(entry) => entry.insert(parse(&read(&file).map_err(of_file)?)?),
        };
        let changes = difference(original, &parse(&text)?, &text)
            .map_err(|source| CombineError::Refused { file: file.clone(), source })?;
        if changes != Changes::default() {
            all.insert(file, changes);
        }
    }
    match all.is_empty() {
        true => Err(CombineError::NoChange),
        false => Ok(all),
    }
}

type Files = BTreeMap<String, Switched>;

fn switch_all(
    changes: &BTreeMap<&str, BTreeMap<String, Changes>>,
    left_out: &BTreeSet<String>,
    read: impl Fn(&str) -> io::Result<String>,
) -> io::Result<Result<Files, Conflict>> {
    let mut variants = BTreeMap::<&str, Vec<Variant>>::new();
    let chosen = changes.iter().filter(|(name, _)| !left_out.contains(**name));
    for (number, (name, files)) in (1..).zip(chosen) {
        for (file, changes) in files {
            variants.entry(file).or_default().push(Variant { number, name, changes: changes.clone() });
        }
    }
    let mut switched = BTreeMap::new();
    for (file, variants) in variants {
        match switch(&read(file)?, &variants) {
            Ok(text) => _ = switched.insert(file.to_owned(), text),
            Err(conflict) => return Ok(Err(conflict)),
        }
    }
    Ok(Ok(switched))
}

/// The function that reads the variable once.
fn choice(names: &[&str]) -> String {
    let arms: String =
        (1..).zip(names).map(|(number, name)| format!("            Some({name:?}) => {number},\n")).collect();
    format!(
        r#"
/// The number of the mutant that this process runs; 0 is the unchanged pipeline.
pub(crate) fn chosen_mutant() -> u32 {{
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {{
        let name = std::env::var_os("{VARIABLE}");
        match name.as_deref().map(|name| name.to_str().unwrap_or("?")) {{
            None | Some("") => 0,
{arms}            Some(other) => {{
                eprintln!("{VARIABLE}: there is no mutant {{other:?}} in this program");
                std::process::exit(2)
            }}
        }}
    }})
}}
"#
    )
}

/// Reads the patches of a folder, by name; and those that cannot be used.
///
/// # Errors
/// If the folder or a file of it cannot be read.
pub fn read_patches(folder: &Path, worlds: &[String]) -> io::Result<(Vec<Patch>, Refusals)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut patches, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let checked = Patch::parse(&name, &text).map_err(CombineError::from).and_then(|patch| {
            let unknown = patch.worlds.iter().flatten().find(|world| !worlds.contains(world)).cloned();
            unknown.map_or(Ok(patch), |world| Err(CombineError::World(world)))
        });
        match checked {
            Ok(patch) => patches.push(patch),
            Err(error) => refused.push((name, error)),
        }
    }
    Ok((patches, refused))
}
