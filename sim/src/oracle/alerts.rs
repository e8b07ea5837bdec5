//! Alerts: none that a worker writes, or that a replica has, counts more events than the log, or fewer than the threshold.
//! That it counts enough of them is judged with the progress, see [`crate::oracle::progress`].

use exactlyonce::store::{Alert, WindowKey};

use crate::oracle::cell::{Cell, Seen, Value};
use crate::oracle::truth::Truth;
use crate::oracle::{Difference, Violation};

fn violation(truth: &Truth, window: &WindowKey, found: i64) -> Option<Violation> {
    let total = truth.total(window);
    let threshold = i64::from(truth.binding().window.threshold);
    let is_right = (threshold..=total).contains(&found);
    let expected = (threshold, total);
    (!is_right).then(|| Violation::AlertAheadOfTruth(window.into(), Difference::of(&found, &expected)))
}

/// The alerts that a worker is about to write.
pub(crate) fn before(truth: &Truth, alerts: &[Alert]) -> Vec<Violation> {
    let wrong = |alert: &Alert| {
        let window = WindowKey { source: alert.source.clone(), end: alert.ts };
        violation(truth, &window, alert.event_count.into())
    };
    alerts.iter().filter_map(wrong).collect()
}

/// What replicas have of a cell, if it is an alert.
pub(crate) fn seen(truth: &Truth, cell: &Cell, seen: &[Seen]) -> Vec<Violation> {
    let Cell::Alert(window) = cell else { return Vec::new() };
    let wrong = |seen: &Seen| match seen {
        Seen::Value(Value::Alert(count)) => violation(truth, window, *count),
        _ => None,
    };
    seen.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::truth::tests::{binding, event, window};

    #[test]
    fn an_alert_that_counts_more_than_the_log_or_less_than_the_threshold_is_a_violation() {
        let mut truth = Truth::new(binding());
        [(0, 3), (0, 4), (1, 0), (1, 1)]
            .into_iter()
            .for_each(|(partition, offset)| truth.add(event(partition, offset, 1)));
        let is_wrong = |count: i32| {
            let alert = Alert { source: "s".into(), ts: 10, event_count: count };
            let written = before(&truth, &[alert]);
            let value = Seen::Value(Value::Alert(count.into()));
            assert_eq!(seen(&truth, &Cell::Alert(window(10)), &[value]), written);
            !written.is_empty()
        };
        assert!(!is_wrong(3) && !is_wrong(4));
        assert!(is_wrong(2) && is_wrong(5));
    }
}
