//! When the worker polls its consumer, and when polls that failed count as recovered.
//!
//! The worker waits after a failed poll, but never longer than [`LONGEST_PAUSE`], whatever the options say: a consumer that is
//! not polled loses its membership.
//!
//! Polls have recovered with a delivery, or when none has failed for [`RECOVERED_AFTER`]: where nothing is appended, nothing is
//! delivered. Otherwise one error would count as failing until the next record: the retry deadline would have passed when
//! another error comes, hours later, and failures of the store in between would belong to an episode that was logged
//! before.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::retry::{Attempts, Retry};

/// The longest wait after a failed poll. Consumers need a poll every few seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After this time without a failed poll, the consumer has recovered. Consumers repeat an error that lasts more often.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// The polls of one worker.
pub(super) struct Polling<'a> {
    retry: &'a Retry,
    attempts: Attempts<'a>,
    /// The worker does not poll before.
    next_at: Instant,
    /// When the polls count as recovered, while they fail.
    recovered_at: Option<Instant>,
}

impl<'a> Polling<'a> {
    pub(super) fn new(retry: &'a Retry) -> Self {
        let attempts = Attempts::with_longest_wait(retry, LONGEST_PAUSE);
        Self { retry, attempts, next_at: Instant::now(), recovered_at: None }
    }

    /// When the worker polls again, if it waits.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        (self.next_at > Instant::now()).then_some(self.next_at)
    }

    /// When the polls count as recovered, if nothing is delivered and none fails before.
    pub(super) fn recovered_at(&self) -> Option<Instant> {
        self.recovered_at
    }

    /// A poll has failed. Returns false if polls have failed for longer than the retry deadline.
    pub(super) fn failed(&mut self, error: impl FnOnce() -> String) -> bool {
        if self.attempts.exhausted().is_some() {
            return false;
        }
        let now = Instant::now();
        self.next_at = now + self.attempts.next_backoff(error);
        self.recovered_at = Some(now + RECOVERED_AFTER);
        true
    }

    /// Something was delivered, or no poll has failed for a while.
    pub(super) fn recovered(&mut self) {
        if self.recovered_at.take().is_some() {
            let next = Attempts::with_longest_wait(self.retry, LONGEST_PAUSE);
            std::mem::replace(&mut self.attempts, next).finish(());
        }
    }
}
