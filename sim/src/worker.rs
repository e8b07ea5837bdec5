//! A worker's node: the production pipeline, and a supervisor that restarts it when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::pipeline::{self, PipelineError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::Channel;
use crate::observed::Sometimes;
use crate::oracle::Violation;
use crate::parties::Caller;
use crate::points::{ObservedBroker, ObservedStore, Process};
use crate::random::Stream;
use crate::scenario::fault::{Host, KindName, Step};
use crate::service::declaration::Declaration;
use crate::service::{BrokerOpener, Opener};

/// The steps in which the time is measured that a worker takes to stop.
const STOP_STEP: Duration = Duration::from_millis(50);

/// Time between the end of a worker and its next start.
const RESTART_DELAY: Duration = Duration::from_millis(50);

/// The longest such time. It doubles after each of several short lives in sequence.
const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(10);
const SHORT_LIFE_MS: u64 = 1_000;
const SHORT_LIVES: u32 = 20;

/// What can happen to a worker, and the steps it takes.
pub(crate) const DECLARATION: Declaration = Declaration {
    faults: &[KindName::WorkerKilled, KindName::WorkerPaused, KindName::WorkerHeld, KindName::WorkerStopped],
    damage: &[KindName::WorkerMisconfigured],
    steps: &[
        Step::ReadProgress,
        Step::ReadRows,
        Step::Register,
        Step::ReadCounts,
        Step::WriteCounts,
        Step::ReadRegistry,
        Step::ReadSums,
        Step::WriteAlerts,
        Step::WriteRows,
        Step::WriteProgress,
    ],
    situations: &[],
};

/// Runs the worker until the node is killed, restarting it whenever it ends.
pub(crate) async fn work<L: BrokerOpener, T: Opener>(
    context: Arc<SimContext>,
    (log, tables): (L, T),
    index: u8,
    lives: Arc<AtomicU32>,
) {
    // The sender exists as long as the run.
    let _ = context.bound.subscribe().wait_for(|bound| *bound).await;
    let mut stop_signal = context.stops[usize::from(index)].subscribe();
    let mut restarts = Restarts::default();
    loop {
        let began_ms = context.now_ms();
        let life = lives.fetch_add(1, Ordering::Relaxed);
        let caller = Caller { worker: Some(index), life };
        context.note_event(format_args!("{caller} starts"));
        let host = Host::Worker(index);
        context.record(|recording| recording.process_starts(host, &format!("life {life}")));
        let channel = Channel::open(context.clone(), caller);
        let opened = async {
            let store = tables.open(&channel).await.map_err(|error| ("tables", error))?;
            let broker = log.open(&channel).await.map_err(|error| ("log", error))?;
            Ok((store, broker))
        };
        let (store, broker) = match opened.await {
            Ok(opened) => opened,
            Err((what, error)) => {
                context.note(format_args!("{caller} has no {what}: {error}"));
                context.record(|recording| recording.process_ends(host, &error));
                context.observe(Sometimes::WorkerGaveUp);
                sleep(restarts.delay(context.now_ms() - began_ms)).await;
                continue;
            }
        };
        let is_misconfigured = context.damage().misconfigured.contains(&index);
        let process = Process::new(context.clone(), caller);
        let store = ObservedStore::new(store, process.clone());
        let broker = ObservedBroker::new(broker, process);
        let mut options = context.options.pipeline.clone();
        if is_misconfigured {
            options.binding_spec.window.threshold += 1;
        }
        let rng = Stream::Worker { index, life }.generator(context.seed);
        let was_signalled = Arc::new(AtomicBool::new(false));
        let signalled = |mut stop_signal: watch::Receiver<bool>| {
            let was_signalled = was_signalled.clone();
            async move {
                // The sender exists as long as the run.
                let _ = stop_signal.wait_for(|stop| *stop).await;
                was_signalled.store(true, Ordering::Relaxed);
            }
        };
        let stop = signalled(stop_signal.clone());
        let too_long = async {
            signalled(stop_signal.clone()).await;
            // In steps, so that only the time counts in which the worker is not paused.
            for _ in 0..context.options.longest_stop().as_millis() / STOP_STEP.as_millis() {
                sleep(STOP_STEP).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = pipeline::run(&broker, &store, &options, rng, stop) => ended,
            () = too_long => return fail(&context, Violation::DidNotStop { worker: index }).await,
        };
        match ended {
            Ok(summary) => {
                context.note_event(format_args!("{caller} stops: {summary:?}"));
                context.record(|recording| recording.process_ends(host, "it was asked to stop"));
                if !was_signalled.load(Ordering::Relaxed) {
                    return fail(&context, Violation::EndedUnexpectedly { worker: index }).await;
                }
                context.observe(Sometimes::WorkerStoppedOnRequest);
            }
            Err(error) => {
                let text = chain(&error);
                context.note_event(format_args!("{caller} ends: {text}"));
                context.record(|recording| recording.process_ends(host, &text));
                if error.is_refusal() {
                    context.refused(index, text);
                    return std::future::pending().await;
                }
                match error {
                    PipelineError::Broker { .. } | PipelineError::Binding(_) if context.damage().done => {
                        context.observe(Sometimes::WorkerGaveUp);
                    }
                    PipelineError::StoreRefused { .. } => {
                        let violation = Violation::RequestRefused { worker: index, error: text };
                        return fail(&context, violation).await;
                    }
                    PipelineError::StoreUnavailable { .. }
                    | PipelineError::Broker { .. }
                    | PipelineError::Binding(_)
                        if options.retry_deadline.is_none() =>
                    {
                        return fail(&context, Violation::GaveUp { worker: index, error: text }).await;
                    }
                    _ => context.observe(Sometimes::WorkerGaveUp),
                }
            }
        }
        let ran_ms = context.now_ms() - began_ms;
        let _ = stop_signal.wait_for(|stop| !*stop).await;
        sleep(restarts.delay(ran_ms)).await;
    }
}

/// How soon a process is started again, as by a supervisor that waits longer if it ends soon again and again.
#[derive(Debug, Default)]
struct Restarts {
    /// Lives in sequence that were short.
    short: u32,
}

impl Restarts {
    /// The time until the next start, after a life of so many simulated milliseconds.
    fn delay(&mut self, ran_ms: u64) -> Duration {
        self.short = if ran_ms < SHORT_LIFE_MS { self.short.saturating_add(1) } else { 0 };
        let doublings = self.short.saturating_sub(SHORT_LIVES).min(u32::BITS - 1);
        RESTART_DELAY.saturating_mul(1 << doublings).min(LONGEST_RESTART_DELAY)
    }
}

/// The run has failed; the node waits for its end.
async fn fail(context: &SimContext, violation: Violation) {
    context.violate(violation);
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_soon_again_and_again_is_started_less_often() {
        let mut restarts = Restarts::default();
        for _ in 0..SHORT_LIVES {
            assert_eq!(restarts.delay(SHORT_LIFE_MS - 1), RESTART_DELAY);
        }
        assert_eq!(restarts.delay(0), RESTART_DELAY * 2);
        assert_eq!(restarts.delay(0), RESTART_DELAY * 4);
        for _ in 0..100 {
            restarts.delay(0);
        }
        assert_eq!(restarts.delay(0), LONGEST_RESTART_DELAY);
        assert_eq!(restarts.delay(SHORT_LIFE_MS), RESTART_DELAY);
    }
}
