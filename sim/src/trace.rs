//! The trace of a run: every request and response, every fault, every start and end of a worker, in order and with the
//! simulated time. Two runs of a seed are identical if and only if their traces are equal.

use std::fmt;
use std::hash::Hasher as _;
use std::sync::{Mutex, PoisonError};

use fnv::FnvHasher;
use madsim::time::TimeHandle;

/// The trace of a run. Its hash is always computed; its text is kept on demand.
#[derive(Debug)]
pub struct Trace(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

/// A trace after the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// FNV-1a over all lines.
    pub hash: u64,
    /// Number of lines.
    pub events: u64,
    /// The lines, if they were kept.
    pub lines: Vec<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep_lines: bool) -> Self {
        let lines = keep_lines.then(Vec::new);
        Self(Mutex::new(Kept { hash: FnvHasher::default().finish(), events: 0, lines }))
    }

    /// Appends an event with the current simulated time.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>6} {:>7}.{:06} ms  {event}", kept.events, now / 1_000_000, now % 1_000_000);
        kept.events += 1;
        let mut hasher = FnvHasher::with_key(kept.hash);
        hasher.write(line.as_bytes());
        kept.hash = hasher.finish();
        if let Some(lines) = &mut kept.lines {
            lines.push(line);
        }
    }

    /// The trace so far.
    pub fn record(&self) -> Record {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Record { hash: kept.hash, events: kept.events, lines: kept.lines.clone().unwrap_or_default() }
    }
}
