//! The clocks of hosts.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::ClockFault;

/// A host's clock, the one that shows the time of day.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970, as this clock shows them. It may be wrong, jump and stop.
    fn micros(&self) -> i64;
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    /// What it showed at `since`.
    base: i64,
    since: Instant,
    /// Its drift in millionths; positive if it runs too fast.
    drift: i64,
    tick: i64,
}

/// A clock that follows `tokio::time` and can be set wrong.
#[derive(Debug)]
pub struct AdjustableClock(Mutex<Setting>);

impl AdjustableClock {
    /// A clock that shows `start` now, in microseconds since 1970.
    pub fn new(start: i64) -> Self {
        Self(Mutex::new(Setting { base: start, since: Instant::now(), drift: 0, tick: 1 }))
    }

    /// Begins a fault.
    pub fn apply(&self, fault: ClockFault) {
        match fault {
            ClockFault::Step { by_ms } => self.step(by_ms.saturating_mul(1_000)),
            ClockFault::Coarse { step_ms } => self.quantize(step_ms.saturating_mul(1_000)),
        }
    }

    /// Ends a fault.
    pub fn restore(&self, fault: ClockFault) {
        match fault {
            ClockFault::Step { by_ms } => self.step(by_ms.saturating_mul(-1_000)),
            ClockFault::Coarse { .. } => self.quantize(1),
        }
    }

    /// Sets it forward, or back, by this many microseconds.
    pub fn step(&self, by: i64) {
        self.set(|setting| setting.base += by);
    }

    /// Makes it run faster than real time by this many millionths (slower if negative).
    pub fn drift(&self, millionths: i64) {
        self.set(|setting| setting.drift = millionths);
    }

    /// Makes it show only multiples of this many microseconds.
    pub fn quantize(&self, tick: i64) {
        self.set(|setting| setting.tick = tick.max(1));
    }

    fn set(&self, change: impl FnOnce(&mut Setting)) {
        let mut setting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        setting.base = shown(&setting, now);
        setting.since = now;
        change(&mut setting);
    }
}

fn shown(setting: &Setting, now: Instant) -> i64 {
    let elapsed = now.saturating_duration_since(setting.since).as_micros() as i64;
    setting.base
        + elapsed
        + elapsed / 1_000_000 * setting.drift
        + elapsed % 1_000_000 * setting.drift / 1_000_000
}

impl Clock for AdjustableClock {
    fn micros(&self) -> i64 {
        let setting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown(&setting, Instant::now());
        shown - shown.rem_euclid(setting.tick)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: i64 = 1_767_225_600_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_step_shows_while_it_lasts_and_then_the_clock_is_right_again() {
        let clock = AdjustableClock::new(START);
        let step = ClockFault::Step { by_ms: -1_500 };
        clock.apply(step);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.micros(), START + 500_000);
        clock.restore(step);
        assert_eq!(clock.micros(), START + 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_coarse_clock_shows_multiples_of_its_step_and_loses_no_time() {
        let clock = AdjustableClock::new(START);
        let coarse = ClockFault::Coarse { step_ms: 400 };
        clock.apply(coarse);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(clock.micros(), START + 800_000);
        clock.restore(coarse);
        assert_eq!(clock.micros(), START + 999_000);
    }
}
