//! Runs the targets, and reports what fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::watch::{self, Watch};
use crate::{Arguments, Draw, Target, mutated};

/// The exit code of wrong usage.
const WRONG_USAGE: u8 = 2;

/// How often it is looked whether an input takes too long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The stack of a thread of production.
const STACK_BYTES: usize = 2 << 20;

/// Runs the targets that the arguments name. `folder` is that with `corpus` and `artifacts`, unless the arguments name others.
/// The exit code is 0, 1 if an input failed, and 2 if the arguments or the corpora are wrong.
pub fn main(targets: &[Target], folder: &Path, arguments: &Arguments) -> ExitCode {
    match Runner::new(folder, arguments).run_all(targets) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

struct Runner<'a> {
    arguments: &'a Arguments,
    corpus: PathBuf,
    artifacts: PathBuf,
}

/// An input, with the file that it is from, or its number among the mutations.
enum Origin {
    File(PathBuf),
    Mutation(u64),
}

/// An input that fails, and how.
struct Failure {
    origin: Origin,
    input: Vec<u8>,
    message: String,
}

/// What was run without a failure.
struct Passed {
    files: usize,
    mutations: u64,
    took: Duration,
}

impl<'a> Runner<'a> {
    fn new(folder: &Path, arguments: &'a Arguments) -> Self {
        let or = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| folder.join(name));
        let (corpus, artifacts) = (or(&arguments.corpus, "corpus"), or(&arguments.artifacts, "artifacts"));
        Self { arguments, corpus, artifacts }
    }

    fn run_all(&self, targets: &[Target]) -> Result<bool, String> {
        let chosen = self.chosen(targets)?;
        watch::keep_panics();
        let mut all_passed = true;
        for target in &chosen {
            let time = Duration::from_secs(self.arguments.seconds) / chosen.len() as u32;
            match self.run(target, time)? {
                Ok(Passed { files, mutations, took }) => {
                    println!(
                        "{}: {files} files, {mutations} mutations in {:.1} s",
                        target.name,
                        took.as_secs_f64()
                    );
                }
                Err(failure) => {
                    all_passed = false;
                    self.report(target, &failure)?;
                }
            }
        }
        Ok(all_passed)
    }

    fn chosen<'t>(&self, targets: &'t [Target]) -> Result<Vec<&'t Target>, String> {
        let named = &self.arguments.targets;
        if let Some(unknown) = named.iter().find(|name| !targets.iter().any(|target| target.name == **name)) {
            let known: Vec<&str> = targets.iter().map(|target| target.name).collect();
            return Err(format!("there is no target {unknown:?}, only {}", known.join(", ")));
        }
        if !self.arguments.files.is_empty() && named.len() != 1 {
            return Err("--file needs one target".to_owned());
        }
        let is_chosen = |target: &&Target| named.is_empty() || named.iter().any(|name| name == target.name);
        Ok(targets.iter().filter(is_chosen).collect())
    }

    /// The files of a target, in the order of their names.
    fn files(&self, target: &Target) -> Result<Vec<PathBuf>, String> {
        if !self.arguments.files.is_empty() {
            return Ok(self.arguments.files.clone());
        }
        let folder = self.corpus.join(target.name);
        let wrong = |error: io::Error| format!("{}: {error}", folder.display());
        let entries = fs::read_dir(&folder).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let mut files: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        match files.is_empty() {
            true => Err(format!("{}: the corpus is empty", folder.display())),
            false => Ok(files),
        }
    }

    /// Runs a target in a thread, and looks after it.
    fn run(&self, target: &Target, time: Duration) -> Result<Result<Passed, Failure>, String> {
        let read = |path: PathBuf| match fs::read(&path) {
            Ok(input) => Ok((path, input)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        let files = self.files(target)?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let recorded = self.arguments.record.then(|| self.artifact(target, "last")).transpose()?;
        let watch = Watch::default();
        std::thread::scope(|scope| {
            let (sender, done) = mpsc::channel();
            let (watch, recorded) = (&watch, recorded.as_deref());
            let work = move || {
                let run = |input: &[u8]| run_one(target, input, watch, recorded);
                // The receiver lives as long as this scope.
                let _ = sender.send(self.run_inputs(target, files, time, run));
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            thread.map_err(|error| format!("no thread for {}: {error}", target.name))?;
            loop {
                match done.recv_timeout(LOOK_EVERY) {
                    Ok(result) => return Ok(result),
                    Err(RecvTimeoutError::Timeout) => self.end_if_too_long(target, watch),
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(format!("the thread of {} ended early", target.name));
                    }
                }
            }
        })
    }

    fn run_inputs(
        &self,
        target: &Target,
        files: Vec<(PathBuf, Vec<u8>)>,
        time: Duration,
        run: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Passed, Failure> {
        let began = Instant::now();
        let mut inputs = Vec::with_capacity(files.len());
        for (path, input) in files {
            if let Err(message) = run(&input) {
                return Err(Failure { origin: Origin::File(path), input, message });
            }
            inputs.push(input);
        }
        let draw = &mut Draw::new(self.arguments.seed, target.name);
        let (files, mut mutations, began_mutations) = (inputs.len(), 0, Instant::now());
        while !time.is_zero() && began_mutations.elapsed() < time {
            let input = mutated(draw, &inputs, target.longest);
            mutations += 1;
            if let Err(message) = run(&input) {
                return Err(Failure { origin: Origin::Mutation(mutations), input, message });
            }
        }
        Ok(Passed { files, mutations, took: began.elapsed() })
    }

    /// Ends the process if an input takes too long: a thread cannot be ended.
    fn end_if_too_long(&self, target: &Target, watch: &Watch) {
        let limit = Duration::from_secs(target.limit_seconds);
        if let Some(input) = watch.exceeded(limit) {
            eprintln!("{}: an input takes longer than {} s", target.name, target.limit_seconds);
            match self.write(target, "timeout", &input) {
                Ok(path) => eprintln!("written to {}", path.display()),
                Err(message) => eprintln!("error: {message}"),
            }
            process::exit(1);
        }
    }

    fn report(&self, target: &Target, failure: &Failure) -> Result<(), String> {
        let Failure { origin, input, message } = failure;
        let file = match origin {
            Origin::File(path) => {
                eprintln!("{}: {} fails: {message}", target.name, path.display());
                path.clone()
            }
            Origin::Mutation(number) => {
                let path = self.write(target, "crash", input)?;
                let seed = self.arguments.seed;
                eprintln!("{}: mutation {number} of seed {seed} fails: {message}", target.name);
                eprintln!("written to {}", path.display());
                path
            }
        };
        eprintln!("run it again: corpora {} --file {}", target.name, file.display());
        Ok(())
    }

    fn artifact(&self, target: &Target, name: &str) -> Result<PathBuf, String> {
        let folder = self.artifacts.join(target.name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder.join(name))
    }

    fn write(&self, target: &Target, kind: &str, input: &[u8]) -> Result<PathBuf, String> {
        let number = Draw::new(input.len() as u64, &hex(input)).any();
        let path = self.artifact(target, &format!("{kind}-{number:016x}"))?;
        fs::write(&path, input).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run_one(target: &Target, input: &[u8], watch: &Watch, recorded: Option<&Path>) -> Result<(), String> {
    if let Some(path) = recorded {
        fs::write(path, input).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    watch.begin(input);
    let result = watch::run(target.run, input);
    watch.end();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for each test, with a corpus of one file.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("fuzz-runner-{name}-{}", process::id()));
        fs::create_dir_all(folder.join("corpus/test")).expect("a folder");
        fs::write(folder.join("corpus/test/file"), b"abc").expect("a file");
        folder
    }

    fn panics_on_x(input: &[u8]) {
        assert!(!input.contains(&b'x'), "there is an x");
    }

    const TARGET: Target = Target { name: "test", run: panics_on_x, longest: 100, limit_seconds: 60 };

    fn arguments(seconds: u64) -> Arguments {
        let (targets, files) = (Vec::new(), Vec::new());
        Arguments { targets, seconds, seed: 1, files, record: false, corpus: None, artifacts: None }
    }

    #[test]
    fn a_mutation_that_fails_is_found_and_written_and_fails_again() {
        let folder = folder("mutation");
        let run = |arguments: &Arguments| Runner::new(&folder, arguments).run_all(&[TARGET]);
        assert_eq!(run(&arguments(0)), Ok(true), "the corpus passes");
        assert_eq!(run(&arguments(60)), Ok(false));
        let written: Vec<PathBuf> = fs::read_dir(folder.join("artifacts/test"))
            .expect("the artifacts")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(written.len(), 1);
        assert!(fs::read(&written[0]).expect("an input").contains(&b'x'));
        let again = Arguments { targets: vec!["test".to_owned()], files: written, ..arguments(0) };
        assert_eq!(run(&again), Ok(false));
        fs::remove_dir_all(&folder).expect("it is removed");
    }

    #[test]
    fn unknown_targets_and_empty_corpora_are_errors() {
        let folder = folder("errors");
        let unknown = Arguments { targets: vec!["tset".to_owned()], ..arguments(0) };
        let error = Runner::new(&folder, &unknown).run_all(&[TARGET]).expect_err("refused");
        assert_eq!(error, "there is no target \"tset\", only test");
        fs::remove_file(folder.join("corpus/test/file")).expect("it is removed");
        let error = Runner::new(&folder, &arguments(0)).run_all(&[TARGET]).expect_err("refused");
        assert!(error.ends_with("the corpus is empty"), "{error}");
        fs::remove_dir_all(&folder).expect("it is removed");
    }
}
