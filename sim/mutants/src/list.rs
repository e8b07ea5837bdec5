//! Plays the mutants of a list, and says which of them survive.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use mutants::build::BuildError;
use mutants::combine::{self, Combined};
use mutants::listed::{self, Listed};
use mutants::page;
use mutants::patch::Patch;
use mutants::plain::{Failures, PlainError, Tests};
use mutants::play::Settings;
use mutants::systematic::{self, Counts, Judged, Verdict};
use mutants::tree::Tree;

use crate::arguments::Arguments;
use crate::run::{Built, UsageError};

/// Where the verdicts are written, in the folder of the program.
const RESULTS: &str = "systematic.json";

/// Executes the command with a list; true if every mutant that survives is on the page.
pub fn run(arguments: &Arguments, tree: &Tree, list: &Path) -> Result<bool, Box<dyn Error>> {
    let mut mutants = listed::parse(&std::fs::read_to_string(list)?)?;
    if let Some(unknown) =
        arguments.names.iter().find(|name| !mutants.iter().any(|mutant| mutant.patch.name == **name))
    {
        return Err(UsageError::Mutant(unknown.clone()).into());
    }
    mutants.retain(|mutant| arguments.names.is_empty() || arguments.names.contains(&mutant.patch.name));
    let patches: Vec<Patch> = mutants.iter().map(|mutant| mutant.patch.clone()).collect();
    let built = Built::of(tree, &patches)?;
    let (unviable, viable): (Vec<Listed>, Vec<Listed>) =
        mutants.into_iter().partition(|mutant| built.refused.contains_key(&mutant.patch.name));
    let mut judged: Vec<Judged> = unviable
        .iter()
        .map(|mutant| {
            let reason = built.refused.get(&mutant.patch.name).cloned().unwrap_or_default();
            Judged::new(mutant, Verdict::Unviable(reason))
        })
        .collect();
    eprintln!("{} mutants, and {} that are not viable", viable.len(), judged.len());

    judged.extend(play(arguments, tree, &built, viable.clone())?);
    write(tree, &judged)?;
    if arguments.plain_tests {
        test(tree, &viable, built.combined, &mut judged)?;
        write(tree, &judged)?;
    }
    conclude(arguments, tree, &judged)
}

/// Plays the simulations of all mutants.
fn play(
    arguments: &Arguments,
    tree: &Tree,
    built: &Built,
    mutants: Vec<Listed>,
) -> Result<Vec<Judged>, Box<dyn Error>> {
    let jobs = thread::available_parallelism().map_or(1, |cores| cores.get());
    let failures = tree.folder().join("systematic");
    let settings = Settings {
        program: built.program.clone(),
        failures: failures.clone(),
        starts: 1,
        jobs: arguments.jobs.map_or(jobs, usize::from),
        deadline: arguments.minutes.map(|time| Instant::now() + time),
    };
    let (count, number) = (mutants.len(), AtomicUsize::new(0));
    let played = settings.on_all_threads(mutants, |mutant| {
        if settings.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
        let verdict = systematic::play(&mutant, &built.program, &failures)?;
        let judged = Judged::new(&mutant, verdict.unwrap_or(Verdict::Survived));
        report(&judged, number.fetch_add(1, Ordering::Relaxed) + 1, count);
        Ok(Some(judged))
    })?;
    let mut played: Vec<Judged> = played.into_iter().flatten().collect();
    if played.len() < count {
        eprintln!("the time was over before {} mutants", count - played.len());
    }
    played.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(played)
}

/// Runs the tests on those that survived the simulations.
fn test(
    tree: &Tree,
    viable: &[Listed],
    mut combined: Combined,
    judged: &mut [Judged],
) -> Result<(), Box<dyn Error>> {
    eprintln!("building the tests");
    let mut unviable = BTreeSet::new();
    let tests = loop {
        match build_tests(tree, &combined) {
            Ok(tests) => break tests,
            // In code that the simulation is built without.
            Err(PlainError::Build(BuildError::Patches(errors))) => {
                for (name, rendered) in errors {
                    eprintln!("{name} does not compile:\n{rendered}");
                    unviable.insert(name);
                }
                let patches = viable.iter().map(|mutant| &mutant.patch);
                let patches: Vec<Patch> =
                    patches.filter(|patch| !unviable.contains(&patch.name)).cloned().collect();
                combined = combine::combine(&patches, |file| tree.read(file))?;
                tree.update(&combined.files)?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let survivors: Vec<&mut Judged> =
        judged.iter_mut().filter(|each| each.verdict == Verdict::Survived).collect();
    let count = survivors.len();
    for (number, each) in (1..).zip(survivors) {
        if unviable.contains(&each.short) {
            each.verdict = Verdict::Unviable("it does not compile with all features".to_owned());
        } else if let Some(test) = tests.find(&each.short, Failures::First)?.first() {
            each.verdict = Verdict::PlainTest(test);
        }
        report(each, number, count);
    }
    Ok(())
}

fn build_tests(tree: &Tree, combined: &Combined) -> Result<Tests, PlainError> {
    let mut tests = Tests::build(tree, &combined.files)?;
    tests.add_simulated(tree, &combined.files)?;
    Ok(tests)
}

/// A line of progress.
fn report(judged: &Judged, number: usize, count: usize) {
    let text = match &judged.verdict {
        Verdict::Unviable(reason) => format!("not viable: {reason}"),
        Verdict::Simulation { world, profile, seed, violation } => {
            format!("{violation} ({world}, {profile}, seed {seed})")
        }
        Verdict::PlainTest(test) => test.clone(),
        Verdict::Survived => "survives".to_owned(),
    };
    eprintln!("{number} of {count}: {} {}: {text}", judged.short, judged.name);
}

fn write(tree: &Tree, judged: &[Judged]) -> Result<(), Box<dyn Error>> {
    let path = tree.folder().join(RESULTS);
    Ok(std::fs::write(path, serde_json::to_string_pretty(judged)?)?)
}

/// Prints the table; true if nothing is wrong.
fn conclude(arguments: &Arguments, tree: &Tree, judged: &[Judged]) -> Result<bool, Box<dyn Error>> {
    let text = tree.read(page::FILE)?;
    let unexplained = systematic::unexplained(judged, &text);
    let mut out = io::stdout().lock();
    for each in &unexplained {
        writeln!(out, "{}  line {}  {}", each.short, each.line, each.name)?;
    }
    let Counts { all, unviable, simulation, plain_tests, survived } = Counts::of(judged);
    writeln!(
        out,
        "{all} mutants: {unviable} not viable, {simulation} found by simulation, {plain_tests} by tests without it, {survived} \
         survive, of which {} are not in {}",
        unexplained.len(),
        page::FILE
    )?;
    if arguments.names.is_empty() && arguments.minutes.is_none() && arguments.plain_tests {
        for name in systematic::needless(judged, &text) {
            eprintln!("{} need not name {name}: it is found, or is not in the list", page::FILE);
        }
    }
    Ok(unexplained.is_empty())
}
