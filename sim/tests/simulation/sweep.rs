//! A worker's crash at every point of the protocol, one by one, on one small scenario for each kind of services.

use simulation::run;
use simulation::scenario::fault::{Fault, Kind, KindName, Point, Target, Trigger};
use simulation::scenario::options::Begin;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};

/// Two workers, two partitions, windows that both partitions count in, and batches of a few records.
fn small(world: World) -> Scenario {
    let mut draft = Draft::new(1, world, Profile::Standard);
    let options = &mut draft.options;
    (options.workers, options.partitions, options.begin) = (2, 2, Begin::Start);
    (options.chaos_ms, options.session_timeout_ms, options.heartbeat_ms) = (4_000, 600, 150);
    (options.request_timeout_ms, options.service_time_ms) = (400, 5);
    let pipeline = &mut options.pipeline;
    (pipeline.batch_records, pipeline.write_records, pipeline.in_flight_batches) = (6, Some(3), 2);
    pipeline.counts_cache_bytes = 4 << 20;
    pipeline.binding_spec.window.threshold = 3;
    let shape = &mut draft.shape;
    (shape.records, shape.at_start_per_mille, shape.sources) = (24, 1_000, 2);
    (shape.malformed_per_mille, shape.gap_per_mille) = (100, 100);
    draft.without_faults()
}

/// Runs the scenario with a crash at each occurrence of each point, up to `most` of each; returns how many there were.
fn sweep(world: World, most: u64) -> u64 {
    let scenario = small(world);
    let never_ms = 2 * scenario.options.chaos_ms;
    let mut crashes = 0;
    for point in Point::all() {
        for nth in 1..=most {
            let trigger = Trigger::When { point, nth, latest_ms: never_ms };
            let (target, kind) = (Target::Triggering, Kind::WorkerKilled);
            let fault = Fault { id: 0, trigger, target, kind, duration_ms: 200 };
            let report = run(Scenario { faults: vec![fault], ..scenario.clone() }, false);
            assert_eq!(report.violation, None, "{point:?}, occurrence {nth}\n{report}");
            if report.observed.faults(KindName::WorkerKilled).effective == 0 {
                break;
            }
            crashes += 1;
        }
    }
    crashes
}

#[test]
fn a_crash_at_any_point_does_not_change_the_tables() {
    let crashes = sweep(World::Simple, 100);
    println!("{crashes} crashes on simple services");
    assert!(crashes > 80, "{crashes} crashes are few");
}

#[test]
fn a_crash_at_any_point_does_not_change_the_tables_on_cassandra() {
    let crashes = sweep(World::Cassandra, 3);
    println!("{crashes} crashes on cassandra");
    assert!(crashes > 30, "{crashes} crashes are few");
}
