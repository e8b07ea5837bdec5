//! Searches for a violation in the fast world, from several starts, and prints how many runs each start needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use simulation::Report;
use simulation_fuzz::Genome;
use simulation_fuzz::search::{By, Search};

/// Exit codes: a violation was found, and wrong usage.
const FOUND: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Searches for violations in the fast world. Prints a line of JSON for each start.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How scenarios are chosen
    #[arg(long, value_enum)]
    by: By,
    /// The first start, which determines its search
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many starts
    #[arg(long, default_value_t = 1)]
    starts: u64,
    /// Most runs of a start
    #[arg(long, default_value_t = 1_000)]
    runs: u64,
    /// Most seconds of a start
    #[arg(long)]
    seconds: Option<u64>,
    /// How many starts at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Go on after a violation
    #[arg(long)]
    go_on: bool,
    /// A folder of scenarios that a guided search begins with
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Write the failing scenarios to this folder
    #[arg(long, value_name = "DIR")]
    failures: Option<PathBuf>,
    /// Write scenarios that reach all states of the search to this folder; with one start
    #[arg(long, value_name = "DIR")]
    write_corpus: Option<PathBuf>,
    /// How many are written, at most
    #[arg(long, default_value_t = 64)]
    most: usize,
}

/// The line of a start.
#[derive(Serialize)]
struct Line {
    by: &'static str,
    seed: u64,
    /// Scenarios that were run, up to the first violation unless the search went on.
    runs: u64,
    /// The number of the first run with a violation, from 1.
    found_after: Option<u64>,
    /// The name of that violation.
    violation: Option<&'static str>,
    violations: u64,
    states: usize,
    /// Pairs of rare situations that occurred in one run.
    pairs: usize,
    seconds: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(FOUND),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// The scenarios of a folder, in the order of its files' names.
fn genomes(folder: &Path) -> Result<Vec<Genome>, String> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(at(folder))?;
    files.sort();
    files.iter().map(|file| fs::read(file).map(|bytes| Genome::decode(&bytes)).map_err(at(file))).collect()
}

/// True if a violation was found.
fn run(arguments: &Arguments) -> Result<bool, String> {
    if arguments.write_corpus.is_some() && arguments.starts != 1 {
        return Err("--write-corpus needs one start".to_owned());
    }
    let initial = arguments.corpus.as_deref().map(genomes).transpose()?.unwrap_or_default();
    for folder in [&arguments.failures, &arguments.write_corpus].into_iter().flatten() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let start = next.fetch_add(1, Ordering::Relaxed);
            if start >= arguments.starts {
                return;
            }
            let line = search(arguments, arguments.seed + start, initial.clone());
            // A panic of another start has been reported.
            results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(line);
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    let lines = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lines = lines.into_iter().collect::<Result<Vec<Line>, _>>()?;
    summarize(&lines);
    Ok(lines.iter().any(|line| line.violation.is_some()))
}

fn search(arguments: &Arguments, start: u64, initial: Vec<Genome>) -> Result<Line, String> {
    let began = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let mut search = Search::new(arguments.by, start, initial);
    let mut line = Line {
        by: arguments.by.into(),
        seed: start,
        runs: 0,
        found_after: None,
        violation: None,
        violations: 0,
        states: 0,
        pairs: 0,
        seconds: 0.0,
    };
    while search.runs() < arguments.runs && limit.is_none_or(|limit| began.elapsed() < limit) {
        let report = search.step();
        if let Some(violation) = &report.violation {
            line.violations += 1;
            line.found_after.get_or_insert(search.runs());
            line.violation.get_or_insert(violation.name());
            write_failure(arguments, start, search.runs(), &report)?;
            if !arguments.go_on {
                break;
            }
        }
    }
    (line.runs, line.states, line.pairs) = (search.runs(), search.states(), search.pairs());
    line.seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
    println!("{text}");
    if let Some(folder) = &arguments.write_corpus {
        for genome in search.cover(arguments.most) {
            let bytes = genome.encode();
            let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let file = folder.join(format!("{hash:016x}"));
            fs::write(&file, bytes).map_err(at(&file))?;
        }
    }
    Ok(line)
}

fn write_failure(arguments: &Arguments, start: u64, run: u64, report: &Report) -> Result<(), String> {
    let Some(folder) = &arguments.failures else { return Ok(()) };
    let by: &str = arguments.by.into();
    let file = folder.join(format!("{by}-{start}-{run}.toml"));
    fs::write(&file, report.scenario.to_toml()).map_err(at(&file))
}

/// How many starts found a violation, and after how many runs.
fn summarize(lines: &[Line]) {
    let mut runs: Vec<u64> = lines.iter().filter_map(|line| line.found_after).collect();
    runs.sort_unstable();
    let (found, starts) = (runs.len(), lines.len());
    // The rank of a quantile over all starts; those that found nothing needed more runs than any other.
    let quantile = |percent: usize| {
        let rank = (starts * percent).div_ceil(100).max(1);
        runs.get(rank - 1).map_or_else(|| "more".to_owned(), u64::to_string)
    };
    if starts > 1 {
        eprintln!(
            "found by {found} of {starts} starts; runs: median {}, 95 % {}",
            quantile(50),
            quantile(95)
        );
    }
}
