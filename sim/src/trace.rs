//! The trace of a run: every request and response, every fault, every start and end of a worker, in order and with the
//! simulated time. Two runs of a seed are identical if and only if their traces are equal.
//!
//! A line is only formatted if it is kept. The hash does not depend on that: it is over what is at hand without formatting,
//! the simulated time in nanoseconds, which every step of every task advances by a random number, and the place in the code.

use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

use madsim::time::TimeHandle;
use serde::{Deserialize, Serialize};

/// The trace of a run. Its hash is always computed; its text is kept on demand.
#[derive(Debug)]
pub struct Trace {
    keeps_lines: bool,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    hash: u64,
    number: u64,
    lines: Vec<String>,
}

/// A trace after the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Over the time and the place of each event.
    pub hash: u64,
    /// Number of events.
    pub events: u64,
    /// The lines, if they were kept.
    pub lines: Vec<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep_lines: bool) -> Self {
        Self { keeps_lines: keep_lines, events: Mutex::default() }
    }

    /// Whether lines are kept, so that what is only in their text is worth computing.
    pub fn keeps_lines(&self) -> bool {
        self.keeps_lines
    }

    /// Appends an event with the current simulated time.
    #[track_caller]
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos() as u64);
        let place = Location::caller();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let place = u64::from(place.line()) << 16 ^ u64::from(place.column());
        events.hash = mixed(mixed(events.hash, now), place);
        if self.keeps_lines {
            let line =
                format!("{:>6} {:>7}.{:06} ms  {event}", events.number, now / 1_000_000, now % 1_000_000);
            events.lines.push(line);
        }
        events.number += 1;
    }

    /// The number of the last event so far; 0 if there is none.
    pub fn last_event(&self) -> u64 {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).number.saturating_sub(1)
    }

    /// The trace so far.
    pub fn record(&self) -> Record {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        Record { hash: events.hash, events: events.number, lines: events.lines.clone() }
    }
}

/// A hash with one more number. Each step can be undone, so that numbers that differ once differ in the end.
fn mixed(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}
