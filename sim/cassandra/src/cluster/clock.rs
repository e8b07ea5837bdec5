//! The clocks of nodes.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A node's clock.
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
