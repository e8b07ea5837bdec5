//! Counts requests, by what they read or write.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RequestKind {
    /// Rows of `events` are written.
    WriteEvents,
    /// Rows of `dead_letters` are written.
    WriteDeadLetters,
    /// Counts are read: a partition's own ones, or those of another for a sum.
    ReadCounts,
    /// Counts are written.
    WriteCounts,
    /// The registry is read.
    ReadRegistry,
    /// A partition is registered.
    WriteRegistry,
    /// Alerts are written.
    WriteAlerts,
    /// Progress is written.
    WriteProgress,
    /// Anything else: the binding, and the reads at the start of an assignment, of `verify` and of `show`.
    Other,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::WriteEvents,
        Self::WriteDeadLetters,
        Self::ReadCounts,
        Self::WriteCounts,
        Self::ReadRegistry,
        Self::WriteRegistry,
        Self::WriteAlerts,
        Self::WriteProgress,
        Self::Other,
    ];

    /// A name for tables and metrics, for example `write_events`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteEvents => "write_events",
            Self::WriteDeadLetters => "write_dead_letters",
            Self::ReadCounts => "read_counts",
            Self::WriteCounts => "write_counts",
            Self::ReadRegistry => "read_registry",
            Self::WriteRegistry => "write_registry",
            Self::WriteAlerts => "write_alerts",
            Self::WriteProgress => "write_progress",
            Self::Other => "other",
        }
    }
}

/// Requests by kind, over all clones of a store. A request that is repeated counts again.
#[derive(Debug, Default)]
pub(super) struct Requests([AtomicU64; RequestKind::ALL.len()]);

impl Requests {
    pub(super) fn add(&self, kind: RequestKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (RequestKind, u64)> + '_ {
        RequestKind::ALL.into_iter().map(|kind| (kind, self.0[kind as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself() {
        let requests = Requests::default();
        for (times, kind) in RequestKind::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| requests.add(kind));
        }
        for (times, (kind, counted)) in (0..).zip(requests.all()) {
            assert_eq!(counted, times, "{}", kind.name());
        }
    }
}
