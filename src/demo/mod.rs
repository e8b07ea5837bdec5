//! The demonstration: events into a log, a worker that is killed again and again, and the proof that the
//! tables are what one undisturbed pass over the log gives.
//!
//! The worker is a process of its own ([`Worker`]), killed with SIGKILL at moments that a seed decides: each
//! kill waits until a certain number of records is stored, some of them by this very worker, and then a few
//! milliseconds more, so that it falls anywhere in a batch. A kill counts only if the worker was at work: it
//! had stored something, and was not yet done. The last run ends by itself at the log's end. Then
//! [`verify`](mod@crate::verify) compares tables and log.
//!
//! The same options make the same records and plan the same kills on every machine; where exactly in the
//! work a kill falls depends on the machine.

mod folder;
mod report;
mod tables;
mod worker;

pub use folder::Folder;
pub use report::{Busiest, Kill, Report};
pub use worker::Worker;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use tokio::process::Child;

use crate::binding::{self, BindingError, Facts, Origin};
use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{BrokerError, Producer};
use crate::generate::{Mixed, MixedError};
use crate::random::{below, seeded};
use crate::sqlite::{self, FileError};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Layout, StoreError};
use crate::verify::{self, VerifyError, VerifyOptions};
use tables::Tables;
use worker::Ended;

/// Partitions of the topic, as in the original.
const PARTITIONS: i32 = 3;

/// Records of one append.
const APPEND_RECORDS: usize = 5_000;

/// Kills fall into so much of the work. What remains is left to the run that ends by itself.
const KILLS_WITHIN_PERCENT: u64 = 80;

/// A kill waits up to so long after its number of records is stored, in microseconds: 25 ms, or, where there
/// are few records for each kill, about half the time that a worker takes for these.
const KILL_DELAY_US: u64 = 25_000;
const KILL_DELAY_US_PER_RECORD: u64 = 4;

/// Event time of the first record: 2016-06-01T00:00:00Z, in milliseconds. The clock's time would make other
/// records each time.
const START_MS: i64 = 1_464_739_200_000;

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// An empty folder, see [`Folder`].
    pub folder: PathBuf,
    /// How its files are opened.
    pub embedded: sqlite::Options,
    /// What the keyspace is bound with. The worker must use the same.
    pub facts: Facts,
    /// Layout of `events`. The worker must use the same.
    pub layout: Layout,
    /// Number of records, malformed ones and all.
    pub records: u64,
    /// How often to kill the worker.
    pub kills: u32,
    /// Decides records and kills.
    pub seed: u64,
    /// The process that runs the pipeline on the folder and ends at the log's end.
    pub worker: Worker,
}

impl Options {
    /// The records that are made.
    pub fn mixed(&self) -> Mixed {
        Mixed { records: self.records, start_ms: START_MS, seed: self.seed, ..Mixed::default() }
    }
}

/// The most records that a worker's batch may have, so that every kill of the demonstration can fall into
/// work: what is in flight stays below what one kill has to itself. At least 1.
pub fn batch_records(records: u64, kills: u32, in_flight_batches: usize) -> u64 {
    let in_flight = (in_flight_batches.max(1) as u64).saturating_mul(u64::from(PARTITIONS.unsigned_abs()));
    let most = part(records, kills).min(records / 10);
    (most / in_flight).max(1)
}

/// Records of the part of the work that each kill has to itself.
fn part(records: u64, kills: u32) -> u64 {
    records.saturating_mul(KILLS_WITHIN_PERCENT) / 100 / u64::from(kills.max(1))
}

/// Progress of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Records are appended to the log.
    Appended {
        /// So far.
        records: u64,
        /// In the end.
        of: u64,
    },
    /// A worker works; some records are done, by the progress that it stored.
    Stored {
        /// So far.
        records: u64,
        /// In the end.
        of: u64,
    },
    /// The worker was killed.
    Killed(Kill),
    /// The tables are compared with the log.
    Verifying,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The folder cannot be used.
    #[error("the folder {} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The folder has something in it.
    #[error("the folder {} is not empty: name one that is, or that does not exist", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Such records cannot be generated.
    #[error(transparent)]
    Mixed(#[from] MixedError),
    /// A file of the folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The keyspace cannot be bound.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The tables failed.
    #[error("the store did not {request}")]
    Store {
        /// The request.
        request: String,
        /// Its error.
        source: StoreError,
    },
    /// The worker cannot be started, watched or killed.
    #[error("cannot {what} the worker")]
    Worker {
        /// What.
        what: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The worker ended by itself, and not well.
    #[error("the worker ended with {status}; its last messages:\n{messages}")]
    WorkerFailed {
        /// How.
        status: std::process::ExitStatus,
        /// The end of its messages.
        messages: String,
    },
    /// The worker ended by itself, as if it were done.
    #[error("the worker ended when {stored} of {records} records were stored")]
    EndedEarly {
        /// By its progress.
        stored: u64,
        /// In the log.
        records: u64,
    },
    /// It was stopped.
    #[error("stopped before the end")]
    Stopped,
    /// Nothing could be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl DemoError {
    fn store(request: impl Into<String>) -> impl FnOnce(StoreError) -> Self {
        move |source| DemoError::Store { request: request.into(), source }
    }
}

/// Runs the demonstration until it is over, or `stop` is ready. No worker is left behind.
///
/// # Errors
/// See [`DemoError`]. Differences are no error: they are in the report.
pub async fn run(
    options: &Options,
    report: impl FnMut(Step),
    stop: impl Future<Output = ()>,
) -> Result<Report, DemoError> {
    let mut worker = None;
    let result = tokio::select! {
        biased;
        () = stop => Err(DemoError::Stopped),
        result = demonstrate(options, &mut worker, report) => result,
    };
    if let Some(mut worker) = worker {
        worker.kill().await.map_err(|source| DemoError::Worker { what: "kill", source })?;
    }
    result
}

async fn demonstrate(
    options: &Options,
    worker: &mut Option<Child>,
    mut report: impl FnMut(Step),
) -> Result<Report, DemoError> {
    append(options, &mut report).await?;
    let mut moments = moments(options).into_iter();
    let mut moment = moments.next();
    let mut kills: Vec<Kill> = Vec::new();
    let (mut working, mut found) = (Duration::ZERO, 0);
    loop {
        let started = Instant::now();
        let ended = worker::run(options, worker, found, moment, |records| {
            report(Step::Stored { records, of: options.records });
        });
        let ended = ended.await?;
        working += started.elapsed();
        let tables = Tables::open(options)?;
        let progress = tables.progress().await?;
        let stored = tables::done(&progress);
        found = stored;
        match ended {
            Ended::ByItself if stored < options.records => {
                return Err(DemoError::EndedEarly { stored, records: options.records });
            }
            Ended::ByItself => break,
            // It had nothing left to do, so this kill and those to come would prove nothing.
            Ended::Killed if stored >= options.records => moment = None,
            Ended::Killed => {
                let applied_again = tables.rows_past(&progress).await?;
                let kill = Kill { number: kills.len() as u32 + 1, stored, applied_again };
                report(Step::Killed(kill));
                kills.push(kill);
                moment = moments.next();
            }
        }
    }
    report(Step::Verifying);
    let tables = Tables::open(options)?;
    let broker = EmbeddedBroker::open(&options.folder, &options.embedded)?;
    let verified = verify::verify(&broker, tables.store(), &options.facts, &VerifyOptions::default()).await?;
    let counted = tables.count().await?;
    Ok(Report::new(options, kills, working, counted, verified))
}

/// Creates the topic, binds the tables to it, and fills it.
async fn append(options: &Options, report: &mut impl FnMut(Step)) -> Result<(), DemoError> {
    let Options { folder, embedded, facts, records: of, .. } = options;
    let mut made = options.mixed().records()?.peekable();
    EmbeddedBroker::create(folder, embedded)?;
    EmbeddedStore::apply_schema(folder, embedded, options.layout)?;
    let broker = EmbeddedBroker::open(folder, embedded)?;
    broker.create_topic(&facts.topic, PARTITIONS, 1).await?;
    let store = EmbeddedStore::open(folder, embedded, options.layout)?;
    binding::init(&broker, &store, facts, &Origin::Start).await?;
    let mut records = 0;
    while made.peek().is_some() {
        let chunk: Vec<_> = made.by_ref().take(APPEND_RECORDS).collect();
        records += chunk.len() as u64;
        broker.append(&facts.topic, chunk).await?;
        report(Step::Appended { records, of: *of });
    }
    Ok(())
}

/// A moment to kill the worker at.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// So many records are stored, by progress.
    stored: u64,
    /// So long after that was seen.
    delay: Duration,
}

/// When to kill, ascending: each kill has a part of the work to itself, and falls anywhere in it.
fn moments(options: &Options) -> Vec<Moment> {
    let mut rng: ChaCha8Rng = seeded(options.seed);
    // Not the stream of the records, which are made from the same seed.
    rng.set_stream(1);
    let kills = u64::from(options.kills);
    let part = part(options.records, options.kills);
    let delay_us = options.records.saturating_mul(KILL_DELAY_US_PER_RECORD) / kills.max(1);
    let mut moment = |kill: u64| Moment {
        stored: kill * part + below(&mut rng, part),
        delay: Duration::from_micros(below(&mut rng, delay_us.min(KILL_DELAY_US))),
    };
    (0..kills).map(&mut moment).collect()
}

#[cfg(test)]
mod tests;
