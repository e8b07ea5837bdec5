//! librdkafka's log lines, as events of `tracing`.

use tracing::{debug, error, info, warn};

/// One line. Levels are those of syslog.
pub(super) fn line(level: i32, facility: &str, line: &str) {
    match (level, facility) {
        // A property that only one kind of client uses is given to all of them.
        (_, "CONFWARN") => debug!(target: "librdkafka", facility, "{line}"),
        // An unavailable broker: the caller that needs it reports that once; librdkafka logs it repeatedly.
        (_, "FAIL" | "ERROR") => info!(target: "librdkafka", facility, "{line}"),
        (..=3, _) => error!(target: "librdkafka", facility, "{line}"),
        (4, _) => warn!(target: "librdkafka", facility, "{line}"),
        (5 | 6, _) => info!(target: "librdkafka", facility, "{line}"),
        _ => debug!(target: "librdkafka", facility, "{line}"),
    }
}
