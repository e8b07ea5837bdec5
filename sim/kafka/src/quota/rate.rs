//! The rate of a quantity over the last samples (`Rate` with `WindowedSum`).

use std::time::Duration;

use crate::types::Timestamp;

/// How rates are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many samples are kept (`quota.window.num`, at least 1).
    pub samples: usize,
    /// How long each is (`quota.window.size.seconds`, at least 1 s).
    pub size: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self { samples: 11, size: Duration::from_secs(1) }
    }
}

impl Window {
    fn sample_ms(self) -> i64 {
        i64::try_from(self.size.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// The most that may be recorded at once without exceeding a rate, if nothing else is
    /// (`ClientQuotaManager.getMaxValueInQuotaWindow`).
    pub(super) fn most_at_once(self, limit: f64) -> f64 {
        limit * self.samples.saturating_sub(1) as f64 * self.size.as_secs_f64()
    }
}

#[derive(Debug)]
struct Sample {
    start: Timestamp,
    last: Timestamp,
    sum: f64,
}

impl Sample {
    fn new(now: Timestamp) -> Self {
        Self { start: now, last: now, sum: 0.0 }
    }
}

/// What was recorded, by time.
#[derive(Debug)]
pub(super) struct Rate {
    samples: Vec<Sample>,
    current: usize,
}

impl Rate {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { samples: vec![Sample::new(now)], current: 0 }
    }

    pub(super) fn record(&mut self, value: f64, now: Timestamp, window: Window) {
        let is_complete =
            self.samples.get(self.current).is_none_or(|sample| now - sample.start >= window.sample_ms());
        if is_complete {
            // One more than the window has, because the oldest overlaps its begin.
            self.current = (self.current + 1) % (window.samples + 1);
            match self.samples.get_mut(self.current) {
                Some(oldest) => *oldest = Sample::new(now),
                None => {
                    self.current = self.samples.len();
                    self.samples.push(Sample::new(now));
                }
            }
        }
        if let Some(sample) = self.samples.get_mut(self.current) {
            sample.sum += value;
            sample.last = now;
        }
    }

    /// The rate per second, and the milliseconds over which it is measured.
    pub(super) fn measure(&mut self, now: Timestamp, window: Window) -> (f64, i64) {
        let expired = i64::try_from(window.samples).unwrap_or(i64::MAX).saturating_mul(window.sample_ms());
        for sample in self.samples.iter_mut().filter(|sample| now - sample.last >= expired) {
            *sample = Sample::new(now);
        }
        let oldest = self.samples.iter().map(|sample| sample.start).min().unwrap_or(now);
        let mut elapsed = now - oldest;
        let full = elapsed / window.sample_ms();
        let least = i64::try_from(window.samples).unwrap_or(i64::MAX) - 1;
        // What has not passed yet of the window counts, too, but for the fraction of the last sample.
        if full < least {
            elapsed = elapsed.saturating_add((least - full).saturating_mul(window.sample_ms()));
        }
        let elapsed = elapsed.max(1);
        let sum: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        (sum / (elapsed as f64 / 1000.0), elapsed)
    }

    /// When something was last recorded.
    pub(super) fn last(&self) -> Timestamp {
        self.samples.iter().map(|sample| sample.last).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { samples: 11, size: Duration::from_secs(1) };

    #[test]
    fn a_rate_is_measured_over_ten_full_samples_and_the_fraction_of_the_last() {
        let mut rate = Rate::new(0);
        rate.record(1000.0, 0, WINDOW);
        assert_eq!(rate.measure(0, WINDOW), (100.0, 10_000));
        rate.record(1000.0, 500, WINDOW);
        assert_eq!(rate.measure(500, WINDOW), (2000.0 / 10.5, 10_500));
        // A full sample in place of one that was assumed.
        assert_eq!(rate.measure(1000, WINDOW), (200.0, 10_000));
        for second in 2..20 {
            rate.record(100.0, second * 1000, WINDOW);
            rate.record(100.0, second * 1000 + 900, WINDOW);
        }
        rate.record(100.0, 20_000, WINDOW);
        // From second 9 to second 20: twelve samples, one more than the window has.
        assert_eq!(rate.measure(20_500, WINDOW), (2300.0 / 11.5, 11_500));
        // The sample of second 9 has ended before the window begins.
        assert_eq!(rate.measure(20_900, WINDOW), (2100.0 / 10.9, 10_900));
    }

    #[test]
    fn samples_that_are_older_than_the_window_count_no_more() {
        let mut rate = Rate::new(0);
        rate.record(1000.0, 0, WINDOW);
        assert_eq!(rate.measure(10_999, WINDOW).0, 1000.0 / 10.999);
        assert_eq!(rate.measure(11_000, WINDOW).0, 0.0);
    }

    #[test]
    fn what_was_recorded_may_be_taken_back() {
        let mut rate = Rate::new(0);
        rate.record(1000.0, 0, WINDOW);
        rate.record(-1000.0, 0, WINDOW);
        assert_eq!(rate.measure(0, WINDOW).0, 0.0);
    }
}
