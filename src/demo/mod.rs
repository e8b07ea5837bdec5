//! The demonstration: appends events to a log, kills a worker repeatedly, and shows that the tables equal the result of
//! a single pass over the log.
//!
//! The worker is a separate process ([`Worker`]), killed with SIGKILL at times drawn from a seed: each kill
//! waits until a certain number of records is stored, some of them by this worker, and then a few milliseconds more, so
//! that it can happen at any point of a batch. A kill counts only if the worker was active: it had stored something, and
//! had not reached the end yet. The last run ends by itself at the log's end. Then
//! [`verify`](mod@crate::verify) compares tables and log.
//!
//! The same options generate the same records and plan the same kills on every machine; the exact point at which a kill
//! hits depends on the machine.

mod folder;
mod report;
mod tables;
mod worker;

pub use folder::Folder;
pub use report::{Kill, Report, SourceSummary};
pub use worker::Worker;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use tokio::process::Child;

use crate::binding::{self, BindingError, BindingSpec, Origin};
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

/// The share of the records during which kills are planned. The others are left to the run that ends by itself.
const KILLS_WITHIN_PERCENT: u64 = 80;

/// Maximum delay of a kill after its number of records is stored, in microseconds: 25 ms, or, with few records per
/// kill, about half the time that a worker needs for them.
const KILL_DELAY_US: u64 = 25_000;
const KILL_DELAY_US_PER_RECORD: u64 = 4;

/// Event time of the first record: 2016-06-01T00:00:00Z, in milliseconds. It is constant so that the same options make
/// the same records.
const START_MS: i64 = 1_464_739_200_000;

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// An empty folder, see [`Folder`].
    pub folder: PathBuf,
    /// How its files are opened.
    pub embedded: sqlite::Options,
    /// The parameters of the binding. The worker must use the same.
    pub binding_spec: BindingSpec,
    /// Layout of `events`. The worker must use the same.
    pub layout: Layout,
    /// Number of records, malformed ones included.
    pub records: u64,
    /// Number of kills.
    pub kills: u32,
    /// Seed of records and kills.
    pub seed: u64,
    /// The process that runs the pipeline on the folder and ends at the log's end.
    pub worker: Worker,
}

impl Options {
    /// The generated records.
    pub fn mixed(&self) -> Mixed {
        Mixed { records: self.records, start_ms: START_MS, seed: self.seed, ..Mixed::default() }
    }
}

/// Maximum records of a worker's batch, at least 1: small enough that all batches in flight together have fewer records
/// than there are per kill, so that every kill can interrupt a batch.
pub fn batch_records(records: u64, kills: u32, in_flight_batches: usize) -> u64 {
    let in_flight = (in_flight_batches.max(1) as u64).saturating_mul(u64::from(PARTITIONS.unsigned_abs()));
    let most = records_per_kill(records, kills).min(records / 10);
    (most / in_flight).max(1)
}

/// Number of records from one kill to the next.
fn records_per_kill(records: u64, kills: u32) -> u64 {
    records.saturating_mul(KILLS_WITHIN_PERCENT) / 100 / u64::from(kills.max(1))
}

/// Progress of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Appending records to the log.
    Appended {
        /// Number so far.
        records: u64,
        /// Total.
        of: u64,
    },
    /// A worker is running; this many records are durable according to progress.
    Stored {
        /// Number so far.
        records: u64,
        /// Total.
        of: u64,
    },
    /// The worker was killed.
    Killed(Kill),
    /// Comparing the tables with the log.
    Verifying,
}

/// Why the demonstration failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The folder cannot be used.
    #[error("the folder {} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The folder is not empty.
    #[error("the folder {} is not empty: use an empty one, or one that does not exist", path.display())]
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
    #[error("could not {request}")]
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
    /// The worker failed.
    #[error("the worker ended with {status}; its last messages:\n{messages}")]
    WorkerFailed {
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its last messages.
        messages: String,
    },
    /// The worker ended by itself before the end.
    #[error("the worker ended when {stored} of {records} records were stored")]
    EndedEarly {
        /// Records according to progress.
        stored: u64,
        /// Records of the log.
        records: u64,
    },
    /// The demonstration was stopped.
    #[error("stopped before the end")]
    Stopped,
    /// The tables could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl DemoError {
    fn store(request: impl Into<String>) -> impl FnOnce(StoreError) -> Self {
        move |source| DemoError::Store { request: request.into(), source }
    }
}

/// Runs the demonstration until it ends or `stop` is ready. No worker is left running.
///
/// # Errors
/// See [`DemoError`]. Differences are not errors: they are in the report.
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
    let mut kill_points = kill_points(options).into_iter();
    let mut kill_point = kill_points.next();
    let mut kills: Vec<Kill> = Vec::new();
    let (mut working, mut stored_before) = (Duration::ZERO, 0);
    loop {
        let started = Instant::now();
        let ended = worker::run(options, worker, stored_before, kill_point, |records| {
            report(Step::Stored { records, of: options.records });
        });
        let ended = ended.await?;
        working += started.elapsed();
        let tables = Tables::open(options)?;
        let progress = tables.progress().await?;
        let stored = tables::durable(&progress);
        stored_before = stored;
        match ended {
            Ended::ByItself if stored < options.records => {
                return Err(DemoError::EndedEarly { stored, records: options.records });
            }
            Ended::ByItself => break,
            // It had nothing left to do, so this kill and the remaining ones would show nothing.
            Ended::Killed if stored >= options.records => kill_point = None,
            Ended::Killed => {
                let applied_again = tables.rows_past(&progress).await?;
                let kill = Kill { number: kills.len() as u32 + 1, stored, applied_again };
                report(Step::Killed(kill));
                kills.push(kill);
                kill_point = kill_points.next();
            }
        }
    }
    report(Step::Verifying);
    let tables = Tables::open(options)?;
    let broker = EmbeddedBroker::open(&options.folder, &options.embedded)?;
    let verified =
        verify::verify(&broker, tables.store(), &options.binding_spec, &VerifyOptions::default()).await?;
    let counted = tables.count().await?;
    Ok(Report::new(options, kills, working, counted, verified))
}

/// Creates the topic, binds the tables to it, and fills it.
async fn append(options: &Options, report: &mut impl FnMut(Step)) -> Result<(), DemoError> {
    let Options { folder, embedded, binding_spec, records: of, .. } = options;
    let mut generated = options.mixed().records()?.peekable();
    EmbeddedBroker::create(folder, embedded)?;
    EmbeddedStore::apply_schema(folder, embedded, options.layout)?;
    let broker = EmbeddedBroker::open(folder, embedded)?;
    broker.create_topic(&binding_spec.topic, PARTITIONS, 1).await?;
    let store = EmbeddedStore::open(folder, embedded, options.layout)?;
    binding::init(&broker, &store, binding_spec, &Origin::Start).await?;
    let mut records = 0;
    while generated.peek().is_some() {
        let chunk: Vec<_> = generated.by_ref().take(APPEND_RECORDS).collect();
        records += chunk.len() as u64;
        broker.append(&binding_spec.topic, chunk).await?;
        report(Step::Appended { records, of: *of });
    }
    Ok(())
}

/// When to kill the worker.
#[derive(Clone, Copy, Debug)]
struct KillPoint {
    /// When this many records are stored, according to progress.
    stored: u64,
    /// And then after this time.
    delay: Duration,
}

/// The times of the kills, ascending: each kill is at a random point of its own range of records.
fn kill_points(options: &Options) -> Vec<KillPoint> {
    let mut rng: ChaCha8Rng = seeded(options.seed);
    // Another stream than that of the records, which have the same seed.
    rng.set_stream(1);
    let kills = u64::from(options.kills);
    let per_kill = records_per_kill(options.records, options.kills);
    let delay_us = options.records.saturating_mul(KILL_DELAY_US_PER_RECORD) / kills.max(1);
    let mut kill_point = |kill: u64| KillPoint {
        stored: kill * per_kill + below(&mut rng, per_kill),
        delay: Duration::from_micros(below(&mut rng, delay_us.min(KILL_DELAY_US))),
    };
    (0..kills).map(&mut kill_point).collect()
}

#[cfg(test)]
mod tests;
