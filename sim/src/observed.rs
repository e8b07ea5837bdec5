//! What really happened in a run, counted by name. A fault that hit nobody proves nothing, so faults count
//! when their effect shows: a message that was dropped, an answer that was withheld.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed(BTreeMap<&'static str, u64>);

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
        /// What over many seeds must have happened at least once, besides every kind of fault.
        pub const EXPECTED: &[&str] = &[$($name),*];
    };
}

names! {
    /// A write reached the store although its client had given it up.
    LATE_WRITE = "write applied after its client gave up";
    /// A write of a partition came from a worker that did not own it any more.
    ZOMBIE_WRITE = "write by a worker that lost the partition";
    /// A request was applied and its client did not learn of it.
    UNANSWERED = "request applied but not answered";
    /// A call's rows were applied in part, and the rest never.
    TORN = "call applied in part";
    /// A row was written that was there already: replay.
    REPLAY = "row written again";
    /// Two calls that write rows of one partition were in the store at once.
    OVERLAP = "two batches of a partition in flight";
    /// A worker read a count that it had itself written before in the same life: it was evicted.
    EVICTION = "count read again by its writer";
    /// A partition was handed over in order.
    RELEASED = "partition released in order";
    /// A partition was taken away because its owner took too long to release it.
    TAKEN_AWAY = "partition taken from a slow owner";
    /// A worker was told that it lost a partition.
    LOST = "partition lost";
    /// A member's session expired.
    EXPIRED = "session expired";
    /// Something fetched for an older incarnation was delivered after a newer one had begun.
    STALE_DELIVERY = "delivery of an older incarnation";
    /// A window's counts came from more than one partition.
    SHARED_WINDOW = "window counted in several partitions";
    /// A worker was told to stop, and did.
    STOPPED = "worker stopped when told";
    /// A worker gave up because a service did not answer in time, and was started again.
    GAVE_UP = "worker gave up on a service";
    /// A fault was triggered by a point in meaning instead of time.
    MEANING = "fault at a point in meaning";
}

impl Observed {
    /// One more of these.
    pub fn add(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// All of these, too.
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
