//! The pipeline. (Interface first; the protocol follows.)

mod error;
mod options;

pub use error::PipelineError;
pub use options::Options;

use std::collections::BTreeMap;
use std::future::Future;

use rand_chacha::ChaCha8Rng;

use crate::broker::Broker;
use crate::store::Store;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records taken from the log and durable in the tables.
    pub records: u64,
    /// Of these, events.
    pub events: u64,
    /// Of these, dead letters.
    pub dead_letters: u64,
    /// Alerts written; one that was raised again counts again.
    pub alerts: u64,
    /// Batches.
    pub batches: u64,
    /// Durable position of each partition that this run owned.
    pub next_offsets: BTreeMap<i32, i64>,
}

/// Runs a worker until `stop` is ready, the log's end is reached (if the options say so), or it must refuse.
///
/// # Errors
/// See [`PipelineError`].
pub async fn run<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    options: &Options,
    rng: ChaCha8Rng,
    stop: impl Future<Output = ()> + Send,
) -> Result<Summary, PipelineError> {
    let _ = (broker, store, options, rng, stop);
    Ok(Summary::default())
}
