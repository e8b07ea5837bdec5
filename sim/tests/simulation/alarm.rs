//! A testbed that is always green proves nothing: what is wrong must be found.

use simulation::faults::{Fault, Kind, Plan, Target, Trigger};
use simulation::oracle::Violation;
use simulation::world::{Begin, World};
use simulation::{Report, run_with};

/// A world in which every kind of damage shows.
fn world(seed: u64) -> World {
    let world = World::of(seed);
    let window = exactlyonce::window::WindowSpec { threshold: 1, ..world.window };
    World { records: 200, malformed_per_mille: 100, begin: Begin::Start, window, ..world }
}

/// A run with this fault all the time, and no other.
fn run_with_fault(seed: u64, kind: Kind) -> Report {
    let world = world(seed);
    let (trigger, target) = (Trigger::At { ms: 0 }, Target::Anyone);
    let fault = Fault { trigger, target, kind, duration_ms: world.stormy_ms };
    run_with(seed, world, Plan { faults: vec![fault] }, false)
}

#[test]
fn a_store_that_forgets_acknowledged_writes_is_found() {
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
fn a_world_without_faults_ends_well() {
    for seed in 0..10 {
        let report = run_with(seed, world(seed), Plan::default(), false);
        assert_eq!(report.violation, None, "{report}");
    }
}

#[test]
fn a_log_that_is_not_drained_in_time_is_found() {
    // Every worker is told to stop at once and comes back when all is healed, which leaves no time to drain.
    let world = World { settle_limit_ms: 20, records_at_start_per_mille: 1_000, ..world(3) };
    let stop = |worker| Fault {
        trigger: Trigger::At { ms: 1 },
        target: Target::Worker(worker),
        kind: Kind::WorkerStopped,
        duration_ms: world.stormy_ms,
    };
    let plan = Plan { faults: (0..world.workers).map(stop).collect() };
    let report = run_with(3, world, plan, false);
    assert!(matches!(report.violation, Some(Violation::Stuck { .. })), "{report}");
}
