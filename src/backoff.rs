//! The wait between two attempts, which doubles up to a limit.

use std::time::Duration;

/// Waits of an exponential backoff, without jitter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts with a wait of `first`; no later wait is longer than `max`.
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_do_not_overflow() {
        let waits = |first, max, count| {
            let mut backoff = Backoff::new(Duration::from_millis(first), max);
            (0..count).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        let short = waits(50, Duration::from_millis(300), 5);
        assert_eq!(short, [50, 100, 200, 300, 300].map(Duration::from_millis));
        assert_eq!(waits(1, Duration::MAX, 200).last(), Some(&Duration::MAX));
    }
}
