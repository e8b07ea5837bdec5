//! Which tests without simulation find a mutant.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::build::{self, BuildError, Executables};
use crate::combine::VARIABLE;
use crate::results::PlainTests;
use crate::switch::Switched;
use crate::tree::{Tree, TreeError};

/// Test programs that need no service and are quick, besides the library's own tests.
const PROGRAMS: [&str; 4] = ["crashes", "decoding", "kafka", "traits"];

/// The name of another one: the cases of `tests/traits` on simulated Cassandra.
const SIMULATED: &str = "simulated traits";

/// The stack of a test's thread, in bytes.
const STACK: &str = "67108864";

/// How long the tests of one program may take with a mutant: several times as long as the slowest takes without one.
const LIMIT: Duration = Duration::from_secs(240);

/// A program that takes longer does not end, however quick it is.
const SHORT: Duration = Duration::from_secs(30);

/// Tests of a program that run at the same time: they wait more than they compute.
const THREADS: &str = "--test-threads=6";

/// Number of names of failed tests that are kept.
const NAMES: usize = 3;

/// The tests cannot be run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum PlainError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("the tests do not compile")]
    Build(#[from] BuildError),
    #[error("{path} cannot be run")]
    Run { path: PathBuf, source: io::Error },
    #[error("{program} fails without a mutant: {names}")]
    Unchanged { program: String, names: String },
}

/// Which failures of a program count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// All of them.
    All,
    /// The first: it ends the program.
    First,
}

/// The test programs, built with all mutants.
#[derive(Debug)]
pub struct Tests {
    folder: PathBuf,
    programs: Executables,
    /// How long each takes without a mutant; the quickest first.
    quickest: Vec<(Duration, String)>,
}

impl Tests {
    /// Builds them, with what the ordinary tests have compiled already, and runs them without a mutant.
    ///
    /// # Errors
    /// If they do not compile, or a test fails.
    pub fn build(tree: &Tree, files: &BTreeMap<String, Switched>) -> Result<Self, PlainError> {
        tree.write_workspace()?;
        let mut cargo = build::cargo(&tree.copy());
        without_simulation(&mut cargo);
        cargo.args(["test", "--no-run", "--package", "exactlyonce", "--lib"]);
        PROGRAMS.iter().for_each(|program| _ = cargo.args(["--test", program]));
        let directory = format!("build.build-dir={:?}", tree.target.to_string_lossy());
        // Most of the time of these tests is that of this code.
        cargo.args(["--config", "profile.dev.package.exactlyonce.opt-level=1"]);
        cargo.arg("--config").arg(directory).arg("--target-dir").arg(tree.folder().join("plain"));
        let programs = build::run(cargo, files)?;
        let mut tests = Self { folder: tree.copy(), programs, quickest: Vec::new() };
        tests.quickest = tests.times(&tests.programs)?;
        Ok(tests)
    }

    /// Adds the cases of `tests/traits` that the simulation's workspace runs on the production store.
    ///
    /// # Errors
    /// If they do not compile, or one fails.
    pub fn add_simulated(
        &mut self,
        tree: &Tree,
        files: &BTreeMap<String, Switched>,
    ) -> Result<(), PlainError> {
        let built = build::in_simulation(tree, files, ["test", "--no-run", "--test", "traits"])?;
        let path = built.get("traits").cloned().ok_or(BuildError::NoProgram)?;
        let added = Executables::from([(SIMULATED.to_owned(), path)]);
        self.quickest.extend(self.times(&added)?);
        self.quickest.sort();
        self.programs.extend(added);
        Ok(())
    }

    /// How long each of these programs takes without a mutant; the quickest first.
    fn times(&self, programs: &Executables) -> Result<Vec<(Duration, String)>, PlainError> {
        let mut times = Vec::new();
        for (program, path) in programs {
            let began = Instant::now();
            let failed = self.run(path, None, LIMIT, Failures::All)?;
            if failed.as_ref().is_none_or(|failed| !failed.is_empty()) {
                let names = failed.map_or("it does not end".to_owned(), |failed| failed.join(", "));
                return Err(PlainError::Unchanged { program: program.clone(), names });
            }
            times.push((began.elapsed(), program.clone()));
        }
        times.sort();
        Ok(times)
    }

    /// The tests that fail with a mutant, of the quickest program that has one. A program that does not end in ten times its
    /// usual time counts as one that fails.
    ///
    /// # Errors
    /// If a program cannot be run.
    pub fn find(&self, mutant: &str, failures: Failures) -> Result<PlainTests, PlainError> {
        let mut found = PlainTests::default();
        for (usual, program) in &self.quickest {
            let Some(path) = self.programs.get(program) else { continue };
            found.programs.push(program.clone());
            let limit = (*usual * 10).clamp(SHORT, LIMIT);
            match self.run(path, Some(mutant), limit, failures)? {
                None => found.endless.push(program.clone()),
                Some(failed) => {
                    found.failed = failed.len();
                    let names = failed.into_iter().map(|name| format!("{program}: {name}"));
                    found.names.extend(names.take(NAMES));
                }
            }
            if found.find_it() {
                break;
            }
        }
        Ok(found)
    }

    /// Runs a program; the names of the tests that fail, or `None` if it does not end.
    fn run(
        &self,
        path: &PathBuf,
        mutant: Option<&str>,
        limit: Duration,
        failures: Failures,
    ) -> Result<Option<Vec<String>>, PlainError> {
        let of = |source| PlainError::Run { path: path.clone(), source };
        // Into a file: a pipe would have to be read while the program runs.
        let output = tempfile::NamedTempFile::new().map_err(of)?;
        let stdout = output.as_file().try_clone().map_err(of)?;
        let failed_so_far = || -> Result<Vec<String>, PlainError> {
            let text = fs::read(output.path()).map_err(of)?;
            Ok(failed_tests(&String::from_utf8_lossy(&text)))
        };
        let mut command = Command::new(path);
        command.arg(THREADS);
        command.current_dir(&self.folder).env(VARIABLE, mutant.unwrap_or_default());
        // A function has the frames of all of its variants.
        command.env("RUST_MIN_STACK", STACK);
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(stdout);
        let mut child = command.spawn().map_err(of)?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(of)? {
                break status;
            }
            let first = if failures == Failures::First { failed_so_far()? } else { Vec::new() };
            if began.elapsed() > limit || !first.is_empty() {
                child.kill().map_err(of)?;
                child.wait().map_err(of)?;
                return Ok((!first.is_empty()).then_some(first));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let mut failed = failed_so_far()?;
        if failed.is_empty() && !status.success() {
            failed.push("the program itself".to_owned());
        }
        Ok(Some(failed))
    }
}

/// The names of the tests that failed, from the output of a test program.
fn failed_tests(output: &str) -> Vec<String> {
    let names = output.lines().filter_map(|line| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        (result == "FAILED").then(|| name.split(" - should panic").next().unwrap_or(name).to_owned())
    });
    names.collect()
}

/// Removes the flags of the simulation from a command, whose environment may have them.
fn without_simulation(cargo: &mut Command) {
    const FLAGS: &str = "CARGO_ENCODED_RUSTFLAGS";
    const SEPARATOR: &str = "\x1f";
    let Ok(flags) = std::env::var(FLAGS) else { return };
    let flags = flags.replace(&["--cfg", "madsim"].join(SEPARATOR), "");
    let flags: Vec<&str> = flags.split(SEPARATOR).filter(|flag| !flag.is_empty()).collect();
    match flags.is_empty() {
        true => cargo.env_remove(FLAGS),
        false => cargo.env(FLAGS, flags.join(SEPARATOR)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_found_by_their_lines() {
        let output = "running 3 tests\ntest one ... ok\ntest cases::two ... FAILED\ntest three - should panic ... FAILED\n\
                      \nfailures:\n\n---- cases::two stdout ----\ntest of something\n";
        assert_eq!(failed_tests(output), ["cases::two", "three"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_search_for_one_failing_test_ends_with_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        let script = "#!/bin/sh\necho 'test one ... FAILED'\nexec sleep 60\n";
        fs::write(&program, script).expect("it can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("they can be set");
        let programs = Executables::from([("program".to_owned(), program)]);
        let quickest = vec![(Duration::ZERO, "program".to_owned())];
        let tests = Tests { folder: folder.path().to_owned(), programs, quickest };
        let began = Instant::now();
        let found = tests.find("m1", Failures::First).expect("it can be run");
        assert_eq!(found.names, ["program: one"]);
        assert!(began.elapsed() < SHORT, "it ended the program");
    }
}
