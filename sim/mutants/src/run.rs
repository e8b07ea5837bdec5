//! Builds, plays, reduces, and compares or writes.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use mutants::build::{self, BuildError};
use mutants::combine::{self, Combined};
use mutants::page;
use mutants::patch::Patch;
use mutants::plain::{Failures, Tests};
use mutants::play::{Pair, Played, Settings};
use mutants::program::{BUSY, Program, ProgramError};
use mutants::results::{Results, Smallest, Unchanged};
use mutants::searches;
use mutants::tree::Tree;
use mutants::worlds;
use thiserror::Error;

use crate::arguments::Arguments;
use crate::{list, report};

/// Wrong usage.
#[derive(Debug, Error)]
pub enum UsageError {
    #[error("there is no mutant {0:?}")]
    Mutant(String),
    #[error("there is no world {0:?}; there are {1}")]
    World(String, String),
    #[error("{} has no mutant that is found; --write makes it", mutants::results::FILE)]
    NoResults,
}

/// Executes the command; true if nothing is wrong.
pub fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let target = std::path::absolute(arguments.target_dir.clone().unwrap_or_else(|| root.join("target")))?;
    let tree = Tree { root, target };
    if let Some(list) = &arguments.list {
        return list::run(arguments, &tree, list);
    }
    let all_worlds = worlds::of_source(&tree.read(worlds::FILE)?)?;
    if let Some(unknown) = arguments.world.iter().find(|world| !all_worlds.contains(world)) {
        return Err(UsageError::World(unknown.clone(), all_worlds.join(", ")).into());
    }
    let (patches, unusable) = combine::read_patches(&tree.root.join("tests/mutants"), &all_worlds)?;
    let kept = Results::read(&tree.root)?;
    let mut problems: Vec<String> =
        unusable.iter().map(|(name, error)| format!("{name}: {}", chain(error))).collect();
    let Built { program, refused, combined } = match &arguments.program {
        Some(program) => Built::before(&tree, &patches, program)?,
        None => Built::of(&tree, &patches)?,
    };
    problems.extend(refused.iter().map(|(name, problem)| format!("{name}: {problem}")));
    eprintln!("the program is {}", program.display());
    let run = Run { arguments, tree, patches, all_worlds, kept, program };
    if arguments.searches {
        run.compare_searches(&combined)?;
    } else if !arguments.build {
        let unusable: BTreeSet<String> =
            unusable.into_iter().map(|(name, _)| name).chain(refused.into_keys()).collect();
        run.play(&combined, &unusable, &mut problems)?;
    }
    problems.sort();
    problems.iter().for_each(|problem| eprintln!("FAILED: {problem}"));
    Ok(problems.is_empty())
}

/// The program with all patches that can be in it.
pub struct Built {
    pub program: PathBuf,
    /// The other patches, with the reasons.
    pub refused: BTreeMap<String, String>,
    pub combined: Combined,
}

impl Built {
    /// A program that was built before.
    fn before(tree: &Tree, patches: &[Patch], program: &Path) -> Result<Self, Box<dyn Error>> {
        let combined = combine::combine(patches, |file| tree.read(file))?;
        // For the tests.
        tree.update(&combined.files)?;
        let refused = combined.refused.iter().map(|(name, error)| (name.clone(), chain(error))).collect();
        Ok(Self { program: std::path::absolute(program)?, refused, combined })
    }

    pub fn of(tree: &Tree, patches: &[Patch]) -> Result<Self, Box<dyn Error>> {
        let mut refused = BTreeMap::new();
        loop {
            let usable: Vec<Patch> =
                patches.iter().filter(|patch| !refused.contains_key(&patch.name)).cloned().collect();
            let combined = combine::combine(&usable, |file| tree.read(file))?;
            refused.extend(combined.refused.iter().map(|(name, error)| (name.clone(), chain(error))));
            tree.update(&combined.files)?;
            match build::simulation(tree, &combined.files) {
                Ok(program) => return Ok(Self { program, refused, combined }),
                Err(BuildError::Patches(errors)) => {
                    for (name, rendered) in errors {
                        eprintln!("{name} does not compile:\n{rendered}");
                        refused.insert(name, "it does not compile".to_owned());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Run<'a> {
    arguments: &'a Arguments,
    tree: Tree,
    patches: Vec<Patch>,
    all_worlds: Vec<String>,
    kept: Results,
    program: PathBuf,
}

impl Run<'_> {
    fn play(
        &self,
        combined: &Combined,
        unusable: &BTreeSet<String>,
        problems: &mut Vec<String>,
    ) -> Result<(), Box<dyn Error>> {
        let arguments = self.arguments;
        let mut pairs = self.pairs(unusable)?;
        let names: BTreeSet<String> = pairs.iter().map(|pair| pair.mutant.clone()).collect();
        if arguments.no_play {
            pairs.clear();
        }
        let jobs = thread::available_parallelism().map_or(1, |cores| cores.get());
        let settings = Settings {
            program: self.program.clone(),
            failures: self.tree.folder().join("failures"),
            starts: arguments.starts,
            jobs: arguments.jobs.map_or(jobs, usize::from),
            deadline: arguments.minutes.map(|time| Instant::now() + time),
        };
        let count = pairs.len();
        let played = settings.play(pairs, |played, number| report::progress(played, number, count))?;
        let unchanged = settings.play_unchanged(&played, arguments.unchanged.unwrap_or(u64::MAX))?;
        let commit = commit(&self.tree.root);
        let mut results = Results::default();
        for each in &played {
            let Some(figures) = each.figures() else { continue };
            let mutant = results.mutants.entry(each.pair.mutant.clone()).or_default();
            mutant.commit.clone_from(&commit);
            mutant.worlds.insert(each.pair.world.clone(), figures);
        }
        for (world, unchanged) in unchanged {
            for (seed, violation) in &unchanged.violations {
                problems.push(format!("the unchanged pipeline: {violation} with seed {seed} ({world})"));
            }
            if !unchanged.violations.is_empty() || unchanged.seeds == 0 {
                continue;
            }
            let (commit, seeds) = (commit.clone(), unchanged.seeds);
            results.unchanged.insert(world, Unchanged { commit, seeds, seconds: unchanged.seconds.round() });
        }
        self.shrink(&mut results, &settings)?;
        if arguments.plain_tests {
            eprintln!("building the tests");
            let tests = Tests::build(&self.tree, &combined.files)?;
            let deadline = arguments.minutes.map(|time| Instant::now() + time);
            for (number, name) in names.iter().enumerate() {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    eprintln!("no time is left for {} mutants", names.len() - number);
                    break;
                }
                eprintln!("testing {name}, {} of {}", number + 1, names.len());
                let found = tests.find(name, Failures::All)?;
                results.mutants.entry(name.clone()).or_default().plain_tests = Some(found);
            }
        }
        report::table(&results)?;
        problems.extend(results.worse(if arguments.write { &results } else { &self.kept }));
        if arguments.write {
            self.write(results, &played)?;
        }
        Ok(())
    }

    /// Prints after how many runs each way to search finds the mutants.
    fn compare_searches(&self, combined: &Combined) -> Result<(), Box<dyn Error>> {
        let arguments = self.arguments;
        let program = build::search(&self.tree, &combined.files)?;
        let jobs = thread::available_parallelism().map_or(1, |cores| cores.get());
        let jobs = arguments.jobs.map_or(jobs, usize::from);
        let most = arguments.limit.unwrap_or_else(|| worlds::limit(worlds::FAST));
        println!("{}", searches::head());
        for name in &arguments.names {
            let search = |way: &&str| searches::search(&program, name, way, (arguments.starts, most, jobs));
            let of_ways = searches::WAYS.iter().map(search).collect::<Result<Vec<_>, _>>()?;
            println!("{}", searches::row(name, &of_ways, most));
        }
        Ok(())
    }

    /// What is to be played.
    fn pairs(&self, unusable: &BTreeSet<String>) -> Result<Vec<Pair>, UsageError> {
        let arguments = self.arguments;
        let patch = |name: &str| self.patches.iter().find(|patch| patch.name == name);
        let unknown = arguments.names.iter().find(|name| patch(name).is_none() && !unusable.contains(*name));
        if let Some(unknown) = unknown {
            return Err(UsageError::Mutant(unknown.clone()));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        if let Some(count) = arguments.quickest {
            let quickest = self.kept.quickest(count);
            let quickest = quickest.iter().map(|(name, world)| ((*name).to_owned(), (*world).to_owned()));
            pairs.extend(quickest.filter(|(name, _)| patch(name).is_some()));
            if pairs.is_empty() {
                return Err(UsageError::NoResults);
            }
        } else {
            let named = |patch: &&Patch| arguments.names.is_empty() || arguments.names.contains(&patch.name);
            for patch in self.patches.iter().filter(named) {
                let worlds = patch.worlds.as_ref().unwrap_or(&self.all_worlds);
                pairs.extend(worlds.iter().map(|world| (patch.name.clone(), world.clone())));
            }
        }
        pairs.retain(|(name, world)| {
            !unusable.contains(name) && (arguments.world.is_empty() || arguments.world.contains(world))
        });
        let pair = |(mutant, world): (String, String)| {
            let limit = arguments.limit.unwrap_or_else(|| worlds::limit(&world));
            let mut profiles = arguments.profile.clone();
            let before = self.kept.mutants.get(&mutant).and_then(|mutant| mutant.worlds.get(&world));
            if let Some(before) = before.filter(|figures| figures.is_found()) {
                // Stable: the others keep their order.
                profiles.sort_by_key(|profile| *profile != before.profile);
            }
            Pair { mutant, world, limit, profiles }
        };
        Ok(pairs.into_iter().map(pair).collect())
    }

    /// Reduces a failing scenario of each mutant.
    fn shrink(&self, results: &mut Results, settings: &Settings) -> Result<(), Box<dyn Error>> {
        if self.arguments.no_shrink {
            return Ok(());
        }
        let minutes = self.arguments.shrink_minutes.as_secs_f64() / 60.0;
        let mut work = Vec::new();
        for (name, mutant) in &results.mutants {
            let best = mutant.best();
            let best =
                best.and_then(|(world, figures)| Some((world, figures.profile.clone(), figures.seed?)));
            let Some((world, profile, seed)) = best else { continue };
            let reason = self.patches.iter().find(|patch| patch.name == *name).map(Patch::summary);
            work.push((name.clone(), world.to_owned(), profile, seed, reason.unwrap_or_default()));
        }
        let shrunk = settings.on_all_threads(work, |(name, world, profile, seed, reason)| {
            let failures = settings.failures.join(&name);
            let program = Program {
                path: &self.program,
                mutant: Some(&name),
                profile: &profile,
                failures: &failures,
                busy: BUSY,
            };
            let output = failures.join(format!("{world}-{profile}-{seed}.small.toml"));
            let size = match program.shrink(&world, seed, minutes, &reason, &output) {
                Ok(size) => size,
                Err(ProgramError::NoViolation { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            eprintln!("{name}: {} records, {} faults in {}", size.records, size.faults, output.display());
            Ok(Some((name, Smallest { world, seed, records: size.records, faults: size.faults })))
        })?;
        for (name, smallest) in shrunk.into_iter().flatten() {
            results.mutants.entry(name).or_default().smallest = Some(smallest);
        }
        Ok(())
    }

    fn write(&self, results: Results, played: &[Played]) -> Result<(), Box<dyn Error>> {
        let is_complete = played.iter().all(|played| played.is_complete);
        if !is_complete {
            eprintln!("the time was over before every search: the results are of fewer starting seeds");
        }
        let mut kept = self.kept.clone();
        let names: Vec<&str> = self.patches.iter().map(|patch| patch.name.as_str()).collect();
        kept.update(results, &names);
        kept.write(&self.tree.root)?;
        page::write(&self.tree.root, &kept, &self.patches)?;
        eprintln!("wrote {} and {}", mutants::results::FILE, page::FILE);
        Ok(())
    }
}

/// The commit of the repository, with a mark if files differ from it.
fn commit(root: &Path) -> String {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(arguments).current_dir(root).output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
