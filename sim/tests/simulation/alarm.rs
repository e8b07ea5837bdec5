//! A testbed that never fails proves nothing: what a service must not do is found, under the name of the anomaly, in every
//! world where it can happen.
//!
//! Four anomalies have no run here. No service can cause `registry_not_read`, `ended_unexpectedly` and `did_not_stop`, only
//! a worker: known-bad pipelines have them (`tests/mutants`). And before the tables are compared, a worker refuses to
//! continue with a registry that has less than it registered (`wrong_registry`).

use std::time::Duration;

use simulated_hosts::{HostFault, LinkFault};
use simulation::scenario::fault::{
    Direction, Fault, Host, Kind, KindName, Moment, Point, Sabotage, Step, Target, Trigger,
};
use simulation::scenario::options::Begin;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};
use simulation::{Report, Service, run};

const BOTH: &[World] = &[World::Simple, World::Cassandra];

/// A scenario without faults in which every kind of damage is visible.
fn draft(seed: u64, world: World) -> Draft {
    let mut draft = Draft::new(seed, world, Profile::Standard);
    let options = &mut draft.options;
    (options.workers, options.partitions, options.begin) = (2, 2, Begin::Start);
    options.heal = Default::default();
    options.retired_offsets = 0;
    options.pipeline.binding_spec.window.threshold = 1;
    options.pipeline.retry_deadline = None;
    options.settle_limit_ms = 20_000;
    (draft.shape.records, draft.shape.malformed_per_mille) = (100, 100);
    draft
}

fn fault(id: u64, kind: Kind, scenario: &Scenario) -> Fault {
    let (trigger, target) = (Trigger::At { at_ms: 0 }, Target::Anyone);
    Fault { id, trigger, target, kind, duration_ms: scenario.options.chaos_ms }
}

/// A run in which these faults are active, all the time, and workers are killed so many times.
fn run_with(draft: Draft, kinds: &[Kind], crashes: u64) -> Report {
    let mut scenario = draft.without_faults();
    for (id, kind) in (0..).zip(kinds) {
        scenario.faults.push(fault(id, *kind, &scenario));
    }
    let crash = |n: u64| Fault {
        id: 100 + n,
        trigger: Trigger::At { at_ms: scenario.options.chaos_ms * (n + 1) / 6 },
        target: Target::Host(Host::Worker((n % 2) as u8)),
        kind: Kind::Host(HostFault::Kill),
        duration_ms: 50,
    };
    let crashes: Vec<Fault> = (0..crashes).map(crash).collect();
    scenario.faults.extend(crashes);
    run(scenario, false)
}

/// One of a few seeds has each of these violations when a service does this. A worker that resumes may refuse before
/// the tables are compared, so half of the runs have no crash.
fn assert_found(worlds: &[World], how: Sabotage, per_mille: u64, names: &[&str]) {
    for world in worlds {
        let mut missing: Vec<&str> = names.to_vec();
        let mut found = Vec::new();
        for seed in 0..12 {
            let report = run_with(draft(seed, *world), &[Kind::Sabotaged { how, per_mille }], 4 * (seed % 2));
            missing.retain(|name| !report.has(name));
            found.extend(report.violations.iter().map(|violation| violation.name()));
            if missing.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        assert!(missing.is_empty(), "{how:?} in {world}: {missing:?} not found, but {found:?}");
    }
}

#[test]
fn rows_with_other_content_are_found() {
    let names = ["altered_event", "altered_dead_letter", "refused"];
    assert_found(BOTH, Sabotage::RowsAltered, 500, &names);
}

#[test]
fn rows_in_both_tables_are_found() {
    assert_found(BOTH, Sabotage::RowsDoubled, 300, &["duplicate_row", "foreign_dead_letter"]);
}

#[test]
fn rows_in_another_partition_are_found() {
    let names = ["lost_event", "lost_dead_letter", "altered_event", "not_durable", "progress_ahead_of_data"];
    assert_found(BOTH, Sabotage::PartitionsSwapped, 500, &names);
    for world in BOTH {
        let found = (0..12).any(|seed| {
            let mut draft = draft(seed, *world);
            draft.options.partitions = 1;
            let swapped = Kind::Sabotaged { how: Sabotage::PartitionsSwapped, per_mille: 300 };
            let report = run_with(draft, &[swapped], 0);
            report.has("foreign_event") && report.has("foreign_dead_letter")
        });
        assert!(found, "{world}");
    }
}

#[test]
fn counts_with_other_numbers_are_found() {
    assert_found(BOTH, Sabotage::CountsAltered, 300, &["wrong_count", "alert_ahead_of_truth"]);
}

#[test]
fn alerts_with_greater_numbers_are_found() {
    assert_found(BOTH, Sabotage::AlertsAltered, 300, &["alert_ahead_of_truth", "wrong_alert_count"]);
}

#[test]
fn alerts_of_other_windows_are_found() {
    assert_found(BOTH, Sabotage::AlertsAdded, 300, &["phantom_alert"]);
}

#[test]
fn progress_that_is_written_too_far_is_found() {
    assert_found(BOTH, Sabotage::ProgressAltered, 300, &["progress_ahead_of_data", "wrong_progress"]);
}

#[test]
fn registrations_that_are_not_written_are_found() {
    assert_found(BOTH, Sabotage::RegistrationsDropped, 1_000, &["unregistered", "not_durable"]);
}

#[test]
fn a_worker_that_gives_up_although_it_has_no_deadline_is_found() {
    assert_found(BOTH, Sabotage::ConsumerFails, 20, &["gave_up"]);
}

#[test]
fn progress_that_is_read_from_the_past_is_found() {
    assert_found(BOTH, Sabotage::OldProgressRead, 1_000, &["progress_back"]);
}

#[test]
fn counts_that_are_read_from_the_past_are_found() {
    assert_found(BOTH, Sabotage::OldCountsRead, 500, &["wrong_count"]);
}

#[test]
fn writes_that_are_refused_are_found() {
    assert_found(BOTH, Sabotage::WritesRefused, 100, &["request_refused"]);
}

#[test]
fn records_with_other_content_are_found() {
    assert_found(BOTH, Sabotage::RecordsAltered, 300, &["log_changed"]);
}

#[test]
fn records_of_an_older_assignment_are_found() {
    for world in BOTH {
        let found = (0..40).any(|seed| {
            let mut draft = draft(seed, *world);
            draft.options.stale_deliveries_per_mille = 1_000;
            let shuffled = Kind::GroupShuffled { every_ms: 200 };
            let stale = Kind::Sabotaged { how: Sabotage::StaleRecordsDelivered, per_mille: 1_000 };
            run_with(draft, &[shuffled, stale], 0).has("stale_record_applied")
        });
        assert!(found, "{world}");
    }
}

/// Many records, of which a worker may hold few.
fn small_buffers(seed: u64, world: World) -> Draft {
    let mut draft = draft(seed, world);
    (draft.shape.at_start_per_mille, draft.shape.malformed_per_mille) = (1_000, 0);
    (draft.shape.records, draft.shape.source_bytes) = (400, 1);
    let options = &mut draft.options;
    (options.fetch_records, options.prefetched_fetches, options.partitions) = (1, 1, 1);
    let pipeline = &mut options.pipeline;
    (pipeline.batch_records, pipeline.in_flight_batches, pipeline.prefetch_bytes) = (1, 1, 100);
    draft
}

#[test]
fn a_worker_that_holds_too_many_records_is_found() {
    for world in BOTH {
        let found = (0..12).any(|seed| {
            let mut scenario = small_buffers(seed, *world).without_faults();
            let ignored = Kind::Sabotaged { how: Sabotage::PauseIgnored, per_mille: 1_000 };
            // It writes no rows while it gets ever more records, and then all of them.
            let point = Point { step: Step::WriteRows, moment: Moment::Before };
            let unavailable = Fault {
                trigger: Trigger::When { point, nth: 1, latest_ms: scenario.options.chaos_ms },
                target: Target::Requests(Service::Store),
                ..fault(1, Kind::ErrorsReturned { per_mille: 1_000 }, &scenario)
            };
            scenario.faults.extend([fault(0, ignored, &scenario), unavailable]);
            run(scenario, false).has("memory_exceeded")
        });
        assert!(found, "{world}");
    }
}

#[test]
fn a_worker_that_is_still_stopping_when_the_next_may_start_may_drop_any_number_of_records() {
    for seed in 0..12 {
        let mut draft = small_buffers(seed, World::Simple);
        (draft.options.workers, draft.options.chaos_ms) = (1, 4_000);
        draft.options.pipeline.stop_deadline = Duration::from_secs(60);
        let mut scenario = draft.without_faults();
        // It cannot stop before its batch in flight is written.
        let stopped = Fault {
            trigger: Trigger::At { at_ms: 500 },
            target: Target::Host(Host::Worker(0)),
            duration_ms: 10,
            ..fault(0, Kind::Host(HostFault::Stop), &scenario)
        };
        let silent = Kind::Sabotaged { how: Sabotage::NoResponse, per_mille: 1_000 };
        let silent = Fault { trigger: Trigger::At { at_ms: 450 }, ..fault(1, silent, &scenario) };
        scenario.faults.extend([stopped, silent]);
        let report = run(scenario, false);
        assert!(!report.has("memory_exceeded"), "seed {seed}: {report}");
    }
}

#[test]
fn replicas_that_a_repair_leaves_different_are_found() {
    let found = (0..12).any(|seed| {
        let mut draft = draft(seed, World::Cassandra);
        if let simulation::scenario::Tables::Cassandra(cluster) = &mut draft.tables {
            (cluster.reads_repair, cluster.hint_window_ms) = (false, 1);
        }
        let scenario = draft.without_faults();
        let cut = |node: u8| {
            let (from, to) = (Host::Node(node), Host::Node(2));
            let target = Target::Link { from, to, direction: Direction::Forward };
            Fault { target, ..fault(node.into(), Kind::Link(LinkFault::Cut), &scenario) }
        };
        let skipped = Kind::Sabotaged { how: Sabotage::RepairsSkipped, per_mille: 1_000 };
        let faults = vec![cut(0), cut(1), fault(2, skipped, &scenario)];
        run(Scenario { faults, ..scenario }, false).has("replicas_differ")
    });
    assert!(found);
}

#[test]
fn writes_that_are_acknowledged_and_dropped_are_found() {
    for world in BOTH {
        let mut missing = vec![
            "not_durable",
            "progress_ahead_of_data",
            "alert_behind_progress",
            "missing_alert",
            "lost_event",
        ];
        for seed in 0..20 {
            let report =
                run_with(draft(seed, *world), &[Kind::AcknowledgedWritesDropped { per_mille: 50 }], 0);
            let dropped = report.observed.faults(KindName::AcknowledgedWritesDropped).effects;
            assert!(dropped == 0 || report.has("not_durable"), "{dropped} dropped writes\n{report}");
            missing.retain(|name| !report.has(name));
        }
        assert!(missing.is_empty(), "{world}: {missing:?}");
    }
}

#[test]
fn a_log_that_is_not_drained_is_found() {
    for world in BOTH {
        let mut draft = draft(3, *world);
        draft.options.settle_limit_ms = 20;
        draft.shape.at_start_per_mille = 1_000;
        let scenario = draft.without_faults();
        let stop = |worker: u8| Fault {
            target: Target::Host(Host::Worker(worker)),
            ..fault(worker.into(), Kind::Host(HostFault::Stop), &scenario)
        };
        let faults = (0..scenario.options.workers).map(stop).collect();
        let report = run(Scenario { faults, ..scenario }, false);
        assert!(report.has("stuck"), "{report}");
    }
}

#[test]
fn workers_that_drain_the_log_slowly_are_not_stuck() {
    let mut draft = draft(3, World::Simple);
    (draft.shape.records, draft.shape.at_start_per_mille, draft.shape.malformed_per_mille) = (200, 1_000, 0);
    let options = &mut draft.options;
    (options.partitions, options.chaos_ms) = (1, 1_000);
    (options.service_time_ms, options.request_timeout_ms, options.settle_limit_ms) = (50, 2_000, 2_000);
    (options.pipeline.batch_records, options.pipeline.in_flight_batches) = (1, 1);
    let report = run(draft.without_faults(), false);
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.simulated_ms > 3 * 2_000, "{report}");
}

#[test]
fn a_run_without_faults_has_no_violation() {
    for world in BOTH {
        for seed in 0..10 {
            let report = run_with(draft(seed, *world), &[], 4);
            assert_eq!(report.violation, None, "{report}");
        }
    }
}
