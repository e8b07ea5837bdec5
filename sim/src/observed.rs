//! What actually happened in a run, counted by name. A fault without effect proves nothing, so a fault is counted when it
//! takes effect: a message that was dropped, a response that was withheld.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed(BTreeMap<&'static str, u64>);

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
        /// What must have happened at least once over many seeds, in addition to every kind of fault.
        pub const EXPECTED: &[&str] = &[$($name),*];
    };
}

names! {
    /// A write reached the store after its client had timed out.
    LATE_WRITE = "write applied after its client timed out";
    /// A write of a partition came from a worker that no longer owned it.
    ZOMBIE_WRITE = "write by a worker that lost the partition";
    /// A request was applied and its response lost.
    RESPONSE_LOST = "request applied, response lost";
    /// A call's rows were applied in part, and the others never.
    TORN = "call applied in part";
    /// A row was written that was already stored: replay.
    REPLAY = "row written again";
    /// Two calls that write rows of one partition were in flight at the same time.
    OVERLAP = "two batches of a partition in flight";
    /// A worker read a count that the same process had written before: it had been evicted.
    EVICTION = "count read again by its writer";
    /// A partition was handed over in order.
    RELEASED = "partition released in order";
    /// A partition was revoked by force because its owner took too long to release it.
    TAKEN_AWAY = "partition taken from a slow owner";
    /// A worker lost a partition.
    LOST = "partition lost";
    /// A member's session expired.
    EXPIRED = "session expired";
    /// Records fetched for an older incarnation were delivered after a newer one had started.
    STALE_DELIVERY = "delivery of an older incarnation";
    /// A window's counts came from more than one partition.
    SHARED_WINDOW = "window counted in several partitions";
    /// A worker was asked to stop, and did.
    STOPPED = "worker stopped on request";
    /// A worker gave up because a service did not respond in time, and was restarted.
    GAVE_UP = "worker gave up on a service";
    /// A fault was triggered by a point of the protocol instead of a time.
    AT_A_POINT = "fault at a point of the protocol";
}

impl Observed {
    /// Counts one.
    pub fn add(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Adds all counts of another run.
    pub fn add_all(&mut self, other: &Observed) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// How often.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All names with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
