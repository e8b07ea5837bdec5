//! Builds programs from the copy, and finds the patches that do not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use thiserror::Error;

use crate::switch::Switched;
use crate::tree::Tree;

/// A build failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum BuildError {
    #[error("cargo cannot be started")]
    Start(#[source] io::Error),
    #[error("the output of cargo cannot be read")]
    Output(#[source] io::Error),
    #[error("cargo failed")]
    Failed,
    /// Errors in lines that come from patches: the messages by patch.
    #[error("patches do not compile")]
    Patches(BTreeMap<String, String>),
    #[error("cargo did not say where the program is")]
    NoProgram,
}

/// A line of cargo's output.
#[derive(Deserialize)]
struct Line {
    reason: String,
    executable: Option<PathBuf>,
    message: Option<Message>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    line_start: usize,
    is_primary: bool,
}

/// Executables by the name of their target.
pub type Executables = BTreeMap<String, PathBuf>;

/// The simulation's program with all mutants.
///
/// It is built in the workspace of the simulation, with the copy in the place of the library, and with what the ordinary build
/// has compiled already. The ordinary program stays as it is.
///
/// # Errors
/// If it does not compile.
pub fn simulation(tree: &Tree, files: &BTreeMap<String, Switched>) -> Result<PathBuf, BuildError> {
    let built = in_simulation(tree, files, ["build", "--bin", "simulation"])?;
    built.get("simulation").cloned().ok_or(BuildError::NoProgram)
}

/// The program `search` of the fuzz targets that need the simulation, with all mutants, built in the same way.
///
/// # Errors
/// If it does not compile.
pub fn search(tree: &Tree, files: &BTreeMap<String, Switched>) -> Result<PathBuf, BuildError> {
    let command = ["build", "--package", "simulation-fuzz", "--bin", "search"];
    let built = in_simulation(tree, files, command)?;
    built.get("search").cloned().ok_or(BuildError::NoProgram)
}

/// Another program of the simulation's workspace with all mutants, built in the same way.
///
/// # Errors
/// If it does not compile.
pub fn in_simulation<'a>(
    tree: &Tree,
    files: &BTreeMap<String, Switched>,
    command: impl IntoIterator<Item = &'a str>,
) -> Result<Executables, BuildError> {
    let mut cargo = cargo(&tree.root.join("sim"));
    let text = |path: &Path| format!("{:?}", path.to_string_lossy());
    cargo.args(command).args(["--profile", "sim"]);
    cargo.arg("--config").arg(format!("paths=[{}]", text(&tree.copy())));
    cargo.arg("--config").arg(format!("build.build-dir={}", text(&tree.target.join("sim"))));
    cargo.arg("--target-dir").arg(tree.folder());
    run(cargo, files)
}

/// Cargo in a folder, from which it searches for its configuration.
pub fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder);
    // Set by cargo for this program, and wrong for others.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a build, whose progress is on stderr.
///
/// # Errors
/// If it does not compile.
pub fn run(mut cargo: Command, files: &BTreeMap<String, Switched>) -> Result<Executables, BuildError> {
    cargo.args(["--message-format", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(BuildError::Start)?;
    let mut executables = Executables::new();
    let mut errors = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.map_err(BuildError::Output)?;
        // What is not JSON, or of another form, is for people.
        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
        match line.reason.as_str() {
            "compiler-artifact" => {
                let Some((target, executable)) = line.target.zip(line.executable) else { continue };
                // The tests of a library may have the name of a program, which is built for other tests.
                if line.profile.is_some_and(|profile| profile.test) {
                    executables.insert(target.name, executable);
                } else {
                    executables.entry(target.name).or_insert(executable);
                }
            }
            "compiler-message" => errors.extend(line.message.filter(|message| message.level == "error")),
            _ => {}
        }
    }
    let status = child.wait().map_err(BuildError::Output)?;
    if status.success() {
        return Ok(executables);
    }
    let mut of_patches = BTreeMap::<String, String>::new();
    for error in &errors {
        let rendered = error.rendered.as_deref().unwrap_or_default();
        let patches = patches_of(error, files);
        if patches.is_empty() && !error.spans.is_empty() {
            eprintln!("{rendered}");
        }
        for patch in patches {
            *of_patches.entry(patch.to_owned()).or_default() += rendered;
        }
    }
    match of_patches.is_empty() {
        true => Err(BuildError::Failed),
        false => Err(BuildError::Patches(of_patches)),
    }
}

/// The patches that the places of an error come from.
fn patches_of<'a>(error: &Message, files: &'a BTreeMap<String, Switched>) -> BTreeSet<&'a str> {
    let mut patches = BTreeSet::new();
    for span in error.spans.iter().filter(|span| span.is_primary) {
        let file = files.iter().find(|(file, _)| span.file_name.ends_with(file));
        let lines = file.into_iter().flat_map(|(_, switched)| &switched.lines);
        patches.extend(
            lines.filter(|lines| lines.range.contains(&span.line_start)).map(|lines| lines.patch.as_str()),
        );
    }
    patches
}
