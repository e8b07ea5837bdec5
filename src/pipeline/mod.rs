//! The pipeline: from the log into the tables, exactly once.
//!
//! # The idea
//!
//! Every derived cell is written with a timestamp that is its position in the log, and the store keeps the
//! cell with the greatest timestamp. So replays, repeated requests, delayed requests and workers that do not know
//! that they were replaced all converge on the same tables; there is no lease and no fencing.
//!
//! | cells | value | write timestamp |
//! |---|---|---|
//! | `events`, `dead_letters` at `(partition, offset)` | a function of the record | `offset + 1` |
//! | `window_counts` at `(partition, window_end, source)` | a function of the partition's log up to `through_offset` | `through_offset + 1` |
//! | `registry` | one more than the greatest partition that may have counts | the number |
//! | `alerts` at `(source, ts)` | the sum over partitions, which only grows | `event_count` |
//! | `progress` at `partition` | the offset below which everything is durable in every table | `next_offset + 1` |
//!
//! # One batch of one partition
//!
//! 1. Fold, strictly in the order of the log and one batch at a time: take each touched window's own count
//!    (from memory, else from the store) and count the events past its `through_offset`.
//! 2. Write every touched count, also an unchanged one, and wait for the acknowledgement. Before its first count,
//!    an assignment registers its partition and waits for that acknowledgement, too.
//! 3. Only then read the registry, then the other registered partitions' counts of every touched window, sum, and
//!    write the alert where the sum reaches the threshold. Of several writers of one window, the one whose count is
//!    acknowledged last reads the registry after all of them have registered, so it sees all their counts.
//! 4. Concurrently with 2 and 3, write events and dead letters.
//! 5. When this batch and all earlier ones are acknowledged, `progress` moves past it.
//!
//! Any number of batches may be in flight; a count leaves memory only when its newest write is acknowledged.
//! A request with an unknown outcome is repeated with the same bytes. Each assignment of a partition is an incarnation
//! of its own and starts at `progress` with empty state in memory. Where log and tables contradict each other, the
//! worker stops with an error instead of guessing.
//!
//! Time and tasks are tokio's; there are no threads, no system clock and no randomness other than the generator that
//! the caller passes.

mod assignment;
mod batch;
pub mod counts;
mod error;
mod inbox;
mod messages;
mod options;
mod polling;
mod resume;
mod retry;
mod tracker;
mod worker;

pub use error::PipelineError;
pub use options::Options;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

use crate::binding::{self, BindingError};
use crate::broker::Broker;
use crate::error::chain;
use crate::store::{Binding, Store};
use retry::{Attempts, Retry};

/// Totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records written to the tables and acknowledged, including those that an earlier run had written already.
    pub records: u64,
    /// Events among these records.
    pub events: u64,
    /// Dead letters among these records.
    pub dead_letters: u64,
    /// Alerts written; an alert that was raised again counts again.
    pub alerts: u64,
    /// Batches written.
    pub batches: u64,
    /// Durable position of each partition, as far as this run knows.
    pub next_offsets: BTreeMap<i32, i64>,
}

/// Runs a worker until `stop` is ready, the log's end is reached (if the options say so), or an error ends it.
///
/// Dropping the future is equivalent to a crash: nothing is lost, and nothing is finished.
///
/// # Errors
/// See [`PipelineError`].
pub async fn run<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    options: &Options,
    mut rng: ChaCha8Rng,
    stop: impl Future<Output = ()> + Send,
) -> Result<Summary, PipelineError> {
    let mut stop = pin!(stop);
    let retry = Retry::new(options, ChaCha8Rng::from_seed(seed(&mut rng)));
    let prepared = tokio::select! {
        biased;
        () = &mut stop => return Ok(Summary::default()),
        prepared = prepare(broker, store, options, &retry) => prepared?,
    };
    let (binding, ends, consumer) = prepared;
    let (sender, events) = mpsc::unbounded_channel();
    let worker = worker::Worker::new(broker, store, options, &binding, retry, rng, consumer, sender);
    worker.run(events, ends, stop).await
}

fn seed(rng: &mut ChaCha8Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// Checks the binding, reads the log's ends if the run is to stop there, and joins the group.
async fn prepare<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    options: &Options,
    retry: &Retry,
) -> Result<(Binding, BTreeMap<i32, i64>, B::Consumer), PipelineError> {
    let topic = options.binding_spec.topic.as_str();
    let binding = check(broker, store, options, retry).await?;
    let mut ends = BTreeMap::new();
    if options.until_end {
        let described = retry.until_not_retriable(|| broker.topic(topic)).await;
        for partition in 0..described.map_err(|error| retry.broker_error(error))?.partitions {
            let log = retry.until_not_retriable(|| broker.offsets(topic, partition)).await;
            ends.insert(partition, log.map_err(|error| retry.broker_error(error))?.end);
        }
    }
    let consumer = retry.until_not_retriable(|| broker.subscribe(&options.group, topic)).await;
    Ok((binding, ends, consumer.map_err(|error| retry.broker_error(error))?))
}

/// Checks the binding, with retries until both services have responded.
async fn check<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    options: &Options,
    retry: &Retry,
) -> Result<Binding, BindingError> {
    let mut attempts = Attempts::new(retry);
    loop {
        match binding::check(broker, store, &options.binding_spec).await {
            Err(error) if error.is_transient() && attempts.exhausted().is_none() => {
                attempts.wait(|| chain(&error)).await;
            }
            checked => return attempts.finish(checked),
        }
    }
}
