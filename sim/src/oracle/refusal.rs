//! Refusals: a worker starts no partition after damage that it must have noticed by then. What it can only notice later, or
//! not at all, is judged at the end of the run ([`crate::oracle::outcome`]).

use exactlyonce::broker::LogOffsets;

use crate::oracle::Violation;
use crate::oracle::cell::{Seen, Value};

/// A worker starts a partition.
#[derive(Clone, Debug)]
pub(crate) struct Start<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Why the worker must refuse every partition, if there was a reason when it began.
    pub reason: Option<&'static str>,
    /// What was cut off from the log before the worker read progress: the first record that is gone, and the progress then.
    pub truncated: Option<(i64, i64)>,
    /// The log when the worker read progress, if it could see all of it; without what was deleted since.
    pub log: Option<LogOffsets>,
    /// Records that are not processed were deleted.
    pub trimmed: bool,
    /// What the replicas have of its progress.
    pub seen: &'a [Seen],
}

/// The violation if the worker must have refused.
pub(crate) fn starting(start: &Start<'_>) -> Option<Violation> {
    let Start { partition, offset, reason, truncated, log, trimmed, seen } = start;
    // The rows below progress are compared with those records that the log still has, unless it ends below progress, which
    // only the consumer notices.
    let is_compared = |first: i64| log.is_some_and(|log| log.start <= first && log.end >= *offset);
    let rewritten = truncated.filter(|(first, progress)| first < offset && offset <= progress);
    let rewritten = rewritten.filter(|(first, _)| is_compared(*first));
    let is_past = |seen: &Seen| match seen {
        Seen::Down => false,
        Seen::Nothing => true,
        Seen::Value(value) => !value.includes(Value::Progress(*offset)),
    };
    let difference = if let Some(reason) = reason {
        format!("although {reason}")
    } else if let Some((first, _)) = rewritten {
        format!("at {offset} although the log was cut off and written again from {first} on")
    } else if *trimmed && !seen.is_empty() && seen.iter().all(is_past) {
        format!("at {offset}, which is past its progress: {seen:?}")
    } else {
        return None;
    };
    Some(Violation::NotRefused { difference: format!("partition {partition} is started {difference}") })
}

/// The violation if a worker is about to write progress that is ahead of the data where records were deleted that nobody has
/// processed: it must have refused to go on without them.
pub(crate) fn passing(partition: i32, ahead: &Violation) -> Violation {
    let difference = format!("partition {partition}: progress passes records that were deleted: {ahead:?}");
    Violation::NotRefused { difference }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAS_IT: &[Seen] = &[Seen::Value(Value::Progress(9))];

    fn start() -> Start<'static> {
        let log = Some(LogOffsets { start: 0, end: 12 });
        Start { partition: 2, offset: 9, reason: None, truncated: None, log, trimmed: false, seen: HAS_IT }
    }

    fn is_wrong(start: &Start<'_>) -> bool {
        matches!(starting(start), Some(Violation::NotRefused { .. }))
    }

    #[test]
    fn a_worker_that_must_refuse_every_partition_starts_none() {
        assert!(!is_wrong(&start()));
        assert!(is_wrong(&Start { reason: Some("the topic was created again"), ..start() }));
    }

    #[test]
    fn a_log_that_was_written_again_below_progress_is_refused_where_it_can_be_compared() {
        let rewritten = Start { truncated: Some((7, 10)), ..start() };
        assert!(is_wrong(&rewritten));
        let log = |start, end| Some(LogOffsets { start, end });
        assert!(
            !is_wrong(&Start { log: log(8, 12), ..rewritten.clone() }),
            "retention has deleted the first record"
        );
        assert!(!is_wrong(&Start { log: log(0, 8), ..rewritten.clone() }), "the log ends below progress");
        assert!(!is_wrong(&Start { log: None, ..rewritten }), "its end lags");
        assert!(!is_wrong(&Start { truncated: Some((9, 10)), ..start() }), "nothing below is gone");
        assert!(!is_wrong(&Start { truncated: Some((5, 8)), ..start() }), "progress has moved since");
    }

    #[test]
    fn no_worker_starts_past_progress_where_records_were_deleted() {
        let behind = [Seen::Value(Value::Progress(8)), Seen::Nothing];
        assert!(is_wrong(&Start { trimmed: true, seen: &behind, ..start() }));
        assert!(!is_wrong(&Start { trimmed: true, ..start() }));
        let on_one_replica = [HAS_IT[0], Seen::Nothing];
        assert!(!is_wrong(&Start { trimmed: true, seen: &on_one_replica, ..start() }));
        assert!(!is_wrong(&Start { seen: &behind, ..start() }), "another oracle judges it");
        assert!(!is_wrong(&Start { trimmed: true, seen: &[Seen::Down], ..start() }));
    }
}
