//! A worker's node: production's pipeline, and somebody who starts it again when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::pipeline;
use exactlyonce::store::Store;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::broker::BrokerClient;
use crate::dice::Stream;
use crate::network::{Caller, Line};
use crate::observed;
use crate::oracle::Violation;
use crate::stage::Stage;
use crate::store::StoreClient;

/// Opens the tables for a life of a worker.
pub(crate) trait Tables: Clone + Send + Sync + 'static {
    type Store: Store;

    /// One attempt; the error's words otherwise.
    fn open(&self, line: &Line) -> impl Future<Output = Result<Self::Store, String>> + Send;
}

/// The simple service of this simulation.
#[derive(Clone)]
pub(crate) struct SimpleTables;

impl Tables for SimpleTables {
    type Store = StoreClient;

    async fn open(&self, line: &Line) -> Result<StoreClient, String> {
        Ok(StoreClient::new(line.clone(), line.stage.world.layout))
    }
}

/// How long after its deadline a worker that was told to stop may still be there. Requests that it has sent
/// take up to their timeout.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// Time between the end of a worker and its next start.
const RESTART_DELAY: Duration = Duration::from_millis(50);

/// Works until the node is killed; each start is a life of its own.
pub(crate) async fn work<T: Tables>(stage: Arc<Stage>, tables: T, index: u8, lives: Arc<AtomicU32>) {
    let mut told = stage.stops[usize::from(index)].subscribe();
    loop {
        let life = lives.fetch_add(1, Ordering::Relaxed);
        let caller = Caller { worker: Some(index), life };
        stage.note(format_args!("{caller} starts"));
        let line = Line::open(stage.clone(), caller).await;
        let store = match tables.open(&line).await {
            Ok(store) => store,
            Err(error) => {
                stage.note(format_args!("{caller} has no tables: {error}"));
                stage.observe(observed::GAVE_UP);
                sleep(RESTART_DELAY).await;
                continue;
            }
        };
        let broker = BrokerClient::new(line);
        let options = stage.world.options();
        let rng = Stream::Worker { index, life }.generator(stage.seed);
        let was_told = Arc::new(AtomicBool::new(false));
        let hear = |mut told: watch::Receiver<bool>| {
            let was_told = was_told.clone();
            async move {
                // The sender lives as long as the run.
                let _ = told.wait_for(|stop| *stop).await;
                was_told.store(true, Ordering::Relaxed);
            }
        };
        let stop = hear(told.clone());
        let too_long = async {
            hear(told.clone()).await;
            sleep(options.stop_deadline * 2 + STOP_SLACK).await;
        };
        let ended = tokio::select! {
            biased;
            ended = pipeline::run(&broker, &store, &options, rng, stop) => ended,
            () = too_long => return fail(&stage, Violation::DidNotStop { worker: index }).await,
        };
        match ended {
            Ok(summary) => {
                stage.note(format_args!("{caller} stops: {summary:?}"));
                if !was_told.load(Ordering::Relaxed) {
                    return fail(&stage, Violation::EndedUntold { worker: index }).await;
                }
                stage.observe(observed::STOPPED);
            }
            Err(error) => {
                let text = chain(&error);
                stage.note(format_args!("{caller} ends: {text}"));
                if error.is_refusal() {
                    return fail(&stage, Violation::Refused { worker: index, error: text }).await;
                }
                stage.observe(observed::GAVE_UP);
            }
        }
        let _ = told.wait_for(|stop| !*stop).await;
        sleep(RESTART_DELAY).await;
    }
}

/// The run has failed; the node stays as it is until the run ends.
async fn fail(stage: &Stage, violation: Violation) {
    stage.violate(violation);
    std::future::pending().await
}
