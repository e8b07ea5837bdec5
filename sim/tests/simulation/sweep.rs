//! A worker's crash at every point of the protocol, one by one, on one small scenario for each kind of services; and on a
//! smaller one every pair of a crash and a message that is lost or late.

use std::sync::atomic::{AtomicUsize, Ordering};

use simulated_hosts::{HostFault, LinkFault};
use simulation::scenario::fault::{Fault, Host, Kind, KindName, Moment, Point, Step, Target, Trigger};
use simulation::scenario::options::Begin;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};
use simulation::{Report, Service, run};

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
    let mut crashes = 0;
    for point in Point::of_worker() {
        for nth in 1..=most {
            let report = run_with(&scenario, vec![crash(&scenario, point, nth)]);
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

/// One batch or two for each worker: few points, each of which is an occurrence of its own.
fn smaller(world: World) -> Scenario {
    let mut scenario = small(world);
    scenario.options.chaos_ms = 2_000;
    scenario.records.truncate(8);
    scenario
}

/// The points that a run of the scenario passes, each with its occurrences, up to `most` of each.
fn occurrences(scenario: &Scenario, most: u64) -> Vec<(Point, u64)> {
    let passes = |point: Point, nth: u64| {
        let report = run_with(scenario, vec![crash(scenario, point, nth)]);
        report.observed.faults(KindName::WorkerKilled).effective > 0
    };
    Point::of_worker()
        .flat_map(|point| (1..=most).take_while(move |nth| passes(point, *nth)).map(move |nth| (point, nth)))
        .collect()
}

fn run_with(scenario: &Scenario, faults: Vec<Fault>) -> Report {
    run(Scenario { faults, ..scenario.clone() }, false)
}

fn at(scenario: &Scenario, point: Point, nth: u64) -> Trigger {
    // The latest time is after the run: only the point counts.
    Trigger::When { point, nth, latest_ms: 2 * scenario.options.chaos_ms }
}

fn crash(scenario: &Scenario, point: Point, nth: u64) -> Fault {
    let trigger = at(scenario, point, nth);
    let (kind, target) = (Kind::Host(HostFault::Kill), Target::Host(Host::Triggering));
    Fault { id: 0, trigger, target, kind, duration_ms: 200 }
}

/// Messages that are lost or late from a point on, until one is: before a request is sent, the request, and when it was
/// applied, its response.
fn messages(scenario: &Scenario, point: Point, nth: u64) -> Vec<Fault> {
    let up_to_ms = 2 * scenario.options.request_timeout_ms;
    let is_of_log = matches!(point.step, Step::Assigned | Step::Revoked | Step::Lost | Step::Released);
    let service = if is_of_log { Service::Coordinator } else { Service::Store };
    let lost = LinkFault::Lose { per_mille: 1_000 };
    let late = LinkFault::Delay { per_mille: 1_000, up_to_ms };
    let unanswered = LinkFault::LoseResponses { per_mille: 1_000 };
    let (target, kinds) = match (scenario.world(), point.moment) {
        (World::Simple, Moment::Before) => (Target::Requests(service), vec![lost, late, unanswered]),
        // The response of this request is on its way: the next request.
        (World::Simple, Moment::After) => (Target::Requests(service), vec![lost]),
        (World::Cassandra | World::Full, _) => (Target::Replicas, vec![lost, late]),
    };
    let fault = |kind| {
        let trigger = at(scenario, point, nth);
        Fault { id: 1, trigger, target, kind: Kind::Link(kind), duration_ms: 1 }
    };
    kinds.into_iter().map(fault).collect()
}

/// Runs every pair of a crash and a message fault, each at each of up to `most` occurrences of each point, on all cores;
/// prints how many pairs there were, and in how many both had an effect, and returns the latter.
fn sweep_of_pairs(world: World, most: u64) -> usize {
    let scenario = smaller(world);
    assert_eq!(run_with(&scenario, Vec::new()).violation, None);
    let points = occurrences(&scenario, most);
    let messages: Vec<Fault> =
        points.iter().flat_map(|(point, nth)| messages(&scenario, *point, *nth)).collect();
    let pairs: Vec<[Fault; 2]> = points
        .iter()
        .flat_map(|(point, nth)| {
            let crash = crash(&scenario, *point, *nth);
            messages.iter().map(move |message| [crash.clone(), message.clone()])
        })
        .collect();
    println!("{world}: {} crashes, {} message faults, {} pairs", points.len(), messages.len(), pairs.len());
    let (next, both) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(number) else { return };
            if number > 0 && number.is_multiple_of(500) {
                println!("{world}: {number} pairs");
            }
            let report = run_with(&scenario, pair.to_vec());
            assert_eq!(report.violation, None, "{pair:?}\n{report}");
            let is_effective = |fault: &Fault| report.observed.faults(fault.name()).effective > 0;
            both.fetch_add(usize::from(pair.iter().all(is_effective)), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |cores| cores.get()) {
            scope.spawn(work);
        }
    });
    let both = both.into_inner();
    println!("{world}: both took effect in {both} pairs");
    both
}

/// `cargo sim sweep::every_pair_of_a_crash_and_a_lost_or_late_message --ignored --exact --nocapture`
#[test]
#[ignore = "thousands of runs"]
fn every_pair_of_a_crash_and_a_lost_or_late_message() {
    assert!(sweep_of_pairs(World::Simple, 100) > 1_000);
}

/// `cargo sim sweep::every_pair_of_a_crash_and_a_lost_or_late_message_on_cassandra --ignored --exact --nocapture`
#[test]
#[ignore = "thousands of runs"]
fn every_pair_of_a_crash_and_a_lost_or_late_message_on_cassandra() {
    assert!(sweep_of_pairs(World::Cassandra, 2) > 500);
}
