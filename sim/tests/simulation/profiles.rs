//! Each profile draws what it claims, and a correct pipeline survives it.

use std::collections::BTreeSet;

use simulated_hosts::LinkFault;
use simulation::scenario::fault::{Direction, Fault, Kind, KindName, Target, Trigger};
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, Tables, World};
use strum::IntoEnumIterator;

use crate::played::played;

const DRAWN: u64 = 200;

fn drawn(profile: Profile, world: World) -> impl Iterator<Item = Scenario> {
    (0..DRAWN).map(move |seed| Scenario::draw(seed, world, profile))
}

fn kinds(scenario: &Scenario) -> BTreeSet<KindName> {
    scenario.faults.iter().map(|fault| fault.name()).collect()
}

/// Runs some seeds of each profile, and checks that it had an effect.
fn assert_survived(world: World, seeds: u64) {
    for profile in Profile::survivable() {
        let mut effects = 0;
        for seed in 0..seeds {
            let report = played(Scenario::draw(seed, world, profile));
            assert_eq!(report.violation, None, "{report}");
            effects += KindName::iter().map(|kind| report.observed.faults(kind).effects).sum::<u64>();
        }
        assert!(effects > 0, "{world}, {profile}");
    }
}

#[test]
fn every_profile_is_survived_on_simple_services() {
    assert_survived(World::Simple, 8);
}

#[test]
fn every_profile_is_survived_on_cassandra() {
    assert_survived(World::Cassandra, 3);
}

#[test]
fn every_profile_is_survived_on_kafka_and_cassandra() {
    assert_survived(World::Full, 2);
}

#[test]
fn what_is_lost_by_the_sabotaged_profile_is_found() {
    for (world, seeds) in [(World::Simple, 10), (World::Cassandra, 10), (World::Full, 5)] {
        let fails = |seed: &u64| played(Scenario::draw(*seed, world, Profile::Sabotaged)).violation.is_some();
        let found = (0..seeds).filter(fails).count();
        assert!(found as u64 * 3 > seeds, "{found} of {seeds} on {world}");
    }
}

#[test]
fn swarms_have_few_kinds_of_faults_and_sometimes_one() {
    for world in World::iter() {
        let numbers: Vec<usize> =
            drawn(Profile::Swarm, world).map(|scenario| kinds(&scenario).len()).collect();
        let of_standard: usize = drawn(Profile::Standard, world).map(|scenario| kinds(&scenario).len()).sum();
        assert!(numbers.iter().sum::<usize>() * 3 < of_standard * 2, "{world}: {numbers:?}, {of_standard}");
        assert!(numbers.iter().filter(|number| **number == 1).count() > 20, "{world}: {numbers:?}");
        assert!(numbers.iter().any(|number| *number > 8), "{world}: {numbers:?}");
        let all: BTreeSet<KindName> =
            drawn(Profile::Swarm, world).flat_map(|scenario| kinds(&scenario)).collect();
        let expected: BTreeSet<KindName> =
            drawn(Profile::Standard, world).flat_map(|scenario| kinds(&scenario)).collect();
        assert_eq!(all, expected, "{world}");
    }
}

#[test]
fn zombies_are_cut_off_in_one_direction_or_paused_for_about_the_session_timeout() {
    for world in World::iter() {
        for scenario in drawn(Profile::Zombies, world) {
            assert!(scenario.options.workers > 1 && kinds(&scenario).contains(&KindName::WorkerPaused));
            let drawn = scenario.faults.iter().filter(|fault| fault.id > Fault::ADDED);
            for fault in drawn {
                let name = fault.name();
                let cut =
                    matches!(name, KindName::LinkCut | KindName::ClientLinkCut | KindName::ConsumerLinkCut);
                if let (true, Target::Link { direction, .. }) = (cut, fault.target) {
                    assert_ne!(direction, Direction::Both);
                }
                if cut || name == KindName::WorkerPaused {
                    let percent = fault.duration_ms * 100 / scenario.options.session_timeout_ms;
                    assert!((49..=400).contains(&percent), "{percent} %");
                }
            }
        }
        // Kafka's group cannot be made to reassign partitions without a reason.
        let reassigned =
            if world == World::Full { KindName::PartitionAdded } else { KindName::GroupShuffled };
        let some = drawn(Profile::Zombies, world).any(|scenario| kinds(&scenario).contains(&reassigned));
        assert!(some, "{world}");
    }
}

#[test]
fn storms_have_high_rates_short_timeouts_and_kills() {
    for world in World::iter() {
        let mut killed = BTreeSet::new();
        for scenario in drawn(Profile::Storms, world) {
            assert!(scenario.options.request_timeout_ms <= 150 && scenario.options.session_timeout_ms <= 800);
            for fault in &scenario.faults {
                if let Kind::Link(
                    LinkFault::Lose { per_mille }
                    | LinkFault::Delay { per_mille, .. }
                    | LinkFault::Duplicate { per_mille, .. },
                ) = fault.kind
                {
                    assert!(per_mille >= 400, "{per_mille}");
                }
                if fault.name().to_string().ends_with("killed") {
                    killed.insert(fault.name());
                }
            }
        }
        let mut expected = BTreeSet::from([KindName::WorkerKilled]);
        match world {
            World::Full => expected.extend([KindName::BrokerKilled, KindName::AllBrokersKilled]),
            World::Simple | World::Cassandra => expected.extend([KindName::ServiceKilled]),
        }
        if world != World::Simple {
            expected.extend([KindName::NodeKilled, KindName::AllNodesKilled, KindName::CoordinatorKilled]);
        }
        assert_eq!(killed, expected, "{world}");
    }
}

#[test]
fn tiny_scenarios_are_small_and_their_faults_wait_for_points() {
    for world in World::iter() {
        let mut faults = Vec::new();
        for scenario in drawn(Profile::Tiny, world) {
            let options = &scenario.options;
            assert!(options.workers <= 2 && options.partitions <= 2 && scenario.records.len() <= 30);
            assert!(scenario.faults.iter().all(|fault| matches!(fault.trigger, Trigger::When { .. })));
            faults.push(scenario.faults.len());
        }
        faults.sort_unstable();
        assert!((1..=8).contains(&faults[faults.len() / 2]), "{world}: {faults:?}");
    }
}

#[test]
fn wide_scenarios_have_long_names_and_more_windows_than_their_cache_holds() {
    for world in World::iter() {
        for scenario in drawn(Profile::Wide, world) {
            let pipeline = &scenario.options.pipeline;
            let window = pipeline.binding_spec.window;
            assert!(window.size_ms / window.slide_ms >= 100 && pipeline.counts_cache_bytes <= 1 << 10);
            assert!(
                scenario
                    .records
                    .iter()
                    .any(|item| item.value.as_ref().is_some_and(|value| value.0.len() > 900))
            );
        }
    }
}

#[test]
fn lagging_scenarios_have_late_messages_and_late_readers() {
    for world in World::iter() {
        let all: Vec<BTreeSet<KindName>> =
            drawn(Profile::Lagging, world).map(|scenario| kinds(&scenario)).collect();
        let share = |kind| all.iter().filter(|kinds| kinds.contains(&kind)).count() as u64 * 100 / DRAWN;
        match world {
            World::Full => {
                assert!(share(KindName::MetadataLags) > 60 && share(KindName::BrokerMessagesDelayed) > 80);
            }
            World::Simple | World::Cassandra => {
                assert!(share(KindName::LogEndLags) > 70 && share(KindName::RequestsDelayed) > 80, "{world}");
            }
        }
        if world != World::Simple {
            assert!(share(KindName::ReplicaMessagesDelayed) > 80 && share(KindName::NodePaused) > 60);
        }
    }
}

#[test]
fn backpressure_scenarios_have_more_records_than_their_buffers_hold_and_services_that_do_not_respond() {
    for world in World::iter() {
        let (mut silent, mut floods) = (0, 0);
        for scenario in drawn(Profile::Backpressure, world) {
            let pipeline = &scenario.options.pipeline;
            floods += u64::from(scenario.records.len() == 4_000);
            let in_batches = pipeline.batch_records * pipeline.in_flight_batches;
            assert!(pipeline.prefetch_bytes <= 1_000 && in_batches * 8 <= scenario.records.len().max(64));
            assert!(scenario.records.len() >= 25 && scenario.records.iter().all(|item| item.at_ms.is_none()));
            let down = [KindName::ServiceKilled, KindName::NodePaused, KindName::NodeKilled];
            silent += u64::from(down.iter().any(|kind| kinds(&scenario).contains(kind)));
        }
        assert!(silent * 100 > DRAWN * 80, "{world}: {silent}");
        match world {
            World::Full => assert!(floods * 100 > DRAWN * 20 && floods * 100 < DRAWN * 50, "{floods}"),
            World::Simple | World::Cassandra => assert_eq!(floods, 0),
        }
    }
}

#[test]
fn handovers_scenarios_have_workers_that_come_and_go_and_small_batches_that_are_written_slowly() {
    for world in World::iter() {
        let mut moving = 0;
        for scenario in drawn(Profile::Handovers, world) {
            let (options, pipeline) = (&scenario.options, &scenario.options.pipeline);
            assert!(options.workers >= 2 && options.partitions >= 2);
            assert!(pipeline.batch_records * pipeline.in_flight_batches <= 8);
            if let Tables::Cassandra(cluster) = &scenario.tables {
                assert!(cluster.link_ms >= 20, "{world}: {} ms", cluster.link_ms);
            }
            let moves = [KindName::WorkerStopped, KindName::WorkerKilled, KindName::GroupShuffled];
            moving += u64::from(moves.iter().any(|kind| kinds(&scenario).contains(kind)));
        }
        assert!(moving * 100 > DRAWN * 90, "{world}: {moving}");
    }
}
