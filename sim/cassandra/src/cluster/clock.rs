//! What nodes take for the time.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A node's clock.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970, rightly or wrongly. It may step and stand still.
    fn micros(&self) -> i64;
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    /// What it showed at `since`.
    base: i64,
    since: Instant,
    /// How much faster it runs than it should, in millionths.
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

    /// Sets it forward, or back, by so many microseconds.
    pub fn step(&self, by: i64) {
        self.set(|setting| setting.base += by);
    }

    /// Lets it run faster than it should by so many millionths (slower if negative).
    pub fn drift(&self, millionths: i64) {
        self.set(|setting| setting.drift = millionths);
    }

    /// Lets it show only multiples of so many microseconds.
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
