//! A testbed that never fails proves nothing: real violations must be found.

use simulation::checker::Violation;
use simulation::scenario::fault::{Fault, Kind, KindName, Target, Trigger};
use simulation::scenario::options::Begin;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};
use simulation::{Report, run};

/// A scenario without faults in which every kind of damage is visible.
fn draft(seed: u64) -> Draft {
    let mut draft = Draft::new(seed, World::Simple, Profile::Standard);
    draft.options.pipeline.binding_spec.window.threshold = 1;
    draft.options.begin = Begin::Start;
    (draft.shape.records, draft.shape.malformed_per_mille) = (200, 100);
    draft
}

/// A run in which only this fault is active, all the time.
fn run_with_fault(seed: u64, kind: Kind) -> Report {
    let scenario = draft(seed).without_faults();
    let (trigger, target) = (Trigger::At { at_ms: 0 }, Target::Anyone);
    let fault = Fault { id: 0, trigger, target, kind, duration_ms: scenario.options.chaos_ms };
    run(Scenario { faults: vec![fault], ..scenario }, false)
}

#[test]
fn a_store_that_drops_acknowledged_writes_is_found() {
    for seed in 0..10 {
        let report = run_with_fault(seed, Kind::AcknowledgedWritesDropped { per_mille: 200 });
        let dropped = report.observed.faults(KindName::AcknowledgedWritesDropped).effects;
        assert!(dropped > 0, "{report}");
        let is_damage = matches!(
            report.violation,
            Some(
                Violation::LostEvent(_)
                    | Violation::LostDeadLetter(_)
                    | Violation::MissingAlert(_)
                    | Violation::WrongAlertCount(..)
                    | Violation::ProgressAheadOfData { .. }
                    | Violation::WrongProgress { .. }
                    | Violation::Refused { .. }
                    | Violation::Stuck { .. }
            )
        );
        assert!(is_damage, "{dropped} dropped writes\n{report}");
    }
}

#[test]
fn a_run_without_faults_has_no_violation() {
    for seed in 0..10 {
        let report = run(draft(seed).without_faults(), false);
        assert_eq!(report.violation, None, "{report}");
    }
}

#[test]
fn a_log_that_is_not_drained_in_time_is_found() {
    // Every worker is asked to stop at once and restarted when all faults have ended, which leaves no time to drain.
    let mut draft = draft(3);
    draft.options.settle_limit_ms = 20;
    draft.shape.at_start_per_mille = 1_000;
    let scenario = draft.without_faults();
    let stop = |worker: u8| Fault {
        id: worker.into(),
        trigger: Trigger::At { at_ms: 1 },
        target: Target::Worker(worker),
        kind: Kind::WorkerStopped,
        duration_ms: scenario.options.chaos_ms,
    };
    let faults = (0..scenario.options.workers).map(stop).collect();
    let report = run(Scenario { faults, ..scenario }, false);
    assert!(matches!(report.violation, Some(Violation::Stuck { .. })), "{report}");
}
