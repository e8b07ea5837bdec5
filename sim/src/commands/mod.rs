//! The commands of the program, and their options. Each returns its exit code.

mod campaign;
mod explain;
mod one;
mod play;
mod results;
mod shrink;
mod summary;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use simulation::Report;
use simulation::campaign::{Isolation, PLAY};
use simulation::oracle::Violation;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use strum::IntoEnumIterator;

/// The exit code for wrong usage, which is also clap's.
pub const WRONG_USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  the tables equal the ground truth
  1  wrong data: a violation was found
  2  wrong usage, or a file that is not a scenario
  3  stuck: workers did not drain the log, or did not stop
  4  a campaign reached too little: a kind of fault without an effect, or a situation that never occurred
  5  a panic or a crash, of the pipeline or of the simulation itself";

/// Runs the pipeline in a deterministic simulation.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the scenario of one seed, and prints a report
    ///
    /// If the run fails, its scenario is written to a file, which `replay` runs and `shrink` reduces.
    #[command(after_help = EXIT_CODES)]
    Run {
        #[command(flatten)]
        drawn: Drawn,
        /// Also print every event
        #[arg(long)]
        trace: bool,
        /// The folder for the scenario of a failed run
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        failures: PathBuf,
    },
    /// Runs the scenario of a file, and prints a report
    #[command(after_help = EXIT_CODES)]
    Replay {
        /// The file, as `scenario` prints it; it may be edited
        file: PathBuf,
        /// Also print every event
        #[arg(long)]
        trace: bool,
    },
    /// Explains why a scenario fails: what happened to the cells of its first violation
    ///
    /// At most a page: who wrote what, with which timestamp, to which replica, who read it, and which faults and workers
    /// began and ended meanwhile. With --out, also as one HTML file with a timeline of the run; with --data, as JSON.
    #[command(after_help = EXIT_CODES)]
    Explain(Explain),
    /// Prints the scenario of a seed as a file
    Scenario {
        #[command(flatten)]
        drawn: Drawn,
    },
    /// Reduces a scenario that fails to a small one that fails with the same violation
    ///
    /// The result is the same each time, unless the time is over first. It is written with comments on top that say why it
    /// is kept, what its violation is, and with which commit it was found; put into `sim/regressions`, it is replayed by
    /// the tests.
    #[command(after_help = EXIT_CODES)]
    Shrink {
        /// The file with the scenario
        #[arg(required_unless_present = "seed", conflicts_with_all = ["seed", "world", "profile"])]
        file: Option<PathBuf>,
        /// The seed, instead of a file
        #[arg(long)]
        seed: Option<u64>,
        /// The services of the seed
        #[arg(long, value_enum, default_value_t = World::Simple)]
        world: World,
        /// How the scenario of the seed is drawn
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// The file to write [default: the name of the scenario, with the ending .small.toml]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The reason to keep the result, for the first line of its file
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Ends after this time, with what it has by then; fractions are possible
        #[arg(long, value_parser = minutes, default_value = "2")]
        minutes: Duration,
        #[arg(long, help = PROCESSES)]
        processes: bool,
    },
    /// Runs many seeds, and prints what happened in them
    ///
    /// The scenario of a failed run is written to a file at once. On stderr, a line of progress is printed every two
    /// seconds.
    #[command(after_help = EXIT_CODES)]
    Campaign(Campaign),
    /// Adds the results of campaigns to a file, and renders all of them as a page
    ///
    /// Each file is what `campaign --json` printed.
    Results(Results),
    /// Runs a scenario for a campaign, in a process of its own
    #[command(name = PLAY, hide = true)]
    Play,
}

const PROCESSES: &str = "Run each scenario in a process of its own, so that a crash is a result";

/// The options of an explanation.
#[derive(Args)]
struct Explain {
    /// The file with the scenario
    #[arg(required_unless_present = "seed", conflicts_with_all = ["seed", "world", "profile"])]
    file: Option<PathBuf>,
    /// The seed, instead of a file
    #[arg(long)]
    seed: Option<u64>,
    /// The services of the seed
    #[arg(long, value_enum, default_value_t = World::Simple)]
    world: World,
    /// How the scenario of the seed is drawn
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// The folder for an HTML file with the timeline of the run, named after the scenario
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A file for the timeline as JSON, which --beside-data reads, also in a program of other sources
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A scenario whose run is shown beside the first
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with = "beside_data")]
    beside: Option<PathBuf>,
    /// A timeline that is shown beside the run, as --data writes it
    #[arg(long, value_name = "FILE", requires = "out")]
    beside_data: Option<PathBuf>,
    /// What the run is called in the timeline [default: the name of the scenario]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What a reader of the timeline should look at
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[arg(long, help = PROCESSES)]
    processes: bool,
}

/// The options of a campaign.
#[derive(Args)]
struct Campaign {
    /// The seeds; the last one is excluded
    #[arg(long, value_name = "FROM..TO", value_parser = seeds)]
    seeds: Range<u64>,
    #[arg(long, default_value = "simple", value_name = "WORLD", help = of_each::<World>("The services"))]
    world: Each<World>,
    #[arg(long, default_value = "standard", value_name = "PROFILE", help = of_each::<Profile>("How the scenarios are drawn"))]
    profile: Each<Profile>,
    /// Number of runs at the same time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    #[arg(long, help = PROCESSES)]
    processes: bool,
    /// Starts no seed after this time; fractions are possible. Several worlds or profiles share it
    #[arg(long, value_parser = minutes)]
    minutes: Option<Duration>,
    /// Stop at the first seed that fails: the least one, with any number of threads. Not every kind of fault needs to
    /// occur then
    #[arg(long)]
    first: bool,
    /// Print one JSON document on stdout, instead of tables
    #[arg(long)]
    json: bool,
    /// The folder for the scenarios of failed runs
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    failures: PathBuf,
    /// Fail if a kind of fault or a situation is missed, however few the seeds are [default: from 150 seeds on, without a
    /// time limit; standard profile]
    #[arg(long)]
    require_all: bool,
}

/// The options of `results`.
#[derive(Args)]
struct Results {
    /// What campaigns printed
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file that they are added to
    #[arg(long, value_name = "FILE", default_value = "docs/campaigns.json")]
    into: PathBuf,
    /// The page
    #[arg(long, value_name = "FILE", default_value = "docs/campaigns.md")]
    page: PathBuf,
    /// The day of the campaigns
    #[arg(long, value_name = "YYYY-MM-DD", required_unless_present = "render_only")]
    date: Option<String>,
    /// Add nothing, and only render the page
    #[arg(long, conflicts_with = "files")]
    render_only: bool,
}

/// A scenario of a seed.
#[derive(Args)]
struct Drawn {
    /// The seed
    #[arg(long)]
    seed: u64,
    /// The services
    #[arg(long, value_enum, default_value_t = World::Simple)]
    world: World,
    /// How the scenario is drawn
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
}

impl Drawn {
    fn scenario(&self) -> Scenario {
        Scenario::draw(self.seed, self.world, self.profile)
    }
}

/// One value, or all of them.
#[derive(Clone, Copy, Debug)]
enum Each<T> {
    One(T),
    All,
}

impl<T: FromStr> FromStr for Each<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            text => text.parse().map(Self::One).map_err(|_| "there is no such value".to_owned()),
        }
    }
}

/// The help of an option whose values are those of an enum, and `all`.
fn of_each<T: ValueEnum>(help: &str) -> String {
    let values: Vec<String> = T::value_variants()
        .iter()
        .filter_map(|value| value.to_possible_value())
        .map(|value| value.get_name().to_owned())
        .collect();
    format!("{help}: {}, or all", values.join(", "))
}

impl Each<World> {
    fn values(self) -> Vec<World> {
        match self {
            Self::One(world) => vec![world],
            Self::All => World::iter().collect(),
        }
    }
}

impl Each<Profile> {
    /// `All` are those that a correct pipeline survives.
    fn values(self) -> Vec<Profile> {
        match self {
            Self::One(profile) => vec![profile],
            Self::All => Profile::survivable().collect(),
        }
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
    let range = range.map(|(from, to)| from..to).filter(|range: &Range<u64>| !range.is_empty());
    range.ok_or_else(|| "it must be FROM..TO, with at least one seed".to_owned())
}

fn minutes(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(|minutes| minutes * 60.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "it must be a positive number".to_owned())
}

/// Executes a command; its exit code.
///
/// # Errors
/// If a file is not a scenario, or cannot be read or written.
pub fn execute(arguments: Arguments) -> io::Result<u8> {
    match arguments.command {
        Command::Run { drawn, trace, failures } => one::run(drawn.scenario(), trace, &failures),
        Command::Replay { file, trace } => one::replay(&file, trace),
        Command::Scenario { drawn } => one::print(&drawn.scenario()),
        Command::Explain(explain) => explain.run(),
        Command::Shrink { file, seed, world, profile, output, reason, minutes, processes } => {
            let Some(scenario) = read_or_draw(file.as_deref(), seed, world, profile)? else {
                return Ok(WRONG_USAGE);
            };
            let name = file.unwrap_or_else(|| file_name(&scenario));
            let output = output.unwrap_or_else(|| name.with_extension("small.toml"));
            let isolation = isolation(scenario.world(), processes)?;
            shrink::shrink(scenario, &isolation, &output, reason.as_deref(), minutes)
        }
        Command::Campaign(campaign) => campaign.run(),
        Command::Results(results) => results.run(),
        Command::Play => play::play(),
    }
}

/// The scenario of a file, or else of a seed.
fn read_or_draw(
    file: Option<&Path>,
    seed: Option<u64>,
    world: World,
    profile: Profile,
) -> io::Result<Option<Scenario>> {
    match file {
        Some(file) => Ok(Some(read(file)?)),
        None => Ok(seed.map(|seed| Scenario::draw(seed, world, profile))),
    }
}

/// Where the runs of a world take place.
fn isolation(world: World, processes: bool) -> io::Result<Isolation> {
    match processes || world.isolated() {
        true => Isolation::processes(),
        false => Ok(Isolation::Threads),
    }
}

/// The exit code of a run.
fn code(report: &Report) -> u8 {
    match &report.violation {
        None => 0,
        Some(Violation::Panicked { .. } | Violation::Crashed { .. }) => 5,
        Some(Violation::Stuck { .. } | Violation::DidNotStop { .. }) => 3,
        Some(_) => 1,
    }
}

/// The name of the file for a drawn scenario.
fn file_name(scenario: &Scenario) -> PathBuf {
    format!("{}-{}-{}.toml", scenario.world(), scenario.profile, scenario.seed).into()
}

/// Writes the scenario of a failed run; the file.
fn write(scenario: &Scenario, folder: &Path) -> io::Result<PathBuf> {
    let file = folder.join(file_name(scenario));
    std::fs::create_dir_all(folder).map_err(|error| of_file(folder, &error))?;
    std::fs::write(&file, scenario.to_toml()).map_err(|error| of_file(&file, &error))?;
    Ok(file)
}

fn read(file: &Path) -> io::Result<Scenario> {
    let text = std::fs::read_to_string(file).map_err(|error| of_file(file, &error))?;
    text.parse::<Scenario>().map_err(|error| of_file(file, &error))
}

fn of_file(file: &Path, error: &dyn std::error::Error) -> io::Error {
    let text = exactlyonce::error::chain(error);
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {text}", file.display()))
}

/// The command that repeats the run of a drawn scenario, with its trace.
struct Repeat<'a>(&'a Scenario);

impl fmt::Display for Repeat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, profile, .. } = self.0;
        write!(f, "cargo sim run --seed {seed} --world {} --profile {profile} --trace", self.0.world())
    }
}

#[cfg(test)]
mod tests {
    use simulation::campaign::play;

    use super::summary::Failure;
    use super::*;

    #[test]
    fn a_crash_has_an_exit_code_a_file_and_a_place_in_the_document_of_its_campaign() {
        let time_limit = Duration::from_secs(60);
        let isolation = Isolation::Processes { program: "/bin/false".into(), time_limit };
        let report = play(Scenario::draw(1, World::Simple, Profile::Tiny), &isolation);
        assert_eq!(code(&report), 5, "{report}");
        let folder = std::env::temp_dir().join(format!("simulation-crash-{}", std::process::id()));
        let failure = Failure::of(&report, &folder).expect("it fails");
        let read = read(&failure.file).expect("its scenario is written");
        assert_eq!(read, report.scenario);
        let json = serde_json::to_value(&failure).expect("it is written as JSON");
        assert_eq!((&json["seed"], &json["violation"]), (&1.into(), &"crashed".into()));
        assert!(
            json["evidence"].as_str().is_some_and(|evidence| evidence.contains("exit status: 1")),
            "{json}"
        );
        std::fs::remove_dir_all(&folder).expect("the folder is removed");
    }
}
