//! A testbed that never fails proves nothing: real violations must be found.

use simulation::checker::Violation;
use simulation::config::{Begin, SimConfig};
use simulation::faults::{Fault, Kind, Plan, Target, Trigger};
use simulation::{Report, run_with};

/// A configuration in which every kind of damage is visible.
fn config(seed: u64) -> SimConfig {
    let config = SimConfig::of(seed);
    let window = exactlyonce::window::WindowSpec { threshold: 1, ..config.window };
    SimConfig { records: 200, malformed_per_mille: 100, begin: Begin::Start, window, ..config }
}

/// A run in which only this fault is active, all the time.
fn run_with_fault(seed: u64, kind: Kind) -> Report {
    let config = config(seed);
    let (trigger, target) = (Trigger::At { ms: 0 }, Target::Anyone);
    let fault = Fault { trigger, target, kind, duration_ms: config.chaos_ms };
    run_with(seed, config, Plan { faults: vec![fault] }, false)
}

#[test]
fn a_store_that_drops_acknowledged_writes_is_found() {
    for seed in 0..10 {
        let report = run_with_fault(seed, Kind::AcknowledgedWritesDropped { per_mille: 200 });
        let dropped = report.observed.count("acknowledged writes dropped");
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
        let report = run_with(seed, config(seed), Plan::default(), false);
        assert_eq!(report.violation, None, "{report}");
    }
}

#[test]
fn a_log_that_is_not_drained_in_time_is_found() {
    // Every worker is asked to stop at once and restarted when all faults have ended, which leaves no time to drain.
    let config = SimConfig { settle_limit_ms: 20, records_at_start_per_mille: 1_000, ..config(3) };
    let stop = |worker| Fault {
        trigger: Trigger::At { ms: 1 },
        target: Target::Worker(worker),
        kind: Kind::WorkerStopped,
        duration_ms: config.chaos_ms,
    };
    let plan = Plan { faults: (0..config.workers).map(stop).collect() };
    let report = run_with(3, config, plan, false);
    assert!(matches!(report.violation, Some(Violation::Stuck { .. })), "{report}");
}
