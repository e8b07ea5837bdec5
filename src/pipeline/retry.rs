//! Retries: the only module that handles unknown outcomes.
//!
//! A request whose outcome is unknown is retried, unchanged, until it is acknowledged. The wait between two attempts is
//! an exponential backoff with full jitter. Requests that fail at the same time are logged as one [`Episode`]: one line
//! at its start, one each minute while it lasts, and one at its end.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::error::chain;
use crate::pipeline::{Options, PipelineError};
use crate::store::Outcome;

/// Time between two log lines of an episode.
const REMINDER: Duration = Duration::from_secs(60);

/// A series of failures, for the log.
#[derive(Debug, Default)]
pub(super) struct Episode {
    since: Option<Instant>,
    last_logged_at: Option<Instant>,
}

impl Episode {
    /// Records a failure. Returns how long the episode has lasted, if that is to be logged now.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if self.last_logged_at.is_some_and(|logged| now - logged < REMINDER) {
            return None;
        }
        self.last_logged_at = Some(now);
        Some(now - since)
    }

    /// Records a success. Returns how long the episode lasted, if there was one.
    pub(super) fn recovered(&mut self, now: Instant) -> Option<Duration> {
        std::mem::take(self).since.map(|since| now - since)
    }
}

/// Retries requests for one worker. Clones share the random generator and the episode.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    topic: Arc<str>,
    min: Duration,
    max: Duration,
    deadline: Option<Duration>,
    shared: Arc<Mutex<RetryState>>,
}

#[derive(Debug)]
struct RetryState {
    rng: ChaCha8Rng,
    /// The number of requests that are being retried.
    failing: usize,
    /// Lasts while `failing` is not 0.
    episode: Episode,
}

/// Counts a failing request until it is dropped, which happens with its future at the latest.
struct FailingGuard<'a>(&'a Retry);

impl Drop for FailingGuard<'_> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.failing -= 1;
        if shared.failing == 0 {
            shared.episode = Episode::default();
        }
    }
}

impl Retry {
    pub(super) fn new(options: &Options, rng: ChaCha8Rng) -> Self {
        Self {
            topic: options.binding_spec.topic.as_str().into(),
            min: options.backoff_min.max(Duration::from_millis(1)),
            max: options.backoff_max.max(options.backoff_min),
            deadline: options.retry_deadline,
            shared: Arc::new(Mutex::new(RetryState { rng, failing: 0, episode: Episode::default() })),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RetryState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats `attempt` until it is acknowledged. `request` completes "could not ..." and names table, partition and
    /// offsets.
    ///
    /// # Errors
    /// If the request is refused, or its outcome is still unknown at the deadline.
    pub(super) async fn until_acknowledged<T, F: Future<Output = Outcome<T>>>(
        &self,
        request: impl Fn() -> String,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, PipelineError> {
        let mut attempts = Attempts::new(self);
        loop {
            match attempt().await {
                Outcome::Acknowledged(response) => return Ok(attempts.finish(response)),
                Outcome::Refused(source) => {
                    return Err(PipelineError::StoreRefused { request: request(), source });
                }
                Outcome::Unknown(source) => {
                    if let Some(seconds) = attempts.exhausted() {
                        return Err(PipelineError::StoreUnavailable { request: request(), seconds, source });
                    }
                    attempts.wait(|| format!("store: {}: {}", request(), chain(&source))).await;
                }
            }
        }
    }

    /// Repeats a request to the broker until the result is anything but a retriable error.
    pub(super) async fn until_not_retriable<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, BrokerError> {
        let mut attempts = Attempts::new(self);
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && attempts.exhausted().is_none() => {
                    attempts.wait(|| format!("broker: {}", chain(&error))).await;
                }
                response => return attempts.finish(response),
            }
        }
    }

    /// The worker's error for an error of the broker that ends it.
    pub(super) fn broker_error(&self, source: BrokerError) -> PipelineError {
        PipelineError::Broker { topic: self.topic.to_string(), source }
    }
}

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    backoff: Backoff,
    /// When the first attempt failed, and the guard that counts this request as failing.
    failing: Option<(Instant, FailingGuard<'a>)>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(retry: &'a Retry) -> Self {
        Self::with_longest_wait(retry, retry.max)
    }

    /// As [`Attempts::new`], with no wait longer than this one.
    pub(super) fn with_longest_wait(retry: &'a Retry, longest: Duration) -> Self {
        let (min, max) = (retry.min.min(longest), retry.max.min(longest));
        Self { retry, backoff: Backoff::new(min, max), failing: None }
    }

    /// How many seconds it has been retried, if the deadline has passed.
    pub(super) fn exhausted(&self) -> Option<u64> {
        let (since, _) = self.failing.as_ref()?;
        let tried = since.elapsed();
        (tried >= self.retry.deadline?).then_some(tried.as_secs())
    }

    /// Waits before the next attempt.
    pub(super) async fn wait(&mut self, last_error: impl FnOnce() -> String) {
        sleep(self.next_backoff(last_error)).await;
    }

    /// The wait before the next attempt.
    pub(super) fn next_backoff(&mut self, last_error: impl FnOnce() -> String) -> Duration {
        let mut shared = self.retry.lock();
        if self.failing.is_none() {
            shared.failing += 1;
            self.failing = Some((Instant::now(), FailingGuard(self.retry)));
        }
        if let Some(failing_for) = shared.episode.failed(Instant::now()) {
            let (topic, last_error, seconds) = (&*self.retry.topic, last_error(), failing_for.as_secs());
            match seconds {
                0 => warn!(topic, last_error, "request failed; retrying"),
                _ => warn!(topic, last_error, seconds, "requests still fail; retrying"),
            }
        }
        let jitter = shared.rng.next_u64() % (self.backoff.wait().as_micros() as u64 + 1);
        Duration::from_micros(jitter).max(Duration::from_millis(1))
    }

    /// Ends the attempts with their result. Ends the episode, too, if no other request is failing.
    pub(super) fn finish<T>(self, result: T) -> T {
        if self.failing.is_some() {
            let mut shared = self.retry.lock();
            if shared.failing == 1
                && let Some(failed_for) = shared.episode.recovered(Instant::now())
            {
                let (topic, seconds) = (&*self.retry.topic, failed_for.as_secs_f64());
                info!(topic, seconds, "recovered");
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::binding::BindingSpec;

    fn retry(min_ms: u64, max_ms: u64, deadline: Option<Duration>) -> Retry {
        let options = Options {
            backoff_min: Duration::from_millis(min_ms),
            backoff_max: Duration::from_millis(max_ms),
            retry_deadline: deadline,
            ..Options::new(BindingSpec::new("topic"))
        };
        Retry::new(&options, ChaCha8Rng::seed_from_u64(1))
    }

    fn failing(retry: &Retry) -> usize {
        retry.lock().failing
    }

    #[test]
    fn an_episode_is_logged_when_it_starts_and_each_minute_and_when_it_ends() {
        let mut episode = Episode::default();
        let began = Instant::now();
        let mut failed = |seconds| episode.failed(began + Duration::from_secs(seconds));
        assert_eq!(failed(0), Some(Duration::ZERO));
        assert_eq!((failed(1), failed(59)), (None, None));
        assert_eq!(failed(60), Some(Duration::from_secs(60)));
        assert_eq!((failed(61), failed(119)), (None, None));
        assert_eq!(failed(130), Some(Duration::from_secs(130)));
        let end = began + Duration::from_secs(140);
        assert_eq!(episode.recovered(end), Some(Duration::from_secs(140)));
        assert_eq!(episode.recovered(end), None);
        assert_eq!(episode.failed(end), Some(Duration::ZERO), "another one");
    }

    #[test]
    fn the_waits_are_random_up_to_a_limit_that_doubles() {
        let retry = retry(64, 512, None);
        let mut longest = [Duration::ZERO; 5];
        for _ in 0..200 {
            let mut attempts = Attempts::new(&retry);
            for longest in &mut longest {
                let wait = attempts.next_backoff(String::new);
                assert!(wait >= Duration::from_millis(1));
                *longest = wait.max(*longest);
            }
        }
        for (longest, limit) in longest.into_iter().zip([64, 128, 256, 512, 512]) {
            let limit = Duration::from_millis(limit);
            assert!(limit * 9 / 10 < longest && longest <= limit, "{longest:?} of {limit:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_the_first_failure() {
        let retry = retry(1, 1, Some(Duration::from_secs(5)));
        let mut attempts = Attempts::new(&retry);
        sleep(Duration::from_secs(9)).await;
        assert_eq!(attempts.exhausted(), None, "nothing has failed yet");
        attempts.next_backoff(String::new);
        sleep(Duration::from_millis(4_999)).await;
        assert_eq!(attempts.exhausted(), None);
        attempts.next_backoff(String::new);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(attempts.exhausted(), Some(5));
        let without_deadline = self::retry(1, 1, None);
        let mut attempts = Attempts::new(&without_deadline);
        attempts.next_backoff(String::new);
        sleep(Duration::from_secs(1_000_000)).await;
        assert_eq!(attempts.exhausted(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_failing_request_counts_until_it_ends_and_the_last_one_ends_the_episode() {
        let retry = retry(1, 1, None);
        let (mut one, mut other) = (Attempts::new(&retry), Attempts::new(&retry));
        for _ in 0..2 {
            one.next_backoff(String::new);
            other.next_backoff(String::new);
            assert_eq!(failing(&retry), 2);
        }
        one.finish(());
        assert_eq!(failing(&retry), 1);
        assert!(retry.lock().episode.since.is_some(), "the other one still fails");
        // Dropped, as when its worker is stopped.
        drop(other);
        assert_eq!(failing(&retry), 0);
        assert!(retry.lock().episode.since.is_none());
        Attempts::new(&retry).finish(());
        assert_eq!(failing(&retry), 0);
    }
}
