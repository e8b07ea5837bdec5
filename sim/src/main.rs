//! Runs scenarios. `cargo sim run`, `cargo sim replay` and so on, in the folder above, run this program.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use simulation::Report;
use simulation::campaign::{Campaign, Limits};
use simulation::oracle::Violation;
use simulation::scenario::{Scenario, World};

const EXIT_CODES: &str = "\
Exit codes:
  0  the tables equal the ground truth
  1  wrong data: a violation was found
  2  wrong usage, or a file that is not a scenario
  3  stuck: workers did not drain the log, or did not stop
  4  a campaign reached too little: a kind of fault without an effect, or a situation that never occurred
  5  a panic, of the pipeline or of the simulation itself";

/// Runs the pipeline in a deterministic simulation.
#[derive(Parser)]
#[command(name = "cargo sim", after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed
    Run {
        #[command(flatten)]
        drawn: Drawn,
        /// Print every event
        #[arg(long)]
        trace: bool,
    },
    /// Runs a scenario from a file
    Replay {
        /// The file, as `scenario` prints it
        file: PathBuf,
        /// Print every event
        #[arg(long)]
        trace: bool,
    },
    /// Prints the scenario of a seed as a file
    Scenario {
        #[command(flatten)]
        drawn: Drawn,
    },
    /// Reduces a scenario that fails to a small one that fails with the same violation
    Shrink {
        /// The file
        file: PathBuf,
        /// The file to write [default: FILE with the ending .small.toml]
        #[arg(long)]
        output: Option<PathBuf>,
        /// Ends after this time
        #[arg(long, default_value_t = 2)]
        minutes: u64,
    },
    /// Runs many seeds
    Campaign {
        /// The seeds, as FROM..TO
        #[arg(long, value_parser = seeds)]
        seeds: Range<u64>,
        /// The services: simple or cassandra
        #[arg(long, default_value = "simple")]
        world: World,
        /// Number of threads [default: one for each core]
        #[arg(long)]
        jobs: Option<usize>,
        /// Starts no seed after this time
        #[arg(long)]
        minutes: Option<u64>,
        /// The folder for the scenarios of failed runs
        #[arg(long, default_value = ".")]
        failures: PathBuf,
    },
}

#[derive(clap::Args)]
struct Drawn {
    /// The seed
    #[arg(long)]
    seed: u64,
    /// The services: simple or cassandra
    #[arg(long, default_value = "simple")]
    world: World,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
    let range = range.map(|(from, to)| from..to).filter(|range: &Range<u64>| !range.is_empty());
    range.ok_or_else(|| "it must be FROM..TO, with at least one seed".to_owned())
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(code) => code,
        // The reader may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Run { drawn, trace } => one(Scenario::draw(drawn.seed, drawn.world), trace, None),
        Command::Replay { file, trace } => one(read(&file)?, trace, Some(&file)),
        Command::Shrink { file, output, minutes } => {
            let output = output.unwrap_or_else(|| file.with_extension("small.toml"));
            shrink(read(&file)?, &output, Duration::from_secs(60 * minutes))
        }
        Command::Scenario { drawn } => {
            let text = Scenario::draw(drawn.seed, drawn.world).to_toml();
            io::stdout().lock().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Campaign { seeds, world, jobs, minutes, failures } => {
            let mut limits = Limits::seeds(seeds);
            limits.jobs = jobs.unwrap_or(limits.jobs);
            limits.time = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            campaign(world, &limits, &failures)
        }
    }
}

fn read(file: &Path) -> io::Result<Scenario> {
    let of = |error: &dyn std::error::Error| {
        let text = exactlyonce::error::chain(error);
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {text}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| of(&error))?;
    text.parse::<Scenario>().map_err(|error| of(&error))
}

/// Reduces a scenario, and writes the result to a file.
fn shrink(scenario: Scenario, output: &Path, time: Duration) -> io::Result<ExitCode> {
    let size =
        |scenario: &Scenario| format!("{} faults, {} records", scenario.faults.len(), scenario.records.len());
    eprintln!("{}", size(&scenario));
    let (began, mut printed) = (Instant::now(), String::new());
    let shrunk = simulation::shrink::shrink(scenario, |shrunk| {
        let size = size(&shrunk.scenario);
        if size != printed {
            eprintln!("{size} after {} runs", shrunk.runs);
            printed = size;
        }
        began.elapsed() < time
    });
    let Some(shrunk) = shrunk else {
        println!("the scenario has no violation");
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::write(output, shrunk.scenario.to_toml())?;
    println!("{}: {}, in {}", shrunk.violation, size(&shrunk.scenario), output.display());
    Ok(ExitCode::from(1))
}

/// Runs one scenario and prints its report.
fn one(scenario: Scenario, trace: bool, file: Option<&Path>) -> io::Result<ExitCode> {
    let command = match file {
        Some(file) => format!("cargo sim replay {}", file.display()),
        None => format!("cargo sim run --seed {} --world {}", scenario.seed, scenario.world()),
    };
    let report = simulation::run(scenario, trace);
    let mut out = BufWriter::new(io::stdout().lock());
    for line in &report.trace.lines {
        writeln!(out, "{line}")?;
    }
    write!(out, "{report}")?;
    writeln!(out, "to repeat it with its trace: {command} --trace")?;
    out.flush()?;
    Ok(code(&report).into())
}

fn code(report: &Report) -> u8 {
    match &report.violation {
        None => 0,
        Some(Violation::Panicked { .. }) => 5,
        Some(Violation::Stuck { .. } | Violation::DidNotStop { .. }) => 3,
        Some(_) => 1,
    }
}

fn campaign(world: World, limits: &Limits, folder: &Path) -> io::Result<ExitCode> {
    let began = Instant::now();
    let campaign = Campaign::run(world, limits, |campaign| {
        if campaign.runs.is_multiple_of(100) {
            let per_second = campaign.runs as f64 / began.elapsed().as_secs_f64();
            eprintln!(
                "{} runs, {per_second:.1} per second, {} failed",
                campaign.runs,
                campaign.failures.len()
            );
        }
    });
    let mut out = io::stdout().lock();
    let Campaign { observed, failures, runs, events, simulated_ms } = &campaign;
    let seconds = began.elapsed().as_secs_f64();
    writeln!(out, "{observed}")?;
    writeln!(
        out,
        "{runs} seeds ({world}) in {seconds:.0} s, {:.1} per second; {events} events, {} s of simulated time",
        *runs as f64 / seconds,
        simulated_ms / 1_000
    )?;
    for report in failures {
        let file = folder.join(format!("{world}-{}.toml", report.scenario.seed));
        std::fs::write(&file, report.scenario.to_toml())?;
        let violation = report.violation.as_ref().map(|violation| format!("{violation:?}"));
        writeln!(out, "FAILED {}", violation.unwrap_or_default())?;
        writeln!(out, "  cargo sim replay {} --trace", file.display())?;
    }
    if let Some(code) = failures.iter().map(code).max() {
        return Ok(code.into());
    }
    let missed = campaign.missed(world);
    // A short campaign cannot reach everything.
    if limits.time.is_none() && *runs >= 150 && !missed.is_empty() {
        writeln!(out, "never reached: {}", missed.join(", "))?;
        return Ok(4.into());
    }
    Ok(ExitCode::SUCCESS)
}
