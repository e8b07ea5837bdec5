//! Forwards librdkafka's log lines to `tracing`.

use tracing::{debug, error, info, warn};

/// Logs one line. `level` is a syslog level.
pub(super) fn line(level: i32, facility: &str, line: &str) {
    match (level, facility) {
        // All clients get the same properties, including those that only one kind of client uses.
        (_, "CONFWARN") => debug!(target: "librdkafka", facility, "{line}"),
        // An unavailable broker: librdkafka logs it repeatedly; the caller that needs it reports it once.
        (_, "FAIL" | "ERROR") => info!(target: "librdkafka", facility, "{line}"),
        (..=3, _) => error!(target: "librdkafka", facility, "{line}"),
        (4, _) => warn!(target: "librdkafka", facility, "{line}"),
        (5 | 6, _) => info!(target: "librdkafka", facility, "{line}"),
        _ => debug!(target: "librdkafka", facility, "{line}"),
    }
}
