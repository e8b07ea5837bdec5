//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const EXIT_CODES: &str = "\
Exit codes:
  0  every mutant is found, and the unchanged pipeline survives the same seeds
  1  a patch does not apply or compile, a mutant is not found or much slower than docs/mutants.json says,
     or the unchanged pipeline has a violation
  2  wrong usage, or the simulation does not compile or run";

/// Finds known-bad pipelines by simulation
///
/// Each patch in tests/mutants makes the pipeline wrong. All of them are built into one program, in which a variable chooses.
/// Each is played in each world from several starting seeds, until the first seed that fails; then the unchanged pipeline is
/// played on the seeds that were needed. The results are compared with docs/mutants.json, or written there.
#[derive(Debug, Parser)]
#[command(name = "cargo sim mutants", bin_name = "cargo sim mutants", after_help = EXIT_CODES)]
pub struct Arguments {
    /// The mutants to play [default: all]
    #[arg(value_name = "NAME", conflicts_with = "quickest")]
    pub names: Vec<String>,
    /// Play the N mutants that take the least time according to docs/mutants.json, each in the world where it is found fastest
    #[arg(long, value_name = "N")]
    pub quickest: Option<usize>,
    /// The worlds to play, separated by commas [default: all]
    #[arg(long, value_name = "WORLD", value_delimiter = ',')]
    pub world: Vec<String>,
    /// The profiles to draw scenarios with, separated by commas: each after the first only where those before do not find a
    /// mutant. By default, the one that found it according to docs/mutants.json is the first
    #[arg(
        long,
        value_name = "PROFILE",
        value_delimiter = ',',
        default_value = "standard,damaged,backpressure,wide,handovers,swarm"
    )]
    pub profile: Vec<String>,
    /// Number of starting seeds, which are 10,000 apart
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub starts: u64,
    /// Seeds from a starting seed until the search ends [default: 400 on simple services, 200 in other worlds]
    #[arg(long, value_name = "SEEDS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: Option<u64>,
    /// Play the mutants of this list instead, which `cargo mutants --list --json --diff` prints, each until a simulation or a
    /// test finds it; NAME is m1 for the first. One that survives and is not in docs/mutants.md fails
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["quickest", "world", "profile", "starts", "limit", "write", "build", "program"]
    )]
    pub list: Option<PathBuf>,
    /// Number of searches at the same time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Begin no search, and test no mutant, after this time, builds excluded; fractions are possible
    #[arg(long, value_parser = minutes)]
    pub minutes: Option<Duration>,
    /// Most seeds of the unchanged pipeline in each world and profile; 0 for none [default: all that were needed]
    #[arg(long, value_name = "SEEDS")]
    pub unchanged: Option<u64>,
    /// Do not reduce a failing scenario of each mutant
    #[arg(long)]
    pub no_shrink: bool,
    /// Minutes for each reduction; fractions are possible
    #[arg(long, value_name = "MINUTES", value_parser = minutes, default_value = "1")]
    pub shrink_minutes: Duration,
    /// Also run the tests without simulation on each mutant
    #[arg(long)]
    pub plain_tests: bool,
    /// Play nothing: only run the tests without simulation
    #[arg(long, requires = "plain_tests", conflicts_with_all = ["quickest", "world", "list"])]
    pub no_play: bool,
    /// Write docs/mutants.json and docs/mutants.md, instead of comparing. What is not played stays as it is
    #[arg(long)]
    pub write: bool,
    /// Compare the ways to search for scenarios in the fast world, and print the table: after how many runs each finds these
    /// mutants. Instead of campaigns
    #[arg(long, requires = "names", conflicts_with_all = ["write", "build", "program", "plain_tests"])]
    pub searches: bool,
    /// Build the program, print its path, and play nothing. EXACTLYONCE_MUTANT=NAME chooses a mutant in it
    #[arg(long)]
    pub build: bool,
    /// Play this program, which --build made of the same patches, instead of building one: on several machines, for example
    #[arg(long, value_name = "FILE", conflicts_with = "build")]
    pub program: Option<PathBuf>,
    /// The target directory of the ordinary build
    #[arg(long, value_name = "FOLDER", env = "CARGO_TARGET_DIR", hide = true)]
    pub target_dir: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(|minutes| minutes * 60.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "it must be a positive number".to_owned())
}
