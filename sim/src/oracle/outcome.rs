//! The outcome of a run with damage that no client can survive: a worker refuses to continue, or the production `verify`
//! names a difference, or the tables are right all the same. Never silence, and never a false report.

use exactlyonce::error::chain;
use exactlyonce::verify::{Report, VerifyError};

use crate::observed::Sometimes;
use crate::oracle::Violation;

/// What is known at the end of such a run.
pub(crate) struct Outcome {
    /// A worker refused to continue.
    pub is_refused: bool,
    /// The differences of the tables from the log, as the testbed sees them.
    pub differences: Vec<Violation>,
    /// Replicas may have lost what was acknowledged, so that two reads may differ.
    pub may_differ: bool,
    /// What `verify` says.
    pub verified: Result<Report, VerifyError>,
}

/// The situation that the outcome is, or the violation.
pub(crate) fn judge(outcome: &Outcome) -> Result<Sometimes, Violation> {
    let Outcome { is_refused, differences, may_differ, verified } = outcome;
    match verified {
        Err(error) if error.is_refusal() => Ok(Sometimes::DamageFoundByVerify),
        Err(error) => Err(Violation::VerifyWrong { found: chain(error) }),
        Ok(report) if !report.is_clean() && differences.is_empty() && !may_differ => {
            let found: Vec<&str> =
                report.counts.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect();
            Err(Violation::VerifyWrong { found: found.join(", ") })
        }
        Ok(report) if !report.is_clean() || !report.is_complete() => Ok(Sometimes::DamageFoundByVerify),
        Ok(_) => match differences.first() {
            None => Ok(Sometimes::DamageWithoutConsequence),
            Some(_) if *is_refused => Ok(Sometimes::WorkerRefused),
            Some(difference) => Err(Violation::NotRefused { difference: format!("{difference:?}") }),
        },
    }
}

#[cfg(test)]
mod tests {
    use exactlyonce::binding::{self, BindingSpec, Origin};
    use exactlyonce::broker::memory::MemoryBroker;
    use exactlyonce::broker::{NewRecord, Producer};
    use exactlyonce::event::Row;
    use exactlyonce::store::memory::MemoryStore;
    use exactlyonce::store::{Progress, Store};
    use exactlyonce::verify::{VerifyOptions, verify};
    use futures_util::FutureExt;

    use super::*;
    use crate::oracle::Position;
    use crate::oracle::truth::tests::event;

    /// What `verify` says of a log with one event of low health, whose row is there or not, after a change of the log.
    fn verified(has_row: bool, change: impl FnOnce(&MemoryBroker)) -> Result<Report, VerifyError> {
        let (log, store, spec) = (MemoryBroker::new(10), MemoryStore::new(), BindingSpec::new("t"));
        let work = async {
            log.create_topic("t", 1, 1).await.expect("a topic");
            let bound = binding::init(&log, &store, &spec, &Origin::Start).await.expect("bound").binding;
            let mut record = event(0, 0, 1);
            record.value = Some(br#"{"id":1,"ts":1,"source":"s","client":"c","health":0}"#.to_vec());
            let appended =
                NewRecord { key: None, value: record.value.clone(), timestamp: 0, partition: Some(0) };
            log.append("t", vec![appended]).await.expect("appended");
            let row: Row = exactlyonce::truth::row(&record, &bound);
            if has_row {
                store.write_rows(0, &[(0, row)]).await.into_result().expect("written");
            }
            let progress = Progress { origin: 0, next_offset: 1 };
            store.write_progress(0, progress).await.into_result().expect("written");
            change(&log);
            verify(&log, &store, &spec, &VerifyOptions::default()).await
        };
        work.now_or_never().expect("all is in memory")
    }

    fn judged(
        is_refused: bool,
        differ: bool,
        verified: Result<Report, VerifyError>,
    ) -> Result<Sometimes, &'static str> {
        let difference = Violation::LostEvent(Position::default());
        let differences = differ.then_some(difference).into_iter().collect();
        judge(&Outcome { is_refused, differences, may_differ: false, verified })
            .map_err(|violation| violation.name())
    }

    #[test]
    fn damage_that_nobody_names_is_a_violation() {
        let clean = || verified(true, |_| {});
        assert_eq!(judged(false, true, clean()), Err("not_refused"));
        assert_eq!(judged(true, true, clean()), Ok(Sometimes::WorkerRefused));
        assert_eq!(judged(false, false, clean()), Ok(Sometimes::DamageWithoutConsequence));
    }

    #[test]
    fn a_difference_that_verify_names_must_exist() {
        let lost = || verified(false, |_| {});
        assert_eq!(judged(false, true, lost()), Ok(Sometimes::DamageFoundByVerify));
        assert_eq!(judged(true, false, lost()), Err("verify_wrong"));
    }

    #[test]
    fn a_topic_that_was_recreated_is_named() {
        let recreated = verified(true, |log| log.recreate("t"));
        assert_eq!(judged(false, true, recreated), Ok(Sometimes::DamageFoundByVerify));
    }
}
