//! `exactlyonce demo`

use std::ffi::OsString;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Column, Output, escaped};
use super::services;
use super::signals::Signals;
use super::stderr::line;
use crate::config::Settings;
use crate::config::layers::Layers;
use crate::demo::{self, Folder, Kill, Options, Report, Step, Worker};

/// Kills a worker repeatedly, and shows that the tables are exact.
///
/// Appends events of many sources (some malformed, some late, some sent twice) to a log in an empty folder,
/// runs `exactlyonce run` on it as a separate process, kills that process with SIGKILL at times derived from the
/// seed, restarts it each time, lets it finish, and compares the tables with the log as `verify` does.
/// Exit code 1 if there is a difference.
///
/// The folder is temporary and is removed at the end unless something failed. A folder given by --data must be
/// empty or not exist yet, and is kept.
///
/// The configuration applies, except that the services are always the embedded ones, and that batches are
/// smaller if there are few events per kill, so that a kill interrupts work in flight.
#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Examples:
  exactlyonce demo
  exactlyonce demo --events 1000000 --kills 50 --seed 7
  exactlyonce demo --data demo-data    then: exactlyonce --data demo-data show alerts

{}", super::EXIT_CODES))]
pub(super) struct Arguments {
    /// Number of records, malformed ones included
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Number of kills
    #[arg(long, value_name = "K", default_value_t = 10)]
    kills: u32,
    /// Seed of records and kills [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let mut signals = Signals::listen_to_all()?;
    let layers = context.layers()?;
    let settings = context.start()?;
    let mut folder = match &context.data {
        Some(_) => Folder::given(&settings.embedded.data)?,
        None => Folder::temporary()?,
    };
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let options = Options {
        folder: folder.path().to_owned(),
        embedded: services::options(&settings),
        binding_spec: settings.binding_spec(),
        layout: settings.layout(),
        records: arguments.events,
        kills: arguments.kills,
        seed,
        worker: worker(&layers, &settings, &folder, &arguments)?,
    };
    let mut signal = None;
    let mut view = View::new(&options);
    let result =
        demo::run(&options, |step| view.show(step), async { signal = Some(signals.next().await) }).await;
    view.end();
    if let Some((name, number)) = signal {
        return Err(Failure::Interrupted { name, number });
    }
    let report = match result {
        Ok(report) if report.differences == 0 => report,
        other => {
            folder.keep();
            line(format_args!("the folder {} is kept", folder.path().display()));
            other?
        }
    };
    let mut output = Output::stdout();
    match arguments.json {
        true => output.json(&report)?,
        false => print(&report, &mut output)?,
    }
    output.finish()?;
    Ok(if report.differences == 0 { Code::Fine } else { Code::Differences })
}

/// `run --until-end` with this configuration, in the folder.
fn worker(
    layers: &Layers,
    settings: &Settings,
    folder: &Folder,
    flags: &Arguments,
) -> Result<Worker, Failure> {
    let program = std::env::current_exe()
        .map_err(|source| Failure::System { what: "find this program's file", source })?;
    let mut arguments: Vec<OsString> = vec!["run".into(), "--until-end".into()];
    let mut set = |key: &str, value: &str| {
        arguments.extend(["--set".into(), OsString::from(format!("{key}={value}"))]);
    };
    // The worker uses the embedded services only, and passwords must not be visible in the process list.
    let unused =
        |name: &str| ["kafka.", "cassandra.", "embedded.data"].iter().any(|key| name.starts_with(key));
    for effective in layers.values().iter().filter(|effective| !unused(effective.key.name)) {
        let value = &effective.value;
        set(effective.key.name, value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str());
    }
    let pipeline = &settings.pipeline;
    let batch_records = demo::batch_records(flags.events, flags.kills, pipeline.in_flight_batches);
    set("pipeline.batch_records", &batch_records.min(pipeline.batch_records as u64).to_string());
    set("broker.kind", "embedded");
    set("store.kind", "embedded");
    set("store.keyspace", services::FIRST_KEYSPACE);
    set("log.format", "text");
    // In one argument: the folder's name may start with a hyphen.
    let mut data = OsString::from("--data=");
    data.push(folder.path());
    arguments.push(data);
    Ok(Worker { program, arguments })
}

/// Progress of the demonstration: a bar on a terminal, else a line from time to time.
struct View {
    bar: Option<ProgressBar>,
    phase: &'static str,
    line_at: Instant,
}

/// Interval between lines of one phase.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

impl View {
    fn new(options: &Options) -> Self {
        let Options { records, kills, seed, folder, .. } = options;
        line(format_args!("demo: {records} records, {kills} kills, seed {seed}, in {}", folder.display()));
        let style = ProgressStyle::with_template("{msg:<12} {bar:40} {human_pos:>9} of {human_len} records");
        let bar = style
            .ok()
            .filter(|_| stderr().is_terminal())
            .map(|style| ProgressBar::new(*records).with_style(style));
        Self { bar, phase: "", line_at: Instant::now() }
    }

    fn show(&mut self, step: Step) {
        match step {
            Step::Appended { records, of } => self.count("appending", records, of),
            Step::Stored { records, of } => self.count("working", records, of),
            Step::Killed(Kill { number, stored, applied_again }) => self.line(format!(
                "kill {number} after {stored} durable records; {applied_again} more are stored and will be reprocessed"
            )),
            Step::Verifying => {
                if let Some(bar) = &self.bar {
                    bar.set_message("verifying");
                }
                self.line("verifying".to_owned());
            }
        }
    }

    fn count(&mut self, phase: &'static str, records: u64, of: u64) {
        let changed = self.phase != phase;
        self.phase = phase;
        match &self.bar {
            Some(bar) => {
                if changed {
                    bar.set_message(phase);
                }
                bar.set_position(records);
            }
            None if changed || self.line_at <= Instant::now() => {
                self.line_at = Instant::now() + LINE_INTERVAL;
                line(format_args!("{phase}: {records} of {of} records"));
            }
            None => {}
        }
    }

    fn line(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => line(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn print(report: &Report, output: &mut Output) -> Result<(), Failure> {
    let kills = match report.kills.len() as u32 {
        kills if kills < report.kills_requested => {
            format!(
                "{kills} (of {} requested: the worker was done before the others)",
                report.kills_requested
            )
        }
        kills => kills.to_string(),
    };
    let lines = [
        ("seed", report.seed.to_string()),
        ("records", report.records.to_string()),
        ("events", report.events.to_string()),
        ("dead letters", report.dead_letters.to_string()),
        ("alerts", report.alerts.to_string()),
        ("kills", kills),
        ("reprocessed", format!("{} records", report.applied_again)),
        ("differences", report.differences.to_string()),
        (
            "throughput",
            format!(
                "{} records/s over {}.{:01} s of work, including starts and reprocessing",
                report.records_per_second,
                report.working_ms / 1_000,
                report.working_ms % 1_000 / 100
            ),
        ),
    ];
    for (name, value) in lines {
        output.line(format_args!("{name:<13}  {value}"))?;
    }
    for difference in &report.first_differences {
        output.line(escaped(&difference.to_string()))?;
    }
    output.line("")?;
    let columns = [
        Column::text("busiest source", 14),
        Column::number("events", 8),
        Column::number("critical", 8),
        Column::number("alerts", 8),
    ];
    output.header(&columns)?;
    for line in &report.busiest {
        let numbers = [line.events, line.critical, line.alerts].map(|number| number.to_string());
        let [events, critical, alerts] = numbers;
        output.row(&columns, &[escaped(&line.source), events, critical, alerts])?;
    }
    Ok(())
}
