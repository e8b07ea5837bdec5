//! The messages between a worker and its assignments.

use tokio::time::Instant;

use crate::broker::Assignment;

/// What an assignment reports to its worker.
#[derive(Debug)]
pub(super) enum AssignmentEvent {
    /// Deliver from this offset on.
    Start(Assignment, i64),
    /// The inbox accepts more.
    Resume(Assignment),
    /// A batch is acknowledged.
    Written { events: u64, dead_letters: u64, alerts: u64 },
    /// Progress is durable up to this offset.
    Durable(Assignment, i64),
}

/// Whether an assignment is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// No.
    No,
    /// Fold nothing more, and abandon what is not durable at this time.
    By(Instant),
    /// Immediately: the partition may belong to another worker already.
    Now,
}
