//! `exactlyonce run`

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use rand::rngs::SysRng;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Context;
use super::failure::{Code, Failure};
use super::output::Output;
use super::retrying::ForWorker;
use super::services::{self, Advice, with_broker, with_store};
use super::signals::Signals;
use crate::pipeline::{self, Summary};

/// Runs a worker until it is stopped.
///
/// It resumes at the progress in the tables. SIGINT (Ctrl-C) or SIGTERM stops it gracefully, even while it waits for
/// services at its start: requests in flight are finished, or abandoned after pipeline.stop_deadline_ms, and the exit
/// code is 0. A second signal ends it immediately, with exit code 130 or 143. It may also be killed at any time: the
/// next run reprocesses what was not durable, and the tables are the same.
///
/// The keyspace must have been bound by `init`. With the embedded services, only one worker at a time can use a
/// folder; a second one exits with code 4 and reports the first one's process id.
#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Examples:
  exactlyonce run
  exactlyonce run --until-end --json

{}", super::EXIT_CODES))]
pub(super) struct Arguments {
    /// Stop at the current end of the log
    #[arg(long)]
    until_end: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let (mut signals, mut early) = (Signals::listen()?, Signals::listen()?);
    let settings = context.start()?;
    let options = settings.options(arguments.until_end);
    let rng = ChaCha8Rng::try_from_rng(&mut SysRng)
        .map_err(|error| Failure::System { what: "read randomness", source: io::Error::other(error) })?;
    let stop = async move {
        let (first, _) = signals.next().await;
        tracing::info!(signal = first, "stopping gracefully; a second signal ends the process immediately");
        tokio::spawn(async move {
            let (second, number) = signals.next().await;
            tracing::warn!(
                signal = second,
                "ending immediately; the next run reprocesses what was in flight"
            );
            // The protocol allows a crash at any time, so there is nothing to clean up.
            std::process::exit(128 + number);
        });
    };
    let (start, started) = oneshot::channel();
    let work = async {
        with_broker!(&settings, |broker| with_store!(&settings, |store| {
            let lock = services::lock(&settings)?;
            store.advise();
            // From here on a signal stops the worker gracefully.
            let _ = start.send(());
            let summary = pipeline::run(broker.for_worker(), &store, &options, rng, stop).await;
            drop(lock);
            Ok::<_, Failure>(summary?)
        }))
    };
    // While the command waits for services, nothing is in flight; the first signal ends it gracefully, too.
    let interrupted = async {
        tokio::select! {
            biased;
            _ = started => std::future::pending().await,
            (signal, _) = early.next() => tracing::info!(signal, "stopping; no work was started"),
        }
    };
    let summary: Summary = tokio::select! {
        biased;
        summary = work => summary?,
        () = interrupted => Summary::default(),
    };
    let mut output = Output::stdout();
    print(&summary, arguments.json, &mut output)?;
    output.finish()?;
    Ok(Code::Fine)
}

#[derive(Serialize)]
struct Printed<'a> {
    records: u64,
    events: u64,
    dead_letters: u64,
    alerts: u64,
    batches: u64,
    next_offsets: &'a BTreeMap<i32, i64>,
}

fn print(summary: &Summary, json: bool, output: &mut Output) -> Result<(), Failure> {
    let Summary { records, events, dead_letters, alerts, batches, ref next_offsets } = *summary;
    if json {
        return output.json(&Printed { records, events, dead_letters, alerts, batches, next_offsets });
    }
    let totals = [
        ("records", records),
        ("events", events),
        ("dead letters", dead_letters),
        ("alerts", alerts),
        ("batches", batches),
    ];
    for (name, total) in totals {
        output.line(format_args!("{name:<12}  {total}"))?;
    }
    for (partition, next_offset) in next_offsets {
        output.line(format_args!("partition {partition}: next offset {next_offset}"))?;
    }
    Ok(())
}
