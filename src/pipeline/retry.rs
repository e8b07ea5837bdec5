//! Asking again: the one place where an unknown outcome is dealt with.
//!
//! A request whose outcome is unknown is repeated, unchanged, until it is acknowledged. Between two attempts
//! lies an exponential backoff with full jitter. However many requests fail at once, an episode of trouble
//! is told when it begins, once a minute while it lasts, and when it is over.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::broker::BrokerError;
use crate::error::chain;
use crate::pipeline::{Options, PipelineError};
use crate::store::Outcome;

/// How often trouble that lasts is told again.
const REMINDER: Duration = Duration::from_secs(60);

/// Repeats requests for one worker. Clones share the randomness and the episode.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    topic: Arc<str>,
    min: Duration,
    max: Duration,
    deadline: Option<Duration>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rng: ChaCha8Rng,
    /// Requests that are being repeated at the moment, and since when there are any.
    failing: usize,
    since: Option<Instant>,
    /// When the trouble was told last.
    told: Option<Instant>,
}

/// Counts one failing request, also if its future is dropped.
struct Failing<'a>(&'a Retry);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.failing -= 1;
        if shared.failing == 0 {
            shared.since = None;
        }
    }
}

impl Retry {
    pub(super) fn new(options: &Options, rng: ChaCha8Rng) -> Self {
        Self {
            topic: options.facts.topic.as_str().into(),
            min: options.backoff_min.max(Duration::from_millis(1)),
            max: options.backoff_max.max(options.backoff_min),
            deadline: options.retry_deadline,
            shared: Arc::new(Mutex::new(Shared { rng, failing: 0, since: None, told: None })),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats `attempt` until it is acknowledged. `request` completes "the store did not ..." and names
    /// table, partition and offsets.
    ///
    /// # Errors
    /// If it is refused, or unknown past the deadline.
    pub(super) async fn until_acknowledged<T, F: Future<Output = Outcome<T>>>(
        &self,
        request: impl Fn() -> String,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, PipelineError> {
        let mut tries = Tries::new(self);
        loop {
            match attempt().await {
                Outcome::Acknowledged(answer) => return Ok(tries.over(answer)),
                Outcome::Refused(source) => {
                    return Err(PipelineError::StoreRefused { request: request(), source });
                }
                Outcome::Unknown(source) => {
                    if let Some(seconds) = tries.exhausted() {
                        return Err(PipelineError::StoreUnavailable { request: request(), seconds, source });
                    }
                    tries.again(|| format!("store: {}: {}", request(), chain(&source))).await;
                }
            }
        }
    }

    /// Repeats a question to the broker until it is answered, by whatever is no retriable error.
    pub(super) async fn until_answered<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, BrokerError> {
        let mut tries = Tries::new(self);
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && tries.exhausted().is_none() => {
                    tries.again(|| format!("broker: {}", chain(&error))).await;
                }
                answer => return tries.over(answer),
            }
        }
    }

    /// The error of a broker that will not go on.
    pub(super) fn broker_error(&self, source: BrokerError) -> PipelineError {
        PipelineError::Broker { topic: self.topic.to_string(), source }
    }
}

/// The attempts at one request.
pub(super) struct Tries<'a> {
    retry: &'a Retry,
    backoff: Duration,
    /// When the first attempt ended, and the mark that there is trouble.
    failing: Option<(Instant, Failing<'a>)>,
}

impl<'a> Tries<'a> {
    pub(super) fn new(retry: &'a Retry) -> Self {
        Self { retry, backoff: retry.min, failing: None }
    }

    /// How long it was tried, if that is too long.
    pub(super) fn exhausted(&self) -> Option<u64> {
        let (since, _) = self.failing.as_ref()?;
        let tried = since.elapsed();
        (tried >= self.retry.deadline?).then_some(tried.as_secs())
    }

    /// Waits before the next attempt.
    pub(super) async fn again(&mut self, trouble: impl FnOnce() -> String) {
        sleep(self.next_wait(trouble)).await;
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_wait(&mut self, trouble: impl FnOnce() -> String) -> Duration {
        let mut shared = self.retry.lock();
        if self.failing.is_none() {
            shared.failing += 1;
            self.failing = Some((Instant::now(), Failing(self.retry)));
        }
        let now = Instant::now();
        match shared.since {
            None => {
                (shared.since, shared.told) = (Some(now), Some(now));
                warn!(topic = %self.retry.topic, trouble = trouble(), "no answer, trying again");
            }
            Some(since) if shared.told.is_none_or(|told| now - told >= REMINDER) => {
                shared.told = Some(now);
                let seconds = (now - since).as_secs();
                warn!(topic = %self.retry.topic, seconds, trouble = trouble(), "still no answer, trying again");
            }
            Some(_) => {}
        }
        let jitter = shared.rng.next_u64() % (self.backoff.as_micros() as u64 + 1);
        self.backoff = (self.backoff * 2).min(self.retry.max);
        Duration::from_micros(jitter).max(Duration::from_millis(1))
    }

    /// Ends the attempts with an answer, and the episode if nobody else is in trouble.
    pub(super) fn over<T>(self, answer: T) -> T {
        if self.failing.is_some() {
            let shared = self.retry.lock();
            if let (1, Some(since)) = (shared.failing, shared.since) {
                let seconds = since.elapsed().as_secs_f64();
                info!(topic = %self.retry.topic, seconds, "answers again");
            }
        }
        answer
    }
}
